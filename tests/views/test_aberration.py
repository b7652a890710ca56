import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from selftaught.errors import UserError
from selftaught.views.aberration import KeepOneChannel, Project, ShiftChannels
from selftaught.views.image import rows


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_each_channel_moves_by_its_own_shift_and_repeats_its_edge():
    step, x = ShiftChannels(2), torch.rand(20, 3, 6, 7, generator=generator())
    drawn = step.draw(generator(1), 20)
    before = x.clone()
    y = step.apply(x, drawn)
    assert torch.equal(x, before)
    for i in range(20):
        for c in range(3):
            down, across = drawn.shift[i, c].tolist()
            for r in range(6):
                for s in range(7):
                    source = min(max(r - down, 0), 5), min(max(s - across, 0), 6)
                    assert y[i, c, r, s] == x[i, c, *source]


def test_all_shifts_are_equally_likely():
    shift = ShiftChannels(2).draw(generator(), 2000).shift
    assert shift.shape == (2000, 3, 2)
    assert (shift.min(), shift.max()) == (-2, 2)
    assert chisquare((shift + 2).flatten().bincount()).pvalue > 1e-3


GUARDS = [ShiftChannels(1), KeepOneChannel(), Project()]


@pytest.mark.parametrize("step", GUARDS)
def test_one_channel_has_nothing_to_guard(step):
    x = torch.rand(5, 1, 6, 6, generator=generator())
    assert torch.equal(step.apply(x, step.draw(generator(), 5)), x)


@pytest.mark.parametrize("step", GUARDS)
def test_a_process_takes_its_rows(step):
    x = torch.rand(6, 3, 5, 5, generator=generator())
    drawn, before = step.draw(generator(), 6), x.clone()
    whole = step.apply(x, drawn)
    assert torch.equal(x, before)
    assert torch.equal(step.apply(x[2:4], rows(drawn, slice(2, 4))), whole[2:4])


def test_one_channel_is_kept_as_it_was_and_the_others_show_nothing():
    step, x = KeepOneChannel(), 0.1 + torch.rand(900, 3, 2, 2, generator=generator())
    drawn = step.draw(generator(1), 900)
    y = step.apply(x, drawn)
    for i, kept in enumerate(drawn.kept):
        assert torch.equal(y[i, kept], x[i, kept])
        assert (y[i] != 0).flatten(1).any(1).sum() == 1
    assert chisquare(drawn.kept.bincount(minlength=3)).pvalue > 1e-3


def test_colours_are_projected_as_the_paper_says():
    a = np.array([[-1.0, 2.0, -1.0]])
    matrix = np.eye(3) - a.T @ a / (a @ a.T)
    x = torch.rand(4, 3, 5, 5, generator=generator(), dtype=torch.float64)
    expected = np.einsum("cd,ndhw->nchw", matrix, x.numpy())
    y = Project().apply(x, Project().draw(generator(), 4))
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-9)
    gray = x[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(Project().apply(gray, ()), gray)


def test_less_than_nothing_is_refused():
    with pytest.raises(UserError, match=";"):
        ShiftChannels(-1)
