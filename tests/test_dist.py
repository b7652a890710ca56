"""Two processes train as one with the same global batch, in float64."""

import itertools
import math
import multiprocessing
import os
import socket
import sys
import time
from importlib import import_module
from unittest.mock import patch

import pytest
import torch
import torch.distributed
from torch import nn

from group import one_of
from selftaught import dist
from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.methods import MAE
from selftaught.nn.encoders import build
from selftaught.objectives.contrastive import nt_xent
from selftaught.train import NotFinite, fit


class Contrast(Method):
    """SimCLR without batch norm, whose statistics are not shared between processes."""

    def __init__(self, gather=dist.gather):
        super().__init__()
        self.encoder = nn.Linear(6, 4)
        self.gather = gather

    def forward(self, batch):
        z1, z2 = (self.gather(self.encoder(x)) for x in batch.views)
        return {"nt_xent": nt_xent(z1, z2, 0.2)}


def deaf_gather(x):
    """The control: a gather whose backward forgets the other processes."""
    parts = [torch.empty_like(x) for _ in range(dist.world_size())]
    torch.distributed.all_gather(parts, x.detach().contiguous())
    parts[dist.rank()] = x
    return torch.cat(parts)


def method_of(kind):
    torch.manual_seed(0)
    if kind == "mae":
        encoder = build("vit-nano", channels=1, size=8, patch=2)
        return MAE(encoder, dim=16, depth=1, heads=2).double(), (8, 1, 8, 8), 1
    return Contrast(deaf_gather if kind == "deaf" else dist.gather).double(), (8, 6), 2


def trained(kind):
    method, shape, views = method_of(kind)

    def rows():
        for step in itertools.count():
            g = torch.Generator().manual_seed(step)
            whole = torch.rand(views, *shape, generator=g, dtype=torch.float64)
            yield ViewBatch(tuple(dist.mine(x) for x in whole), dist.mine(torch.arange(shape[0])))

    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    losses = [
        dist.total(sum(s.terms.values())) / dist.world_size()
        for s in fit(method, rows(), optimizer, steps=3, schedule=lambda progress: 1.0)
    ]
    return [p.detach() for p in method.parameters()] + losses


def process(rank, place, kind, answers):
    with one_of(2, rank, place):
        own = {"unused": unused, "bundled": bundled, "told": told, "not finite": not_finite}
        found = own[kind](rank) if kind in own else trained(kind)
        answers.put((rank, [x.numpy() for x in found]))


def unused(rank):
    """Gradients after averaging: of what only the first process used, and of what nobody did."""
    used, never = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    if rank == 0:
        used.grad = torch.full((2,), 3.0)
    dist.average_gradients([used, never])
    return [used.grad, torch.tensor([float(never.grad is None)])]


def bundled(rank):
    """Averages of gradients of several sizes, layouts and types, and how many exchanges it took."""
    shapes = ((1, 2, 1, 2), (3,), (), (7,), (2,))
    tensors = [torch.arange(math.prod(s)).reshape(s) + float(rank) for s in shapes]
    tensors[0] = tensors[0].contiguous(memory_format=torch.channels_last)
    parameters = [nn.Parameter(x) for x in (*tensors[:4], tensors[4].double())]
    for p in parameters:
        p.grad = p.detach().clone()
    with (
        patch.object(dist, "BUNDLE", 6),
        patch.object(
            torch.distributed, "all_reduce", wraps=torch.distributed.all_reduce
        ) as exchange,
    ):
        dist.average_gradients(parameters)
    return [*(p.grad for p in parameters), torch.tensor([exchange.call_count])]


def told(rank):
    """What each process hears of the others."""
    with dist.alone():
        by_itself = [dist.world_size(), dist.rank(), dist.largest(rank), dist.agreed(rank)]
    said = []
    for function in (lambda: rank + 10, lambda: refuse(rank)):
        try:
            said.append(dist.first(function))
        except UserError as error:
            said.append(int(str(error)))
    heard = [dist.agreed(rank + 5), dist.largest(rank), *dist.everyones(rank)]
    return [torch.tensor([*by_itself, *said, *heard, float(dist.is_first())])]


