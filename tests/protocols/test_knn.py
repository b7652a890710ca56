import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from selftaught.errors import UserError
from selftaught.protocols import knn as module
from selftaught.protocols.knn import _pack, _unpack, knn, nearest


def reference(bank, labels, queries, k, temperature, alone=False):
    """InstDisc section 3.4, one query at a time: a class gathers exp(s / T) of its neighbours."""
    bank, queries = bank.double().numpy(), queries.double().numpy()
    out = []
    for i, q in enumerate(queries):
        s = [
            (q @ b) / (np.sqrt(q @ q) * np.sqrt(b @ b)) if np.any(b) and np.any(q) else 0.0
            for b in bank
        ]
        candidates = [j for j in range(len(bank)) if not (alone and j == i)]
        nearest = sorted(candidates, key=lambda j: (-s[j], j))[:k]
        votes = {}
        for j in nearest:
            c = int(labels[j])
            votes[c] = votes.get(c, 0.0) + np.exp(s[j] / temperature)
        out.append(min(votes, key=lambda c: (-votes[c], c)))
    return torch.tensor(out)


def draw(n=150, m=60, dim=8, classes=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=g)
    centres = torch.randn(classes, dim, generator=g)
    bank = centres[labels] + 1.5 * torch.randn(n, dim, generator=g)
    queries = centres[torch.randint(classes, (m,), generator=g)]
    queries = queries + 1.5 * torch.randn(m, dim, generator=g)
    return bank, labels, queries


@pytest.mark.parametrize("k", [1, 5, 20, 200])  # 200 is more than the bank holds
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_agrees_with_the_definition(k, temperature):
    bank, labels, queries = draw()
    expected = reference(bank, labels, queries, k, temperature)
    assert torch.equal(knn(bank, labels, queries, k=k, temperature=temperature), expected)


@pytest.mark.parametrize("k", [1, 20, 200])
def test_leave_one_out_agrees_with_the_definition(k):
    bank, labels, _ = draw()
    expected = reference(bank, labels, bank, k, 0.07, alone=True)
    assert torch.equal(knn(bank, labels, k=k), expected)


def test_leave_one_out_never_sees_the_sample_itself():
    bank, labels, _ = draw()
    bank, labels = torch.cat([bank, -bank]), torch.cat([labels, labels + 10])
    own = torch.arange(len(bank))  # each sample a class of its own
    assert not torch.any(knn(bank, own, k=1) == own)
    assert torch.equal(knn(bank, own, bank, k=1), own)
    simplex = torch.eye(4) - 0.25  # all other cosines are negative
    assert not torch.any(knn(simplex, own[:4], k=1) == own[:4])


@pytest.mark.parametrize("block", [(40, 1), (7, 13), (60, 3), (16, 150), (1000, 1000)])
@pytest.mark.parametrize("alone", [False, True])
def test_blocks_change_nothing(block, alone):
    bank, labels, queries = draw()
    rows = None if alone else queries
    expected = reference(bank, labels, bank if alone else queries, 20, 0.07, alone)
    assert torch.equal(knn(bank, labels, rows, block=block), expected)


@pytest.mark.parametrize("block", [(1, 1), (2, 3), (4, 100)])
def test_ties_go_to_the_lower_row_and_the_lower_class(block):
    bank = torch.eye(2).repeat(8, 1)  # each row eight times: cosines are exactly 0 or 1
    labels = torch.tensor([5, 0, 3, 0, 3, 1, 5, 1, 4, 6, 4, 6, 4, 6, 4, 6])
    queries = torch.eye(2)
    # Rows 0, 2, 4, 6 tie for k = 1, 2, 3, 4 and vote 5, 3, 3, 5.
    found = [knn(bank, labels, queries, k=k, block=block)[0].item() for k in (1, 2, 3, 4)]
    assert found == [5, 3, 3, 3]


def near_ties(dim=24):
    """A bank whose rows hardly differ from some of each other, or not at all."""
    g = torch.Generator().manual_seed(1)
    centre = torch.randn(6, dim, generator=g)
    bank = centre.repeat(100, 1) + 2e-7 * torch.randn(600, dim, generator=g)
    bank[300:400] = bank[:100]
    return bank, torch.randn(40, dim, generator=g)


@pytest.mark.parametrize("engine", ["torch", "faiss"])
@pytest.mark.parametrize("block", [(2048, 4096), (7, 90)])
def test_neighbours_are_exact_where_cosines_hardly_differ(engine, block):
    bank, queries = near_ties()
    unit = [(x / x.double().norm(dim=1, keepdim=True).float()).double() for x in (queries, bank)]
    cosine = (unit[0] @ unit[1].T).float()
    rows = [sorted(range(600), key=lambda j, c=c: (-c[j], j))[:20] for c in cosine.tolist()]
    found = nearest(bank, queries, k=20, block=block, engine=engine)
    assert found[1].tolist() == rows
    assert torch.equal(found[0], cosine.gather(1, found[1]))


@pytest.mark.parametrize("engine", ["torch", "faiss"])
def test_a_neighbour_that_rounding_hid_is_found(engine, monkeypatch):
    monkeypatch.setattr(module, "SPARE", 0)
    whole = []
    search = module._all
    monkeypatch.setattr(module, "_all", lambda *given: whole.append(1) or search(*given))
    bank, queries = near_ties()
    exact = nearest(bank, queries, k=20, engine=engine)
    assert whole
    assert torch.equal(exact[1], nearest(bank, queries, k=600)[1][:, :20])


