"""Text to train and evaluate on: documents, split into train and held-out, cut into blocks.

Documents in, blocks of tokens out; files of visitors are kept by the app.
"""

from sol_core.corpus.blocks import token_blocks
from sol_core.corpus.documents import HELD_OUT_SHARE, Split
from sol_core.corpus.load import BUILTIN, Corpus, load_corpus

__all__ = ["BUILTIN", "HELD_OUT_SHARE", "Corpus", "Split", "load_corpus", "token_blocks"]
