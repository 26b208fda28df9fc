"""Verdicts: the sentence that summarises a comparison, by one rule for page, commands and Python.

A verdict states a difference only if it was measured: not with too few samples, unequal bytes, or
an interval that includes 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance
from typing import Any, Literal

from sol_core.config import DEFAULT_POLICY, POLICY_PREFIX, SCHEDULE_LABELS

METHOD_LABELS = SCHEDULE_LABELS | {
    "policy_sampled": "Policy, sampled",  # in results of earlier releases
    "random_best": "Random, best",
    "paper": "Paper's mechanisms",
}
BLOCK = 10  # tokens, because neighbours are correlated
T_VALUE = 2.09  # Student's t, 95 %, twenty blocks
ENOUGH_TOKENS = 200  # scored tokens needed for a verdict
ENOUGH_QUESTIONS = 50
SAME_KL = 0.001  # nats in the mean, up to which the text is usually the same (docs/results.md)
BROKEN_KL = 0.3  # nats in the mean, from which on most tokens are others (docs/results.md)
BROKEN_OTHERS = 0.4  # fraction of the tokens
MATCHED = 0.0105  # of the dense bytes: one point, plus rounding
Kind = Literal["good", "bad", "open"]
Spent = tuple[float | None, float | None]  # the two methods' shares of the dense bytes


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % interval; ``low <= mean <= high``."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of a comparison; ``str`` is the whole sentence.

    Attributes:
        kind: good or bad for the judged method; open: no difference is shown.
        head: the finding.
        rest: the evidence.
    """

    kind: Kind
    head: str
    rest: str

    def __str__(self) -> str:
        return self.head + self.rest


@dataclass(frozen=True, slots=True)
class Measure:
    """A compared quantity; a gain above 0 favours the judged method."""

    better: str  # completes "is … than"
    worse: str
    more: str  # describes a gain above 0
    less: str
    unit: str
    counted: str = "scored token"
    enough: int = ENOUGH_TOKENS
    scale: float = 1.0
    noticed: float = 0.0  # least noticeable gain

    def kind(self, gain: Interval | None, samples: int) -> Kind:
        """Judge a gain by itself; without one, the verdict is open."""
        if gain is None or samples < self.enough or gain.low <= 0 <= gain.high:
            return "open"
        return "good" if gain.low > 0 else "bad"

    def side(self, value: float) -> str:
        """Return the word for a gain's sign."""
        return self.more if value >= 0 else self.less


MEASURES = {
    "kl": Measure(
        "closer to the full model", "further from the full model", "closer", "further",
        "nats of KL a token", noticed=SAME_KL,
    ),
    "nll": Measure(
        "better at predicting the text", "worse at predicting the text", "less", "more",
        "nats of NLL a token",
    ),
    "likelihood": Measure(
        "more likely under the full model", "less likely under the full model", "less", "more",
        "nats of NLL a token",
    ),
    "accuracy": Measure(
        "right more often", "right less often", "more", "fewer", "points of accuracy",
        "question", ENOUGH_QUESTIONS, 100.0,
    ),
}  # fmt: skip


def method_name(name: str) -> str:
    """Return a method's display name: "policy:mine" → "Policy mine"."""
    if name.startswith(POLICY_PREFIX):
        return policy_name(name.removeprefix(POLICY_PREFIX))
    return METHOD_LABELS.get(name, name[:1].upper() + name[1:])


def policy_name(policy: str) -> str:
    """Return a policy's display name; for a folder, its last part."""
    last = policy.rstrip("/").rpartition("/")[2]
    return "Default policy" if last == DEFAULT_POLICY else f"Policy {last}"


