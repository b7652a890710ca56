import json

import numpy as np
import pytest
import torch

import selftaught
from commands.tiny import equal
from selftaught import checkpoint
from selftaught.commands import heldout
from selftaught.commands.job import Job
from selftaught.commands.watch import Watch
from selftaught.data.sources import ArrayImages
from selftaught.errors import Stopped
from selftaught.views.image import Crop, View, Views

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("count", "batch", "kept"),
    [(60_000, 256, 256), (1797, 128, 89), (159, 16, 0), (160, 16, 8), (200, 195, 0), (48, 16, 0)],
)
def test_how_many_images_are_kept(count, batch, kept):
    index = heldout.kept(count, batch)
    assert len(index) == len(index.unique()) == kept
    assert count - kept >= batch
    if kept:
        assert index.max() >= count - count // kept - 1  # spread over all


def numbered(numbers):
    """Images each of one brightness, which is its number."""
    x = torch.tensor(numbers, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    return ArrayImages(x.clone(), "numbered")


def test_the_batches_of_a_probe():
    views = Views([View(Crop(8, scale=(0.5, 1.0)))] * 2, (0.0,), (1.0,))
    probes = heldout.Probes(numbered(list(range(100))), numbered([200, 201, 202]), views, 7, 0)
    found = {name: (batch.views, batch.index) for name, batch in probes.batches(CPU, mixed=True)}
    shown = {n: [(255 * v[:, 0, 4, 4]).round().tolist() for v in x] for n, (x, _) in found.items()}
    assert shown["held_out"] == [[200, 201, 202, 200, 201, 202, 200]] * 2
    assert shown["trained"][0] == shown["trained"][1] == [0, 33, 66, 0, 33, 66, 0]
    first, second = shown["mixed"]
    assert first == shown["trained"][0]
    assert sorted(second) == sorted(first)
    assert sum(a != b for a, b in zip(first, second, strict=True)) >= 6
    assert [name for name, _ in probes.batches(CPU, mixed=False)] == ["trained", "held_out"]


def test_each_process_sees_its_rows_of_a_probes_batches():
    views = Views([View(Crop(8, scale=(0.5, 1.0)))] * 2, (0.0,), (1.0,))
    probes = heldout.Probes(numbered(list(range(100))), None, views, 300, 0)
    whole = {name: batch.views for name, batch in probes.batches(CPU, mixed=True)}
    probes.mine = torch.arange(150, 300)
    for name, batch in probes.batches(CPU, mixed=True):
        assert batch.index.tolist() == list(range(150, 300))
        for x, y in zip(batch.views, whole[name], strict=True):
            assert torch.equal(x, y[150:])


SETTINGS = {"evaluate": "off", "quiet": True, "batch_size": 16, "hidden": 32, "dim": 16}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    place = tmp_path_factory.mktemp("many") / "x.npz"
    x = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    np.savez(place, x=x)
    return place


def records(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: r.get(k) for k in ("step", "terms", "signals", "verdict")} for r in lines]


def test_images_that_are_kept_are_never_trained_on(tmp_path, monkeypatch):
    x = np.arange(200, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=x)
    trained, original = set(), Job._fit

    def spy(self, *given):
        trained.update(self.trained_on.x[:, 0, 0, 0].tolist())
        return original(self, *given)

    monkeypatch.setattr(Job, "_fit", spy)
    run = selftaught.pretrain("byol", tmp_path / "x.npz", out=tmp_path / "run", steps=3, **SETTINGS)
    assert run["held_out"] == 10
    assert trained == set(range(200)) - set(heldout.kept(200, 16).tolist())
    pretext = run["signals"]["pretext"]
    found = [pretext[name]["regression"] for name in ("trained", "held_out", "mixed")]
    assert len(set(found)) == 3


def test_resume_is_exact_with_images_held_out(many, tmp_path, monkeypatch):
    whole = selftaught.pretrain("byol", many, out=tmp_path / "whole", steps=6, **SETTINGS)
    original, place = Watch.signals, tmp_path / "parts"

    def stopping(self):
        found = original(self)
        if (place / "metrics.jsonl").exists() and len(records(place)) == 2:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Watch, "signals", stopping)
    with pytest.raises((KeyboardInterrupt, Stopped)):
        selftaught.pretrain("byol", many, out=place, steps=6, **SETTINGS)
    monkeypatch.setattr(Watch, "signals", original)
    parts = selftaught.pretrain("byol", many, out=place, steps=6, resume=True, **SETTINGS)
    assert parts["signals"] == whole["signals"]
    assert records(place) == records(tmp_path / "whole")
    states = [checkpoint.latest(tmp_path / name / "checkpoints") for name in ("whole", "parts")]
    equal(*(state[1] for state in states))


def test_a_run_that_was_begun_without_goes_on_without(many, tmp_path, monkeypatch):
    monkeypatch.setattr("selftaught.commands.job.kept", lambda *_: torch.zeros(0).long())
    old = selftaught.pretrain("byol", many, out=tmp_path / "run", steps=3, **SETTINGS)
    monkeypatch.undo()
    assert old["held_out"] == 0
    description = json.loads((tmp_path / "run" / "run.json").read_text())
    for name in ("held_out", "finished"):
        del description[name]
    (tmp_path / "run" / "run.json").write_text(json.dumps(description))
    seen = []
    monkeypatch.setattr(Job, "train", lambda self, *_, **__: seen.append(len(self.trained_on)))
    selftaught.pretrain("byol", many, out=tmp_path / "run", resume=True, **SETTINGS)
    assert seen == [200]


def test_methods_that_know_their_images_keep_none(many, tmp_path):
    own = {"evaluate": "off", "quiet": True, "batch_size": 16, "dim": 16}
    run = selftaught.pretrain("instdisc", many, out=tmp_path / "run", steps=2, **own)
    assert run["held_out"] == 0
    assert "trained" not in run["signals"]["pretext"]
    assert run["signals"]["pretext"].keys() == {"tells_apart", "chance", "agreement", "fixed"}
