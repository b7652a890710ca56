import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import selftaught
from commands.tiny import (
    OPTIONS,
    RECIPE,
    Answer,
    archive,
    call,
    equal,
    photographs,
    recipe,
    refused,
    training,
    tree,
)
from selftaught import checkpoint
from selftaught.cli import main
from selftaught.commands import evaluate, job
from selftaught.errors import UserError
from selftaught.methods.simclr import SimCLR
from selftaught.recipes import RECIPES

STEPS = 7  # of runs that are stopped; three an epoch
SPEEDS = ("samples_per_second", "waiting")
FILES = ("run.json", "metrics.jsonl", "encoder.safetensors", "encoder.json", "curves.png")


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def described(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def weights(run: Path) -> dict[str, Any]:
    found = checkpoint.latest(run / "checkpoints")
    assert found is not None
    return found[1]


def train(capsys: Any, *arguments: Any, **more: Any) -> Answer:
    return call(capsys, *training(*arguments, **more))


# What a run leaves


def test_a_run_leaves_what_is_promised(capsys, tmp_path):
    run = tmp_path / "run"
    assert train(capsys, "simclr", "digits", run).code == 0
    assert all((run / name).stat().st_size for name in FILES)
    assert [record["step"] for record in metrics(run)] == [1, 2, 3, 4]
    for record in metrics(run):
        assert record["samples_per_second"] > 0
        assert 0 <= record["waiting"] <= 1
        assert record["lr"] >= 0
        assert list(record["terms"]) == ["nt_xent"]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [
        "step-00000000",
        "step-00000004",
    ]
    with Image.open(run / "curves.png") as picture:
        picture.verify()
    assert not (run / "skipped.txt").exists()


def test_what_a_method_watches_is_logged_beside_its_terms(capsys, tmp_path):
    run = tmp_path / "run"
    answer = train(capsys, "vqvae", "digits", run)
    assert answer.code == 0
    for record in metrics(run):
        assert list(record["terms"]) == ["reconstruction", "commitment"]
        assert list(record["watched"]) == ["perplexity"]
        assert 1 <= record["watched"]["perplexity"] <= 16
    last = metrics(run)[-1]["watched"]["perplexity"]
    assert f"perplexity {last:.4f}" in answer.out + answer.err


def test_signals_of_a_methods_own_stand_beside_those_of_its_features(capsys, tmp_path):
    found = []
    for state in range(2):
        run = tmp_path / f"run{state}"
        torch.manual_seed(state)  # of the caller's own, which changes nothing
        assert train(capsys, "gan", "digits", run, steps=2).code == 0
        found.append([record["signals"] for record in metrics(run)])
        assert described(run)["untrained"]["sample_diversity"] >= 0
        assert described(run)["signals"] == found[-1][-1]
    assert found[0] == found[1]
    assert found[0][0].keys() > {"effective_rank", "sample_diversity"}


def test_run_json_holds_the_resolved_call_the_data_and_the_environment(finished, data):
    found = described(finished)
    arguments = found["call"]["arguments"]
    assert found["call"] | {"arguments": None} == {
        "method": "simclr",
        "data": str(data),
        "steps": 4,
        "minutes": None,
        "size": 8,
        "flip": True,
        "seed": 0,
        "precision": "auto",
        "scale": "small",
        "init": None,
        "arguments": None,
    }
    assert (arguments["hidden"], arguments["dim"], arguments["batch_size"]) == (32, 16, 16)
    assert {"encoder", "lr", "temperature", "warmup"} <= arguments.keys()  # defaults are there too
    assert found["data"]["count"] == 48
    assert found["data"]["fingerprint"] == selftaught.data.images.open_images(data).fingerprint()
    assert found["environment"]["versions"]["torch"] == torch.__version__.split("+")[0]
    assert found["steps"] == 4
    assert found["finished"]


def test_the_encoder_is_that_of_the_last_checkpoint(finished):
    method = weights(finished)["method"]
    own = {k.removeprefix("encoder."): v for k, v in method.items() if k.startswith("encoder.")}
    equal(load_file(finished / "encoder.safetensors"), own)


def test_a_run_learns_from_its_seed_alone(capsys, data, tmp_path, finished):
    torch.manual_seed(99)  # what the caller's generator holds is nobody's business
    assert train(capsys, "simclr", data, tmp_path / "same").code == 0
    equal(weights(tmp_path / "same"), weights(finished))
    assert train(capsys, "simclr", data, tmp_path / "other", "--seed", 1).code == 0
    with pytest.raises(AssertionError):
        equal(weights(tmp_path / "other"), weights(finished))


def test_the_python_function_is_the_command(data, tmp_path, finished):
    options = {"batch_size": 16, "hidden": 32, "dim": 16}
    found = selftaught.pretrain(
        "simclr", data, out=tmp_path / "run", steps=4, evaluate="off", quiet=True, **options
    )
    assert json.loads(json.dumps(found)) == described(tmp_path / "run")
    equal(weights(tmp_path / "run"), weights(finished))


def test_labels_never_reach_pretraining(capsys, data, tmp_path, finished):
    permuted = archive(tmp_path / "images.npz", y=np.random.default_rng(5).integers(0, 9, 48))
    assert train(capsys, "simclr", permuted, tmp_path / "run").code == 0
    equal(weights(tmp_path / "run"), weights(finished))
    assert described(tmp_path / "run")["data"] == described(finished)["data"]


def test_data_with_labels_are_evaluated_at_the_end(capsys, data, tmp_path):
    words = training("simclr", data, tmp_path / "run", steps=2)
    words.remove("--evaluate")
    words.remove("off")
    answer = call(capsys, *words)
    assert answer.code == 0
    rows = described(tmp_path / "run")["evaluation"]["rows"]
    assert list(rows) == ["encoder", "random", "pixels"]
    assert all(0 <= value <= 100 for row in rows.values() for value in row.values())
    assert "same encoder, random weights" in answer.out


def test_data_without_labels_are_not(capsys, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.load(archive(tmp_path / "all.npz"))["x"])
    words = training("simclr", tmp_path / "x.npz", tmp_path / "run", "--evaluate", "auto", steps=1)
    assert call(capsys, *words).code == 0
    assert "evaluation" not in described(tmp_path / "run")


# What images of 8 x 8 are too small for by default; it is refused in one line.
ON_DIGITS = {"ijepa": ("--patch", "1")}  # of 8 pixels
ON_DIGITS |= dict.fromkeys(("jigsaw", "relative_patch"), ("--size", "16"))
NEED_RUN = ("beit",)
NEED_COLOUR = ("colorization",)  # and digits are gray


@pytest.mark.parametrize("method", RECIPES)
def test_a_folder_of_colour_photographs_at_any_depth(capsys, tmp_path, method):
    folder = photographs(tmp_path / "photographs", 40, depth=3)
    words = ("pretrain", method, folder, "--out", tmp_path / "run", "--steps", 2, "--size", 24)
    answer = call(
        capsys,
        *words,
        "--batch-size",
        16,
        "--evaluate",
        "off",
        *OPTIONS.get(method, ()),
    )
    if method in NEED_RUN:
        return refused(answer, "train one with")
    assert answer.code == 0, answer.err
    assert "40 images, 3 x 24 x 24" in answer.out
    assert [record["step"] for record in metrics(tmp_path / "run")] == [1, 2]


@pytest.mark.parametrize("method", RECIPES)
def test_the_defaults_work_on_the_smallest_known_data(capsys, tmp_path, method, monkeypatch):
    monkeypatch.setattr(
        "selftaught.commands.watch.SEEN", 16
    )  # or twice the feature's width; quicker than all
    words = ("pretrain", method, "digits", "--out", tmp_path / "run", "--steps", 1)
    own = ON_DIGITS.get(method, ())
    answer = call(capsys, *words, "--batch-size", 16, "--evaluate", "off", *own)
    if method in NEED_COLOUR:
        return refused(answer, "no colours", "give images in colour")
    if method in NEED_RUN:
        return refused(answer, "train one with")
    assert answer.code == 0, answer.err


# Stopped and resumed


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory) -> Callable[[str], Path]:
    """The run that was never stopped, by method."""
    root = tmp_path_factory.mktemp("unbroken")

    def find(method: str) -> Path:
        if not (root / method).exists():
            assert main(training(method, data, root / method, steps=STEPS)) == 0
        return root / method

    return find


