import math

import numpy as np
import pytest
import torch

from references import spectrum as reference
from selftaught.errors import UserError
from selftaught.protocols.spectrum import Spectrum, Sums


def spectrum_of(z, *pieces):
    spectrum = Spectrum(z.shape[1])
    for piece in z.split(pieces or len(z)):
        spectrum.add(piece)
    return spectrum


def signals_of(z):
    return spectrum_of(z).signals()


def gaussian(n, dim, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(s, n=200, centred=True):
    """(n, D) features with exactly these singular values, and mean zero if they are centred."""
    ones = torch.ones(n, 1, dtype=torch.float64)
    left = gaussian(n, len(s))
    left = left - ones @ (ones.T @ left) / n if centred else left
    left = torch.linalg.qr(left).Q
    right = torch.linalg.qr(gaussian(len(s), len(s), seed=1)).Q
    return left * torch.as_tensor(s, dtype=torch.float64) @ right.T


def test_agrees_with_the_definitions():
    z = gaussian(90, 12) @ gaussian(12, 12, seed=1) + 0.5
    found = signals_of(z)
    assert found.rankme == pytest.approx(reference.rankme(z.numpy()), rel=1e-9)
    assert found.feature_std == pytest.approx(reference.feature_std(z.numpy()), rel=1e-12)
    assert found.mean_cosine == pytest.approx(reference.mean_cosine(z.numpy()), rel=1e-10)
    assert (found.n, found.dim) == (90, 12)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_finds_a_planted_decay(alpha):
    eigenvalues = np.arange(1, 41.0) ** -alpha
    found = signals_of(planted(np.sqrt(eigenvalues)))
    assert found.alpha == pytest.approx(alpha, abs=1e-9)
    assert found.nesum == pytest.approx(eigenvalues.sum(), rel=1e-9)
    assert found.stable_rank == pytest.approx(eigenvalues.sum(), rel=1e-9)


def test_the_decay_is_that_of_ranks_11_to_100():
    rank = np.arange(1, 201.0)
    values = np.where(rank <= 10, 5.0, rank**-1.0)
    values[100:] = values[99] * (rank[100:] / 100) ** -6
    found = signals_of(planted(np.sqrt(values), n=600)).alpha
    assert found == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("dim", [24, 60, 150])
def test_the_decay_equals_the_reference(dim):
    z = gaussian(400, dim) * torch.arange(1, dim + 1) ** -0.7
    assert signals_of(z).alpha == pytest.approx(reference.alpha(z.numpy()), rel=1e-9)


@pytest.mark.parametrize("rank", [2, 3, 10, 21, 22])
def test_the_decay_of_few_eigenvalues(rank):
    found = signals_of(planted(np.arange(1, rank + 1.0) ** -0.75)).alpha
    assert found == pytest.approx(1.5, abs=1e-9)


def test_an_offset_changes_nothing_of_the_covariance():
    z = planted(np.arange(1, 41.0) ** -0.5)
    one, two = signals_of(z), signals_of(z + 3)
    for name in ("centred_rank", "nesum", "alpha"):
        assert getattr(two, name) == pytest.approx(getattr(one, name), rel=1e-9), name
    assert two.effective_rank < one.effective_rank / 2


@pytest.mark.parametrize("rank", [1, 5, 20])
def test_finds_a_planted_rank(rank):
    found = signals_of(planted([3.0] * rank + [0.0] * (20 - rank)))
    for name in ("effective_rank", "centred_rank", "stable_rank", "nesum"):
        assert getattr(found, name) == pytest.approx(rank, rel=1e-9), name
    assert found.rankme == pytest.approx(rank, rel=1e-4)
    assert (found.alpha is None) if rank == 1 else found.alpha == pytest.approx(0, abs=1e-9)


def test_rankme_is_of_singular_values_and_not_of_their_squares():
    s = np.array([4.0, 2.0, 1.0, 1.0])
    p = s / 8 + 1e-7
    found = signals_of(planted(s))
    assert found.rankme == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-12)
    assert found.effective_rank == pytest.approx(2**1.75, rel=1e-12)


def test_isotropic_features():
    found = signals_of(gaussian(20000, 16))
    assert found.rankme == pytest.approx(16, abs=0.01)
    assert found.effective_rank == pytest.approx(16, abs=0.01)
    assert found.feature_std == pytest.approx(1, abs=0.01)
    assert found.mean_cosine == pytest.approx(0, abs=0.001)
    assert abs(found.alpha) < 0.1


def test_total_collapse_shows_in_all_but_the_centred_rank():
    found = signals_of(1 + 1e-3 * gaussian(2000, 64))
    assert found.rankme < 1.6
    assert found.effective_rank < 1.6
    assert found.stable_rank == pytest.approx(1, abs=1e-3)
    assert found.feature_std < 0.01
    assert found.mean_cosine > 0.999
    assert found.centred_rank > 60  # the trap


