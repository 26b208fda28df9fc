"""Text to train and evaluate on: documents, split into train and held-out, cut into blocks.

Documents in, blocks of tokens out; files of visitors are kept by the app. All but names is looked
up when it is first asked for: the command line checks a corpus's name before pyarrow is there.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sol_core.corpus.documents import BUILTIN, HubDataSet

if TYPE_CHECKING:
    from sol_core.corpus.blocks import token_blocks
    from sol_core.corpus.documents import HELD_OUT_SHARE, Split
    from sol_core.corpus.load import Corpus, load_corpus

__all__ = [
    "BUILTIN",
    "HELD_OUT_SHARE",
    "Corpus",
    "HubDataSet",
    "Split",
    "load_corpus",
    "token_blocks",
]

_FOUND_IN = {
    "Corpus": "load",
    "load_corpus": "load",
    "HELD_OUT_SHARE": "documents",
    "Split": "documents",
    "token_blocks": "blocks",
}


def __getattr__(name: str) -> Any:
    if name not in _FOUND_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return vars(import_module(f"{__name__}.{_FOUND_IN[name]}"))[name]