def same(run: Path, other: Path) -> None:
    """Weights, teacher, optimiser and metrics agree with zero tolerance."""
    equal(weights(run), weights(other))
    equal(load_file(run / "encoder.safetensors"), load_file(other / "encoder.safetensors"))
    found, expected = (
        [{k: v for k, v in r.items() if k not in SPEEDS} for r in metrics(p)] for p in (run, other)
    )
    assert [record["step"] for record in found] == list(range(1, STEPS + 1))
    assert found == expected


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", OPTIONS)
def test_resumed_is_unbroken_bit_for_bit(
    capsys, data, tmp_path, kill_after, unbroken, method, workers
):
    run = tmp_path / "run"
    kill_after(4)  # in the middle of an epoch
    answer = train(capsys, method, data, run, "--workers", workers, steps=STEPS)
    assert answer.code == 128 + signal.SIGTERM
    assert answer.err.count("\n") == 1
    assert "stopped at step 4 of 7" in answer.err
    assert "--resume" in answer.err
    assert not (run / "encoder.safetensors").exists()
    answer = train(capsys, method, data, run, "--workers", workers, "--resume", steps=STEPS)
    assert answer.code == 0
    assert "going on from step 4" in answer.out
    same(run, unbroken(method))


@pytest.mark.parametrize("number", [1, 3, 6])  # in the warm-up, at an epoch's end, before the last
def test_resumed_at_any_step_with_another_number_of_workers(
    capsys, data, tmp_path, kill_after, unbroken, number
):
    kill_after(number)
    words = ("byol", data, tmp_path / "run")
    assert train(capsys, *words, steps=STEPS).code == 128 + signal.SIGTERM
    assert train(capsys, *words, "--resume", "--workers", 1, steps=STEPS).code == 0
    same(tmp_path / "run", unbroken("byol"))


def test_resumed_twice_with_nothing_but_the_folder(capsys, data, tmp_path, kill_after, unbroken):
    run = tmp_path / "run"
    kill_after(2)
    assert train(capsys, "simclr", data, run, steps=STEPS).code == 143
    again = ("pretrain", "simclr", data, "--out", run, "--resume", "--evaluate", "off")
    kill_after(5, signal.SIGINT)
    assert call(capsys, *again).code == 130
    assert call(capsys, *again).code == 0
    same(run, unbroken("simclr"))


