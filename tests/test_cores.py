import os
import subprocess
import sys

import pytest
import torch

from selftaught import cores

TWO = {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Eight cores, and no quota yet."""
    monkeypatch.setattr(cores, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # so that what a test sets does not stay
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def quota(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 8),
        ({"cpu.max": "what is this"}, 8),
        (TWO, 2),
        (TWO | {"cpu/cpu.cfs_quota_us": "-1\n"}, 8),
        (TWO | {"cpu/cpu.cfs_period_us": "0\n"}, 8),
    ],
)
def test_a_quota_grants_fewer_cores_than_there_are(tmp_path, files, expected):
    quota(tmp_path, files)
    assert cores.granted() == expected


def test_pytorch_begins_with_no_more_threads(tmp_path):
    quota(tmp_path, TWO)
    cores.keep_to_granted()
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("words", [["pretrain", "simclr", "digits", "--out", "x"], ["doctor", "x"]])
def test_a_command_trains_in_no_more_threads(tmp_path, words):
    quota(tmp_path, TWO | {"cpu/cpu.cfs_quota_us": "100000"})
    script = f"""
import os, pathlib, sys
from selftaught import cores
cores.CGROUP = pathlib.Path({str(tmp_path)!r})
os.sched_getaffinity = lambda process: range(8)
import selftaught.cli
import selftaught.commands.doctor, selftaught.commands.pretrain
import torch
torch.set_num_threads(3)
def said(*arguments, **options):
    print("threads", torch.get_num_threads())
    sys.exit()
selftaught.commands.pretrain.pretrain = selftaught.commands.doctor.doctor = said
selftaught.cli.main({words!r})
"""
    options = {"capture_output": True, "text": True, "check": True}
    answer = subprocess.run([sys.executable, "-c", script], **options)
    assert answer.stdout == "threads 1\n"


def test_without_a_quota_pytorch_is_left_alone():
    cores.keep_to_granted()
    assert "OMP_NUM_THREADS" not in os.environ


def test_what_the_user_sets_stands(tmp_path, monkeypatch):
    quota(tmp_path, TWO)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    cores.keep_to_granted()
    assert os.environ["OMP_NUM_THREADS"] == "5"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_a_command_lets_other_programs_work_before_pytorch_is_there(given, expected):
    script = """
import os, sys
from selftaught.cli import main
assert "torch" not in sys.modules
main(["--version"])
assert "torch" not in sys.modules
print(os.environ.get("GOMP_SPINCOUNT"))
"""
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    options = {"capture_output": True, "text": True, "check": True, "env": kept | given}
    answer = subprocess.run([sys.executable, "-c", script], **options)
    assert answer.stdout.splitlines()[-1] == str(expected)
