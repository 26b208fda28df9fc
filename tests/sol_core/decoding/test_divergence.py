"""KL to the dense step and losses, against their definitions."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sol_core.decoding.teacher_forcing import kl_to_dense, kl_to_first, token_nll

SIZES = st.integers(1, 4), st.integers(1, 5), st.sampled_from([2, 300, 49152]), st.integers(0, 99)


def log_probabilities(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(6 * torch.randn(shape, generator=generator), -1)


@given(*SIZES)
def test_they_are_the_sums_that_define_them(
    windows: int, group: int, vocab: int, seed: int
) -> None:
    dense = log_probabilities(windows, vocab, seed=seed)
    rows = log_probabilities(windows, group, vocab, seed=seed + 1)
    kl, entropy = kl_to_dense(dense, rows)
    p, q = dense.double().exp(), rows.double()
    wanted = (p[:, None] * (dense.double()[:, None] - q)).sum(-1)
    torch.testing.assert_close(kl.double(), wanted, atol=3e-5, rtol=1e-4)
    torch.testing.assert_close(entropy.double(), -(p * dense).sum(-1), atol=1e-5, rtol=1e-5)
    beside = kl_to_first(torch.cat((dense[:, None], rows), 1))
    assert bool((beside[:, 0] == 0).all())
    torch.testing.assert_close(beside[:, 1:].double(), wanted, atol=3e-5, rtol=1e-4)
    assert bool((kl >= 0).all() and (beside >= 0).all())
    targets = torch.randint(vocab, (windows,))
    assert torch.equal(token_nll(rows, targets), -rows[torch.arange(windows), :, targets])
