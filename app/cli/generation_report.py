"""Final output of ``generate``: one JSON, or one screen of text; FLOPs and bytes are computed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sol_core.actions import AXES, AXIS_FIELDS, Budget, record_of
from sol_core.config import GenerationConfig
from sol_core.events import Event, FinishEvent, PrefillEvent, TokenEvent, event_to_dict


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished generation and what was asked for."""

    prompt: str
    config: GenerationConfig
    model_name: str
    dtype_name: str
    load_ms: float
    prefill: PrefillEvent
    tokens: Sequence[TokenEvent]
    finish: FinishEvent

    @property
    def requested(self) -> Budget:
        """The budget that the schedule had to meet; ``dense`` ignores the one it is given."""
        schedule = self.config.schedule
        return Budget() if schedule.kind == "dense" else schedule.budget

    @property
    def ms_per_token(self) -> float | None:
        """Measured decode time per token; None without tokens."""
        num_tokens = self.finish.num_tokens
        return self.finish.decode_ms / num_tokens if num_tokens else None


def until_stop(events: Iterable[Event], stop_strings: Sequence[str]) -> Iterator[TokenEvent]:
    """The tokens, whose text ends where a stop string begins, as ``FinishEvent.text`` does."""
    from sol_core.generation.sampling import TextUntilStop

    visible, longest = TextUntilStop(stop_strings), max(map(len, stop_strings), default=1)
    held: list[TokenEvent] = []
    shown = 0
    for token in (event for event in events if isinstance(event, TokenEvent)):
        held.append(token)
        safe = 0 if visible.add(token.text) else len(visible.text) - longest + 1
        while held and shown + len(held[0].text) <= safe:
            shown += len(held[0].text)
            yield held.pop(0)
    for token in held:
        yield replace(token, text=visible.text[shown : shown + len(token.text)])
        shown += len(token.text)


def json_report(outcome: Outcome) -> dict[str, Any]:
    """The JSON of ``generate --json``, which can be imported."""
    from app.sharing.run_document import VERSION
    from app.sharing.run_kinds import GENERATION
    from storage import title_of

    finish, config = outcome.finish, outcome.config.to_dict()
    return {
        "format": GENERATION.format,
        "version": VERSION,
        "run": {
            "id": "",
            "status": "finished",
            "title": title_of(outcome.prompt),
            "model": outcome.model_name,
            "config": config,
            "error": None,
            "prompt": outcome.prompt,
            "schedule": outcome.config.schedule.kind,
            "prefill": event_to_dict(outcome.prefill),
            "summary": event_to_dict(finish),
            "created_at": datetime.now(UTC).isoformat(),
        },
        "prompt": outcome.prompt,
        "text": finish.text,
        "model": outcome.model_name,
        "dtype": outcome.dtype_name,
        "config": config,
        "events": [event_to_dict(token) for token in outcome.tokens],
        "spend": dict.fromkeys(AXIS_FIELDS) if finish.spend is None else record_of(finish.spend),
        "requested": record_of(outcome.requested),
        "totals": {
            "flops": finish.cost.flops,
            "bytes_read": finish.cost.bytes_read,
            "dense_flops": finish.dense_cost.flops,
            "dense_bytes_read": finish.dense_cost.bytes_read,
            "prompt_tokens": outcome.prefill.prompt_tokens,
            "tokens": finish.num_tokens,
            "finish_reason": finish.reason,
        },
        "timings": {
            "load_ms": outcome.load_ms,
            "prefill_ms": finish.prefill_ms,
            "decode_ms": finish.decode_ms,
            "tokens_per_s": finish.tokens_per_s,
            "ms_per_token": outcome.ms_per_token,
        },
    }


def _reused(prefill: PrefillEvent) -> str:
    count = prefill.reused_tokens
    return f", {count:,} of them kept from an earlier prompt" if count else ""


def summary(outcome: Outcome) -> str:
    """Spend against budget, speed, computed savings and quality, a line each."""
    finish, schedule = outcome.finish, outcome.config.schedule.kind
    per_token = outcome.ms_per_token
    speed = "" if per_token is None else f", {per_token:.1f} ms/token"
    lines = [
        f"{outcome.model_name}, {outcome.dtype_name}, schedule {schedule}: "
        f"{_tokens(finish.num_tokens)} ({finish.reason.replace('_', ' ')})",
        f"measured  {finish.tokens_per_s:.1f} tokens/s{speed}, prefill {finish.prefill_ms:.0f} ms "
        f"for {_tokens(outcome.prefill.prompt_tokens)}{_reused(outcome.prefill)}, "
        f"load {outcome.load_ms / 1000:.1f} s",
    ]
    if finish.spend is not None:
        lines.append(f"{'':36}spent   budget")
        parts = {"channels": outcome.config.grid_in_use.mechanisms.pruner.unit}
        share = outcome.requested.bytes_share
        if share is not None:
            read = finish.cost.bytes_read / finish.dense_cost.bytes_read
            lines.append(f"  {'bytes, share of the full model':34}{read:5.2f}   {share:6.2f}")
        pairs = zip(finish.spend.as_tuple(), outcome.requested.as_tuple(), strict=True)
        for axis, (spent, asked) in zip(AXES, pairs, strict=True):
            part_of = parts.get(axis.short, axis.part_of)
            label = axis.noun + (f", share of {part_of}" if part_of else "")
            is_asked = share is None or axis.field == "bit_width"
            lines.append(f"  {label:34}{spent:5.2f}" + (f"   {asked:6.2f}" if is_asked else ""))
        lines.append(
            f"computed  FLOPs {_saved(finish.cost.flops, finish.dense_cost.flops)}; "
            f"bytes read {_saved(finish.cost.bytes_read, finish.dense_cost.bytes_read)}"
        )
        lines.append(_quality(outcome.tokens))
    return "\n".join(lines) + "\n"


def _quality(tokens: Sequence[TokenEvent]) -> str:
    text = f"quality   mean surprisal {statistics.fmean(t.surprisal for t in tokens):.3f} nats"
    divergences = [token.kl_to_dense for token in tokens if token.kl_to_dense is not None]
    if divergences:
        text += f", mean KL to dense {statistics.fmean(divergences):.4f} nats"
    return text


def _saved(spent: float, dense: float) -> str:
    if not dense:
        return "none"
    return f"{_short(spent)} of {_short(dense)} ({100 * (1 - spent / dense):.0f} % saved)"


def _short(number: float) -> str:
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= limit:
            return f"{number / limit:.2f} {unit}"
    return f"{number:.0f}"


def _tokens(count: int) -> str:
    return "1 token" if count == 1 else f"{count} tokens"
