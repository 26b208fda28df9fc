"""Windows over one cache: the decode loop says at once what they cannot do."""

from __future__ import annotations

from typing import Any

import pytest

from sol_core.decoding.loop import DecodeOptions, Windows, decode
from sol_core.errors import ConfigError


def test_windows_are_not_refreshed() -> None:
    nothing: Any = None  # is looked at before
    windows = Windows(nothing, (0,), (1,))
    options = DecodeOptions(max_steps=4, refresh=True)
    with pytest.raises(ConfigError, match="refresh needs a cache of its own"):
        next(decode(nothing, windows, [1], nothing, nothing, options))
