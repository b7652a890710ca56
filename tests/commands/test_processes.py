"""One command, several processes, one run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands.tiny import archive, equal, photographs, recipe, training
from selftaught import checkpoint

STEPS = 40
FLOAT = ("--precision", "float32")  # bfloat16 rounds too much for two to be as one
TWO = ("--processes", "2", *FLOAT)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return archive(
        tmp_path_factory.mktemp("data") / "images.npz", 200
    )  # so many that some are held out


def start(*words):
    command = [sys.executable, "-m", "selftaught", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(*words):
    """Exit code, output and errors of a real process."""
    process = start(*words)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder):
    found = checkpoint.latest(folder / "checkpoints")
    assert found is not None
    return found[1]


def interrupted(words, folder, which):
    """Send a signal to the second of two processes in the middle of a run: code and errors."""
    process = start(*words)
    try:
        while process.poll() is None:
            if (folder / "metrics.jsonl").exists() and metrics(folder):
                break
            time.sleep(0.01)
        place = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        os.kill(int(place.read_text().split()[1]), which)
        _, err = process.communicate(timeout=100)
    finally:
        process.kill()
    return process.returncode, err


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    code, out, err = run(*training("simclr", data, folder, *TWO, steps=STEPS))
    assert (code, err) == (0, "")
    assert "2 processes" in out
    assert out.count("steps, ") == 1, "the first one alone prints"
    return folder


def test_two_processes_train_as_one_does(data, tmp_path, unbroken):
    code, _, _ = run(*training("simclr", data, tmp_path / "one", *FLOAT, steps=STEPS))
    assert code == 0
    one, two = metrics(tmp_path / "one"), metrics(unbroken)
    for a, b in zip(one[:5], two, strict=False):  # rounding grows
        assert a["terms"] == pytest.approx(b["terms"], rel=1e-3)
    assert [record["step"] for record in two] == list(range(1, STEPS + 1))
    described = [json.loads((f / "run.json").read_text()) for f in (tmp_path / "one", unbroken)]
    untrained = [found["untrained"]["pretext"] for found in described]
    for name in ("trained", "held_out"):
        assert untrained[0][name] == pytest.approx(untrained[1][name], rel=1e-3)
    assert [found["environment"]["processes"] for found in described] == [1, 2]


def test_a_signal_to_one_stops_both_and_as_many_go_on_bit_for_bit(data, tmp_path, unbroken):
    folder = tmp_path / "run"
    words = training("simclr", data, folder, *TWO, steps=STEPS)
    code, err = interrupted(words, folder, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert err.count("\n") == 1
    stopped = len(metrics(folder))
    assert f"stopped at step {stopped} of {STEPS}" in err
    others = {count: shutil.copytree(folder, tmp_path / str(count)) for count in (1, 4)}
    assert run(*words, "--resume")[0] == 0
    equal(weights(folder), weights(unbroken))
    for count, other in others.items():
        more = ("--resume", "--processes", count, *FLOAT)
        code, out, _ = run(*training("simclr", data, other, *more, steps=STEPS))
        assert code == 0
        assert "going on from step" in out
        assert [record["step"] for record in metrics(other)] == list(range(1, STEPS + 1))
        after = slice(stopped, stopped + 5)  # rounding grows
        found, whole = (metrics(place)[after] for place in (other, unbroken))
        for record, expected in zip(found, whole, strict=True):
            assert record["terms"] == pytest.approx(expected["terms"], rel=1e-3)  # same images


def test_where_one_is_killed_the_others_end_and_it_is_named(data, tmp_path):
    folder = tmp_path / "run"
    words = training("simclr", data, folder, *TWO, steps=1000)
    code, err = interrupted(words, folder, signal.SIGKILL)
    assert code == 2
    assert "process 2 of 2 was ended by SIGKILL" in err
    assert "Traceback" not in err
    assert checkpoint.latest(folder / "checkpoints") is not None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--processes", "0"), "0 processes"),
        ((*TWO, "--batch-size", "15"), "does not split over 2 processes"),
    ],
)
def test_what_is_wrong_is_said_once(data, tmp_path, more, words):
    code, _, err = run(*training("simclr", data, tmp_path / "run", *more))
    assert code == 2
    assert err.count("\n") == 1, err
    assert words in err


def test_a_run_that_is_not_finite_says_so_once_and_names_the_images_of_all(
    data, tmp_path, monkeypatch
):
    name = recipe(tmp_path, monkeypatch, "own_nan_of_two")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    out = tmp_path / "run"
    code, _, err = run(
        "pretrain", name, data, "--out", out, "--evaluate", "off", "--bad", 3, *TWO, "--steps", 5
    )
    assert code == 2
    assert err.count("\n") == 1, err
    assert "apart is not finite at step 3" in err
    found = json.loads((out / "not-finite.json").read_text())
    batch = json.loads((out / "run.json").read_text())["call"]["arguments"]["batch_size"]
    assert len(set(found["batch"])) == batch


def test_broken_files_are_listed_once_whoever_met_them(tmp_path):
    folder = photographs(tmp_path / "photographs", 250)
    files = sorted(folder.glob("*.jpg"))
    for i in (3, 7):
        files[i].write_bytes(b"not an image")
    out = tmp_path / "run"
    words = ("simclr", folder, out, *TWO, "--size", "8", "--batch-size", "60")
    code, _, err = run(*training(*words, steps=8))
    assert (code, err) == (0, "")
    lines = (out / "skipped.txt").read_text().splitlines()
    assert sorted(line.partition("\t")[0] for line in lines) == ["0003.jpg", "0007.jpg"]


def test_an_environment_that_is_half_there_is_one_line(data, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = run(*training("simclr", data, tmp_path / "run"))
    assert code == 2
    assert err.count("\n") == 1, err
    assert "WORLD_SIZE" in err
