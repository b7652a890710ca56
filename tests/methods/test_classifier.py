import pytest
import torch
from torch import nn

from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.classifier import Classifier


class Linear(nn.Module):
    dim = 4

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(self.layer(x))


LABELS = torch.tensor([2, 0, 1, 1, 2])


def batch():
    return ViewBatch((torch.randn(3, 6),), torch.tensor([4, 1, 2]))


def test_cross_entropy_is_with_the_labels_of_the_batchs_images():
    method = Classifier(Linear(), labels=LABELS, classes=3)
    seen = batch()
    scores = method.network(seen.views[0])
    expected = -scores.log_softmax(1)[torch.arange(3), torch.tensor([2, 0, 1])].mean()
    torch.testing.assert_close(method(seen)["cross_entropy"], expected)
    method(seen)["cross_entropy"].backward()
    assert all(p.grad is not None for p in method.parameters())


def test_a_frozen_encoder_neither_learns_nor_keeps_statistics():
    method = Classifier(Linear(), labels=LABELS, classes=3, freeze=True).train()
    before = method.encoder.norm.running_mean.clone()
    method(batch())["cross_entropy"].backward()
    assert torch.equal(method.encoder.norm.running_mean, before)
    trained = [n for n, p in method.named_parameters() if p.grad is not None]
    assert trained == ["network.2.weight", "network.2.bias"]


def test_what_is_kept_of_a_head_lies_between():
    kept = nn.Sequential(nn.Linear(4, 7), nn.ReLU())
    method = Classifier(Linear(), labels=LABELS, classes=3, kept=kept)
    x = torch.randn(3, 6)
    found = method.eval().network(x)
    assert torch.equal(found, method.network[2](kept(method.encoder(x))))


def test_labels_are_not_part_of_the_state():
    state = Classifier(Linear(), labels=LABELS, classes=3).state_dict()
    assert not any("labels" in name for name in state)


def test_one_class_is_refused():
    with pytest.raises(UserError, match="two or more"):
        Classifier(Linear(), labels=LABELS * 0, classes=1)
