"""A folder that any web server shows without Python: a recording with the dial over its budgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.host.errors import AppError
from app.sharing.html_page import html_page


def write_demo(folder: Path, recording: dict[str, Any]) -> list[Path]:
    """Write ``index.html``, which needs nothing else, and the recording as JSON beside it.

    Args:
        recording: as ``Recording.to_json`` has it.
    Returns: the files.
    Raises: AppError where the folder cannot be written.
    """
    title = "How little can it read and still say the same?"
    page = html_page(title, {"recording": recording}, "shared_recording")
    text = json.dumps(recording, ensure_ascii=False, separators=(",", ":")) + "\n"
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (("index.html", page), ("recording.json", text)):
            (folder / name).write_text(content, encoding="utf-8")
            written.append(folder / name)
    except OSError as error:
        raise AppError(f"cannot write {folder}: {error.strerror or error}") from error
    return written
