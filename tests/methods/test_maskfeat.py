import dataclasses

import pytest
import torch

from contract.small import PIXELS, build
from references.masked import hog_targets, maskfeat_loss
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.maskfeat import MaskFeat
from selftaught.nn import encoders
from selftaught.nn.masking import blockwise


def maskfeat(patch=4, channels=3, **more):
    torch.manual_seed(0)
    encoder = encoders.build("vit-nano", channels=channels, size=16, patch=patch)
    return MaskFeat(encoder, **more).double()


def test_the_term_is_the_papers():
    method = maskfeat(smallest=2)
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    torch.manual_seed(5)
    ours = method(ViewBatch((x,), torch.arange(3)))["histograms"].item()
    torch.manual_seed(5)
    hidden = blockwise(3, 4, 6, smallest=2)
    with torch.no_grad():
        p = method.head(method.encoder.tokens(x, hidden=hidden, blank=method.blank))
    expected = maskfeat_loss(p.numpy(), hog_targets(x.numpy(), 4, 2, 9), hidden.numpy())
    assert ours == pytest.approx(expected, rel=1e-9)


def test_what_is_predicted_of_a_photograph_is_the_papers():
    """Four cells of 8 pixels, nine bins, three channels: 108 numbers a patch."""
    encoder = encoders.build("vit-nano", channels=3, size=224, patch=16)
    assert MaskFeat(encoder).head.out_features == 108


@pytest.mark.parametrize(("size", "patch", "cells"), [(16, 4, 2), (16, 2, 2), (9, 3, 1), (8, 1, 1)])
def test_cells_fit_the_patch_where_none_are_given(size, patch, cells):
    pixels = dataclasses.replace(PIXELS, size=size)
    assert build("maskfeat", pixels=pixels, patch=patch).method.cells == cells


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"cells": 3}, "--cells"),
        ({"cells": -1}, "--cells"),
        ({"bins": 1}, "--bins"),
        ({"smallest_block": 0}, "--smallest-block"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, named):
    with pytest.raises(UserError, match=named) as error:
        build("maskfeat", **wrong)
    assert "\n" not in str(error.value)
