"""Calls of an attached model's ``forward``: one sequence, read from its first token on.

Keys and values stay in this decoder. A cache of transformers names the text that a call continues
and stays empty; therefore ``generate`` sends a whole text when it begins, also with the cache of
an earlier turn. Everything that would mean other tokens or positions than these is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor

from sol_core.errors import ConfigError
from sol_core.fields import kind_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sol_core.decoding.loop import DecodeStep

# Outputs that forward refuses, and the call that gives them.
_REFUSED = {
    "labels": "score(model, text, policy, budget) gives the loss of every token",
    "output_hidden_states": "ask the model outside the block",
    "output_attentions": 'generate(…, record={"attention"}) keeps what each page got',
}
_CACHE_NAMES = ("cache", "past_key_values")  # of transformers' releases
_POSITIONS = ("position_ids", "cache_position")
_TAKEN = {*_REFUSED, *_CACHE_NAMES, *_POSITIONS, "use_cache", "return_dict", "logits_to_keep"}
_WHOLE = "give the whole text, with no cache or an empty DynamicCache"
# Modes of ``generate`` that feed a prompt in pieces, or several tokens after it.
_MODES = ("prefill_chunk_size", "assistant_model", "prompt_lookup_num_tokens")
_CHANGES = (
    "crop",
    "reset",
    "update",
    "reorder_cache",
    "batch_repeat_interleave",
    "batch_select_indices",
)  # methods of a cache that change its contents
_MARK = "_sol_explorer_text"  # of a cache that names a text
MOST_UNCACHED = 4  # texts without a cache that are continued


class Call(NamedTuple):
    """Arguments of one call of ``forward``."""

    ids: list[int]
    cache: Any  # transformers' own, empty; None without one
    uses_cache: bool
    mask_length: int | None  # tokens of the attention mask; None without one
    positions: list[int] | None  # of the ids; None where they were not given
    kept: int | Tensor  # of which positions logits are asked for, as ``logits_to_keep``

    @property
    def is_whole(self) -> bool:
        """Return whether logits of more than the last token are asked for."""
        return not (isinstance(self.kept, int) and self.kept == 1)

    @classmethod
    def read(
        cls, model: PreTrainedModel, ids: Tensor | None, mask: Tensor | None, others: dict[str, Any]
    ) -> Call:
        """The call with these arguments. Raises: ConfigError for what cannot be right."""
        _check_outputs(model, others)
        for name, value in others.items():
            if name not in _TAKEN and value is not None:
                raise ConfigError(f"an attached model takes tokens, no {name}: leave it out")
        cache = next((others[name] for name in _CACHE_NAMES if others.get(name) is not None), None)
        tensors = [others[name] for name in _POSITIONS if others.get(name) is not None]
        uses_cache = others.get("use_cache")
        if uses_cache is None:
            uses_cache = bool(getattr(model.config, "use_cache", True))
        tokens = _one_sequence(ids)
        positions = [[int(position) for position in given.flatten()] for given in tensors]
        if any(given != positions[0] for given in positions):
            raise ConfigError("position_ids and cache_position differ: leave both out")
        return cls(
            tokens,
            _checked_cache(cache),
            uses_cache,
            _mask_length(mask),
            positions[0] if positions else None,
            others.get("logits_to_keep", 0),
        )

    def restarts_text(self, seen: list[int]) -> bool:
        """Return whether it sends a text from its start that goes on where the cache's ended."""
        count = len(self.ids)
        from_start = self.mask_length == count or self.positions == list(range(count))
        return from_start and self.ids[: len(seen)] == seen and count > len(seen)

    def check_position(self, past: int) -> None:
        """Raises: ConfigError unless its tokens come next after ``past`` others."""
        count = len(self.ids)
        if self.mask_length not in (None, past + count):
            raise ConfigError(
                f"the attention mask has {self.mask_length} tokens, the text {past + count}: "
                f"{_WHOLE}"
            )
        if self.positions not in (None, list(range(past, past + count))):
            raise ConfigError(
                f"the next position of this text is {past}: leave position_ids out, or count from "
                "there"
            )
        if past and count > 1:
            raise ConfigError(
                "an attached model reads a text at once and then one token a call, got "
                f"{count} tokens after {past}: {_WHOLE}"
            )


