"""KL to the dense step, against its definition."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sol_core.decoding.teacher_forcing import kl_to_dense, kl_to_first, token_nll


def log_probabilities(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(3 * torch.randn(shape, generator=generator), -1)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(2, 300), st.integers(0, 99))
def test_it_is_the_sum_that_defines_it(windows: int, group: int, vocab: int, seed: int) -> None:
    dense = log_probabilities(windows, vocab, seed=seed)
    rows = log_probabilities(windows, group, vocab, seed=seed + 1)
    kl, entropy = kl_to_dense(dense, rows)
    p, q = dense.double().exp(), rows.double()
    wanted = (p[:, None] * (dense.double()[:, None] - q)).sum(-1)
    torch.testing.assert_close(kl.double(), wanted, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(entropy.double(), -(p * dense).sum(-1), atol=1e-5, rtol=1e-5)
    assert bool((kl >= 0).all())


def test_the_dense_row_of_an_evaluation_is_exactly_0() -> None:
    rows = log_probabilities(3, 5, 49152)
    nll, kl = token_nll(rows, torch.tensor([5, 6, 7])), kl_to_first(rows)
    assert kl[:, 0].tolist() == [0.0, 0.0, 0.0]
    assert bool((kl[:, 1:] > 0.1).all())
    assert torch.equal(nll[1], -rows[1, :, 6])