@pytest.mark.parametrize("alone", [False, True])
def test_both_engines_give_the_same_answers(alone):
    bank, labels, queries = draw(n=500, m=100)
    rows = None if alone else queries
    by_torch = knn(bank, labels, rows, engine="torch")
    assert torch.equal(knn(bank, labels, rows, engine="faiss", block=(30, 70)), by_torch)


def test_without_faiss_torch_serves_and_asking_for_it_is_an_error(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    bank, labels, queries = draw()
    assert len(knn(bank, labels, queries)) == len(queries)
    with pytest.raises(UserError, match="pip install"):
        knn(bank, labels, queries, engine="faiss")


def test_keys_order_cosines_then_rows_and_keep_both():
    cosine = torch.tensor([[-torch.inf, -1.0, -0.5, -0.0, 0.0, 1e-30, 0.5, 1.0, 1.0]])
    keys = _pack(cosine, torch.arange(100, 109))
    assert keys.argsort(descending=True).tolist() == [[7, 8, 6, 5, 3, 4, 2, 1, 0]]
    back, row = _unpack(keys)
    assert torch.equal(back, cosine)
    assert row.tolist() == [list(range(100, 109))]


def test_scale_and_type_of_the_features_change_nothing():
    bank, labels, queries = draw()
    bank, queries = bank.round(decimals=1).half().float(), queries.half().float()
    expected = knn(bank, labels, queries)
    scale = 2.0 ** torch.arange(-75, 75)[:, None]
    assert torch.equal(knn(bank * scale, labels, queries * 2.0**-60), expected)
    assert torch.equal(knn(bank.half(), labels, queries.half()), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(knn(bank, labels, queries), expected)


def test_features_of_length_zero_have_cosine_zero():
    bank, labels, queries = draw()
    bank[::10], queries[::7] = 0, 0
    expected = reference(bank, labels, queries, 20, 0.07)
    assert torch.equal(knn(bank, labels, queries), expected)


def test_a_small_temperature_does_not_overflow():
    bank, labels, queries = draw()
    expected = knn(bank, labels, queries, k=1)
    assert torch.equal(knn(bank, labels, queries, temperature=1e-5), expected)


def test_no_queries_no_predictions():
    bank, labels, queries = draw()
    found = knn(bank, labels, queries[:0])
    assert found.shape == (0,)
    assert found.dtype == torch.int64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": torch.ones(3, 5)}, "shapes"),
        ({"labels": torch.zeros(149, dtype=torch.int64)}, "one label for each"),
        ({"labels": torch.zeros(150)}, "integers"),
        ({"labels": torch.full((150,), -1)}, "lie in"),
        ({"classes": 6}, r"from 0 to 6; they must lie in \[0, 6\)"),
        ({"bank": torch.ones(0, 8), "labels": torch.zeros(0, dtype=torch.int64)}, "at least one"),
        ({"bank": torch.full((150, 8), torch.nan)}, "NaN"),
        ({"queries": torch.full((3, 8), torch.inf)}, "NaN"),
        ({"k": 0}, "positive"),
        ({"temperature": 0.0}, "positive"),
        ({"bank": torch.ones(1, 8), "labels": torch.tensor([0]), "queries": None}, "needs two"),
    ],
)
def test_says_what_is_wrong_in_one_line(change, message):
    bank, labels, queries = draw()
    given = {"bank": bank, "labels": labels, "queries": queries} | change
    with pytest.raises(UserError, match=message) as caught:
        knn(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.skipif("SELFTAUGHT_DATA" not in os.environ, reason="SELFTAUGHT_DATA is not set")
def test_fashion_mnist_pixels():
    def read(name, offset):
        file = Path(os.environ["SELFTAUGHT_DATA"], "fashion-mnist", name + "-ubyte.gz")
        return np.frombuffer(gzip.open(file).read(), np.uint8, offset=offset).copy()

    bank = torch.from_numpy(read("train-images-idx3", 16)).view(-1, 784)
    queries = torch.from_numpy(read("t10k-images-idx3", 16)).view(-1, 784)
    labels = torch.from_numpy(read("train-labels-idx1", 8)).long()
    truth = torch.from_numpy(read("t10k-labels-idx1", 8)).long()
    accuracy = (knn(bank, labels, queries) == truth).double().mean().item()
    assert accuracy == pytest.approx(0.846, abs=0.001)


MILLION = """
import resource, torch
from selftaught.protocols.knn import knn

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MB

bank = torch.randn(1_000_000, 64, generator=torch.Generator().manual_seed(0))
labels = torch.arange(len(bank)) % 10
bank[:4096] = bank[-4096:]  # so that each query has one other at distance zero
knn(bank[:9000], labels[:9000], bank[:4096], k=200)
before = peak()
found = knn(bank, labels, bank[:4096], k=1)
knn(bank, labels, bank[:4096], k=200)
print(peak() - before, torch.equal(found, labels[:4096]))
"""


@pytest.mark.slow
def test_a_million_features_need_no_more_memory_than_thousands():
    out = subprocess.run([sys.executable, "-c", MILLION], stdout=subprocess.PIPE, check=True)
    megabytes, right = out.stdout.decode().split()
    assert right == "True"
    assert int(megabytes) < 100  # all cosines would take 16 GB
