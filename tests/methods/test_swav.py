import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from contract.small import PIXELS, build, train
from references.clusters import swav_loss
from selftaught import dist
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.swav import SwAV

PIXELS_OF_6 = dataclasses.replace(PIXELS, size=6)
SMALL = {"hidden": 16, "dim": 6, "prototypes": 5, "freeze": 0.0}


class Flat(nn.Linear):
    dim = 8

    def __init__(self):
        super().__init__(12, self.dim)


def swav(seed=0, **more):
    torch.manual_seed(seed)
    return SwAV(Flat(), **SMALL | more).double().eval()


def batch(views=2, n=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(views, n, 12, generator=g, dtype=torch.float64)
    return ViewBatch(tuple(x), torch.arange(n))


def embeddings(method, batch):
    return [F.normalize(method.projector(method.encoder(x)), dim=1).detach() for x in batch.views]


def scores(method, z):
    return torch.stack([v @ method.prototypes.weight.T for v in z]).detach().numpy()


@pytest.mark.parametrize("views", [2, 5])
@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_the_term_is_the_papers(views, epsilon):
    method, x = swav(temperature=0.2, epsilon=epsilon, iterations=2), batch(views)
    expected = swav_loss(scores(method, embeddings(method, x)), 0.2, epsilon, 2)
    assert method(x)["swap"].item() == pytest.approx(expected, rel=1e-9)


def test_queues_are_filled_from_their_start_on_and_used_once_full():
    method = swav(queue=20, queue_start=0.5)
    past = [[], []]
    for step in range(8):
        method.progress = step / 8
        x = batch(3, seed=step)
        z = embeddings(method, x)
        queue = [torch.cat(rows)[-20:] for rows in past] if len(past[0]) >= 3 else None
        theirs = None if queue is None else scores(method, queue)
        found = method(x)["swap"].item()
        assert found == pytest.approx(swav_loss(scores(method, z), queue=theirs), rel=1e-9), step
        method.after_step()
        if step >= 4:
            for rows, v in zip(past, z, strict=False):
                rows.append(v)
    assert queue is not None
    for own, rows in zip(method.queues, past, strict=True):
        assert int(own.pushed) == 32
        held, last = own.rows, torch.cat(rows)[-20:]
        torch.testing.assert_close(held[held[:, 0].argsort()], last[last[:, 0].argsort()])


def test_the_queue_is_compared_with_the_prototypes_of_now():
    method = swav(queue=8, queue_start=0.0)
    first, second = batch(seed=1), batch(seed=2)
    past = embeddings(method, first)[:2]
    method(first)
    method.after_step()
    with torch.no_grad():
        method.prototypes.weight.copy_(method.prototypes.weight.flip(1))
    expected = swav_loss(scores(method, embeddings(method, second)), queue=scores(method, past))
    assert method(second)["swap"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("queue", [0, 8])
def test_codes_are_those_of_the_global_batch(queue, monkeypatch):
    method, x = swav(queue=queue, queue_start=0.0), batch(3)
    method(batch(3, seed=1))
    method.after_step()
    gathered = []
    monkeypatch.setattr(dist, "gather", lambda rows: gathered.append(rows.detach()) or rows)
    both = method(x)["swap"].item()
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    parts = []
    for rank in range(2):
        rest = iter(gathered)
        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(dist, "gather", lambda rows, rest=rest: next(rest))
        half = ViewBatch(tuple(v.chunk(2)[rank] for v in x.views), x.index.chunk(2)[rank])
        parts.append(method(half)["swap"].item())
    assert sum(parts) / 2 == pytest.approx(both, rel=1e-9)
    monkeypatch.undo()
    alone = method(half)["swap"].item()
    assert alone != pytest.approx(parts[1], rel=1e-3)


def test_prototypes_are_frozen_at_first_and_have_length_one():
    run = build("swav", freeze=0.5)
    weight = run.method.prototypes.weight
    before = weight.detach().clone()
    train(run, 4, of=8)
    torch.testing.assert_close(weight.detach(), before)
    train(run, 8, start=4)
    assert (weight - before).abs().max() > 1e-3
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(24))


def test_the_projector_learns_while_the_prototypes_are_frozen():
    run = build("swav", freeze=1.0)
    before = run.method.projector[0].weight.detach().clone()
    train(run, 3, of=10)
    assert (run.method.projector[0].weight - before).abs().max() > 1e-4


def test_codes_get_no_gradient():
    method, x = swav(), batch(2)
    method(x)["swap"].backward()
    z = [F.normalize(method.projector(method.encoder(v)), dim=1) for v in x.views]
    found = method.prototypes.weight.grad.clone()
    method.prototypes.weight.grad = None
    s = [v @ method.prototypes.weight.T for v in z]
    codes = [method._codes(v, 0).clone() for v in s]
    loss = sum(
        -(q * (v / 0.1).log_softmax(1)).sum(1).mean() for v, q in zip(s, codes[::-1], strict=True)
    )
    (loss / 2).backward()
    torch.testing.assert_close(found, method.prototypes.weight.grad)


def test_small_views_are_smaller_and_follow_two_large_ones():
    views = build("swav", crops=3).views.views
    assert [view.size for view in views] == [16, 16, 8, 8, 8]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0.0}, "--temperature"),
        ({"epsilon": 0.0}, "--epsilon"),
        ({"iterations": 0}, "--iterations"),
        ({"prototypes": 1}, "--prototypes"),
        ({"freeze": -0.1}, "--freeze"),
        ({"queue_start": 1.1}, "--queue-start"),
        ({"queue": -1, "prototypes": 4}, "a queue of -1"),
        ({"pixels": PIXELS_OF_6}, "--crops 0 or a larger --size"),
        ({"prototypes": 49}, "48 samples in batch and queue for 49 prototypes"),
        ({"queue": PIXELS.count + 1}, "--queue with at most 64"),
        ({"crops": -1}, "--crops"),
    ],
)
def test_bad_settings_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        build("swav", **settings)


def test_as_many_prototypes_as_samples_will_do():
    assert build("swav", prototypes=48).method.prototypes.out_features == 48
