import json
import shutil

import numpy as np
import pytest

from commands.tiny import archive, call, refused
from selftaught.commands.robustness import robustness

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


def test_the_table(capsys, run, few):
    words = [w for w in asked(run, few, "--attacks", "fgsm") if w != "--json"]
    answer = call(capsys, *words)
    assert answer.code == 0, answer.err
    for word in ("supervised", "random weights", "raw pixels", "fgsm/32", "mCE", "20 test images"):
        assert word in answer.out
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
        (("--epsilons", "x"), "--epsilons x is not understood"),
        (("--images", "0"), "--images 0"),
        (("--steps", "0"), "--steps 0"),
    ],
)
def test_bad_input(capsys, finished, few, more, word):
    refused(call(capsys, "robustness", finished, few, *more), word)


def test_other_settings_for_the_network_that_is_there(capsys, run, few):
    call(capsys, *asked(run, few))
    refused(call(capsys, *asked(run, few, "--steps", 31)), "other settings (steps)")


def test_data_without_labels_and_runs_that_are_none(capsys, finished, few, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 8, 8), np.uint8))
    refused(call(capsys, "robustness", finished, tmp_path / "x.npz"), "no labels")
    refused(call(capsys, "robustness", tmp_path / "no", few), "there is no run")
