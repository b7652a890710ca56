"""Each verdict in a real run, however small, with one cause put in."""

import json

import numpy as np
import pytest
import torch.nn.functional as F
from sklearn.datasets import load_digits

import selftaught
import selftaught.methods.simsiam
from selftaught.commands.job import Job
from selftaught.errors import UserError


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The verdict of a run on some digits, or on the images given."""
    monkeypatch.setattr(Job, "probes", 4)

    def run(method, steps, x=None, count=320, **settings):
        if x is None:
            x = (load_digits().images[:count] * 15.9).astype(np.uint8)
        np.savez(tmp_path / "x.npz", x=x)
        settings = {"batch_size": 32, "evaluate": "off", "quiet": True} | settings
        settings |= {"steps": steps, "out": tmp_path / "run", "precision": "float32"}
        found = selftaught.pretrain(method, tmp_path / "x.npz", **settings)
        return found["verdict"]["word"], found["verdict"]["sentence"]

    return run


HEAD = {"hidden": 64, "dim": 32}


def test_simsiam_without_its_stop_gradient_collapses(trained, monkeypatch):
    def deaf(p, target):
        return -F.cosine_similarity(p, target, dim=1).mean()

    monkeypatch.setattr(selftaught.methods.simsiam, "negative_cosine", deaf)
    word, sentence = trained("simsiam", 60, bottleneck=16, batch_size=64, **HEAD)
    assert word == "collapse"
    assert "stop-gradient" in sentence


def test_noise_can_only_be_learnt_by_heart(trained):
    x = np.random.default_rng(0).integers(0, 256, (170, 8, 8), dtype=np.uint8)
    word, sentence = trained("rotation", 40, x, smallest_crop=1.0)
    assert word == "overfitting the pretext"
    assert "162 images, each seen 8 times" in sentence


def test_a_high_temperature_tells_nothing_apart(trained):
    word, sentence = trained("simclr", 30, temperature=100.0, **HEAD)
    assert word == "learning slowly"
    assert "temperature of 100" in sentence


def test_a_tiny_learning_rate_learns_slowly(trained):
    word, sentence = trained("simclr", 60, lr=1e-7, temperature=0.5, **HEAD)
    assert word == "learning slowly"
    assert "raise --lr" in sentence


def test_a_huge_learning_rate_diverges(trained, tmp_path):
    with pytest.raises(UserError, match="not finite"):
        trained("autoencoder", 40, optimizer="sgd", lr=5.0)
    found = json.loads((tmp_path / "run" / "run.json").read_text())["verdict"]
    assert found["word"] == "diverged"


def test_weights_pulled_to_zero_lose_dimensions(trained):
    settings = {"count": 600, "weight_decay": 100.0, "batch_size": 64, "seed": 1}  # not a near miss
    word, sentence = trained("simclr", 80, **settings, **HEAD)
    assert word == "partial collapse"
    assert "weight decay of 100" in sentence
