"""A policy: network, prices, and the model and grid that it was made for."""

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
    tokens: Tensor  # [N, T] int64, the steps' input
    budget: Tensor  # [N, T, …], inputs of the joint network only
    aims: Tensor  # [N, T, axes], target spend at this step, fractions of dense


class Policy(
    PyTorchModelHubMixin,
    library_name="sol-explorer",
    paper_url="https://arxiv.org/abs/2605.10875",
    tags=["per-token-compute", "policy"],
):
    """A network with prices, which chooses among the grid's levels.

    ``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` come from the Hub's mixin and use
    the folder that ``folder.py`` reads and writes, with the same checks.

    Attributes:
        info: its description.
        network: DamageNetwork or JointNetwork.
        states: sample states for prices on bytes; None if the policy lacks them.
        gains: where it pays at a share of the bytes; None if not measured: it always schedules.
        embedding: [V, C], the language model's embedding.
        levels: each axis's levels, ascending, fractions of dense.
        ends: lowest and highest levels, [axes] each.
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
        # Choices per step: one per axis, or one joint action.
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
        """Return the price table of each axis; none with the joint network."""
        return self._prices

    @prices.setter
    def prices(self, tables: Sequence[PriceTable]) -> None:
        self._prices = list(tables)
        self._rule = PriceRule(self.levels, self._prices) if self._prices else None

    @property
    def rule(self) -> PriceRule:
        """Return the price rule. Raises: PolicyError without prices."""
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
        """Return the network of a policy with prices."""
        assert isinstance(self.network, DamageNetwork)
        return self.network

    @property
    def observes(self) -> Observe:
        """Return the observations that its network needs."""
        return observed_signals(self.info.layout)

    @property
    def reads(self) -> StepReads:
        """Return its cost per step: each weight is read and used once."""
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
        """Return unnormalised log probabilities for T steps of N episodes.

        Args:
            inputs: inputs of these steps.
            cache: the step cache from the last call; None at an episode's start.
        Returns: [N, T, axes, most levels] (missing levels of a shorter axis are never chosen), or
            [N, T, 1, A]; and the step cache. The most probable level is the price rule's choice.
        """
        if isinstance(self.network, JointNetwork):
            embedded = self.embedding[inputs.tokens]
            joint, cache = self.network(inputs.rows, embedded, inputs.budget, cache)
            return joint[..., None, :], cache
        shapes, cache = self.shapes(inputs, cache)
        return self.logits_at_prices(self.network.log_damages(shapes), inputs.aims), cache

    def shapes(self, inputs: StepInputs, cache: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return sensitivity and slope of T steps of N episodes, [N, T, axes, 2], and the cache."""
        network = self.damage_network
        encoded, cache = network.encoder(inputs.rows, self.embedding[inputs.tokens], cache)
        return network.shapes(encoded), cache

    def logits_at_prices(self, log_damages: Tensor, aims: Tensor) -> Tensor:
        """Return logits from predictions [..., axes, most levels], at the aims' prices."""
        sharpness = self.damage_network.log_sharpness.exp()
        return self.rule.logits(log_damages.exp(), aims, sharpness)

    @property
    def sharpness(self) -> NDArray[np.float64]:
        """Return a DamageNetwork's logits per unit of cost: [axes]."""
        return self.damage_network.log_sharpness.detach().exp().double().cpu().numpy()

    def split_by_head(self, values: Tensor) -> list[Tensor]:
        """Split [..., heads, levels] by head, without padding: [..., levels]."""
        if self.num_heads == 1:
            return [values[..., 0, :]]
        return [values[..., axis, : len(levels)] for axis, levels in enumerate(self.levels)]

    def axis_levels(self, choices: Tensor) -> Tensor:
        """Convert choices [..., num_heads] int64 to levels per axis [..., axes]."""
        if self.num_heads == len(self.levels):
            return choices
        levels = torch.unravel_index(choices[..., 0], [len(levels) for levels in self.levels])
        return torch.stack(levels, -1)

    def spends(self, levels: Tensor) -> Tensor:
        """Convert levels [..., axes] int64 to spends [..., axes] fp32, fractions of dense."""
        return self._level_table[self._axes, levels]

    def actions(self, levels: Tensor) -> list[Action]:
        """Convert levels [R, axes] int64 to one action per row."""
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
            model: the language model that it is for; required.
            grid: the grid in use; None accepts the policy's own.
            hub: force_download, token, cache_dir, local_files_only, revision, as for any Hub model.
        Raises: PolicyError if it is damaged, or made for another model or grid; DownloadError if
            the Hub does not provide it; TypeError for an unknown argument.
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

        Raises: PolicyError if the folder cannot be made; OSError if the disk is full.
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

        Raises: DownloadError if the Hub refuses it or is not reachable.
        """
        with hub_client(repo_id, options.get("token")):
            return super().push_to_hub(repo_id, **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the files; called by the mixin."""
        write_policy_files(self.parts, save_directory)

    @property
    def num_bytes(self) -> int:
        """Return the network's bytes per step; matrices are read in float16 if that is exact."""
        return sum(
            value.nbytes // 2 if self._narrow and value.ndim > 1 else value.nbytes
            for value in self.network.parameters()
        )

    def check_model(self, fingerprint: str) -> None:
        """Raise PolicyError unless the fingerprint is its own model's."""
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
    """Convert budgets to fractions of dense: [R, axes] fp32."""
    return torch.tensor([budget.fractions() for budget in budgets])


def load_policy(folder: Path, model: LanguageModel, *, grid: ActionGrid | None = None) -> Policy:
    """Read a policy folder. Raises: PolicyError for another model or grid."""
    info, network, prices, states, gains = read_policy_folder(shipped_policy_for(folder, grid))
    policy = Policy(info, network, prices, model.lm.weights.embedding, states, gains)
    policy.check_model(model.fingerprint)
    if grid is not None:
        info.check_grid(grid)
    return policy


def save_policy(policy: Policy, folder: Path) -> None:
    """Write a policy into a new folder, atomically."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with staged_folder(folder) as staging:
        made = staging / "policy"
        made.mkdir()
        write_policy_files(policy.parts, made)
        publish(made, folder, staging)
