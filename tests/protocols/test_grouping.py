import pytest
import torch

from protocols.test_linear import draw
from selftaught.errors import UserError
from selftaught.protocols.grouping import clustering


def test_clusters_that_are_classes():
    x, y, _, _ = draw(noise=0.01)
    found = clustering(x, y)
    assert found == {k: pytest.approx(1) for k in ("accuracy", "nmi", "ari")}


def test_what_the_classes_are_called_plays_no_part():
    x, y, _, _ = draw(noise=0.7)
    found = clustering(x, y)
    assert 0.3 < found["accuracy"] < 0.99
    assert clustering(x, (3 - y) * 5 + 2) == pytest.approx(found)


def test_labels_at_random_are_found_by_chance():
    x, _, _, _ = draw()
    y = torch.randint(4, (len(x),), generator=torch.Generator().manual_seed(0))
    found = clustering(x, y)
    assert found["accuracy"] < 0.4
    assert abs(found["ari"]) < 0.05


def test_only_directions_count():
    x, y, _, _ = draw(noise=0.7)
    stretched = x * torch.linspace(0.1, 10, len(x))[:, None]
    assert clustering(stretched, y) == pytest.approx(clustering(x, y))


def test_one_cluster_a_class_is_taken_and_the_rest_is_wrong():
    x = torch.tensor([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 4)
    y = torch.tensor([0] * 6 + [0, 0, 0, 1])  # the second cluster is more of class 0, too
    assert clustering(x, y)["accuracy"] == pytest.approx(0.7)


def test_too_few_samples_are_refused():
    with pytest.raises(UserError, match="give more"):
        clustering(torch.randn(3, 2), torch.arange(3))
