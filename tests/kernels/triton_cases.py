"""Where Triton tests run, how close they must be, and cases of page-sparse attention."""

import contextlib

import torch

from kernels.gpu.triton_support import counters, triton_on_cpu
from kernels.key_codes import OCTET, encode_keys
from kernels.page_attention import AttentionPlan, KVBlock
from kernels.page_scorers import INT4
from tests.kernels.quick_interpreter import quick_interpreter

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Absolute and relative, for fp32 results over data of a dtype, and results rounded to it.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-4, torch.float16: 1e-5}
ROUNDED = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


@contextlib.contextmanager
def triton_here():
    """The interpreter on the CPU, or the real thing on a GPU; counters are left at 0."""
    with contextlib.ExitStack() as stack:
        if DEVICE == "cpu":
            stack.enter_context(triton_on_cpu())
            stack.enter_context(quick_interpreter())
        yield
    assert not counters(torch.empty(1, device=DEVICE), 1).any()


def close(found, expected, tolerance):
    torch.testing.assert_close(found.float(), expected.float(), rtol=tolerance, atol=tolerance)


def make_block(shape, page_size, dtype, generator, sources=None):
    """[N, Hkv, S, D] as the cache gives it: a view of a longer buffer whose rest is infinite."""
    rows, heads, tokens, size = shape
    capacity = (tokens // page_size + 2) * page_size
    keys, values = (
        torch.full((rows, heads, capacity, size), torch.inf, dtype=dtype) for _ in range(2)
    )
    for buffer in (keys, values):
        numbers = torch.randn(*shape, generator=generator)
        buffer[:, :, :tokens] = numbers.to(dtype)
    keys, values = keys.to(DEVICE), values.to(DEVICE)
    return KVBlock(
        keys[:, :, :tokens],
        values[:, :, :tokens],
        None if sources is None else torch.tensor(sources, device=DEVICE),
        *make_codes(keys, tokens),
    )


def make_codes(keys, tokens):
    """4-bit copies of a buffer's keys, cut after ``tokens``; None for heads that have none."""
    if keys.shape[3] % OCTET:
        return None, None
    whole = torch.nn.functional.pad(keys, (0, 0, 0, -keys.shape[2] % OCTET), value=torch.inf)
    codes, scales = (part.contiguous() for part in encode_keys(whole))
    octets = -(-tokens // OCTET)
    return codes[:, :, :octets], scales[:, :, :octets]


def some_floors(rows, generator):
    """Floors [rows] from next to none to more than any page reaches; 0, which keeps all, in one."""
    floors = (torch.rand(rows, generator=generator) * 5 - 3).exp()
    return torch.where(torch.arange(rows) == 1, 0.0, floors)


def kept_pages(floors):
    """All where the floor is 0, else one at least: [R] int64."""
    return torch.where(floors == 0, 10**6, 1)


def same_counts(found, expected):
    """As many tokens are read; or all are, in both."""
    if found.tokens_read is None or expected.tokens_read is None:
        assert found.tokens_read is expected.tokens_read
    else:
        assert torch.equal(found.tokens_read.sum(-1).cpu(), expected.tokens_read.sum(-1).cpu())


def make_plan(blocks, rows, page_size, floors, valid=None, how=(INT4, "group")):
    """A plan of groups' needs that is also observed; ``how`` is its scorer and choice."""
    width = sum(block.keys.shape[2] for block in blocks)
    seen = torch.ones(rows, width, dtype=torch.bool) if valid is None else valid
    padded = torch.nn.functional.pad(seen, (0, -width % page_size))
    tokens = padded.unflatten(1, (-1, page_size)).sum(-1)
    return AttentionPlan(
        page_size, None if valid is None else valid.to(DEVICE), (tokens > 0).to(DEVICE),
        None if floors is None else kept_pages(floors).to(DEVICE), tokens.to(DEVICE), *how,
        None if floors is None else floors.to(DEVICE),
    )  # fmt: skip