def test_exact_collapse():
    found = signals_of(torch.full((300, 64), 0.1, dtype=torch.float64))
    assert found.effective_rank == pytest.approx(1, abs=1e-9)
    assert found.rankme == pytest.approx(1, abs=1e-3)
    assert (found.centred_rank, found.nesum, found.alpha) == (0, 0, None)
    assert found.feature_std == pytest.approx(0, abs=1e-6)
    assert found.mean_cosine == pytest.approx(1, abs=1e-12)


def test_dimensional_collapse_shows_in_the_rank_and_not_in_feature_std():
    found = signals_of(gaussian(5000, 4) @ planted([1.0] * 64, n=64, centred=False)[:4])
    assert found.effective_rank == pytest.approx(4, abs=0.05)
    assert found.rankme == pytest.approx(4, abs=0.05)
    assert found.feature_std > 0.8
    assert abs(found.mean_cosine) < 0.01


def test_a_larger_eps_would_inflate_rankme():
    z = planted([1.0] + [0.0] * 99, n=200)
    p = np.array([1.0] + [0.0] * 99)
    rank = {eps: math.exp(-((p + eps) * np.log(p + eps)).sum()) for eps in (1e-5, 1e-7)}
    assert signals_of(z).rankme == pytest.approx(rank[1e-7], rel=1e-10)
    assert rank[1e-5] - rank[1e-7] > 0.01


def test_ranks_grow_with_the_number_of_samples():
    """So they are compared at equal n, and below 2 D not told at all."""
    z = gaussian(4000, 64)
    found = [signals_of(z[:n]) for n in (128, 400, 4000)]
    ranks = [f.rankme for f in found]
    assert ranks == sorted(ranks)
    assert ranks[0] < 0.95 * ranks[-1]
    assert [f.n for f in found] == [128, 400, 4000]
    assert signals_of(z[:127]).rankme is None


def test_the_public_fit_on_a_linear_index_is_not_ours():
    """It finds 1.52 or so where the exponent is 1: log values against i instead of log i."""
    values = np.arange(1, 41.0) ** -1.0
    wrong = -np.polyfit(np.arange(1, 41), np.log(values), 1)[0]
    found = signals_of(planted(np.sqrt(values))).alpha
    assert found == pytest.approx(1, abs=1e-9)
    assert abs(wrong - 1) > 0.3


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_alpha_of_a_planted_rank_is_that_of_what_is_there(rank):
    """Zeros have no logarithm; noise of rounding in their place would bend the line."""
    values = np.concatenate([np.arange(1, 1.0 + rank) ** -2.0, np.zeros(20 - rank)])
    found = signals_of(planted(np.sqrt(values))).alpha
    assert found == (pytest.approx(2, abs=1e-9) if rank > 1 else None)


@pytest.mark.parametrize("dim", [4, 64])
def test_the_spread_is_scaled_by_the_width(dim):
    assert signals_of(gaussian(5000, dim)).feature_std == pytest.approx(1, abs=0.02)


def test_pieces_equal_the_whole():
    z = gaussian(120, 20) + 3
    whole = signals_of(z)
    pieces = spectrum_of(z, 1, 50, 0, 69).signals()
    parts = spectrum_of(z[:31])
    parts.merge(spectrum_of(z[31:]))
    reduced, rest = spectrum_of(z[:31]), spectrum_of(z[31:])
    reduced.sums = Sums(*(a + b for a, b in zip(reduced.sums, rest.sums, strict=True)))
    for other in (pieces, parts.signals(), reduced.signals()):
        assert other == pytest.approx(whole, rel=1e-12, abs=1e-12)


def test_few_samples_give_no_spectrum():
    z = gaussian(40, 20)
    few, enough = signals_of(z[:39]), signals_of(z)
    assert few[4:] == (None,) * 6
    assert few.n == 39
    assert few.feature_std is not None
    assert few.mean_cosine is not None
    assert None not in enough
    assert Spectrum(20).signals()[:4] == (0, 20, None, None)
    assert signals_of(z[:1])[2:4] == (0, None)


def test_features_of_length_zero():
    z = gaussian(100, 8)
    z[::5] = 0
    assert all(math.isfinite(value) for value in signals_of(z))
    nothing = signals_of(torch.zeros(100, 8))
    assert nothing == (100, 8, 0, 0, 0, 0, 0, 0, 0, None)


def test_low_precision_is_summed_in_float64():
    z = gaussian(5000, 8).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = spectrum_of(z.requires_grad_(), *[50] * 100)
    assert not found.sums.gram.requires_grad
    assert found.signals() == pytest.approx(signals_of(z.double()), rel=1e-12, abs=1e-12)


def test_says_what_is_wrong():
    with pytest.raises(UserError, match=r"shape \(3, 7\); give \(batch, 8\)"):
        Spectrum(8).add(torch.ones(3, 7))
    with pytest.raises(UserError, match="merge equal sizes"):
        Spectrum(8).merge(Spectrum(7))
    z = torch.ones(20, 8)
    z[3, 3] = torch.nan
    with pytest.raises(UserError, match="NaN"):
        signals_of(z)