def test_a_resumed_run_takes_no_setting_that_it_did_not_begin_with(
    capsys, data, tmp_path, kill_after
):
    """As where the paper's settings have been given one more since."""
    run = tmp_path / "run"
    kill_after(2)
    words = ("--scale", "paper", "--encoder", "resnet-pico", "--view-share", 1)
    assert train(capsys, "simclr", data, run, *words).code == 143
    described = json.loads((run / "run.json").read_text())
    assert described["call"]["arguments"].pop("bicubic") is True
    (run / "run.json").write_text(json.dumps(described))
    again = ("pretrain", "simclr", data, "--out", run, "--resume", "--evaluate", "off")
    assert call(capsys, *again).code == 0
    arguments = json.loads((run / "encoder.json").read_text())["arguments"]
    assert arguments["bicubic"] is False
    assert arguments["optimizer"] == "lars"


def test_a_signal_in_the_last_step_comes_too_late(capsys, data, tmp_path, kill_after, unbroken):
    kill_after(STEPS)
    assert train(capsys, "simclr", data, tmp_path / "run", steps=STEPS).code == 0
    same(tmp_path / "run", unbroken("simclr"))


def test_the_callers_signal_handlers_come_back(capsys, data, tmp_path, kill_after):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    kill_after(1)
    assert train(capsys, "simclr", data, tmp_path / "run").code == 143
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_ctrl_c_ends_a_real_process_between_two_steps(data, tmp_path):
    run = tmp_path / "run"
    words = training("simclr", data, run, steps=100_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "selftaught", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not (run / "metrics.jsonl").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.count("\n") == 1
    assert "Traceback" not in err
    found = checkpoint.latest(run / "checkpoints")
    assert found is not None
    assert f"stopped at step {found[0]} of 100000" in err


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    capsys, data, tmp_path, kill_after, unbroken
):
    run = tmp_path / "run"
    kill_after(2)
    assert train(capsys, "mae", data, run, steps=STEPS).code == 143
    kill_after(5)
    assert train(capsys, "mae", data, run, "--resume", steps=STEPS).code == 143
    newest = run / "checkpoints" / "step-00000005" / "tensors.safetensors"
    raw = bytearray(newest.read_bytes())
    raw[len(raw) // 2] ^= 1
    newest.write_bytes(raw)
    with pytest.warns(UserWarning, match="step-00000005, it is damaged"):
        answer = train(capsys, "mae", data, run, "--resume", steps=STEPS)
    assert answer.code == 0
    assert "going on from step 2" in answer.out
    same(run, unbroken("mae"))


def test_a_finished_run_says_so_and_stays(capsys, data, tmp_path, finished):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before = tree(run)
    answer = train(capsys, "simclr", data, run, "--resume")
    assert answer.code == 0
    assert "is finished" in answer.out
    assert tree(run) == before


def test_resume_begins_a_run_where_there_is_none(capsys, data, tmp_path, finished):
    assert train(capsys, "simclr", data, tmp_path / "run", "--resume").code == 0
    equal(weights(tmp_path / "run"), weights(finished))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--lr", "0.5"), ("lr", "0.002", "0.5")),
        (("--seed", "3"), ("seed was 0, not 3",)),
        (("--steps", "9"), ("steps was 4, not 9",)),
        (("--size", "12"), ("size was 8, not 12",)),
        (("--precision", "float32"), ("precision was auto, not float32",)),
        (("--hidden", "512"), ("hidden", "32", "512")),  # which is the recipe's default
    ],
)
def test_other_settings_are_refused_with_the_difference(
    capsys, data, tmp_path, finished, option, words
):
    before = tree(finished)
    answer = train(capsys, "simclr", data, finished, "--resume", *option)
    refused(answer, "other settings", "--out", "may begin with --init", *words)
    assert tree(finished) == before


def test_another_method_is_refused(capsys, data, finished):
    words = ("pretrain", "byol", data, "--out", finished, "--resume")
    refused(call(capsys, *words), "method was simclr, not byol")


def test_other_data_are_refused(capsys, tmp_path):
    words = ("simclr", tmp_path / "images.npz", tmp_path / "run")
    archive(tmp_path / "images.npz")
    assert train(capsys, *words, steps=2).code == 0
    archive(tmp_path / "images.npz", seed=1)
    refused(train(capsys, *words, "--resume", steps=2), "data are not those of the run")
    archive(tmp_path / "images.npz", count=50)
    refused(train(capsys, *words, "--resume", steps=2), "48 images then, 50 now")


@pytest.mark.parametrize("more", [(), ("--resume",)])
def test_checkpoints_of_a_run_that_is_gone_are_left_alone(capsys, data, tmp_path, finished, more):
    run = tmp_path / "run"
    shutil.copytree(finished / "checkpoints", run / "checkpoints")
    before = tree(run)
    refused(train(capsys, "simclr", data, run, *more), "run.json is missing", "--out")
    assert tree(run) == before


def test_a_run_goes_on_in_the_precision_that_it_began_with(
    capsys, data, tmp_path, kill_after, monkeypatch
):
    run, of_now = tmp_path / "run", "selftaught.precision.native_bfloat16"
    kill_after(4)
    monkeypatch.setattr(of_now, lambda device: True)
    answer = train(capsys, "simclr", data, run, steps=STEPS)
    assert "bfloat16 on cpu, channels" in answer.out
    monkeypatch.setattr(of_now, lambda device: False)
    answer = train(capsys, "simclr", data, run, "--resume", steps=STEPS)
    assert answer.code == 0, answer.err
    assert "bfloat16 on cpu, channels last, slow without" in answer.out
    assert described(run)["precision"] == "bfloat16"


