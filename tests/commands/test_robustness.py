import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from commands.tiny import archive, call, refused
from selftaught.commands import robustness as module
from selftaught.commands.robustness import robustness
from selftaught.errors import Stopped
from selftaught.protocols import linear

ROWS = ["encoder", "supervised", "random", "pixels"]


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    out = tmp_path_factory.mktemp("robust") / "run"
    shutil.copytree(finished, out)
    return out


def asked(run, data, *more):
    words = ("robustness", run, data, "--steps", 30, "--images", 20, "--epsilons", "4,32", "--json")
    return (*words, "--corruptions", "contrast,gaussian_noise", *more)


def test_four_classifiers_under_attack_and_corruption(capsys, run, few):
    answer = call(capsys, *asked(run, few))
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert list(found["rows"]) == ROWS
    names = ["clean", "fgsm/4", "fgsm/32", "pgd/4", "pgd/32", "contrast", "gaussian_noise"]
    for row, of in found["rows"].items():
        assert list(of) == names
        assert of["fgsm/4"] <= of["clean"]
        assert of["pgd/32"] <= of["pgd/4"] <= of["clean"]
        for name, value in of.items():
            low, high = found["intervals"][row][name]
            assert low <= value <= high
        for name in ("contrast", "gaussian_noise"):
            assert np.mean(found["severities"][row][name]) == pytest.approx(of[name], abs=0.02)
    assert found["rows"]["pixels"]["clean"] > 90
    assert found["rows"]["pixels"]["pgd/32"] < 60
    assert found["images"] == 20
    assert found["parameters"] == "CIFAR-10-C"
    assert found["supervised"]["steps"] == 30
    if found["mce"]["supervised"] is not None:
        assert found["mce"]["supervised"] == 100.0
    kept = json.loads((run / "robustness.json").read_text())[str(few)]
    assert kept["rows"] == found["rows"]
    again = json.loads(call(capsys, *asked(run, few)).out)  # the supervised network is kept
    assert again == found


def test_stopped_it_says_how_it_goes_on(capsys, run, few, monkeypatch):
    def stop(training):
        raise Stopped(15, "stopped at step 7 of 31 and saved")

    monkeypatch.setattr(module.Classifying, "complete", stop)
    answer = call(capsys, *asked(run, few))
    assert answer.code == 128 + 15
    assert answer.err.endswith("step 7 of 31 and saved; the same command goes on from there\n")


def test_a_regression_that_did_not_converge_says_so(capsys, run, few, monkeypatch):
    def stopped(*arguments):
        return linear.logreg(*arguments)._replace(converged=False)

    monkeypatch.setattr(module, "logreg", stopped)
    found = json.loads(call(capsys, *asked(run, few, "--attacks", "fgsm")).out)
    assert set(found["notes"]) == {"encoder", "random", "pixels"}
    assert all("did not converge" in note for note in found["notes"].values())
    words = [w for w in asked(run, few, "--attacks", "fgsm") if w != "--json"]
    said = " ".join(call(capsys, *words).out.split())
    assert "random weights: the fit did not converge" in said


def test_the_table(capsys, run, few):
    words = [w for w in asked(run, few, "--attacks", "fgsm") if w != "--json"]
    answer = call(capsys, *words)
    assert answer.code == 0, answer.err
    words = ("supervised", "random weights", "raw pixels", "fgsm/32", "20 test images")
    for word in (*words, "mCE of 2 ", "± is half of"):
        assert word in " ".join(answer.out.split())
    assert "pgd" not in answer.out


def test_the_network_that_finetune_trained_from_scratch(capsys, run, few, tmp_path):
    out = tmp_path / "tuned"
    call(capsys, "finetune", run, few, "--out", out, "--steps", 5, "--batch-size", 16)
    options = {"attacks": [], "corruptions": ["contrast"], "images": 10, "quiet": True}
    found = robustness(run, few, supervised=out, **options)
    assert found["supervised"]["folder"] == str(out / "from-scratch")
    assert found["flat"] == {}
    words = asked(run, few)[:3] + ("--supervised",)
    refused(call(capsys, *words, out / "fine-tuned"), "is not the network of")
    refused(call(capsys, *words, tmp_path), "encoder")
    other = archive(tmp_path / "other.npz", 60)
    refused(call(capsys, "robustness", run, other, "--supervised", out), "is not the network of")


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--attacks", "cw"), "no attack named 'cw'"),
        (("--corruptions", "frost"), "no corruption named 'frost'"),
        (("--epsilons", "0"), "above 0 and up to 255"),
        (("--corruptions", "contrast,contrast"), "contrast, contrast has one twice"),
        (("--epsilons", "2,2.0"), "2, 2 has one twice"),
        (("--epsilons", "x"), "--epsilons x is not understood"),
        (("--images", "0"), "--images 0"),
        (("--steps", "0"), "--steps 0"),
    ],
)
def test_bad_input(capsys, finished, few, more, word):
    refused(call(capsys, "robustness", finished, few, *more), word)


