"""The texts of a run by number: the same number gives the same tokens, also after a resume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sol_core.corpus import Corpus, load_corpus, token_blocks
from sol_core.models.loading import LanguageModel
from sol_core.training.config import TrainConfig


class TextSource:
    """Blocks of ``config.block_len`` tokens of a corpus, shuffled again on every pass.

    Attributes:
        fingerprint: of the corpus, once it is open.
    """

    def __init__(self, model: LanguageModel, config: TrainConfig, data_dir: Path) -> None:
        self._model, self._config, self._data_dir = model, config, data_dir
        self._streams: dict[str, tuple[int, Iterator[list[int]]]] = {}
        self._corpus: Corpus | None = None
        self.fingerprint = ""

    def open(self) -> None:
        """Find the corpus and read its first text.

        Raises: CorpusError, DownloadError, ConfigError.
        """
        self._corpus = load_corpus(self._config.corpus, data_dir=self._data_dir, split="train")
        self.fingerprint = self._corpus.fingerprint
        next(self._endless("label"))

    def labelling(self, number: int) -> list[int]:
        """Text ``number`` of the warm start."""
        return self._nth("label", number)

    def rollout(self, number: int) -> list[int]:
        """Text ``number`` of GRPO, in an order of its own."""
        return self._nth("grpo", number)

    def calibration(self, number: int) -> list[int]:
        """Text ``number`` of another kind than the corpus's, where ``shares_from`` names one."""
        return self._nth(self._config.shares_from, number)

    def held_out(self, count: int) -> list[list[int]]:
        """Texts that training never sees: at most ``count``, at least one."""
        corpus = load_corpus(self._config.corpus, data_dir=self._data_dir, split="held_out")
        return list(self._cut(corpus, seed=0, limit=count))

    def _nth(self, stream: str, number: int) -> list[int]:
        """Texts are read in order; going back, as after a resume, starts the stream again."""
        place, blocks = self._streams.get(stream, (0, iter(())))
        if stream not in self._streams or place > number:
            place, blocks = 0, self._endless(stream)
        text: list[int] = []
        while place <= number:
            text = next(blocks)
            place += 1
        self._streams[stream] = (place, blocks)
        return text

    def _endless(self, stream: str) -> Iterator[list[int]]:
        corpus, turn = self._corpus, 500_000 if stream == "grpo" else 0
        if stream == "papers":
            corpus = load_corpus(stream, data_dir=self._data_dir, split="train")
        assert corpus is not None
        while True:
            yield from self._cut(corpus, self._config.seed * 1_000_003 + turn)
            turn += 1

    def _cut(self, corpus: Corpus, seed: int, limit: int | None = None) -> Iterator[list[int]]:
        tokenizer, length = self._model.tokenizer, self._config.block_len
        return token_blocks(corpus, tokenizer, length, seed=seed, limit=limit, prompts=True)