# Budgets


def test_minutes_are_planned_from_the_speed_that_was_measured(capsys, data, tmp_path, monkeypatch):
    fit = job.fit
    monkeypatch.setattr(
        job, "fit", lambda *a, **k: (step._replace(seconds=0.5) for step in fit(*a, **k))
    )
    still = SimpleNamespace(perf_counter=lambda: 0.0, monotonic=lambda: 0.0, strftime=time.strftime)
    monkeypatch.setattr(job, "time", still)
    words = training("simclr", data, tmp_path / "minutes", "--minutes", "0.05")
    del words[words.index("--steps") : words.index("--steps") + 2]
    answer = call(capsys, *words)
    assert answer.code == 0, answer.err
    steps = int(job.MARGIN * 3 / 0.5)
    assert "32 samples/s" in answer.out
    found = described(tmp_path / "minutes")
    assert (found["steps"], found["call"]["minutes"]) == (steps, 0.05)
    assert [record["step"] for record in metrics(tmp_path / "minutes")] == list(range(1, steps + 1))
    # what was trained to measure the speed is thrown away
    assert train(capsys, "simclr", data, tmp_path / "steps", steps=steps).code == 0
    equal(weights(tmp_path / "minutes"), weights(tmp_path / "steps"))


def test_slow_signals_take_a_small_part_of_the_minutes(capsys, data, tmp_path, monkeypatch):
    clock, fit, signals = [0.0], job.fit, job.Watch.signals

    def slow(self):
        clock[0] += 1.0
        return signals(self)

    monkeypatch.setattr(
        job, "fit", lambda *a, **k: (step._replace(seconds=0.5) for step in fit(*a, **k))
    )
    monkeypatch.setattr(job.Watch, "signals", slow)
    now = SimpleNamespace(perf_counter=lambda: clock[0], monotonic=lambda: 0.0)
    monkeypatch.setattr(job, "time", now)
    words = training("simclr", data, tmp_path / "run", "--minutes", "0.5")
    del words[words.index("--steps") : words.index("--steps") + 2]
    assert call(capsys, *words).code == 0
    probes = int(job.PROBING * 30)
    steps = int((job.MARGIN * 29 - (probes + 1)) / 0.5)
    found = described(tmp_path / "run")
    assert (found["steps"], found["probes"]) == (steps, probes)
    assert sum("signals" in record for record in metrics(tmp_path / "run")) == probes


@pytest.mark.parametrize(("steps", "probes"), [(1, 1), (4, 2), (20, 2), (30, 3)])
def test_label_free_signals_are_not_taken_more_often_than_each_tenth_step(
    capsys, data, tmp_path, steps, probes
):
    words = training("simclr", data, tmp_path / "run")
    words[words.index("--steps") + 1] = str(steps)
    assert call(capsys, *words).code == 0
    taken = [record["step"] for record in metrics(tmp_path / "run") if "signals" in record]
    assert len(taken) == probes
    assert taken[-1] == steps


def test_epochs_are_passes_over_the_data(capsys, data, tmp_path):
    words = training("simclr", data, tmp_path / "run", "--epochs", "1.5")
    del words[words.index("--steps") : words.index("--steps") + 2]
    assert call(capsys, *words).code == 0
    assert described(tmp_path / "run")["steps"] == round(1.5 * 48 / 16)


# Not finite


def test_a_term_that_is_not_finite_stops_the_run_before_it_moves(
    capsys, data, tmp_path, monkeypatch
):
    name = recipe(tmp_path, monkeypatch, "own_nan_recipe")
    words = ("pretrain", name, data, "--evaluate", "off")
    run, sound = tmp_path / "run", tmp_path / "sound"
    answer = call(capsys, *words, "--out", run, "--bad", 3)
    refused(answer, "apart is not finite at step 3", "not-finite.json", "--lr")
    found = json.loads((run / "not-finite.json").read_text())
    assert (found["what"], found["step"], found["seed"]) == ("apart", 3, 0)
    index = selftaught.data.batches.index(48, 16, seed=0, step=3)
    assert found["batch"] == [str(i) for i in index.tolist()]
    step, state = checkpoint.latest(run / "checkpoints") or (None, {})
    assert step == 3
    assert [record["step"] for record in metrics(run)] == [1, 2, 3]
    # the state is the one after three sound steps
    fit = job.fit
    monkeypatch.setattr(job, "SAVE_EVERY", -1.0)

    def three(*a: Any, **k: Any) -> Iterator[Any]:
        for s in fit(*a, **k):
            yield s
            if s.number == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr(job, "fit", three)
    assert call(capsys, *words, "--out", sound).code == 130
    expected = weights(sound)
    for each in (state, expected):  # the rate is set anew at each step, from the step alone
        del each["optimizer"]["param_groups"][0]["lr"]
    equal(state, expected)


POISONED = RECIPE.replace("int(self.seen) == self.bad", "(batch.index == self.bad).any()")


