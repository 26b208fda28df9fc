"""Tags of a stored policy: which words may be one. They are kept in its notes."""

from __future__ import annotations

import re

from app.host.errors import AppError

MAX_TAGS, TAG_LENGTH = 12, 30
_TAG = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{TAG_LENGTH - 1}}}")


def checked_tags(tags: list[str]) -> tuple[str, ...]:
    """Tags in lower case, each once, sorted.

    Raises: AppError for one that is none, or for too many.
    """
    made = sorted({tag.strip().lower() for tag in tags} - {""})
    for tag in made:
        if not _TAG.fullmatch(tag):
            raise AppError(
                f"{tag[:60]!r} is no tag: letters, digits, dots, - and _, beginning with a letter "
                f"or digit, at most {TAG_LENGTH} characters"
            )
    if len(made) > MAX_TAGS:
        raise AppError(f"a policy takes at most {MAX_TAGS} tags, got {len(made)}")
    return tuple(made)
