import contextlib

import pytest
import torch

from selftaught.protocols import convex


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(("entries", "inside"), [(convex.SMALL - 1, 1), (convex.SMALL, 3)])
def test_few_samples_are_fitted_by_one_thread(entries, inside):
    with contextlib.suppress(ValueError), convex.few_threads(torch.empty(entries)):
        found = torch.get_num_threads()
        blas = {p.num_threads for p in convex._pools().lib_controllers if p.user_api == "blas"}
        raise ValueError
    assert (found, blas) == (inside, {1})
    assert torch.get_num_threads() == 3