def verdict_of(
    name: str,
    other: str,
    gains: Sequence[Interval | None],
    samples: int,
    measure: str = "kl",
    spent: Sequence[Spent] = (),
) -> Verdict | None:
    """Judge one method against another one.

    Args:
        name, other: display names, see ``method_name``.
        gains: one per budget; None without a number.
        samples: number of scored tokens or questions.
        measure: a key of ``MEASURES``.
        spent: one per budget; () if bytes were not counted.
    Returns: None if nothing was measured.
    """
    if not gains:
        return None
    of, spends = MEASURES[measure], list(spent) or [(None, None)] * len(gains)
    if samples < of.enough:
        plural = "" if samples == 1 else "s"
        words = f": {samples:,} {of.counted}{plural}. A verdict needs {of.enough}."
        return Verdict("open", "Too few to tell", words)
    bought = [_is_bought(*pair, of, samples) for pair in zip(gains, spends, strict=True)]
    fair = [
        (gain, pair)
        for gain, pair, apart in zip(gains, spends, bought, strict=True)
        if gain is not None and not apart
    ]
    if not fair:
        apart = [pair for pair, is_apart in zip(spends, bought, strict=True) if is_apart]
        if not apart:
            return None
        words = f": {within(name)} {_unequal(within(other), apart)}."
        return Verdict("open", "No comparison at equal bytes", words)
    known, pairs = [gain for gain, _ in fair], [pair for _, pair in fair]
    left_out = len(gains) - len(fair)
    rest = f" {left_out} of {len(gains)} budgets left out: other bytes." if left_out else ""
    judge = _at_one_budget if len(fair) == 1 else _at_several_budgets
    made = judge(name, within(other), known, samples, of, _at(pairs))
    return Verdict(made.kind, made.head, made.rest + rest)


def budgets_verdict(
    budgets: Iterable[Mapping[str, Any]],
    method: str,
    baseline: str,
    *,
    names: tuple[str, str],
    samples: int,
    measure: str = "kl",
) -> Verdict | None:
    """Judge an evaluation's first method by its records of budgets.

    Args:
        method: its key in the records.
        names: display names of both, as for ``verdict_of``.
    """
    gains, spent = [], list[Spent]()
    for record in budgets:
        pair = record.get("paired", {}).get(baseline)
        if pair is None:
            continue
        gains.append(gain_of(*(pair.get(f"{measure}_{part}") for part in ("gain", "low", "high"))))
        shares = [record["methods"].get(key, {}).get("bytes_share") for key in (method, baseline)]
        spent.append((shares[0], shares[1]))
    return verdict_of(*names, gains, samples, measure, spent)


def training_verdict(policy: str, held_out: Mapping[str, Any]) -> Verdict | None:
    """Judge a policy by the last report of its training; None if that measured nothing."""
    static, own = held_out.get("kl_static"), held_out.get("kl")
    if static is None or own is None:
        return None
    gain = gain_of(static - own, held_out.get("kl_gain_low"), held_out.get("kl_gain_high"))
    if gain is None:
        words = ": its training measured no interval. Evaluate it."
        return Verdict("open", "Too few to tell", words)
    name, samples = method_name(POLICY_PREFIX + policy), int(held_out.get("scored_tokens") or 0)
    return verdict_of(name, "static", [gain], samples)


def tasks_verdict(result: Mapping[str, Any]) -> Verdict | None:
    """Judge a policy over all questions of a tasks result, at every budget."""
    tasks = result["tasks"]
    scored = (result.get("pooled") or tasks)[0]
    if len(scored.get("tasks", "1")) != len(tasks):  # several, and not pooled: schema 1
        return None
    whole = scored["dense"].get("bytes_per_token")
    gains, spent = [], list[Spent]()
    for budget in scored["budgets"]:
        gain = budget["gain"] or {}
        gains.append(gain_of(*(gain.get(part) for part in ("mean", "low", "high"))))
        read = [budget["methods"][name].get("bytes_per_token") for name in ("policy", "static")]
        own, other = (num_bytes / whole if num_bytes and whole else None for num_bytes in read)
        spent.append((own, other))
    name = method_name(POLICY_PREFIX + str(result["policy"]))
    made = verdict_of(name, "static", gains, scored["questions"], "accuracy", spent)
    return replace(made, rest=f"{made.rest} All tasks pooled.") if made and len(tasks) > 1 else made


