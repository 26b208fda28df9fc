"""Reading of a ``PageReads`` by its docstring, without the page's or the engine's code."""

import base64


def levels_of(packed, cells, layers):
    """Levels [L][cells]; nothing but zeros may be left in the last byte."""
    data = base64.b64decode(packed, validate=True)
    flat = [data[at // 4] >> 2 * (at % 4) & 3 for at in range(4 * len(data))]
    assert len(flat) - layers * cells in range(4)
    assert not any(flat[layers * cells :])
    return [flat[at * cells : (at + 1) * cells] for at in range(layers)]
