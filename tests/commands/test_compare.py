import json
import signal

import numpy as np
import pytest

from commands.tiny import archive, call, refused
from selftaught.commands import compare as module
from selftaught.commands import settings
from selftaught.commands.evaluate import evaluate
from selftaught.errors import Stopped, UserError
from selftaught.report.table import compared, markdown

METHODS = "simclr,barlow_twins"


@pytest.fixture
def data(tmp_path):
    return archive(tmp_path / "data.npz")


def words(data, out, *more, methods=METHODS, steps=3):
    return ("compare", data, "--methods", methods, "--out", out, "--steps", steps, *more)


def test_stopped_it_says_how_it_goes_on(capsys, data, tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise Stopped(2, "stopped at step 1 of 3 and saved")

    monkeypatch.setattr(module, "pretrain", stop)
    answer = call(capsys, *words(data, tmp_path / "out"))
    assert answer.code == 128 + 2
    assert answer.err.endswith("step 1 of 3 and saved; the same command goes on from there\n")


def test_one_table_with_baselines(capsys, data, tmp_path):
    answer = call(capsys, *words(data, tmp_path / "out"))
    assert answer.code == 0, answer.err
    for said in ("simclr", "barlow_twins", "random weights", "raw pixels", "logreg", "verdict"):
        assert said in answer.out
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert list(found["methods"]) == METHODS.split(",")
    assert found["labels"]
    for row in found["methods"].values():
        assert row["encoder"].keys() == row["random"].keys() == found["pixels"].keys()
        assert row["steps"] == 3
    page = (tmp_path / "out" / "compare.md").read_text()
    assert "| raw pixels |" in page
    best = max(found["methods"], key=lambda n: found["methods"][n]["encoder"]["logreg"])
    assert page.index(f"| {best} |") == min(page.index(f"| {n} |") for n in found["methods"])


def test_raw_pixels_are_evaluated_once(capsys, data, tmp_path, monkeypatch):
    asked = []
    evaluate = module.evaluate

    def counted(*arguments, rows, **options):
        asked.append(rows)
        return evaluate(*arguments, rows=rows, **options)

    monkeypatch.setattr(module, "evaluate", counted)
    assert call(capsys, *words(data, tmp_path / "out")).code == 0
    assert ["pixels" in rows for rows in asked] == [True, False]


def test_the_same_command_goes_on(capsys, data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert call(capsys, *words(data, out, methods="simclr")).code == 0
    weights = (out / "simclr" / "encoder.safetensors").stat().st_mtime_ns
    assert call(capsys, *words(data, out)).code == 0
    assert (out / "simclr" / "encoder.safetensors").stat().st_mtime_ns == weights
    assert (out / "barlow_twins" / "encoder.safetensors").is_file()


def test_stopped_within_a_method_it_goes_on_bit_for_bit(capsys, data, tmp_path, kill_after):
    out, whole, own = tmp_path / "out", tmp_path / "whole", ("--set", "batch-size=16")
    assert call(capsys, *words(data, whole, *own, steps=5)).code == 0
    assert call(capsys, *words(data, out, *own, methods="simclr", steps=5)).code == 0
    kill_after(2)
    answer = call(capsys, *words(data, out, *own, steps=5))
    assert answer.code == 128 + signal.SIGTERM
    assert "stopped at step 2 of 5" in answer.err
    assert call(capsys, *words(data, out, *own, steps=5)).code == 0
    for name in METHODS.split(","):
        found, other = ((p / name / "encoder.safetensors").read_bytes() for p in (out, whole))
        assert found == other, name
    tables = [json.loads((p / "compare.json").read_text())["methods"] for p in (out, whole)]
    found, other = ({name: row["encoder"] for name, row in table.items()} for table in tables)
    assert found == other


def test_minutes_are_those_of_each_method(capsys, data, tmp_path):
    out = tmp_path / "out"
    line = ("compare", data, "--methods", METHODS, "--out", out, "--minutes", 0.02)
    assert call(capsys, *line).code == 0
    for name in METHODS.split(","):
        run = json.loads((out / name / "run.json").read_text())
        assert run["call"]["minutes"] == 0.02
        assert run["steps"] >= 1
    refused(call(capsys, *line[:-1], 0.03), "minutes was 0.02, not 0.03")


def test_another_budget_is_refused(capsys, data, tmp_path):
    assert call(capsys, *words(data, tmp_path / "out")).code == 0
    refused(call(capsys, *words(data, tmp_path / "out", steps=4)), "steps")


def test_what_is_left_out_later_is_refused_too(capsys, data, tmp_path):
    out = tmp_path / "out"
    assert call(capsys, *words(data, out, "--no-flip", "--seed", 3, methods="simclr")).code == 0
    refused(call(capsys, *words(data, out)), "flip was False, not True", "seed was 3, not 0")
    more = ("--set", "encoder=resnet-nono")
    refused(call(capsys, *words(data, tmp_path / "b", *more)), "did you mean")
    assert call(capsys, *words(data, tmp_path / "b", methods="simclr")).code == 0


def test_corrected_labels_are_looked_at_again(capsys, tmp_path):
    x, out = tmp_path / "x.npz", tmp_path / "out"
    archive(x, y=np.arange(48)[::-1] // 3 % 3)
    assert call(capsys, *words(x, out, methods="simclr")).code == 0
    before = json.loads((out / "compare.json").read_text())
    archive(x)
    assert call(capsys, *words(x, out)).code == 0
    found = json.loads((out / "compare.json").read_text())
    run = json.loads((out / "simclr" / "run.json").read_text())
    assert run["evaluation"]["content"] == evaluate(out / "simclr", x)["content"]
    assert found["pixels"] != before["pixels"]


def test_each_method_has_the_parameters_that_it_knows(capsys, data, tmp_path):
    out = tmp_path / "out"
    more = ("--set", "encoder=vit-nano", "batch-size=16", "temperature=0.3")
    assert call(capsys, *words(data, out, *more)).code == 0
    for name in METHODS.split(","):
        own = json.loads((out / name / "run.json").read_text())["call"]["arguments"]
        assert own["encoder"] == "vit-nano"
        assert own["batch_size"] == 16
        assert own.get("temperature") == (0.3 if name == "simclr" else None)
    refused(call(capsys, *words(data, out, "--set", "encoder=resnet-nano")), "encoder")


def test_without_labels_nothing_is_ranked(capsys, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "bare.npz", x=images)
    answer = call(capsys, *words(tmp_path / "bare.npz", tmp_path / "out"))
    assert answer.code == 0, answer.err
    assert "do not rank methods" in " ".join(answer.out.split())
    assert "logreg" not in answer.out
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert found["pixels"] is None
    assert [row["encoder"] for row in found["methods"].values()] == [None, None]


@pytest.mark.parametrize(
    ("more", "methods", "hint"),
    [
        (("--minutes", 1), METHODS, "two budgets"),
        ((), "simclr,simclr", "different"),
        ((), ",", "--methods"),
        ((), "simclr,simclear", "did you mean 'simclr'"),
        (("--set", "temperatur=1"), METHODS, "did you mean 'temperature'"),
        (("--set", "temperature"), METHODS, "write name=value"),
    ],
)
def test_bad_calls_are_one_line(capsys, data, tmp_path, more, methods, hint):
    refused(call(capsys, *words(data, tmp_path / "out", *more, methods=methods)), hint)
    assert not (tmp_path / "out").exists()


def test_no_budget(capsys, data, tmp_path):
    line = ("compare", data, "--methods", METHODS, "--out", tmp_path / "out")
    refused(call(capsys, *line), "--minutes")


def test_a_method_that_cannot_be_evaluated_does_not_end_the_others(
    capsys, data, tmp_path, monkeypatch
):
    def failing(run, *arguments, **options):
        if run.name == "simclr":
            raise UserError("features hold NaN or infinity")
        return evaluate(run, *arguments, **options)

    monkeypatch.setattr(module, "evaluate", failing)
    answer = call(capsys, *words(data, tmp_path / "out"))
    assert answer.code == 0, answer.err
    assert "simclr is not evaluated: features hold NaN" in answer.out
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert found["methods"]["simclr"]["encoder"] is None
    assert found["methods"]["barlow_twins"]["encoder"].keys() == found["pixels"].keys()


def test_runs_may_be_shown_alone(capsys, data, tmp_path):
    assert call(capsys, *words(data, tmp_path / "out")).code == 0
    run = tmp_path / "out" / "barlow_twins"
    answer = call(capsys, "pretrain", "barlow_twins", data, "--out", run, "--resume")
    assert answer.code == 0, answer.err
    assert "raw pixels" in answer.out


def test_what_is_ones_own_is_not_overwritten(capsys, data, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.md").write_text("mine")
    refused(call(capsys, *words(data, out)), "holds other things")
    assert [p.name for p in out.iterdir()] == ["notes.md"]


def test_encoders_of_one_name_have_a_row_each_where_they_differ():
    def method(encoder, score):
        scores = {"encoder": {"logreg": 90.0}, "random": {"logreg": score}}
        said = {"verdict": {"word": "healthy"}, "signals": {"effective_rank": None}}
        return scores | said | {"encoder_name": encoder}

    methods = {"simclr": method("net", 90.0), "byol": method("net", 90.0)}
    methods |= {"cpc": method("net", 83.0), "mae": method("vit", 70.0)}
    page = markdown(compared({"methods": methods, "pixels": {"logreg": 80.0}}))
    rows = [line.split("|")[1].strip() for line in page.splitlines() if "random" in line]
    assert rows == ["random weights of simclr, byol", "random weights of cpc", "random weights"]


@pytest.mark.parametrize(
    ("methods", "more", "scale"),
    [
        ("moco,instdisc", (), "paper"),
        ("moco,simclr", (), "small"),  # whose paper's batch is larger
        ("moco,simclr", ("--scale", "paper"), "paper"),
        ("moco,instdisc", ("--scale", "small"), "small"),
    ],
)
def test_all_methods_take_settings_of_one_scale(
    capsys, tmp_path, monkeypatch, methods, more, scale
):
    monkeypatch.setattr(settings, "PHOTOGRAPH", 8)
    monkeypatch.setattr(settings, "ENOUGH", 0.2)  # batches of 256, not of 4,096
    asked = []

    def stop(name, data, *, scale, **options):
        asked.append(scale)
        raise Stopped(2, "stopped")

    monkeypatch.setattr(module, "pretrain", stop)
    data = archive(tmp_path / "data.npz", 60)
    line = words(data, tmp_path / "out", *more, "--set", "encoder=resnet-pico", methods=methods)
    answer = call(capsys, *line)
    assert asked == [scale]
    told = "only moco would take the paper's settings" in " ".join(answer.out.split())
    assert told == (methods == "moco,simclr" and not more)


def test_a_method_added_later_takes_the_scale_of_those_before(capsys, data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    small = ("--set", "encoder=resnet-pico", "hidden=16", "dim=8")
    assert call(capsys, *words(data, out, *small, methods="simclr")).code == 0
    monkeypatch.setattr(settings, "PHOTOGRAPH", 8)
    monkeypatch.setattr(settings, "ENOUGH", 0)
    assert call(capsys, *words(data, out, *small, methods="simclr,moco_v2")).code == 0
    run = json.loads((out / "moco_v2" / "run.json").read_text())
    assert run["call"]["scale"] == "small"
    line = words(data, out, *small, "--scale", "paper", methods="simclr,moco_v2")
    refused(call(capsys, *line), "scale was auto, not paper")


def test_settings_are_refused_before_any_method_is_trained(capsys, data, tmp_path):
    more = ("--set", "prototypes=100000")
    answer = call(capsys, *words(data, tmp_path / "out", *more, methods="simclr,swav"))
    refused(answer, "prototypes")
    assert not list((tmp_path / "out").glob("simclr/*"))
