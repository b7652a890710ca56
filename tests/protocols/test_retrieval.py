import pytest
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

from protocols.test_linear import draw
from selftaught.errors import UserError
from selftaught.protocols.retrieval import retrieval


def test_equals_scikit_learns_average_precision():
    x, y, test_x, test_y = draw(m=50)
    found = retrieval(x, y, test_x, test_y, block=7)
    cosine = cosine_similarity(test_x, x)
    for i in range(50):
        right = (y == test_y[i]).numpy()
        assert found["map"][i].item() == pytest.approx(average_precision_score(right, cosine[i]))
        for k in (1, 5, 10):
            nearest = cosine[i].argsort()[::-1][:k]
            assert found[f"recall@{k}"][i].item() == right[nearest].any()


def test_queries_of_unknown_classes_are_left_out():
    x, y, test_x, test_y = draw(m=50)
    test_y[:20] = 9
    found = retrieval(x, y, test_x, test_y)
    assert len(found["map"]) == 30
    with pytest.raises(UserError, match="no query"):
        retrieval(x, y, test_x[:20], test_y[:20])
