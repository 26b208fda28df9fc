"""The pages that a row sees, and their parts; in Numba."""

from __future__ import annotations

from kernels.cpu.compiling import helper


@helper
def seen_pages(shared_tokens, own_tokens, first_seen, page_size):
    """The pages [first, last) that a row sees, this step's token included."""
    total = shared_tokens + own_tokens + 1
    return first_seen // page_size, (total + page_size - 1) // page_size


@helper
def pages_of_part(seen, part, parts, shared_pages):
    """One of so many parts of the pages [first, last): begin, middle and end; those before the
    middle lie in the shared block, the others in the row's own."""
    first, last = seen
    begin = first + (last - first) * part // parts
    end = first + (last - first) * (part + 1) // parts
    return begin, min(max(shared_pages, begin), end), end