@pytest.mark.parametrize("last", [False, True])
def test_a_step_that_is_not_finite_can_be_left_out(capsys, data, tmp_path, monkeypatch, last):
    name = recipe(tmp_path, monkeypatch, f"own_poisoned_recipe_{last}", POISONED)
    of = [set(selftaught.data.batches.index(48, 16, seed=0, step=s).tolist()) for s in range(5)]
    bad = min(of[2] - of[3] - of[4])
    words = ("pretrain", name, data, "--evaluate", "off", "--bad", bad, "--steps", 3 if last else 5)
    run, unbroken = tmp_path / "run", tmp_path / "unbroken"
    refused(call(capsys, *words, "--out", run), "step 2", "--resume it with --not-finite skip")
    answer = call(capsys, *words, "--out", run, "--resume", "--not-finite", "skip")
    assert answer.code == 0, answer.err
    assert "apart is not finite at step 2: left out" in answer.out
    assert described(run)["left_out"] == [2]
    assert [record["step"] for record in metrics(run)] == ([1, 2] if last else [1, 2, 4, 5])
    assert call(capsys, *words, "--out", unbroken, "--not-finite", "skip").code == 0
    equal(weights(run), weights(unbroken))
    assert (run / "encoder.safetensors").exists()


def test_many_steps_that_are_not_finite_stop_a_forgiving_run(capsys, data, tmp_path, monkeypatch):
    name = recipe(tmp_path, monkeypatch, "own_poisoned_recipe", POISONED)
    words = ("pretrain", name, data, "--evaluate", "off", "--bad", 0, "--steps", 20)
    answer = call(capsys, *words, "--out", tmp_path / "run", "--not-finite", "skip")
    refused(answer, "apart is not finite at step", "one of 2; nothing has moved")
    bad = selftaught.data.batches.index(48, 16, seed=0, step=0)[0].item()
    only = ("pretrain", name, data, "--evaluate", "off", "--bad", bad, "--steps", 1)
    answer = call(capsys, *only, "--out", tmp_path / "only", "--not-finite", "skip")
    refused(answer, "apart is not finite at step 0", "nothing has moved")


def test_a_run_that_was_not_finite_at_its_trial_can_be_begun_again(
    capsys, data, tmp_path, monkeypatch
):
    name = recipe(tmp_path, monkeypatch, "own_trial_recipe")
    words = ("pretrain", name, data, "--out", tmp_path / "run", "--evaluate", "off")
    refused(call(capsys, *words, "--minutes", "0.02", "--bad", 2), "apart is not finite at step 2")
    assert checkpoint.latest(tmp_path / "run" / "checkpoints") is None  # nothing was trained yet


def test_a_recipe_of_ones_own(capsys, data, tmp_path, monkeypatch):
    name = recipe(tmp_path, monkeypatch, "own_plain_recipe")
    words = ("pretrain", name, data, "--out", tmp_path / "run", "--evaluate", "off")
    assert call(capsys, *words, "--batch-size", 8).code == 0
    assert described(tmp_path / "run")["steps"] == 12
    assert selftaught.load(tmp_path / "run").dim == 5


# Broken files


def spoil(folder: Path, count: int) -> list[str]:
    """Cut the first files short, so that the last of their pixels are missing."""
    files = sorted(folder.rglob("*.jpg"))[:count]
    for file in files:
        file.write_bytes(file.read_bytes()[:-60])
    return [str(file.relative_to(folder)) for file in files]


def on_files(capsys: Any, folder: Path, run: Path, *more: Any, batch: int = 10) -> Answer:
    words = ("pretrain", "simclr", folder, "--out", run, "--size", 16, "--batch-size", batch)
    return call(capsys, *words, "--evaluate", "off", *OPTIONS["simclr"], *more)


def broken_at(run: Path) -> list[list[str]]:
    return [line.split("\t") for line in (run / "skipped.txt").read_text().splitlines()]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_file_among_many_is_skipped_and_listed(capsys, tmp_path, workers):
    (name,) = spoil(photographs(tmp_path / "in", 151), 1)
    run = tmp_path / "run"
    words = ("--epochs", 2, "--workers", workers)
    answer = on_files(capsys, tmp_path / "in", run, *words, batch=50)
    assert answer.code == 0, answer.err
    assert len(metrics(run)) == 6
    ((found, reason),) = broken_at(run)  # once, though it was met in both epochs
    assert found == name
    assert "truncated" in reason


def test_more_than_one_in_a_hundred_stops_the_run(capsys, tmp_path):
    names = spoil(photographs(tmp_path / "in", 60), 3)
    answer = on_files(capsys, tmp_path / "in", tmp_path / "run", "--epochs", 2)
    refused(answer, "of 60 files are broken", "skipped.txt", "mend them")
    listed = [name for name, _ in broken_at(tmp_path / "run")]
    assert set(listed) <= set(names)
    assert len(listed) >= 2


