"""The table of what can be exported and imported, and the envelope around every document.

A document comes from anywhere and is never trusted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app.formats import bytes_share, json_safe, step_bytes, verdict_record
from app.host.errors import DocumentError, naming_damage
from app.host.json_size import has_more
from app.runs.views import whole_view
from app.sharing.alignment import align, first_divergence
from app.sharing.html_page import html_page
from app.sharing.run_document import VERSION, RunDocument, SeenRun, ended_run
from app.sharing.run_kinds import GENERATION, INSPECTION
from sol_core.errors import SolError
from sol_core.files.paths import whole_characters, why_not_parsed
from sol_core.reporting.verdict import ENOUGH_TOKENS, block_interval, verdict_of
from storage import Store
from storage.codec import refuse_constant

FORMS = ("html", "json", "csv")
MAX_DOCUMENT_BYTES = 128 * 1024**2
# Objects and lists take many times their bytes in memory; exported runs have 130 bytes for each.
_FREE_CONTAINERS, _BYTES_OF_CONTAINER = 1000, 16
_ADVICE = (
    'Choose a JSON file that SOL Explorer exported (its "format" begins with "sol-explorer-").'
)

DOCUMENTS = {document.part: document for document in (GENERATION, INSPECTION)}
COMPARISON = "comparison"  # of two generations; its id is theirs with a comma, as in a link
SEPARATOR = ","
KINDS = (*DOCUMENTS, COMPARISON)
Document = dict[str, Any]
# Of two generations, every token's NLL under the dense model, nats; None where it is not known.
ScorePair = Callable[[tuple[str, str]], list[list[float | None] | None]]


def kind_of(store: Store, thing_id: str) -> str:
    """The kind of the thing with this id: a run, or two with a comma. Raises: NotFoundError."""
    if SEPARATOR in thing_id:
        return COMPARISON
    kind = store.runs.get(thing_id).kind
    return next(part for part, document in DOCUMENTS.items() if document.kind == kind)


@dataclass(frozen=True, slots=True)
class Export:
    """A file to write or download: UTF-8 text of a media type."""

    name: str
    media_type: str
    text: str


_MEDIA_TYPES = {"html": "text/html", "json": "application/json", "csv": "text/csv"}


def export(
    store: Store,
    kind: str,
    thing_id: str,
    form: str,
    score: ScorePair | None = None,
    seen: SeenRun | None = None,
) -> Export:
    """One thing in one form; a loaded model may ``score`` a comparison."""
    forms = FORMS if kind in DOCUMENTS else ("html",) if kind == COMPARISON else ()
    if form not in forms:
        raise DocumentError(
            f"a {kind} cannot be exported as {form}: kinds are {', '.join(KINDS)}, "
            f"forms are {', '.join(forms or FORMS)}"
        )
    with naming_damage(f"This {kind}"):
        if kind == COMPARISON:
            text = comparison_page(store, thing_id, score)
        else:
            text = DOCUMENTS[kind].text(store, thing_id, form, seen)
        if form != "json":
            # CSV and HTML have no escape for half characters: they become U+FFFD.
            text = whole_characters(text)
        name = file_stem(kind, store.runs.get(thing_id.partition(SEPARATOR)[0]).title)
    return Export(f"{name}.{form}", _MEDIA_TYPES[form], text)


def import_documents(store: Store, owner: str, data: bytes) -> list[tuple[str, str]]:
    """Save what a JSON file holds, one document or a list, all of known kinds; kinds and ids."""
    documents = _parsed(data)
    kinds = [_kind_of_document(document) for document in documents]
    checked = [
        kind.checked(owner, document) for kind, document in zip(kinds, documents, strict=True)
    ]
    return [
        (kind.part, new_id) for kind, new_id in zip(kinds, store.runs.restore(checked), strict=True)
    ]


def _kind_of_document(document: Document) -> RunDocument:
    """The reader of the document. Raises: DocumentError for another format, or a newer version."""
    given, version = document.get("format"), document.get("version")
    kind = next((kind for kind in DOCUMENTS.values() if kind.format == given), None)
    if kind is None:
        known = ", ".join(kind.format for kind in DOCUMENTS.values())
        raise DocumentError(
            f"the file's format is {repr(given)[:60]}; this release reads {known}. {_ADVICE}"
        )
    if type(version) is not int or version < 1:
        raise DocumentError(f"the file's version must be a whole number, got {repr(version)[:40]}")
    if version > VERSION:
        raise DocumentError(
            f"the file has version {version} of {kind.format}, this release reads up to "
            f"{VERSION}: update SOL Explorer"
        )
    return kind


def _parsed(data: bytes) -> list[Document]:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentError(
            f"the file has more than {MAX_DOCUMENT_BYTES / 1024**2:.0f} MB, the most that is read"
        )
    if has_more(data, _FREE_CONTAINERS + len(data) // _BYTES_OF_CONTAINER, len(data)):
        raise DocumentError(f"the file holds far more objects and lists than any run. {_ADVICE}")
    try:
        parsed = json.loads(data.decode("utf-8-sig"), parse_constant=refuse_constant)
    except UnicodeDecodeError as error:
        raise DocumentError(f"the file is not text. {_ADVICE}") from error
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"the file is not JSON: {why_not_parsed(error)}. {_ADVICE}") from error
    documents = parsed if isinstance(parsed, list) else [parsed]
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise DocumentError(f"the file holds no JSON object. {_ADVICE}")
    return documents


def file_stem(kind: str, title: str) -> str:
    words = "".join(char if char.isascii() and char.isalnum() else "-" for char in title)
    stem = "-".join(part for part in words.split("-") if part)[:50].rstrip("-").lower()
    return f"{kind}-{stem}" if stem else kind


def align_tokens(
    first: Sequence[int], second: Sequence[int], *, same_prompt: bool
) -> dict[str, Any]:
    """ "parted", and "stretches" [same, start, stop, start, stop]; None for different prompts."""
    answer: dict[str, Any] = {"same_prompt": same_prompt, "parted": None, "stretches": None}
    if same_prompt:
        answer["parted"] = first_divergence(first, second)
        answer["stretches"] = [
            [stretch.same, *stretch.first, *stretch.second] for stretch in align(first, second)
        ]
    return answer


def pair_verdict(
    configs: Sequence[dict[str, Any]],
    events: Sequence[Sequence[dict[str, Any]]],
    nll: Sequence[Sequence[float | None] | None],
) -> dict[str, str] | None:
    """Judge the second of two runs: by its steps' KL, else by the text's NLL in the full model."""
    pairs = list(zip(configs, events, strict=True))
    losses, measure = [_drift(*pair) for pair in pairs], "kl"
    if not all(losses):
        known = [[value for value in values or () if value is not None] for values in nll]
        losses, measure = known, "likelihood"
    shares = [bytes_share([step_bytes(event) for event in side]) for side in events]
    samples = min(map(len, losses))
    gain = block_interval(losses[1], losses[0]) if samples >= ENOUGH_TOKENS else None
    return verdict_record(verdict_of("B", "A", [gain], samples, measure, [(shares[1], shares[0])]))


def _drift(config: dict[str, Any], events: Sequence[dict[str, Any]]) -> list[float]:
    """KL of every step to the full model, nats; empty where it did not run beside."""
    if config.get("schedule", {}).get("kind") == "dense":
        return [0.0] * len(events)
    values = [event.get("kl_to_dense") for event in events]
    return [value for value in values if value is not None] if None not in values else []


def _recorded_dense_nll(
    config: dict[str, Any], events: Sequence[dict[str, Any]]
) -> list[float | None] | None:
    """NLL of every token under the dense model, nats, where the generation itself measured it."""
    if not events:
        return None
    if config.get("schedule", {}).get("kind") == "dense":
        return [event["surprisal"] for event in events]
    dense = {
        row["name"] for row in config.get("side_rows", []) if row["schedule"]["kind"] == "dense"
    }
    values = [
        next((side["surprisal"] for side in event["side"] if side["name"] in dense), None)
        for event in events
    ]
    return values if any(value is not None for value in values) else None


def comparison_page(store: Store, pair: str, score: ScorePair | None) -> str:
    """An HTML file of two runs side by side. Raises: DocumentError."""
    left, _, right = pair.partition(SEPARATOR)
    if not (left and right):
        raise DocumentError(f"a comparison's id is two runs' ids with a comma, got {pair!r}")
    runs = [ended_run(store, run_id, GENERATION.kind) for run_id in (left, right)]
    scored: list[list[float | None] | None] = [None, None]
    if score is not None:
        # With another model, or a busy one, what the runs measured themselves remains.
        with suppress(SolError):
            scored = score((left, right))
    sides = []
    for (record, events), nll in zip(runs, scored, strict=True):
        known = json_safe(nll or _recorded_dense_nll(record.config, events))
        problem = None if known else "no dense pass over this text is in the file."
        sides.append({"nll": known, "problem": problem})
    views = [whole_view(record, events) for record, events in runs]
    first, second = ([event["token_id"] for event in events] for _, events in runs)
    asked = {(record.prompt, bool(record.config.get("chat"))) for record, _ in runs}
    compared = align_tokens(first, second, same_prompt=len(asked) == 1) | {
        "sides": sides,
        "verdict": pair_verdict(
            [record.config for record, _ in runs],
            [events for _, events in runs],
            [side["nll"] for side in sides],
        ),
    }
    view = {"views": views, "compared": compared}
    return html_page(views[0]["run"]["title"], view, "shared_comparison", ("compare",))
