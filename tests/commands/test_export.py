import json
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import selftaught
from commands.tiny import call, refused, tree


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "deep" / "encoder"
    selftaught.export(finished, out=out)
    return out


def test_what_is_in_the_folder(capsys, finished, tmp_path):
    before = tree(finished)
    answer = call(capsys, "export", finished, "--out", tmp_path / "out")
    assert answer.code == 0
    assert "load.py" in answer.out
    found = {p.name for p in (tmp_path / "out").iterdir()}
    assert found == {"encoder.safetensors", "encoder.json", "load.py"}
    assert tree(finished) == before


def test_the_card(exported, finished):
    card = json.loads((exported / "encoder.json").read_text())
    run = json.loads((finished / "run.json").read_text())
    assert (card["recipe"], card["seed"], card["steps"]) == ("simclr", 0, 4)
    assert card["arguments"] == run["call"]["arguments"]
    assert card["data"]["fingerprint"] == run["data"]["fingerprint"]
    assert card["pixels"]["mean"] == run["data"]["mean"]


def test_it_loads_to_the_same_features(exported, finished, data):
    images = list(np.load(data)["x"])
    one, other = selftaught.load(exported), selftaught.load(finished)
    assert torch.equal(one.preprocess(images), other.preprocess(images))
    with torch.no_grad():
        assert torch.equal(one(one.preprocess(images)), other(other.preprocess(images)))


def test_it_needs_nothing_of_the_run(finished, data, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    selftaught.export(tmp_path / "run", out=tmp_path / "out")
    shutil.rmtree(tmp_path / "run")
    shutil.move(tmp_path / "out", tmp_path / "moved")
    assert selftaught.load(tmp_path / "moved").dim == 256


def test_its_script_runs_anywhere(exported, tmp_path):
    Image.new("L", (9, 11), 77).save(tmp_path / "one.png")
    script = [sys.executable, str(exported / "load.py"), "one.png"]
    said = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("tensor(")


def test_its_script_says_what_it_wants(exported, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["load.py"])
    runpy.run_path(str(exported / "load.py"), run_name="__main__")
    assert capsys.readouterr().out == "simclr: 256 features; give it paths of images\n"


def test_nothing_is_overwritten(capsys, finished, tmp_path):
    refused(call(capsys, "export", finished, "--out", tmp_path), "not overwritten", "--out")
    assert not any(tmp_path.iterdir())


def test_below_a_file(capsys, finished, tmp_path):
    (tmp_path / "file").write_text("")
    refused(call(capsys, "export", finished, "--out", tmp_path / "file" / "out"), "cannot make")


def test_runs_that_are_none(capsys, finished, tmp_path):
    out = ("--out", tmp_path / "out")
    refused(call(capsys, "export", tmp_path / "gone", *out), "there is no run at")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(finished, unfinished, ignore=shutil.ignore_patterns("encoder.*"))
    refused(call(capsys, "export", unfinished, *out), "--resume")
    assert not (tmp_path / "out").exists()
