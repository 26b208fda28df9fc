"""Size of JSON before it is parsed: eight megabytes of ``{},`` are 200 megabytes of objects."""

from __future__ import annotations

_CHUNK = 1024**2
_IGNORED = bytes(set(range(256)) - set(b'"[{,'))


def has_more(data: bytes, containers: int, commas: int) -> bool:
    """Return whether JSON has more objects and lists, or commas between values, than these.

    They are counted in the bytes, outside of strings; no object is made of any value.
    """
    if _containers(data) <= containers and data.count(b",") <= commas:
        return False
    if b"\\" in data:  # a quotation mark after a backslash ends no string
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    in_string = False
    for begin in range(0, len(data), _CHUNK):
        parts = data[begin : begin + _CHUNK].translate(None, _IGNORED).split(b'"')
        outside = b"".join(parts[in_string::2])
        in_string ^= len(parts) % 2 == 0
        containers -= _containers(outside)
        commas -= outside.count(b",")
        if containers < 0 or commas < 0:
            return True
    return False


def _containers(data: bytes) -> int:
    return data.count(b"[") + data.count(b"{")