def left_to_static_verdict(name: str) -> Verdict:
    """Return the verdict on a policy that left all steps to static."""
    words = ": it has no measured advantage at this budget and context, so both are one schedule."
    return Verdict("open", f"{name} left every step to static", words)


def answer_verdict(
    compared: int, others: int, kl: float | None, parted: int | None = None
) -> Verdict | None:
    """Judge a run by the full model beside it; None if that did not run.

    Args:
        compared: number of tokens with a known choice of the full model.
        others: number of these for which it prefers another token.
        kl: mean KL to the full model, nats per token.
        parted: index of the first such token, where the texts diverge.
    """
    if not compared:
        return None
    tokens = f"{compared:,} token{'' if compared == 1 else 's'}"
    if not others:
        words = f": all {tokens} match."
        return Verdict("good", "Same as the full model", words)
    words = f": the full model disagrees with {others:,} of {tokens}."
    if others > BROKEN_OTHERS * compared:
        return Verdict("bad", "Broken", words)
    if kl is not None and kl > BROKEN_KL:
        return Verdict("bad", "Broken", f"{words} Mean KL is above {BROKEN_KL:g} nats.")
    is_another = parted is not None and 2 * parted < compared
    return Verdict("open", "Another answer" if is_another else "Small changes", words)


def gain_of(mean: Any, low: Any, high: Any) -> Interval | None:
    """Return a record's gain; None if a number is missing."""
    numbers = [value for value in (mean, low, high) if isinstance(value, (int, float))]
    return Interval(*numbers) if len(numbers) == 3 else None


def block_interval(own: Sequence[float], other: Sequence[float] | None = None) -> Interval:
    """Measure how much less ``own`` lost than ``other``, with a 95 % interval over blocks.

    Args:
        own: losses of consecutive tokens, at least one; gains if ``other`` is None.
        other: losses on another text.
    """
    mean, error = _block_mean(own)
    if other is not None:
        base, other_error = _block_mean(other)
        mean, error = base - mean, error + other_error
    half = T_VALUE * math.sqrt(error)
    return Interval(mean, mean - half, mean + half)


