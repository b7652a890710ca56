from typing import NamedTuple

import torch
from torch import nn

from selftaught.nn.base import encoded


class Words(NamedTuple):
    ids: torch.Tensor


class Seen(nn.Module):
    def __init__(self):
        super().__init__()
        self.shown = []

    def forward(self, x):
        self.shown.append(x)
        return x.ids.float() if isinstance(x, Words) else x.flatten(1).mean(1, keepdim=True)


def test_views_of_one_size_go_in_together_and_come_out_in_order():
    encoder = Seen()
    views = [torch.full((3, 1, side, side), float(i)) for i, side in enumerate((8, 8, 4, 4, 8))]
    found = encoded(encoder, views)
    assert [len(x) for x in encoder.shown] == [6, 6, 3]
    assert [h.unique().tolist() for h in found] == [[0], [1], [2], [3], [4]]
    assert {h.shape for h in found} == {(3, 1)}


def test_batch_norm_counts_views_of_one_size_as_one_step():
    norm = nn.BatchNorm1d(2)
    encoded(norm, [torch.randn(4, 2) for _ in range(3)])
    assert norm.num_batches_tracked == 1


def test_views_that_are_no_tensors_go_in_one_by_one():
    encoder, views = Seen(), [Words(torch.tensor([[1], [2]])), Words(torch.tensor([[3], [4]]))]
    found = encoded(encoder, views)
    assert encoder.shown == views
    assert torch.cat(found).flatten().tolist() == [1, 2, 3, 4]