def test_networks_that_cut_the_gradient_are_flat(capsys, few, tmp_path):
    options = (
        "--dim",
        16,
        "--depth",
        2,
        "--layer",
        1,
        "--heads",
        2,
        "--batch-size",
        16,
        "--steps",
        2,
    )
    made = call(
        *(capsys, "pretrain", "igpt", few, "--out", tmp_path / "igpt", "--evaluate", "off"),
        *options,
    )
    assert made.code == 0, made.err
    words = ("--steps", 2, "--images", 10, "--epsilons", 4, "--corruptions", "none")
    answer = call(capsys, "robustness", tmp_path / "igpt", few, *words)
    assert answer.code == 0, answer.err
    found = json.loads((tmp_path / "igpt" / "robustness.json").read_text())[str(few)]
    assert found["flat"] == {"encoder": 100.0, "supervised": 100.0, "random": 100.0, "pixels": 0.0}
    assert "no gradient, so not attacked: this encoder 100 %" in " ".join(answer.out.split())


def test_a_class_of_the_test_part_alone_is_never_found(finished, tmp_path):
    more = {"x_test": np.zeros((12, 8, 8), np.uint8), "y_test": np.arange(12) % 6}
    data = archive(tmp_path / "x.npz", 60, **more)
    options = {"steps": 2, "attacks": ["fgsm"], "epsilons": [1], "corruptions": [], "quiet": True}
    found = robustness(shutil.copytree(finished, tmp_path / "run"), data, **options)["rows"]
    assert all(row["clean"] <= 50 for row in found.values())


def brief(run, data, **more):
    options = {"attacks": [], "corruptions": [], "images": 10, "quiet": True, "steps": 2}
    return robustness(run, data, **options | more)["supervised"]["folder"]


def test_each_data_split_and_settings_have_a_network_of_their_own(finished, few, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    data, other = archive(tmp_path / "x.npz", 60), archive(tmp_path / "other.npz", 60, seed=1)
    folders = [brief(run, data), brief(run, data, steps=3), brief(run, data, seed=1)]
    folders += [brief(run, other), brief(run, data, test=few)]
    assert len(set(folders)) == len(folders)
    assert all(Path(folder).parent == run / "supervised" for folder in folders)
    labels = [json.loads(Path(f, "encoder.json").read_text())["finetuned"] for f in folders]
    assert labels[0]["items"] != labels[4]["items"]
    moved = tmp_path / "moved"
    run.rename(moved)
    times = {p: p.stat().st_mtime_ns for p in moved.rglob("encoder.safetensors")}
    assert Path(brief(moved, data, test=few)).name == Path(folders[4]).name
    assert times == {p: p.stat().st_mtime_ns for p in moved.rglob("encoder.safetensors")}


def test_a_network_of_other_labels_is_refused(capsys, run, few, tmp_path):
    data = archive(tmp_path / "x.npz", 60)
    words = ("finetune", run, data, "--steps", 2, "--batch-size", 8, "--out")
    call(capsys, *words, tmp_path / "few", "--labels", "3-per-class")
    call(capsys, *words, tmp_path / "all", "--test", few)
    words = ("robustness", run, data, "--attacks", "none", "--corruptions", "none", "--supervised")
    refused(call(capsys, *words, tmp_path / "few"), "other labelled images (labels: 3-per-class)")
    refused(call(capsys, *words, tmp_path / "all"), "other labelled images (labels: all)")
    assert call(capsys, *words, tmp_path / "all", "--test", few).code == 0


def test_data_without_labels_and_runs_that_are_none(capsys, finished, few, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 8, 8), np.uint8))
    refused(call(capsys, "robustness", finished, tmp_path / "x.npz"), "no labels")
    refused(call(capsys, "robustness", tmp_path / "no", few), "there is no run")
