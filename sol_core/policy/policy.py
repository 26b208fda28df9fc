"""A policy: network, prices, and what it was made for."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from numpy.typing import NDArray
from torch import Tensor

from sol_core.actions import Action, ActionGrid, Budget
from sol_core.decoding.batch_scheduling import StepReads
from sol_core.errors import PolicyError
from sol_core.events import StepCost
from sol_core.fields import check_names
from sol_core.files.staging import publish, staged_folder
from sol_core.models.signals import Observe
from sol_core.policy.byte_prices import SampleStates
from sol_core.policy.files.folder import PolicyParts, read_policy_folder, write_policy_files
from sol_core.policy.files.locate import HUB_OPTIONS, fetch_policy, hub_client, shipped_policy_for
from sol_core.policy.info import PolicyInfo
from sol_core.policy.network import DamageNetwork, JointNetwork, level_values, observed_signals
from sol_core.policy.prices import GainTable, PriceRule, PriceTable, padded_levels

if TYPE_CHECKING:
    from sol_core.models.loading import LanguageModel


class StepInputs(NamedTuple):
    """Inputs of a policy for T steps of N episodes."""

    rows: Tensor  # [N, T, layout.width], see ``step.py``
    tokens: Tensor  # [N, T] int64, about to be fed
    budget: Tensor
    aims: Tensor  # [N, T, axes], mean spend to aim for at this step, fractions of dense


class Policy(
    PyTorchModelHubMixin,
    library_name="sol-explorer",
    paper_url="https://arxiv.org/abs/2605.10875",
    tags=["per-token-compute", "policy"],
):
    """Network and prices; chooses among the grid's levels.

    ``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` are those of the Hub's mixin, over
    the same folder that ``folder.py`` reads and writes, with the same refusals.

    Attributes:
        info: what it is.
        network: DamageNetwork or JointNetwork.
        states: that a price on bytes is read off; None of policies that lack them.
        gains: where it pays at a share of the bytes; None: not measured, so it always schedules.
        embedding: [V, C] of the language model, to look tokens up in.
        levels: of each axis, ascending, fractions of dense.
        ends: [axes] each, the axes' lowest and highest levels.
    """

    def __init__(
        self,
        info: PolicyInfo,
        network: DamageNetwork | JointNetwork,
        prices: Sequence[PriceTable],
        embedding: Tensor,
        states: SampleStates | None = None,
        gains: GainTable | None = None,
    ) -> None:
        self.gains = gains
        self.states, self.info, self.network, self.embedding = states, info, network, embedding
        device = embedding.device
        self.levels = [values.to(device) for values in level_values(info.grid)]
        # Choices per step: one an axis, or one over the joint actions.
        self.num_heads = 1 if isinstance(network, JointNetwork) else len(self.levels)
        low, high = torch.stack([values[[0, -1]] for values in self.levels], 1)
        self.ends = (low, high)
        self.prices = list(prices)
        self._level_table = padded_levels(self.levels)
        self._axes = torch.arange(len(self.levels), device=device)
        network.to(device).eval()
        matrices = [value for value in network.parameters() if value.ndim > 1]
        self._narrow = device.type == "cpu" and all(map(fits_float16, matrices))

    @property
    def prices(self) -> list[PriceTable]:
        """Per axis; none with the joint network."""
        return self._prices

    @prices.setter
    def prices(self, tables: Sequence[PriceTable]) -> None:
        self._prices = list(tables)
        self._rule = PriceRule(self.levels, self._prices) if self._prices else None

    @property
    def rule(self) -> PriceRule:
        """Raises: PolicyError when there are no prices."""
        if self._rule is None:
            raise PolicyError(f"policy {self.info.name!r} has no price tables")
        return self._rule

    def on_host(self, embedding: Tensor) -> Policy:
        """Return this policy with its embedding on the CPU."""
        if self.embedding.device.type == "cpu":
            return self
        info, network, prices, states, gains = self.parts
        return Policy(info, copy.deepcopy(network), prices, embedding, states, gains)

    @property
    def parts(self) -> PolicyParts:
        return PolicyParts(self.info, self.network, self.prices, self.states, self.gains)

    @property
    def damage_network(self) -> DamageNetwork:
        """The network of a policy that has prices."""
        assert isinstance(self.network, DamageNetwork)
        return self.network

    @property
    def observes(self) -> Observe:
        """Return what its network reads of a step."""
        return observed_signals(self.info.layout)

    @property
    def reads(self) -> StepReads:
        """Return what it adds to every step: each weight is read and used once."""
        weights = list(self.network.parameters())
        number = sum(value.numel() for value in weights)
        bits = sum(value.numel() * (8 * value.element_size()) ** 2 for value in weights)
        cost = StepCost(
            policy_flops=2.0 * number,
            policy_bytes=float(self.num_bytes),
            bit_operations=float(bits),
        )
        return StepReads(observed=self.observes is Observe.CONCENTRATION, policy=cost)

    def logits(self, inputs: StepInputs, cache: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Unnormalised log probabilities of T steps of N episodes.

        Args:
            inputs: of these steps.
            cache: of the steps before, as the last call returned it; None at an episode's start.
        Returns: [N, T, axes, levels of the longest] (what a shorter axis lacks is never
            chosen), or [N, T, 1, A]; and the step cache. The most probable level is the one
            the price rule chooses.
        """
        if isinstance(self.network, JointNetwork):
            embedded = self.embedding[inputs.tokens]
            joint, cache = self.network(inputs.rows, embedded, inputs.budget, cache)
            return joint[..., None, :], cache
        shapes, cache = self.shapes(inputs, cache)
        return self.logits_at_prices(self.network.log_damages(shapes), inputs.aims), cache

    def shapes(self, inputs: StepInputs, cache: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Sensitivity and slope of T steps of N episodes, [N, T, axes, 2], and the step cache."""
        network = self.damage_network
        encoded, cache = network.encoder(inputs.rows, self.embedding[inputs.tokens], cache)
        return network.shapes(encoded), cache

    def logits_at_prices(self, log_damages: Tensor, aims: Tensor) -> Tensor:
        """Logits of predictions [..., axes, levels of the longest], at the prices of aims."""
        sharpness = self.damage_network.log_sharpness.exp()
        return self.rule.logits(log_damages.exp(), aims, sharpness)

    @property
    def sharpness(self) -> NDArray[np.float64]:
        """Logits per unit of cost of a DamageNetwork: [axes]."""
        return self.damage_network.log_sharpness.detach().exp().double().cpu().numpy()

    def split_by_head(self, values: Tensor) -> list[Tensor]:
        """Split [..., heads, levels] by head, without what a short axis lacks: [..., levels]."""
        if self.num_heads == 1:
            return [values[..., 0, :]]
        return [values[..., axis, : len(levels)] for axis, levels in enumerate(self.levels)]

    def axis_levels(self, choices: Tensor) -> Tensor:
        """Level of each axis [..., axes] that the heads' choices [..., num_heads] int64 mean."""
        if self.num_heads == len(self.levels):
            return choices
        levels = torch.unravel_index(choices[..., 0], [len(levels) for levels in self.levels])
        return torch.stack(levels, -1)

    def spends(self, levels: Tensor) -> Tensor:
        """Spends [..., axes] fp32, fractions of dense, of levels [..., axes] int64."""
        return self._level_table[self._axes, levels]

    def actions(self, levels: Tensor) -> list[Action]:
        """The action of every row of levels [R, axes] int64."""
        grid = self.info.grid
        keeps, ratios, widths = grid.keep_fractions, grid.channel_keep_ratios, grid.bit_widths
        return [Action.at(keeps[k], ratios[r], widths[w]) for k, r, w in levels.tolist()]

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        model: LanguageModel | None = None,
        grid: ActionGrid | None = None,
        **hub: Any,
    ) -> Self:
        """Load a policy from a folder or from the Hub's repository "owner/name".

        Args:
            pretrained_model_name_or_path: the folder or the repository.
            model: the language model it is for; needed.
            grid: the levels and site in use; None accepts the policy's own.
            hub: force_download, token, cache_dir, local_files_only, revision: as for every model
                of the Hub.
        Raises: PolicyError when it is damaged, or made for another model or grid; DownloadError
            when the Hub does not give it; TypeError for an argument that is none.
        """
        check_names(hub, HUB_OPTIONS, "from_pretrained() takes no argument")
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = fetch_policy(str(pretrained_model_name_or_path), **hub)
        if model is None:
            raise PolicyError(
                "a policy is loaded for a language model: give model=…, as load_model() returns it"
            )
        return cast(Self, load_policy(folder, model, grid=grid))

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the policy's files into a folder; options are the Hub's mixin's.

        Raises: PolicyError when no folder can be made there; OSError when the disk is full.
        """
        try:
            Path(save_directory).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise PolicyError(
                f"cannot make the folder {save_directory}: {error.strerror}"
            ) from error
        return super().save_pretrained(save_directory, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Publish the policy on the Hub; options are the Hub's mixin's.

        Raises: DownloadError when the Hub refuses it or is not reached.
        """
        with hub_client(repo_id, options.get("token")):
            return super().push_to_hub(repo_id, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        """The mixin's hook."""
        write_policy_files(self.parts, save_directory)

    @property
    def num_bytes(self) -> int:
        """Bytes of its network, which every step reads: matrices that float16 holds, in that."""
        return sum(
            value.nbytes // 2 if self._narrow and value.ndim > 1 else value.nbytes
            for value in self.network.parameters()
        )

    def check_model(self, fingerprint: str) -> None:
        """Raises: PolicyError for the fingerprint of another model than its own."""
        if fingerprint != self.info.fingerprint:
            raise PolicyError(
                f"policy {self.info.name!r} was trained for {self.info.model} "
                f"(fingerprint {self.info.fingerprint[:8]}), not for this model "
                f"({fingerprint[:8]}): choose a policy of this model, or train one"
            )


def fits_float16(weight: Tensor) -> bool:
    half = weight.detach().half()
    return bool(half.isfinite().all()) and torch.equal(half.float(), weight)


def budget_fractions(budgets: Sequence[Budget]) -> Tensor:
    """Budgets as fractions of dense: [R, axes] fp32."""
    return torch.tensor([budget.fractions() for budget in budgets])


def load_policy(folder: Path, model: LanguageModel, *, grid: ActionGrid | None = None) -> Policy:
    """Read a policy's folder. Raises: PolicyError for another model's, or another grid."""
    info, network, prices, states, gains = read_policy_folder(shipped_policy_for(folder, grid))
    policy = Policy(info, network, prices, model.lm.weights.embedding, states, gains)
    policy.check_model(model.fingerprint)
    if grid is not None:
        info.check_grid(grid)
    return policy


def save_policy(policy: Policy, folder: Path) -> None:
    """Write a policy into a new folder, in one rename."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staged_folder(folder) as staging:
        made = staging / "policy"
        made.mkdir()
        write_policy_files(policy.parts, made)
        publish(made, folder, staging)
