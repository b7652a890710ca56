import json
import math

import numpy as np
import pytest

import selftaught
from commands.tiny import archive, call, photographs, refused, training
from selftaught.pretrained import untrained, write

SIGNALS = {"rankme", "effective_rank", "stable_rank", "nesum", "alpha", "feature_std"}
SIGNALS |= {"mean_cosine", "centred_rank", "uniformity", "alignment", "lidar"}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Enough images for the spectrum of 256 features, without labels."""
    place = tmp_path_factory.mktemp("many") / "x.npz"
    x = np.random.default_rng(0).integers(0, 256, (600, 8, 8), dtype=np.uint8)
    np.savez(place, x=x)
    return place


def test_every_signal_beside_random_weights(capsys, finished, many):
    words = ("evaluate", finished, "--data", many, "--label-free")
    found = json.loads(call(capsys, *words, "--json").out)
    assert set(found["rows"]) == {"encoder", "random"}
    assert set(found["rows"]["encoder"]) == SIGNALS
    assert all(v is not None for v in found["rows"]["encoder"].values())
    assert found["rows"]["encoder"] != found["rows"]["random"]
    assert (found["images"], found["dim"], found["groups"]) == (600, 256, [256, 8])
    assert found["loss"]["nt_xent"]["guess"] == pytest.approx(math.log(31))
    answer = call(capsys, *words)
    assert "never two methods" in answer.out
    assert "lidar" in answer.out
    assert "600 images, 256 features: ranks grow" in answer.out
    assert "3.434 is a guess" in answer.out


def test_runs_of_one_method_side_by_side(capsys, finished, many):
    words = ("evaluate", finished, "--data", many, "--label-free", "--against", finished)
    rows = json.loads(call(capsys, *words, "--json").out)["rows"]
    assert rows[str(finished)] == rows["encoder"] != rows["random"]


def test_a_run_of_a_baselines_name_has_a_row_of_its_own(
    capsys, finished, many, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = ("evaluate", finished, "--data", many, "--label-free", "--json")
    plain = json.loads(call(capsys, *words).out)["rows"]
    for name in ("encoder", "random"):
        training_of = training("simclr", many, tmp_path / name, "--seed", 3, steps=2)
        assert call(capsys, *training_of).code == 0
        rows = json.loads(call(capsys, *words, "--against", name).out)["rows"]
        assert plain.items() <= rows.items()
        assert rows[f"./{name}"] not in plain.values()


def test_networks_that_saw_labels_are_others(capsys, finished, few, many, tmp_path):
    out = tmp_path / "out"
    assert call(capsys, "finetune", finished, few, "--out", out, "--steps", 2).code == 0
    words = ("evaluate", out / "fine-tuned", "--data", many, "--label-free", "--against")
    refused(call(capsys, *words, finished), "fine-tuned", "one method and encoder only")
    refused(call(capsys, *words, out / "from-scratch"), "from scratch")


def test_what_is_of_labels_is_refused(capsys, finished, many):
    words = ("evaluate", finished, "--data", many, "--label-free")
    refused(call(capsys, *words, "--test", many), "--test")
    refused(call(capsys, *words, "--protocols", "knn"), "--protocols")


def test_it_refuses_to_compare_across_methods_and_encoders(capsys, finished, many, tmp_path):
    card = json.loads((finished / "encoder.json").read_text())
    other = {"moco_v3": card | {"recipe": "moco_v3"}}
    other["resnet18"] = card | {"arguments": card["arguments"] | {"encoder": "resnet18"}}
    words = ("evaluate", finished, "--data", many)
    for name, changed in other.items():
        encoder = untrained(changed)
        (tmp_path / name).mkdir()
        write(tmp_path / name, encoder.encoder, changed)
        answer = call(capsys, *words, "--label-free", "--against", tmp_path / name)
        refused(answer, name, "one method and encoder only")
    refused(call(capsys, *words, "--against", finished), "--against")


def test_it_is_the_same_each_time(finished, many):
    assert selftaught.label_free(finished, many) == selftaught.label_free(finished, many)


def test_of_few_images_the_spectrum_is_not_told(capsys, finished, tmp_path):
    data = archive(tmp_path / "few.npz", 30)
    found = selftaught.label_free(finished, data)["rows"]["encoder"]
    assert found["rankme"] is None
    assert found["alignment"] is not None
    assert "?" in call(capsys, "evaluate", finished, "--data", data, "--label-free").out


def test_bad_input(capsys, finished, many, tmp_path):
    refused(call(capsys, "evaluate", tmp_path, "--data", many, "--label-free"), "no finished")
    refused(call(capsys, "evaluate", finished, "--data", tmp_path / "x", "--label-free"), "x")


def test_each_run_sees_images_normalised_as_it_was_trained(capsys, finished, many, tmp_path):
    card = json.loads((finished / "encoder.json").read_text())
    card["pixels"] |= {"mean": [0.1], "std": [0.05]}
    dark = tmp_path / "dark"
    dark.mkdir()
    write(dark, selftaught.load(finished).encoder, card)
    words = ("evaluate", finished, "--data", many, "--label-free", "--json", "--against", dark)
    beside = json.loads(call(capsys, *words).out)["rows"][str(dark)]
    alone = call(capsys, "evaluate", dark, "--data", many, "--label-free", "--json").out
    assert json.loads(alone)["rows"]["encoder"] == beside


def test_runs_of_other_channels_are_refused(capsys, finished, many, tmp_path):
    run = tmp_path / "colour"
    call(capsys, *training("simclr", photographs(tmp_path / "in", 16), run, "--size", 8))
    answer = call(capsys, "evaluate", finished, "--data", many, "--label-free", "--against", run)
    refused(answer, "3 x 8 x 8 pixels")
