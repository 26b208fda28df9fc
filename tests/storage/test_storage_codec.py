"""Whatever goes in comes out unchanged, or is refused by name."""

import json
import math
from datetime import UTC, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage import codec
from storage.errors import DatabaseCorruptError, InvalidRecordError

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
@example("\ud83d" + "\ude00")  # JSON's escapes would join them into one emoji
def test_text_round_trip(text):
    assert codec.decode_text(codec.encode_text("prompt", text)) == text
    assert codec.decode_json(codec.encode_json("token event", {"text": text})) == {"text": text}


@given(json_objects)
@example({"text": "9" * 40, "size": 1.5e300})  # digits in a text are no number
def test_json_round_trip(value):
    assert codec.decode_json(codec.encode_json("config", value)) == value


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30))])))
def test_time_round_trip_to_the_microsecond(moment):
    assert codec.decode_time(codec.encode_time(moment)) == moment
    assert codec.decode_time(codec.encode_time(moment)).tzinfo is UTC


CIRCLE = {}
CIRCLE["self"] = CIRCLE
DEEP = {}
for _ in range(100_000):
    DEEP = {"in": DEEP}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        *(({"top": [{"probability": one}]}, "finite") for one in (math.nan, math.inf, -math.inf)),
        *((value, "as JSON") for value in ({"a": {1, 2}}, {"a": b"bytes"}, {(1, 2): "a"})),
        *((value, "must be a dict") for value in (None, [1], "text", 3)),
        (CIRCLE, ""),
        (DEEP, ""),
    ],
    ids=range(12),
)
def test_what_json_lacks_is_refused(value, said):
    with pytest.raises(InvalidRecordError, match=f"token event.*{said}"):
        codec.encode_json("token event", value)


def test_only_text_is_text():
    with pytest.raises(InvalidRecordError, match="owner must be text, not int"):
        codec.encode_text("owner", 7)


@pytest.mark.parametrize("data", [b'{"a": ', b"[1]", b"\xff\xfe", b'"x"', b'{"a": Infinity}'])
def test_damaged_bytes_are_reported(data):
    with pytest.raises(DatabaseCorruptError, match="damaged"):
        codec.decode_json(data)


@given(st.integers(MAX_WHOLE + 1), st.booleans())
def test_whole_numbers_beyond_64_bits_are_refused_both_ways(size, is_negative):
    value = {"a": [{"seed": -size if is_negative else size}]}
    with pytest.raises(InvalidRecordError, match="config cannot be saved"):
        codec.encode_json("config", value)
    with pytest.raises(DatabaseCorruptError, match="beyond 64 bits"):
        codec.decode_json(json.dumps(value).encode())