def refuse(rank):
    raise UserError(f"{rank + 20}")


def not_finite(rank):
    """The samples that are named where the second process's term is NaN."""
    method, shape, views = method_of("contrast")
    x = torch.rand(views, 4, shape[1], dtype=torch.float64)
    x[0, 0, 0] = float("nan") if rank else 0
    rows = iter([ViewBatch(tuple(x), torch.arange(4) + 4 * rank)])
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    try:
        next(fit(method, rows, optimizer, steps=1))
    except NotFinite as error:
        return [error.index]
    return []


def by_two(kind, place):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    arguments = [(rank, str(place), kind, answers) for rank in range(2)]
    processes = [context.Process(target=process, args=a) for a in arguments]
    for p in processes:
        p.start()
    found = dict(answers.get(timeout=120) for _ in processes)
    for p in processes:
        p.join()
        assert p.exitcode == 0
    return [[torch.from_numpy(x) for x in found[rank]] for rank in range(2)]


@pytest.mark.parametrize("kind", ["contrast", "mae"])
def test_two_processes_equal_one(kind, tmp_path):
    one = trained(kind)
    for other in by_two(kind, tmp_path / "meeting"):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_what_has_no_gradient_anywhere_keeps_none(tmp_path):
    for used, none in by_two("unused", tmp_path / "meeting"):
        assert used.tolist() == [1.5, 1.5]
        assert none.item() == 1


def test_small_gradients_are_exchanged_together(tmp_path):
    for *grads, exchanges in by_two("bundled", tmp_path / "meeting"):
        for grad in grads:
            expected = torch.arange(grad.numel()).reshape(grad.shape) + 0.5
            assert torch.equal(grad, expected.to(grad.dtype))
        assert exchanges == 1 + 4  # which are given; 4, 3 + 1, 7 and the 2 of another type


def test_processes_do_what_one_of_them_says(tmp_path):
    first, second = by_two("told", tmp_path / "meeting")
    assert first[0].tolist() == [1, 0, 0, 0, 10, 20, 5, 1, 0, 1, 1]
    assert second[0].tolist() == [1, 0, 1, 1, 10, 20, 5, 1, 0, 1, 0]


def test_a_term_that_is_not_finite_names_the_samples_of_all(tmp_path):
    for (index,) in by_two("not finite", tmp_path / "meeting"):
        assert index.tolist() == list(range(8))


def test_the_comparison_notices_a_gather_without_the_others_gradients(tmp_path):
    one, (two, _) = trained("contrast"), by_two("deaf", tmp_path / "meeting")
    assert not torch.allclose(one[0], two[0], rtol=1e-8, atol=1e-12)


def threads():
    return len(os.listdir("/proc/self/task"))


def leaves(rank, port, answers):
    """The threads of this process before, within and after the group."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    found = [threads()]
    with dist.joined():
        dist.agreed(rank)
        import_module("torch.distributed.nn.functional")  # as PyTorch itself does, late
        found.append(threads())
    until = time.monotonic() + 20  # Linux lists a thread a little longer than it lives
    while threads() > found[0] and time.monotonic() < until:
        time.sleep(0.01)
    answers.put([*found, threads()])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads by /proc")
def test_nothing_of_the_group_runs_on_when_it_is_left():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [context.Process(target=leaves, args=(r, port, answers)) for r in range(2)]
    for p in processes:
        p.start()
    for before, within, after in [answers.get(timeout=120) for _ in processes]:
        assert within > before
        assert after == before
    for p in processes:
        p.join()
        assert p.exitcode == 0


def test_one_process_is_the_identity():
    x = torch.rand(4, 2)
    assert dist.world_size() == 1
    assert dist.rank() == 0
    for same in (dist.gather, dist.mine, dist.total):
        assert torch.equal(same(x), x)
    assert dist.first(lambda: 3) == dist.agreed(3) == dist.largest(3) == 3
    assert dist.everyones(3) == [3]
    with pytest.raises(UserError, match="20"):
        dist.first(lambda: refuse(0))