def test_files_that_were_mended_no_longer_count(capsys, tmp_path, kill_after):
    photographs(tmp_path / "in", 60)
    found = sorted((tmp_path / "in").iterdir())
    gone, kept = found[3], found[4].read_bytes()
    sound = gone.read_bytes()
    gone.write_bytes(sound[: len(sound) // 2] + bytes(len(sound) - len(sound) // 2))
    kill_after(4)
    words = (tmp_path / "in", tmp_path / "run", "--steps", 9)
    assert on_files(capsys, *words, batch=58).code == 128 + signal.SIGTERM
    assert [name for name, _ in broken_at(tmp_path / "run")] == [gone.name]
    gone.write_bytes(sound)
    found[4].write_bytes(kept[: len(kept) // 2] + bytes(len(kept) - len(kept) // 2))
    answer = on_files(capsys, *words, "--resume", batch=58)
    assert answer.code == 0, answer.err
    assert [name for name, _ in broken_at(tmp_path / "run")] == [found[4].name]


def test_files_that_were_mended_may_have_another_size(capsys, tmp_path):
    photographs(tmp_path / "in", 60)
    found = sorted((tmp_path / "in").iterdir())
    sound = {path: path.read_bytes() for path in found}
    for path in found[3:6]:
        path.write_bytes(sound[path][: len(sound[path]) // 2])
    words = (tmp_path / "in", tmp_path / "run", "--steps", 9)
    refused(on_files(capsys, *words, batch=58), "files are broken", "go on with --resume")
    for path in found[3:6]:
        path.write_bytes(sound[path])
    answer = on_files(capsys, *words, "--resume", batch=58)
    assert answer.code == 0, answer.err
    assert not broken_at(tmp_path / "run")
    assert "is finished" in on_files(capsys, *words, "--resume", batch=58).out


def test_only_broken_files_may_have_changed(capsys, tmp_path):
    photographs(tmp_path / "in", 60)
    found = sorted((tmp_path / "in").iterdir())
    for path in found[3:6]:
        path.write_bytes(path.read_bytes()[:100])
    words = (tmp_path / "in", tmp_path / "run", "--steps", 9)
    refused(on_files(capsys, *words, batch=58), "files are broken")
    found[9].write_bytes(found[9].read_bytes() + b"more")
    refused(on_files(capsys, *words, "--resume", batch=58), "not those of the run")


def test_a_refusal_at_the_first_step_leaves_the_folder_free(capsys, tmp_path):
    run, data = tmp_path / "run", tmp_path / "black-and-white.npz"
    x = np.zeros((300, 8, 8), np.uint8)
    x[::2] = 255
    np.savez(data, x=x)
    words = ("pretrain", "igpt", data, "--out", run, "--steps", 2, *OPTIONS["igpt"])
    refused(call(capsys, *words, "--palette", 4), "2 different colours", "--palette")
    assert not (run / "run.json").exists()
    answer = call(capsys, *words, "--palette", 2)
    assert answer.code == 0, answer.err


def test_what_is_not_an_image_is_skipped(capsys, tmp_path):
    photographs(tmp_path / "in", 40)
    (tmp_path / "in" / "page.jpg").write_text("<html>404</html>")
    answer = on_files(capsys, tmp_path / "in", tmp_path / "run", "--epochs", 2, batch=41)
    assert answer.code == 0, answer.err
    assert broken_at(tmp_path / "run")[0][0] == "page.jpg"


def test_a_broken_file_whose_name_is_not_utf8_is_skipped(capsys, tmp_path):
    photographs(tmp_path / "in", 20)
    (tmp_path / "in" / "\udce4.jpg").write_text("<html>404</html>")
    answer = on_files(capsys, tmp_path / "in", tmp_path / "run", "--epochs", 1, batch=21)
    assert answer.code == 0, answer.err
    assert len((tmp_path / "run" / "skipped.txt").read_bytes().splitlines()) == 1


def test_a_folder_whose_name_is_not_utf8(capsys, tmp_path):
    photographs(tmp_path / "caf\udce9", 20)
    answer = on_files(capsys, tmp_path / "caf\udce9", tmp_path / "run", "--epochs", 1, batch=20)
    assert answer.code == 0, answer.err
    assert described(tmp_path / "run")["finished"]


@pytest.mark.parametrize("more", [{"evaluate": False}, {"scale": "huge"}, {"precision": "fp16"}])
def test_a_word_that_is_none_is_one_line(data, tmp_path, more):
    with pytest.raises(UserError, match="auto"):
        selftaught.pretrain("simclr", data, out=tmp_path / "run", steps=1, **more)


def test_corrected_labels_of_a_finished_run_are_looked_at(capsys, tmp_path):
    x, run = tmp_path / "x.npz", tmp_path / "run"
    words = training("simclr", archive(x, y=np.arange(48) // 16), run, steps=1)
    words = [word for word in words if word not in ("--evaluate", "off")]
    assert call(capsys, *words).code == 0
    before = described(run)["evaluation"]
    archive(x)
    assert call(capsys, *words, "--resume").code == 0
    assert described(run)["evaluation"]["content"] != before["content"]
    assert described(run)["evaluation"]["rows"] != before["rows"]


@pytest.mark.parametrize("out", ["a" * 300, "~nobodyhere/run"])
def test_a_place_that_cannot_be_is_one_line(capsys, data, out):
    refused(call(capsys, "pretrain", "simclr", data, "--out", out, "--steps", 1), out)


def test_a_decompression_bomb_is_skipped_by_its_header(capsys, tmp_path):
    photographs(tmp_path / "in", 40)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "in" / "bomb.png")
    answer = on_files(capsys, tmp_path / "in", tmp_path / "run", "--epochs", 1, batch=41)
    assert answer.code == 0, answer.err
    ((name, reason),) = broken_at(tmp_path / "run")
    assert name == "bomb.png"
    assert "bomb" in reason


def test_deep_and_printed_images_work(capsys, tmp_path):
    folder = photographs(tmp_path / "in", 20)
    deep = np.random.default_rng(2).integers(0, 65536, (20, 20), dtype=np.uint16)
    Image.fromarray(deep).save(folder / "sixteen.png")
    Image.new("CMYK", (20, 20), (10, 200, 30, 40)).save(folder / "print.jpg")
    answer = on_files(capsys, folder, tmp_path / "run", "--epochs", 1, batch=22)
    assert answer.code == 0, answer.err
    assert not (tmp_path / "run" / "skipped.txt").exists()


# Bad input


def test_missing_data(capsys, tmp_path):
    answer = train(capsys, "simclr", tmp_path / "nowhere", tmp_path / "run")
    refused(answer, "no folder, file or data set")
    assert not (tmp_path / "run").exists()
    refused(train(capsys, "simclr", "digit", tmp_path / "run"), "did you mean digits?")


def test_an_empty_folder(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(train(capsys, "simclr", tmp_path / "empty", tmp_path / "run"), "no image files")


def test_a_folder_of_what_are_no_images(capsys, tmp_path):
    for i in range(3):
        tmp_path.joinpath(f"{i}.jpg").write_text("not an image")
    answer = train(capsys, "simclr", tmp_path, tmp_path / "run")
    refused(answer, "none of 3 files", "is an image")


def test_a_file_that_is_no_data(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    refused(train(capsys, "simclr", tmp_path / "notes.txt", tmp_path / "run"), "not understood")


def test_one_image(capsys, tmp_path):
    photographs(tmp_path / "in", 1)
    refused(train(capsys, "simclr", tmp_path / "in", tmp_path / "run"), "at least 2")


def test_a_run_that_is_there(capsys, data, finished):
    before = tree(finished)
    refused(train(capsys, "simclr", data, finished), "holds a run", "--resume")
    assert tree(finished) == before


def test_a_folder_with_something_else_in_it(capsys, data, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    refused(train(capsys, "simclr", data, tmp_path), "not empty", "--out")
    assert tree(tmp_path).keys() == {"thesis.tex"}


def test_a_run_below_a_file(capsys, data, tmp_path):
    (tmp_path / "file").write_text("")
    answer = train(capsys, "simclr", data, tmp_path / "file" / "run")
    refused(answer, "cannot write", str(tmp_path / "file" / "run"))
    refused(train(capsys, "simclr", data, tmp_path / "file"), "is a file; give a new folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_in_a_read_only_folder(capsys, data, tmp_path):
    tmp_path.chmod(0o500)
    try:
        answer = train(capsys, "simclr", data, tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)
    refused(answer, "cannot write", "choose a directory")


def test_a_run_in_use(capsys, data, tmp_path):
    with checkpoint.lock(tmp_path / "run"):
        refused(train(capsys, "simclr", data, tmp_path / "run"), "in use by another run")


def test_a_damaged_run_json(capsys, data, tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    for text in ('{"call": ', "{}", "[]"):
        (tmp_path / "run" / "run.json").write_text(text)
        refused(train(capsys, "simclr", data, tmp_path / "run", "--resume"), "run.json is damaged")


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("mae", ("--encoder", "resnet18"), ("tokens", "vit-nano")),
        ("simclr", ("--encoder", "resnet-nan"), ("did you mean 'resnet-nano'?",)),
        ("simclr", ("--encoder", "resnet_18"), ("did you mean 'resnet",)),
        ("mae", ("--patch", "3"), ("--patch", "1, 2, 4")),
        ("mae", ("--patch", "-2"), ("patch",)),
        ("mae", ("--patch", "8"), ("patch",)),
        ("mae", ("--ratio", "0"), ("ratio",)),
        ("mae", ("--ratio", "1"), ("ratio",)),
        ("mae", ("--ratio", "1.5"), ("ratio",)),
        ("mae", ("--heads", "3"), ("heads",)),
        ("simclr", ("--batch-size", "49"), ("--batch-size 49 of 48",)),
        ("simclr", ("--batch-size", "256"), ("--batch-size 256 of 48",)),  # the default, but asked
        ("simclr", ("--batch-size", "1"), ("--batch-size 1",)),
        ("simclr", ("--minutes", "1"), ("two budgets",)),
        ("simclr", ("--epochs", "3"), ("two budgets",)),
        ("simclr", ("--epochs", "100"), ("two budgets",)),  # the default, but asked
        ("simclr", ("--steps", "0"), ("--steps 0",)),
        ("simclr", ("--steps", "-4"), ("--steps -4",)),
        ("simclr", ("--steps", "many"), ("steps",)),
        ("simclr", ("--size", "2"), ("too small",)),
        ("simclr", ("--size", "0"), ("size",)),
        ("simclr", ("--size", "-8"), ("size",)),
        ("simclr", ("--workers", "-1"), ("workers",)),
        ("simclr", ("--lr", "-1"), ("lr",)),
        ("simclr", ("--temperature", "0"), ()),
        ("simclr", ("--warmup", "-1"), ("warmup",)),
        ("simclr", ("--hidden", "0"), ("hidden",)),
        ("simclr", ("--smallest-crop", "2"), ("scale",)),
        ("simclr", ("--gray", "2"), ("probability",)),
        ("simclr", ("--blur", "-1"), ("probability",)),
        ("simclr", ("--jitter", "-1"), ("Jitter",)),
        ("byol", ("--momentum", "2"), ("momentum",)),
    ],
)
def test_bad_settings(capsys, data, tmp_path, method, options, words):
    refused(train(capsys, method, data, tmp_path / "run", *options), *words)


@pytest.mark.parametrize("minutes", ["0", "-1", "nan"])
def test_bad_minutes(capsys, data, tmp_path, minutes):
    words = training("simclr", data, tmp_path / "run", "--minutes", minutes)
    del words[words.index("--steps") : words.index("--steps") + 2]
    refused(call(capsys, *words), "minutes")


@pytest.mark.parametrize("epochs", ["0", "-1", "nan", "inf"])
def test_bad_epochs(capsys, data, tmp_path, epochs):
    words = training("simclr", data, tmp_path / "run", "--epochs", epochs)
    del words[words.index("--steps") : words.index("--steps") + 2]
    refused(call(capsys, *words), "epochs")


# Weights to begin with


def test_a_run_begins_with_the_encoder_of_another(capsys, data, finished, tmp_path):
    out = tmp_path / "run"
    answer = train(capsys, "byol", data, out, "--init", finished, "--lr", 1e-12, steps=1)
    assert answer.code == 0, answer.err
    assert f"begins with {finished}" in answer.out
    learned = load_file(finished / "encoder.safetensors")
    state = load_file(out / "encoder.safetensors")
    assert all(torch.allclose(state[k], v, atol=1e-6) for k, v in learned.items() if v.ndim > 1)
    assert described(out)["call"]["init"] == str(finished)


def test_what_a_run_began_with_may_be_gone_when_it_goes_on(capsys, data, finished, tmp_path):
    begin, out = tmp_path / "begin", tmp_path / "run"
    shutil.copytree(finished, begin)
    train(capsys, "byol", data, out, "--init", begin)
    shutil.rmtree(begin)
    assert train(capsys, "byol", data, out, "--init", begin, "--resume").code == 0


def test_a_run_that_ended_in_its_first_save_begins_with_them_again(
    capsys, data, finished, tmp_path
):
    out = tmp_path / "run"
    train(capsys, "byol", data, out, "--init", finished, steps=1)
    left = described(out)
    del left["finished"]
    (out / "run.json").write_text(json.dumps(left))
    for saved in (out / "checkpoints").iterdir():
        shutil.rmtree(saved)
    (out / "checkpoints" / ".saving-1").mkdir()
    answer = train(capsys, "byol", data, out, "--init", finished, "--resume", steps=1)
    assert answer.code == 0, answer.err
    assert f"begins with {finished}" in answer.out


def test_weights_of_another_encoder_are_refused(capsys, data, finished, tmp_path):
    answer = train(capsys, "mae", data, tmp_path / "run", "--init", finished)
    refused(answer, "does not fit the encoder", "--init")
    refused(train(capsys, "byol", data, tmp_path / "r", "--init", "nowhere"), "no weights at")


@pytest.mark.parametrize(
    "y", [np.arange(48) / 2, np.arange(48), np.array(["a"] * 47 + [None], dtype=object)]
)
def test_labels_that_are_of_no_use_take_nothing_from_the_run(capsys, tmp_path, y):
    data = archive(tmp_path / "data.npz", y=y)
    words = training("simclr", data, tmp_path / "run", steps=2)
    del words[words.index("--evaluate") : words.index("--evaluate") + 2]
    answer = call(capsys, *words)
    assert answer.code == 0, answer.err
    assert "not evaluated: " in answer.out
    assert "encoder = selftaught.load(" in answer.out


def test_an_evaluation_that_memory_does_not_hold_takes_nothing_from_the_run(
    capsys, tmp_path, monkeypatch
):
    def short(seen):
        raise MemoryError

    kept = evaluate.PROTOCOLS | {"logreg": evaluate.Protocol(short, "none")}
    monkeypatch.setattr(evaluate, "PROTOCOLS", kept)
    data = archive(tmp_path / "data.npz")
    words = training("simclr", data, tmp_path / "run", steps=2)
    del words[words.index("--evaluate") : words.index("--evaluate") + 2]
    answer = call(capsys, *words)
    assert answer.code == 0, answer.err
    assert "not evaluated: logreg is out of memory" in answer.out.replace("\n", " ")
    assert "encoder = selftaught.load(" in answer.out


def test_names_are_no_markup(capsys, tmp_path):
    data = photographs(tmp_path / "cost$_$5 [old]", 12)
    answer = call(capsys, *training("simclr", data, tmp_path / "run", "--batch-size", 4, steps=2))
    assert answer.code == 0, answer.err
    assert "on cost$_$5 [old]: 12 images" in answer.out
    assert described(tmp_path / "run")["finished"]


def test_data_named_like_an_option(capsys, tmp_path, monkeypatch):
    photographs(tmp_path / "epochs", 12)
    monkeypatch.chdir(tmp_path)
    answer = call(capsys, *training("simclr", "epochs", "run", "--batch-size", 4, steps=2))
    assert answer.code == 0, answer.err


def test_the_method_comes_first(capsys, data):
    refused(call(capsys, "pretrain", "--", "simclr", data), "name the method first")


def test_a_run_whose_checkpoints_are_gone_begins_again(capsys, data, tmp_path, kill_after):
    run = tmp_path / "run"
    kill_after(2)
    assert call(capsys, *training("simclr", data, run)).code > 128
    shutil.rmtree(run / "checkpoints")
    answer = call(capsys, *training("simclr", data, run, "--resume"))
    assert answer.code == 0, answer.err
    assert "no checkpoint is left" in answer.out
    assert [record["step"] for record in metrics(run)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_out_of_memory(capsys, data, tmp_path, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(SimCLR, "forward", full)
    answer = call(capsys, *training("simclr", data, tmp_path / "run"))
    refused(answer, "out of memory (at most", "a batch of 16", "--batch-size of 8")
    words = ("pretrain", "simclr", data, "--out", tmp_path / "least", "--steps", 2)
    answer = call(capsys, *words, "--batch-size", 2)
    refused(answer, "with a batch of 2 images", "; try a smaller --size or encoder")