class Text(NamedTuple):
    """A text that is being continued."""

    seen: list[int]  # its tokens so far; the decode loop reads the last one
    steps: Iterator[DecodeStep]


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a block, by the caches that name them."""

    by_cache: WeakKeyDictionary[Any, Text] = field(default_factory=WeakKeyDictionary)
    uncached: list[Text] = field(default_factory=list)

    def continued_text(self, call: Call) -> Text | None:
        """The text that a call goes on with by one token; None where it begins one."""
        if call.cache is None:
            call.check_position(0)
            if call.uses_cache or call.is_whole:
                return None
            return next((text for text in self.uncached if text.seen == call.ids[:-1]), None)
        text = self.by_cache.get(call.cache)
        if text is None and hasattr(call.cache, _MARK):
            raise ConfigError(
                f"this cache is a copy, or of another block, and holds no keys: {_WHOLE}"
            )
        if text is not None and call.restarts_text(text.seen):
            text = None
        call.check_position(0 if text is None else len(text.seen))
        return text

    def keep(self, call: Call, text: Text) -> Any:
        """Remember a text that has begun; returns the cache that names it, or None."""
        cache = call.cache
        if cache is None and call.uses_cache:
            from transformers import DynamicCache

            cache = DynamicCache()
        if cache is not None:
            self.by_cache[cache] = text
            setattr(cache, _MARK, True)
            for name in _CHANGES:
                setattr(cache, name, partial(_refuse_change, name))
        elif not call.is_whole:
            self.uncached.append(text)
            del self.uncached[:-MOST_UNCACHED]
        return cache

    def release(self) -> None:
        """Give the caches their methods back; they stay empty and marked."""
        for cache in list(self.by_cache):
            for name in _CHANGES:
                vars(cache).pop(name, None)


def check_modes(model: PreTrainedModel, values: tuple[Any, ...], given: dict[str, Any]) -> None:
    """Raises: ConfigError for a mode of ``generate`` that does not decode token by token.

    Args:
        values, given: arguments of ``generate``; the second is a configuration.
    """
    config = given.get("generation_config", values[1] if len(values) > 1 else None)
    for name in _MODES:
        sources = (getattr(source, name, None) for source in (config, model.generation_config))
        if given.get(name) is not None or any(value is not None for value in sources):
            raise ConfigError(
                "an attached model reads a prompt at once and decodes token by token: leave "
                f"{name} out"
            )


def _check_outputs(model: PreTrainedModel, others: dict[str, Any]) -> None:
    for name, instead in _REFUSED.items():
        wanted = others.get(name)
        if wanted is None and name.startswith("output_"):
            wanted = getattr(model.config, name, False)
        if wanted is not None and wanted is not False:
            raise ConfigError(f"an attached model gives logits, no {name}: {instead}")
    if others.get("return_dict") is False:
        raise ConfigError("an attached model gives a ModelOutput: leave return_dict out")


def _one_sequence(ids: Tensor | None) -> list[int]:
    if ids is None or ids.dim() != 2 or ids.shape[0] != 1 or ids.shape[1] == 0:
        given = "embeddings" if ids is None else f"a batch of {tuple(ids.shape)}"
        raise ConfigError(f"an attached model takes one sequence of tokens at a time, got {given}")
    return [int(token) for token in ids[0]]


def _mask_length(mask: Tensor | None) -> int | None:
    if mask is None:
        return None
    if not isinstance(mask, Tensor) or mask.dim() != 2 or not bool(mask.all()):
        raise ConfigError("an attached model takes no padding and no mask of its own: leave it out")
    return int(mask.shape[1])


def _checked_cache(cache: Any) -> Any:
    from transformers import DynamicCache

    if cache is None:
        return None
    what = kind_of(cache) if type(cache) is not DynamicCache else "one that is filled"
    if type(cache) is not DynamicCache or cache.get_seq_length() > 0:
        raise ConfigError(
            "an attached model keeps keys and values itself: leave the cache out, or give an empty "
            f"DynamicCache and the whole text, got {what}"
        )
    return cache


def _refuse_change(name: str, *_values: Any, **_given: Any) -> None:
    raise ConfigError(f"the cache of an attached model has no {name}: {_WHOLE}")