def _block_mean(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its squared error over blocks; over halves if there are fewer than two
    blocks; 0 for a single value, which is too few for a verdict.
    """
    if len(values) == 1:
        return values[0], 0.0
    size = BLOCK if len(values) >= 2 * BLOCK else len(values) // 2
    count = len(values) // size
    blocks = [fmean(values[at * size : (at + 1) * size]) for at in range(count)]
    return fmean(values), variance(blocks) / count


def _is_bought(gain: Interval | None, spent: Spent, of: Measure, samples: int) -> bool:
    """Return whether the winner spent over a point more, or no one won despite such a gap."""
    own, other = spent
    if own is None or other is None or abs(own - other) <= MATCHED:
        return False
    kind = of.kind(gain, samples)
    return kind == "open" or (own > other) == (kind == "good")


def _at_one_budget(
    name: str, other: str, gains: Sequence[Interval], samples: int, of: Measure, at: str
) -> Verdict:
    (gain,) = gains
    form = _form(gains, of)
    kind = of.kind(gain, samples)
    if kind == "open":
        words = f" ({form(gain.mean)} {of.unit} apart; the interval includes 0){at}."
        return Verdict(kind, _no_difference(name, other), words)
    compared = of.better if kind == "good" else of.worse
    ends = sorted((abs(gain.low), abs(gain.high)))
    interval = f"95 % interval {form(ends[0])} to {form(ends[1])}"
    if abs(gain.mean) < of.noticed:
        words = f" ({form(gain.mean)} {of.unit} {of.side(gain.mean)}, {interval}){at}."
        head = f"No noticeable difference between {within(name)} and {other}"
        return Verdict("open", head, words)
    words = f", by {form(gain.mean)} {of.unit} ({interval}){at}."
    return Verdict(kind, f"{_sentence(name)} is {compared} than {other}", words)


def _no_difference(name: str, other: str) -> str:
    return f"No difference shown between {within(name)} and {other}"


def _at_several_budgets(
    name: str, other: str, gains: Sequence[Interval], samples: int, of: Measure, at: str
) -> Verdict:
    kinds = [of.kind(gain, samples) for gain in gains]
    better, worse, same = (kinds.count(kind) for kind in ("good", "bad", "open"))
    count, form = len(gains), _form(gains, of)
    mean = sum(gain.mean for gain in gains) / count
    low, high = min(gain.low for gain in gains), max(gain.high for gain in gains)
    average = (
        f"{form(mean)} {of.unit} {of.side(mean)} on average "
        f"(95 % intervals over all budgets: from {_from_to(low, high, form, of)}){at}."
    )
    if not better and not worse:
        words = (
            f" ({form(mean)} {of.unit} apart on average; every interval includes 0, the widest "
            f"reaches {form(max(-low, high))}){at}."
        )
        return Verdict("open", f"{_no_difference(name, other)} at any of {count} budgets", words)
    kind: Kind = "open" if better and worse else "good" if better else "bad"
    parts = [(better, of.better), (worse, of.worse)]
    first, *second = [(times, word) for times, word in parts if times]
    where = f"all {count}" if first[0] == count else f"{first[0]} of {count}"
    head = f"{_sentence(name)} is {first[1]} than {other} at {where} budgets"
    head += "".join(f", {word} at {times}" for times, word in second)
    head += f", no difference shown at {same}" if same else ""
    return Verdict(kind, head, f": {average}")


def _at(spent: Sequence[Spent]) -> str:
    """Return ", at 60.0 % of the bytes"; if not counted, spends were equal per axis."""
    pairs = [(own, other) for own, other in spent if own is not None and other is not None]
    if not pairs:
        return ", at the same spend"
    if len(pairs) == 1:
        own, other = pairs[0]
        against = "" if abs(own - other) <= MATCHED else f" against {100 * other:.1f} %"
        return f", at {100 * own:.1f} % of the bytes{against}"
    low, high = (100 * end(own for own, _ in pairs) for end in (min, max))
    return f", at {low:.1f} to {high:.1f} % of the bytes"


def _unequal(other: str, spent: Sequence[Spent]) -> str:
    """Return "spends 6.0 points more than static (80.0 % against 74.0 % of the bytes)"."""
    pairs = [(own or 0.0, its or 0.0) for own, its in spent]
    own, its = max(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    most = "up to " if len(pairs) > 1 else ""
    more = "more" if own > its else "less"
    return (
        f"spends {most}{100 * abs(own - its):.1f} points {more} than {other} "
        f"({100 * own:.1f} % against {100 * its:.1f} % of the bytes)"
    )


def _form(gains: Sequence[Interval], of: Measure) -> Callable[[float], str]:
    """Return a formatter of a sentence's numbers, whose signs are words."""
    if of.scale != 1:
        return lambda value: f"{of.scale * abs(value):.1f}"
    digits = 3 if max(abs(gain.mean) for gain in gains) >= 0.01 else 4
    least = 10**-digits
    return lambda value: (
        f"{abs(value):.{digits}f}" if abs(value) >= least / 2 or not value else f"<{least:g}"
    )


def _from_to(low: float, high: float, form: Callable[[float], str], of: Measure) -> str:
    sides = of.side(low), of.side(high)
    if sides[0] == sides[1]:
        low, high = sorted((low, high), key=abs)
        return f"{form(low)} to {form(high)} {sides[0]}"
    return f"{form(low)} {sides[0]} to {form(high)} {sides[1]}"


def _sentence(name: str) -> str:
    return name[:1].upper() + name[1:]


def within(name: str) -> str:
    """Return a name as written within a sentence: "Static" → "static"; "A" and "EMC" stay."""
    if name == METHOD_LABELS["dense"]:
        return "the full model"
    return name[:1].lower() + name[1:] if name[1:2].islower() else name
