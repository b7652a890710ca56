import os

import numpy as np
import pytest
import torch

import selftaught
from commands.tiny import archive, photographs
from selftaught.commands import features as module
from selftaught.commands.features import cache, features
from selftaught.data.images import open_images
from selftaught.errors import UserError


class Counting(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.batches = net, 0

    def forward(self, x):
        self.batches += 1
        return self.net(x)


@pytest.fixture
def encoder(finished):
    return selftaught.load(finished)


def test_features_are_computed_once(encoder, data):
    images = open_images(data)
    net = Counting(encoder)
    first = features(net, encoder, images, cached=True)
    seen = net.batches
    second = features(net, encoder, images, cached=True)
    assert net.batches == seen > 0
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    features(net, encoder, images)
    assert net.batches == 2 * seen


def test_other_weights_and_other_images_have_features_of_their_own(encoder, data, tmp_path):
    images = open_images(data)
    first, _ = features(encoder, encoder, images, cached=True)
    with torch.no_grad():
        next(encoder.parameters()).mul_(2)
    changed, _ = features(encoder, encoder, images, cached=True)
    assert not torch.equal(first, changed)
    other = open_images(archive(tmp_path / "other.npz", seed=1))
    assert not torch.equal(changed, features(encoder, encoder, other, cached=True)[0])


def test_a_file_changed_in_place_is_seen(tmp_path):
    root = photographs(tmp_path / "in", 3)
    images = open_images(root)
    before = images.stamp(), images.fingerprint()
    os.utime(root / "0001.jpg", ns=(1, 1))
    assert images.stamp() != before[0]
    assert images.fingerprint() == before[1]


def test_a_damaged_file_is_computed_anew(encoder, data):
    images = open_images(data)
    first, _ = features(encoder, encoder, images, cached=True)
    for file in cache().iterdir():
        file.write_bytes(file.read_bytes()[:100])
    again, _ = features(encoder, encoder, images, cached=True)
    assert torch.equal(first, again)


def test_what_was_used_longest_ago_goes_first(encoder, tmp_path, monkeypatch):
    sizes = []
    for seed in range(3):
        features(
            encoder, encoder, open_images(archive(tmp_path / f"{seed}.npz", seed=seed)), cached=True
        )
        newest = max(cache().iterdir(), key=lambda f: f.stat().st_mtime_ns)
        os.utime(newest, ns=(seed, seed))
        sizes.append(newest.stat().st_size)
    monkeypatch.setattr(module, "KEPT", 2 * sizes[0])
    last = archive(tmp_path / "last.npz", seed=9)
    features(encoder, encoder, open_images(last), cached=True)
    assert len(list(cache().iterdir())) == 2
    assert sorted(f.stat().st_mtime_ns for f in cache().iterdir())[0] == 2


def test_a_cache_that_cannot_be_written_is_none(encoder, data, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path / "file"))
    found, index = features(encoder, encoder, open_images(data), cached=True)
    assert len(found) == len(index) == len(np.load(data)["x"])


def test_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("SELFTAUGHT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache() == tmp_path / "selftaught" / "features"


def test_nor_is_one_on_a_full_disk(encoder, data, monkeypatch):
    def full(*_):
        raise UserError("no space left")

    monkeypatch.setattr(module, "write_atomic", full)
    assert len(features(encoder, encoder, open_images(data), cached=True)[0])
