"""Two processes and four train each method as one with the same global batch does, in float64."""

import dataclasses
import multiprocessing
import traceback

import pytest
import torch
import torch.distributed

from contract.small import build, steps, stream
from group import one_of
from selftaught import dist
from selftaught.nn.memory import Centre, Queue
from selftaught.recipes import RECIPES
from selftaught.train import judge

STEPS = 3


def trained(name):
    """All parameters, buffers and terms after a few steps of plain SGD.

    Not Adam, which turns the last digits of a gradient that should be zero into a step.
    """
    run = build(name)
    run.method.double()
    for group in run.optimizer.param_groups:
        group["lr"] = 0.05
    run = dataclasses.replace(run, optimizer=torch.optim.SGD(run.optimizer.param_groups, lr=0.05))
    found = {}
    for step in steps(run, STEPS, data=torch.float64, schedule=lambda progress: 1.0):
        for term, value in step.terms.items():
            found[f"{term} at {step.number}"] = dist.total(value) / dist.world_size()
    if not run.method.knows_samples:
        judged = judge(run.method, next(stream(run, STEPS, dtype=torch.float64)))
        found |= {f"{term} judged": torch.tensor(value) for term, value in judged.items()}
    return found | dict(run.method.state_dict())


def process(size, rank, place, names, broken, answers):
    with one_of(size, rank, place):
        if broken:
            setattr(*BREAKAGES[broken][1:])
        for name in names:
            try:
                answers.put((rank, name, {n: x.numpy() for n, x in trained(name).items()}))
            except Exception:
                answers.put((rank, name, traceback.format_exc()))
                raise


def by_several(size, names, place, broken=""):
    """What each of several processes ends with: {(rank, name): tensors}."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    arguments = [(size, rank, str(place), names, broken, answers) for rank in range(size)]
    processes = [context.Process(target=process, args=a) for a in arguments]
    for p in processes:
        p.start()
    found = {}
    for _ in range(size * len(names)):
        rank, name, tensors = answers.get(timeout=120)
        if isinstance(tensors, str):
            for p in processes:
                p.kill()
            raise AssertionError(f"{name} in process {rank}: {tensors}")
        found[rank, name] = {n: torch.from_numpy(x) for n, x in tensors.items()}
    for p in processes:
        p.join()
        assert p.exitcode == 0
    return found


def deaf_gather(x):
    """A gather whose backward forgets the other processes."""
    parts = [torch.empty_like(x) for _ in range(dist.world_size())]
    torch.distributed.all_gather(parts, x.detach().contiguous())
    parts[dist.rank()] = x
    return torch.cat(parts)


def lonely_total(x):
    """A sum that leaves the other processes out."""
    return x.detach() * dist.world_size()


def push_of_one(queue, x, push=Queue.push):
    """Each process keeps its own keys alone."""
    push(queue, dist.mine(x))


def update_of_one(centre, mean, update=Centre.update):
    """Only the first process moves its centre."""
    if dist.is_first():
        update(centre, mean)


BREAKAGES = {  # the method that shows it, and what is put in the place of what
    "gather": ("simclr", dist, "gather", deaf_gather),
    "total": ("simclr", dist, "total", lonely_total),
    "queue": ("moco", Queue, "push", push_of_one),
    "centre": ("dino", Centre, "update", update_of_one),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return by_several(2, list(RECIPES), tmp_path_factory.mktemp("two") / "meeting")


def differences(one, other):
    assert one.keys() == other.keys()
    return [
        name
        for name, a in one.items()
        if not torch.allclose(a.double(), other[name].double(), rtol=1e-8, atol=1e-11)
    ]


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_equal_one(name, two):
    one = trained(name)
    for rank in range(2):
        assert differences(one, two[rank, name]) == []


def test_four_processes_equal_one(tmp_path):
    found = by_several(4, list(RECIPES), tmp_path / "meeting")
    for name in RECIPES:
        one = trained(name)
        for rank in range(4):
            assert differences(one, found[rank, name]) == [], (name, rank)


@pytest.mark.parametrize("broken", BREAKAGES)
def test_the_comparison_notices_broken_communication(broken, tmp_path):
    name = BREAKAGES[broken][0]
    found = by_several(2, [name], tmp_path / "meeting", broken)
    assert differences(trained(name), found[0, name])
