"""Whatever goes in comes out unchanged, or is refused by name."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import DatabaseCorruptError, InvalidRecordError
from storage.codec import (
    decode_json,
    decode_text,
    decode_time,
    encode_json,
    encode_text,
    encode_time,
)

MAX_WHOLE = 2**63 - 1
# characters() without a codec draws lone surrogates and NUL too.
any_text = st.text(st.characters())
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_WHOLE, MAX_WHOLE)
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(any_text, json_values, max_size=5)


@given(any_text)
def test_text_round_trip(text: str) -> None:
    assert decode_text(encode_text("prompt", text)) == text


@given(json_objects)
def test_json_round_trip(value: dict[str, Any]) -> None:
    assert decode_json(encode_json("config", value)) == value


def test_adjacent_surrogates_stay_two_characters() -> None:
    """JSON's escapes would join them into one emoji."""
    pair = "\ud83d" + "\ude00"
    assert decode_json(encode_json("token event", {"text": pair})) == {"text": pair}


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30))])))
def test_time_round_trip_to_the_microsecond(moment: datetime) -> None:
    assert decode_time(encode_time(moment)) == moment
    assert decode_time(encode_time(moment)).tzinfo is UTC


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_refused(number: float) -> None:
    with pytest.raises(InvalidRecordError, match=r"token event cannot be saved.*finite"):
        encode_json("token event", {"top": [{"probability": number}]})


@pytest.mark.parametrize("value", [{"a": {1, 2}}, {"a": b"bytes"}, {(1, 2): "a"}])
def test_objects_that_json_lacks_are_refused(value: dict[Any, Any]) -> None:
    with pytest.raises(InvalidRecordError, match="config cannot be saved as JSON"):
        encode_json("config", value)


def test_circular_and_bottomless_values_are_refused() -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"in": deep}
    for value in (circle, deep):
        with pytest.raises(InvalidRecordError):
            encode_json("config", value)


@pytest.mark.parametrize("value", [None, [1], "text", 3])
def test_only_dicts_are_records(value: Any) -> None:
    with pytest.raises(InvalidRecordError, match="summary must be a dict"):
        encode_json("summary", value)


def test_only_text_is_text() -> None:
    with pytest.raises(InvalidRecordError, match="owner must be text, not int"):
        encode_text("owner", 7)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b'{"a": ', b"[1]", b"\xff\xfe", b'"x"', b'{"a": Infinity}'])
def test_damaged_bytes_are_reported(data: bytes) -> None:
    with pytest.raises(DatabaseCorruptError, match="damaged"):
        decode_json(data)


@given(st.integers(MAX_WHOLE + 1), st.booleans())
def test_whole_numbers_beyond_64_bits_are_refused_both_ways(size: int, is_negative: bool) -> None:
    value = {"a": [{"seed": -size if is_negative else size}]}
    with pytest.raises(InvalidRecordError, match="config cannot be saved"):
        encode_json("config", value)
    with pytest.raises(DatabaseCorruptError, match="beyond 64 bits"):
        decode_json(json.dumps(value).encode())


def test_digits_in_a_text_are_no_number() -> None:
    value = {"text": "9" * 40, "size": 1.5e300}
    assert decode_json(encode_json("config", value)) == value
