"""An adapter for lm-eval (EleutherAI's lm-evaluation-harness): ``--model sol``.

lm-eval has no plug-ins for models, so run it through this module, which registers the model::

    python -m sol_core.lm_eval_model --model sol \\
        --model_args pretrained=smollm2-135m-instruct,policy=default,keep=0.5,channels=0.7,bits=8 \\
        --tasks arc_easy --limit 200

A context is prefilled densely; each token of a continuation is one decode step under the schedule.
A dense schedule (the default) scores continuations in dense passes. Requests of similar length run
as one batch. The mean spend over all tokens is printed and stored in lm-eval's results. A policy
may spend more than requested on short contexts (docs/results.md): compare it with static at the
same spend.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval import utils
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from tqdm import tqdm

from sol_core.accuracy.passes import StaticPlan
from sol_core.accuracy.questions import Continuation
from sol_core.accuracy.scoring import read_contexts, score_after, score_densely
from sol_core.actions import AXES, AXIS_FIELDS, DENSE, SHORT_AXES, Budget, Spend, record_of
from sol_core.api.generating import load_policy
from sol_core.budgets.row_schedules import build_schedule
from sol_core.config import GenerationConfig, SamplingConfig, ScheduleConfig
from sol_core.decoding.batch_scheduling import BatchScheduler, PlannedRows, RowSchedules
from sol_core.decoding.cost import CostModel
from sol_core.decoding.schedules import Horizon
from sol_core.events import FinishEvent
from sol_core.files.paths import DEFAULT_MODEL, default_data_dir
from sol_core.generation.engine import generate_many
from sol_core.models.loading import load_language_model
from sol_core.policy.files.locate import resolved_grid
from sol_core.policy.scheduler import PolicyScheduler

DEFAULT_TOKENS = 256  # generated if the task sets no limit
EPISODE_STEPS = 16
SchedulerOf = Callable[[Sequence[Continuation]], BatchScheduler]
BATCH_TOKENS = 16_384  # in a batch's cache, padding included: 0.75 GB for SmolLM2-135M in fp32


@register_model("sol")
class SolLM(TemplateLM):
    """A language model under a compute schedule.

    Args:
        pretrained: smollm2-135m-instruct, a local folder, a GGUF file or a Hub id.
        policy: "default" for the shipped one, a stored policy's name, a policy folder or a Hub id.
        schedule: without a policy: dense, static, random, emc or dac; "" is static with a
            budget, else dense.
        batch_size: most requests in a batch; long texts run in smaller ones.
        max_batch_size: ignored; lm-eval passes it to every model.
        budget: keep, channels, bits: a mean for each axis by its short name; dense by default.
    """

    def __init__(
        self,
        pretrained: str = DEFAULT_MODEL,
        policy: str = "",
        schedule: str = "",
        dtype: str = "auto",
        device: str | None = None,
        batch_size: int | str | None = 64,
        max_batch_size: int | None = None,
        data_dir: str = "",
        **budget: float | str,
    ) -> None:
        super().__init__()
        if unknown := budget.keys() - set(SHORT_AXES):
            raise TypeError(f"SolLM() takes no argument {min(unknown)!r}")
        fields = dict(zip(SHORT_AXES, AXIS_FIELDS, strict=True))
        asked = Budget(**{fields[name]: float(value) for name, value in budget.items()})
        folder = Path(data_dir) if data_dir else default_data_dir()
        if device is None or (device.startswith("cuda") and not torch.cuda.is_available()):
            device = "auto"  # lm-eval's default is a GPU, even without one
        self.model = load_language_model(pretrained, data_dir=folder, dtype=dtype, device=device)
        self.tokenizer = self.model.tokenizer
        self.batch_size = int(batch_size) if str(batch_size).isdigit() else 64  # type: ignore[arg-type]  # or "auto"
        self.policy = load_policy(policy, self.model, data_dir=folder) if policy else None
        self.grid = resolved_grid(None, [self.policy])
        kind = schedule or ("dense" if asked == Budget() else "static")
        self.schedule = ScheduleConfig(
            "policy" if policy else kind,  # type: ignore[arg-type]  # checked by it
            asked,
            policy=policy or None,
        )
        self.is_dense = self.schedule.kind == "dense"
        if not self.is_dense:
            self.grid.check_budget(asked)
        self._costs = CostModel.of(self.model.lm, self.grid)
        self._sums = np.zeros(len(AXES))  # over all tokens
        self._num_bytes = self._num_dense_bytes = 0.0  # estimated: read, and read by the full model
        self.num_tokens = 0  # scored or generated

    @property
    def mean_spend(self) -> Spend | None:
        if not self.num_tokens:
            return None
        # A float sum may slightly exceed the maximum.
        sums = np.minimum(self._sums, self.num_tokens * np.array(DENSE.as_tuple())).tolist()
        return Spend.of_steps(sums, self.num_tokens, self._num_bytes, self._num_dense_bytes)

    def get_model_info(self) -> dict[str, Any]:
        """Print the run's mean spend; return it for lm-eval's results."""
        spend, kind = self.mean_spend, self.schedule.kind
        if spend is not None:
            pairs = zip(SHORT_AXES, spend.as_tuple(), strict=True)
            options = ",".join(f"{name}={value:.4f}" for name, value in pairs)
            sys.stdout.write(
                f"mean spend over {self.num_tokens} tokens ({kind}): {spend.words}; for static at "
                f"this spend: {options}\n"
            )
        record = spend and record_of(spend)
        return {"schedule": kind, "mean_spend": record, "num_tokens": self.num_tokens}

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """Id of the beginning-of-text token, the context of texts without one, as in ``hf``."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    @property
    def tokenizer_name(self) -> str:
        return self.model.name.replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        begins = str(self.tokenizer.decode(self.prefix_token_id))
        if add_special_tokens is None and string.startswith(begins):
            options = {"add_special_tokens": False}  # the chat template has added them
        return [int(token) for token in self.tokenizer.encode(string, **options)]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                chat_history, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        **kwargs: Any,
    ) -> list[tuple[float, bool]]:
        longest = max((len(tokens) for _, _, tokens in requests), default=0)
        asked = [
            self._continuation(number, context, tokens, longest)
            for number, (_, context, tokens) in enumerate(requests)
        ]
        sizes = [(len(request.tokens), len(request.context), 0) for request in asked]
        if self.is_dense:  # one pass: only the total length matters
            sizes = [(0, steps + context, 0) for steps, context, _ in sizes]
        scheduler_of = self._schedulers(asked)
        results: list[tuple[float, bool]] = [(0.0, False)] * len(asked)
        for batch in self._batches(sizes, disable_tqdm):
            scores = self._score([asked[number] for number in batch], scheduler_of)
            for number, score in zip(batch, scores, strict=True):
                results[number] = score
                if requests[number][0] is not None:
                    self.cache_hook.add_partial("loglikelihood", requests[number][0], score)
        return results

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        texts = [self._windows(request.args[0]) for request in requests]
        windows = [(None, *window) for windows in texts for window in windows]
        scores = iter(self._loglikelihood_tokens(windows, disable_tqdm))
        totals = [sum(next(scores)[0] for _ in own) for own in texts]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    @torch.no_grad()
    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        configs = [self._generation(dict(request.args[1])) for request in requests]
        prompts = []
        for request, config in zip(requests, configs, strict=True):
            # A long prompt is truncated on the left, as in --model hf.
            room = max(1, self.model.context_length - config.max_new_tokens)
            prompts.append(self.tok_encode(request.args[0])[-room:] or [self.prefix_token_id])
        kinds = list(dict.fromkeys(configs))
        sizes = [
            (config.max_new_tokens, len(prompt), kinds.index(config))
            for config, prompt in zip(configs, prompts, strict=True)
        ]
        written = [""] * len(requests)
        for batch in self._batches(sizes, disable_tqdm):
            texts, ids = zip(*((requests[n].args[0], prompts[n]) for n in batch), strict=True)
            config, find = configs[batch[0]], lambda _: self.policy
            for at, end in generate_many(self.model, texts, config, policies=find, tokens=ids):  # type: ignore[arg-type]  # only policies are looked up
                if not isinstance(end, FinishEvent):
                    continue
                written[batch[at]] = end.text
                self.cache_hook.add_partial("generate_until", requests[batch[at]].args, end.text)
                if end.spend is not None:
                    spend = end.num_tokens * np.array(end.spend.as_tuple())
                    read, dense = end.cost.bytes_read, end.dense_cost.bytes_read
                    self._count(end.num_tokens, spend, read, dense)
        return written

    def _windows(self, text: str) -> list[tuple[list[int], list[int]]]:
        """Cut a text into contexts and the tokens scored after each."""
        windows = utils.get_rolling_token_windows(
            self.tok_encode(text), self.prefix_token_id, self.model.context_length, context_len=1
        )
        return [utils.make_disjoint_window(window) for window in windows]

    def _batches(
        self, sizes: Sequence[tuple[int, int, int]], disable_tqdm: bool
    ) -> Iterator[list[int]]:
        """Batch request indices by similar (steps, context tokens, kind)."""
        batches: list[list[int]] = [[]]
        for number in sorted(range(len(sizes)), key=sizes.__getitem__):
            steps, contexts, kinds = zip(*(sizes[n] for n in (*batches[-1], number)), strict=True)
            width = max(steps) + max(contexts)
            fits = len(kinds) <= self.batch_size and len(kinds) * width <= BATCH_TOKENS
            if batches[-1] and not (fits and kinds[0] == kinds[-1]):
                batches.append([])
            batches[-1].append(number)
        with tqdm(total=len(sizes), disable=disable_tqdm, desc="sol", unit="request") as bar:
            for batch in filter(None, batches):
                yield batch
                bar.update(len(batch))

    def _continuation(
        self, number: int, context: list[int], tokens: list[int], longest: int
    ) -> Continuation:
        room = self.model.context_length
        if self.is_dense:
            # The last token is scored but not read, so the context length plus 1 fits.
            before = context[-(room + 1 - len(tokens)) :]
        else:
            # All rows of a batch take as many steps as the longest.
            tokens = tokens[-(room - 2) :]
            before = context[-max(2, room - longest) :]
            # A first step needs a prefilled token: add a second prefix token.
            before = [self.prefix_token_id] * (2 - len(before)) + before
        return Continuation(number, 0, tuple(before), tuple(tokens), 1)

    def _score(
        self, asked: Sequence[Continuation], scheduler_of: SchedulerOf
    ) -> list[tuple[float, bool]]:
        steps = sum(len(request.tokens) for request in asked)
        dense = math.fsum(
            self._costs.dense_step(len(request.context) + step).bytes_read
            for request in asked
            for step in range(len(request.tokens))
        )
        if self.is_dense:
            self._count(steps, steps * np.array(DENSE.as_tuple()), dense, dense)
            return score_densely(self.model.lm, asked)
        scheduler = scheduler_of(asked)
        read = read_contexts(self.model.lm, asked, self.grid, observe=scheduler.observes)
        scores = score_after(read, scheduler, group=1)
        self._count(steps, scores.spend.sum((0, 1)), float(scores.num_bytes.sum()), dense)
        pairs = zip(scores.log_likelihood[:, 0], scores.greedy[:, 0], strict=True)
        return [(float(likelihood), bool(greedy)) for likelihood, greedy in pairs]

    def _count(self, tokens: int, sums: Any, read: float, dense: float) -> None:
        self.num_tokens += tokens
        self._sums += sums
        self._num_bytes += read
        self._num_dense_bytes += dense

    def _schedulers(self, asked: Sequence[Continuation]) -> SchedulerOf:
        """Make a scheduler that restarts for each row; static meets its mean over all rows."""
        if self.policy is not None:
            policy, budget = self.policy, self.schedule.budget
            return lambda rows: PolicyScheduler(policy, [budget] * len(rows))
        if self.schedule.kind != "static" or not asked:
            horizons = partial(Horizon, EPISODE_STEPS)
            build = partial(build_schedule, self.schedule, self.grid)
            return lambda rows: RowSchedules(
                [build(horizon=horizons(len(row.tokens))) for row in rows]
            )
        lengths: dict[tuple[int, ...], list[int]] = {}
        for continuation in asked:
            lengths.setdefault(continuation.context, []).append(len(continuation.tokens))
        numbers = {context: number for number, context in enumerate(lengths)}
        plan = StaticPlan(self.schedule.budget, self.grid, list(lengths.values()))
        return lambda rows: PlannedRows(
            [plan.actions(numbers[row.context], len(row.tokens)) for row in rows]
        )

    def _generation(self, options: dict[str, Any]) -> GenerationConfig:
        until = options.get("until") or []
        stops = [until] if isinstance(until, str) else until
        sampling = SamplingConfig()
        if options.get("do_sample", False):
            top_p = float(options.get("top_p", 1.0))
            sampling = SamplingConfig(float(options.get("temperature", 1.0)), top_p=top_p)
        return GenerationConfig(
            self.schedule,
            sampling=sampling,
            grid=self.grid,
            max_new_tokens=int(options.get("max_gen_toks", DEFAULT_TOKENS)),
            stop_strings=tuple(filter(None, stops)),
            episode_steps=EPISODE_STEPS,
        )


def main() -> None:
    """Run lm-eval's command line."""
    from lm_eval.__main__ import cli_evaluate

    torch.set_grad_enabled(False)
    cli_evaluate()


if __name__ == "__main__":
    main()
