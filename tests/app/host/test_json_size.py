"""JSON is counted before it is parsed."""

import json

from hypothesis import given
from hypothesis import strategies as st

from app.host import json_size
from app.host.json_size import has_more

VALUES = st.recursive(
    st.none() | st.integers() | st.text('a",\\[{'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('a",\\[{'), inner),
)


def counted(value):
    """Containers, and commas between values."""
    if not isinstance(value, (list, dict)):
        return 0, 0
    items = list(value.values() if isinstance(value, dict) else value)
    inner = [counted(item) for item in items]
    containers = 1 + sum(containers for containers, _ in inner)
    return containers, max(0, len(items) - 1) + sum(commas for _, commas in inner)


@given(VALUES, st.booleans(), st.integers(1, 9))
def test_values_are_counted_and_what_stands_in_strings_is_not(value, is_ascii, chunk):
    data, before = json.dumps(value, ensure_ascii=is_ascii).encode(), json_size._CHUNK
    containers, commas = counted(value)
    json_size._CHUNK = chunk
    try:
        assert not has_more(data, containers, commas)
        assert has_more(data, containers - 1, commas)
        assert has_more(data, containers, commas - 1)
    finally:
        json_size._CHUNK = before
