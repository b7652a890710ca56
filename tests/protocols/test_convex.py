import pytest
import torch

from selftaught.protocols import convex


@pytest.mark.parametrize(("entries", "inside"), [(convex.SMALL - 1, 1), (convex.SMALL, 3)])
def test_few_samples_are_fitted_by_one_thread(entries, inside):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with (
            pytest.raises(ValueError, match="of the fit"),
            convex.few_threads(torch.empty(entries)),
        ):
            assert torch.get_num_threads() == inside
            blas = [p for p in convex._pools().info() if p["user_api"] == "blas"]
            assert blas
            raise ValueError("of the fit")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
