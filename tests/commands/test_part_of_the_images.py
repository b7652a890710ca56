"""A recipe may train on a part of the images: everything that trains refers to that part."""

import json
from typing import Any

import pytest
import torch

from commands.tiny import archive, call, photographs, recipe, refused
from selftaught import checkpoint
from selftaught.commands import job
from selftaught.data.images import open_images
from selftaught.data.sources import evenly

PART = '''
import torch
from torch import nn

from selftaught.method import Method
from selftaught.recipes.run import Pixels, Run
from selftaught.views.image import Centre, View, Views


class Encoder(nn.Module):
    dim = 3

    def __init__(self, data):
        super().__init__()
        self.linear = nn.Linear(data.channels * data.size**2, self.dim)

    def forward(self, x):
        return self.linear(x.flatten(1))


class Count(Method):
    """Counts how often each place was trained on and surveyed, and sums up its pixels."""

    def __init__(self, encoder, count, bad):
        super().__init__()
        self.encoder, self.bad = encoder, bad
        for name in ("trained", "surveyed", "pixels"):
            self.register_buffer(name, torch.zeros(count, dtype=torch.double))

    def forward(self, batch):
        (x,) = batch.views
        self.trained.index_add_(0, batch.index, torch.ones(len(x), dtype=torch.double))
        self.pixels[batch.index] = x.double().mean((1, 2, 3))
        nan = float("nan") if self.trained.sum() > self.bad else 1.0
        return {"size": self.encoder(x).square().mean() * nan}

    def survey(self, whole):
        for batch in whole:
            self.surveyed[batch.index] += 1


def agreement(data: Pixels, *, images: int = 12, batch_size: int = 4, bad: int = 999) -> Run:
    """Nothing is learnt.

    Args:
        images: how many there are to train on.
        bad: samples after which a term is NaN.
    """
    method = Count(Encoder(data), min(images, data.count), bad)
    return Run(
        method=method,
        views=Views([View(Centre(data.size))], data.mean, data.std),
        optimizer=torch.optim.SGD(method.parameters(), lr=0.01),
        batch_size=batch_size,
        epochs=2,
        survey_every=3,
        images=images,
    )
'''


def counted(run: Any) -> dict[str, torch.Tensor]:
    found = checkpoint.latest(run / "checkpoints")
    assert found is not None
    return found[1]["method"]


@pytest.fixture
def name(tmp_path, monkeypatch):
    return recipe(tmp_path, monkeypatch, "part_recipe", PART)


def trained(capsys, name, data, out, *more):
    words = ("pretrain", name, data, "--out", out, "--evaluate", "off", *more)
    return call(capsys, *words)


def test_steps_batches_and_surveys_are_those_of_the_part(capsys, tmp_path, name):
    data, out = archive(tmp_path / "images.npz", 48), tmp_path / "run"
    answer = trained(capsys, name, data, out)
    assert answer.code == 0, answer
    assert "48 images, 12 of them to train on" in answer.out
    description = json.loads((out / "run.json").read_text())
    assert description["steps"] == 6  # two epochs of 12 images in batches of 4
    assert description["data"]["count"] == 48
    assert "6 steps, 2.0 epochs" in answer.out
    found = counted(out)
    assert (found["trained"] == 2).all()
    assert (found["surveyed"] == 2).all()


def test_the_part_is_evenly_spread(capsys, tmp_path, name):
    data, out = archive(tmp_path / "images.npz", 50), tmp_path / "run"
    assert trained(capsys, name, data, out).code == 0
    images = open_images(data)
    means = torch.stack([images.read(i).double().mean() for i in evenly(12, 50).tolist()])
    found = counted(out)["pixels"]
    ranks = found.argsort().argsort()  # normalised by mean and sd, the order stays
    assert torch.equal(ranks, means.argsort().argsort())


def test_more_than_there_are_is_all(capsys, tmp_path, name):
    data, out = archive(tmp_path / "images.npz", 10), tmp_path / "run"
    assert trained(capsys, name, data, out).code == 0
    found = counted(out)["trained"]
    assert found.shape == (10,)
    assert found.sum() == 16  # two epochs of two full batches


def test_a_part_smaller_than_a_batch_is_refused(capsys, tmp_path, name):
    data = archive(tmp_path / "images.npz", 48)
    answer = trained(capsys, name, data, tmp_path / "run", "--images", 3)
    refused(answer, "batch of 4", "--batch-size")


def test_what_is_not_finite_is_named_as_in_the_data(capsys, tmp_path, name):
    data, out = archive(tmp_path / "images.npz", 48), tmp_path / "run"
    refused(trained(capsys, name, data, out, "--bad", 3), "not finite")
    named = json.loads((out / "not-finite.json").read_text())["batch"]
    assert set(named) <= {str(i) for i in evenly(12, 48).tolist()}
    assert any(int(i) >= 12 for i in named)


def test_broken_files_of_the_part_have_stand_ins_in_it(capsys, tmp_path, name, monkeypatch):
    root = photographs(tmp_path / "photos", 24)
    files = sorted(root.rglob("*.jpg"))
    files[2].write_bytes(b"<html>")  # of the part: every second file
    files[3].write_bytes(b"<html>")  # not of it
    out = tmp_path / "run"
    monkeypatch.setattr(job, "BROKEN", 0.0)  # one file is forgiven
    answer = trained(capsys, name, root, out, "--size", 8)
    assert answer.code == 0, answer
    skipped = (out / "skipped.txt").read_text()
    assert files[2].name in skipped
    assert files[3].name not in skipped
    found = counted(out)
    assert found["trained"].tolist() == [2, 0, 4, *[2] * 9]
    assert found["surveyed"].tolist() == [2, 0, *[2] * 10]


def test_the_doctor_times_the_part(capsys, tmp_path, name):
    data = archive(tmp_path / "images.npz", 48)
    answer = call(capsys, "doctor", data, "--method", name, "--json")
    assert answer.code == 0, answer
    found = json.loads(answer.out)
    assert found["images"] == 48
    steps, look = 3 * found["seconds_per_step"], found["seconds_per_look"]  # and it looks once
    assert found["seconds_per_epoch"] == pytest.approx(steps + look)
