"""Arguments that the library's functions share: a model, methods, folders, texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sol_core.corpus.documents import SUPPORTED_SUFFIXES
from sol_core.errors import ConfigError, CorpusError
from sol_core.fields import changed, check_kind, check_text, kind_of
from sol_core.files.paths import default_data_dir
from sol_core.files.staging import explain_os_error, replacing
from sol_core.progress import Progress, WorkEvent, WorkFinished, WorkProgress, shown_progress

if TYPE_CHECKING:
    from sol_core.actions import Budget
    from sol_core.decoding.batch_scheduling import Schedule
    from sol_core.generation.schedules import WithoutBudget
    from sol_core.policy.policy import Policy

MAX_NAME = 1024  # characters of a path
_TEXTS = "given"  # folder of the texts of callers


def check_model(model: object) -> None:
    """Raises: ConfigError unless it is a language model."""
    from sol_core.models.loading import LanguageModel

    check_kind("model", model, LanguageModel, "a LanguageModel, as load_model() returns it")


def data_folder(data_dir: str | Path | None) -> Path:
    """Return the folder of downloads, stored policies and texts."""
    check_kind("data_dir", data_dir, (str, Path, type(None)), "a folder")
    return default_data_dir() if data_dir is None else Path(data_dir).expanduser().absolute()


def policy_by_name(
    name: str, policy: Policy | Schedule | None, budget: Budget | None
) -> Path | Policy | Schedule | WithoutBudget:
    """Return the given policy if it has this name, else the stored one."""
    from sol_core.generation.schedules import mark_without_budget, schedule_name

    if policy is not None and name == schedule_name(policy):
        return mark_without_budget(policy, budget)
    from sol_core.policy.files.locate import locate_policy

    return locate_policy(name)


def corpus_name(corpus: Any, data_dir: Path) -> str:
    """Return a corpus as configurations hold it, a name or a path; texts are written to a file.

    Args:
        corpus: "builtin", "papers", a path, a Hub data set, a text, a list of texts and paths, or
            a ``datasets.Dataset`` with a column of texts.
    Raises: ConfigError for anything else; CorpusError if the texts cannot be written.
    """
    if isinstance(corpus, Path):
        return str(corpus.expanduser().absolute())
    if isinstance(corpus, str):
        check_text("corpus", corpus)
        return _kept([corpus], data_dir, "txt") if _is_text(corpus) else corpus
    if type(corpus).__module__.partition(".")[0] == "datasets":
        corpus = _column(corpus)
    check_kind(
        "corpus",
        corpus,
        (list, tuple),
        "a name, a path, a text, a list of texts and paths or a datasets.Dataset",
    )
    texts: list[str] = []
    for number, item in enumerate(corpus):
        check_kind(f"corpus[{number}]", item, (str, Path), "text, or the path of a file")
        if isinstance(item, str):
            check_text(f"corpus[{number}]", item)
        texts += [item] if isinstance(item, str) else _documents(item)
    if not any(text.strip() for text in texts):
        raise ConfigError("corpus is a list without text: give at least one text")
    return _kept(texts, data_dir, "jsonl")


def methods_by_name(methods: Any) -> dict[str, Any]:
    """Return a call's methods by name; a single method has its own name."""
    from sol_core.generation.schedules import check_is_policy, schedule_name

    if isinstance(methods, Mapping):
        for name in methods:
            check_kind("a method's name", name, str, "text")
        return dict(methods)
    if isinstance(methods, (str, Path)):
        return {str(methods): methods}
    check_is_policy(methods)
    return {schedule_name(methods): methods}


def with_settings(config: Any, settings: Mapping[str, Any], corpus: Any, root: Path) -> Any:
    """Return the configuration with changed settings and the corpus by name."""
    given = dict(settings)
    if corpus is not None:
        given["corpus"] = corpus_name(corpus, root)
    return changed(config, given)


def finished_work(
    events: Iterable[WorkEvent],
    on_progress: Progress | None,
    on_event: Callable[[WorkEvent], None] | None = None,
) -> WorkFinished:
    """Run work to its end. Raises: KeyboardInterrupt if it was stopped."""
    finished = None
    with shown_progress(on_progress) as report:
        for event in events:
            if on_event is not None:
                on_event(event)
            if isinstance(event, WorkProgress):
                report(event.message, event.fraction)
            elif isinstance(event, WorkFinished):
                finished = event
    if finished is None:
        raise KeyboardInterrupt
    return finished


def _documents(path: Path) -> list[str]:
    from sol_core.corpus.file_formats import LocalSource

    return [text for text, _ in LocalSource(path.expanduser().absolute()).documents()]


def _is_text(corpus: str) -> bool:
    """Return whether a string is text rather than the name of a corpus or a path."""
    if "\n" in corpus or len(corpus) > MAX_NAME:
        return True
    return (
        len(corpus.split()) > 1
        and not corpus.lower().endswith(SUPPORTED_SUFFIXES)
        and ":" not in corpus
        and not Path(corpus).expanduser().exists()
    )


def _column(dataset: Any) -> list[str]:
    from sol_core.corpus.file_formats import choose_column

    if type(dataset).__name__ != "Dataset":
        raise ConfigError(
            f"corpus must be one part of a data set, got {kind_of(dataset)}: give a part, "
            'as in corpus["train"], or a list of its texts'
        )
    name = choose_column(dataset.column_names, None, "the data set")
    return [text for text in dataset[name] if text is not None]


def _kept(texts: Iterable[str], data_dir: Path, ending: str) -> str:
    """Write the texts to a file named by their hash; return its path."""
    lines = texts if ending == "txt" else (json.dumps({"text": text}) + "\n" for text in texts)
    content = "".join(lines).encode("utf-8", "surrogatepass")
    name = f"texts-{hashlib.sha256(content).hexdigest()[:12]}.{ending}"
    path = data_dir / "corpora" / _TEXTS / name
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as staged:
                staged.write_bytes(content)
    except OSError as error:
        raise CorpusError(f"cannot keep the texts: {explain_os_error(error, path)}") from error
    return str(path)
