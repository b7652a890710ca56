import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import selftaught
from commands.tiny import archive, call, photographs, refused, tree
from selftaught.cli import main
from selftaught.commands.evaluate import PROTOCOLS as PROTOCOLS_THERE_ARE
from selftaught.commands.evaluate import evaluate
from selftaught.protocols.knn import knn
from selftaught.protocols.linear import logreg

ROWS = ["encoder", "random", "pixels"]
PROTOCOLS = ["knn/20", "knn/200", "logreg"]


@pytest.fixture(scope="module")
def parted(tmp_path_factory) -> Path:
    """Labelled images with a test part of their own."""
    folder = tmp_path_factory.mktemp("parted")
    draw = np.random.default_rng(3)
    x_test = draw.integers(0, 256, (10, 8, 8), dtype=np.uint8)
    return archive(folder / "images.npz", 240, x_test=x_test, y_test=np.arange(10) % 3)


def test_json_has_three_rows(capsys, finished, parted):
    before = tree(finished)
    answer = call(capsys, "evaluate", finished, "--data", parted, "--json")
    assert answer.code == 0
    assert answer.err == ""
    found = json.loads(answer.out)
    assert list(found["rows"]) == ROWS
    assert all(list(row) == PROTOCOLS for row in found["rows"].values())
    assert (found["train"], found["test"]) == (240, 10)
    assert "test part" in found["split"]
    after = tree(finished)
    after.pop("evaluation.json")
    before.pop("evaluation.json", None)
    assert after == before


def test_the_numbers_are_the_protocols_on_the_encoders_features(capsys, finished, parted):
    found = json.loads(call(capsys, "evaluate", finished, "--data", parted, "--json").out)
    arrays = np.load(parted)
    encoder = selftaught.load(finished)
    x, tx = (encoder(encoder.preprocess(list(arrays[key]))).detach() for key in ("x", "x_test"))
    y, ty = (selftaught.data.images.open_labels(parted, p).values for p in ("train", "test"))
    expected = {
        "knn/20": knn(x, y, tx, k=20),
        "knn/200": knn(x, y, tx, k=200),
        "logreg": logreg(x, y, tx).predictions,
    }
    for name, guess in expected.items():
        share = 100 * (guess == ty).double().mean().item()
        assert found["rows"]["encoder"][name] == pytest.approx(share, abs=10.1)  # one image of ten
    raw = (torch.from_numpy(arrays[key]).float() / 255 for key in ("x", "x_test"))
    pixels = [x.flatten(1) for x in raw]
    share = 100 * (knn(pixels[0], y, pixels[1], k=20) == ty).double().mean().item()
    assert found["rows"]["pixels"]["knn/20"] == pytest.approx(share, abs=0.01)


def test_an_encoder_that_sees_the_class_beats_chance(capsys, finished, tmp_path):
    y = np.arange(240) % 3
    x = (y[:, None, None] * 100 + np.zeros((240, 8, 8))).astype(np.uint8)
    np.savez(tmp_path / "easy.npz", x=x, y=y)
    words = ("evaluate", finished, "--data", tmp_path / "easy.npz", "--protocols", "knn/20")
    found = json.loads(call(capsys, *words, "--json").out)
    assert found["rows"]["encoder"] == {"knn/20": 100.0}
    assert (found["train"], found["test"]) == (192, 48)  # a fifth is held out
    assert "held out" in found["split"]


def test_the_table(capsys, finished, parted):
    answer = call(capsys, "evaluate", finished, "--data", parted, "--protocols", "logreg")
    assert answer.code == 0
    for words in ("this encoder", "same encoder, random weights", "raw pixels", "logreg"):
        assert words in answer.out
    assert "knn" not in answer.out


@pytest.mark.parametrize(
    ("asked", "columns"),
    [
        ("knn", ["knn/20", "knn/200"]),
        ("logreg,knn/20", ["logreg", "knn/20"]),
        ("knn/20,knn/20", ["knn/20"]),
    ],
)
def test_protocols(capsys, finished, parted, asked, columns):
    words = ("evaluate", finished, "--data", parted, "--protocols", asked, "--json")
    assert list(json.loads(call(capsys, *words).out)["rows"]["random"]) == columns


def test_every_protocol_has_an_interval_and_a_version(finished, parted):
    found = evaluate(finished, parted, protocols=["all"], rows=["encoder"])
    row = found["rows"]["encoder"]
    assert {"svm", "fewshot/1", "clustering/nmi", "retrieval/map", "retrieval/recall@5"} <= set(row)
    for name, value in row.items():
        low, high = found["intervals"]["encoder"][name]
        assert low <= value <= high, name
        assert low >= (-100 if name.endswith("ari") else 0), name
        assert high <= 100, name
    assert set(found["sd"]["encoder"]) == {n for n in row if n.startswith(("fewshot", "cluster"))}
    assert set(found["versions"]) == {
        name for name, protocol in PROTOCOLS_THERE_ARE.items() if "labels" in protocol.kinds
    }
    assert {"linear_sgd", "knn/20", "svm"} <= set(found["versions"])


def test_the_table_shows_half_the_interval(capsys, finished, parted):
    answer = call(capsys, "evaluate", finished, "--data", parted, "--protocols", "knn/20")
    found = evaluate(finished, parted, protocols=["knn/20"])
    low, high = found["intervals"]["encoder"]["knn/20"]
    value = found["rows"]["encoder"]["knn/20"]
    assert f"{value:.1f} ±{(high - low) / 2:.1f}" in answer.out


def test_the_numbers_are_kept_beside_the_run(capsys, finished, parted, data, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "evaluation.json").unlink(missing_ok=True)
    words = ("evaluate", run, "--data", parted, "--protocols")
    call(capsys, *words, "knn/20")
    call(capsys, *words, "logreg")
    call(capsys, "evaluate", run, "--data", data, "--protocols", "knn/20")
    kept = json.loads((run / "evaluation.json").read_text())
    assert set(kept) == {str(parted), str(data)}
    assert list(kept[str(parted)]["rows"]["random"]) == ["knn/20", "logreg"]
    (run / "evaluation.json").write_text("{")
    refused(call(capsys, *words, "knn/20"), "evaluation.json is damaged")


def test_several_data_sets_in_one_call(capsys, finished, parted, data, tmp_path):
    words = ("evaluate", finished, "--data", parted, data, "--protocols", "knn/20")
    found = json.loads(call(capsys, *words, "--json").out)
    assert {name: one["test"] for name, one in found.items()} == {str(parted): 10, str(data): 10}
    answer = call(capsys, *words)
    assert str(parted) in answer.out
    refused(call(capsys, *words, "--test", data), "one --test for 2 data sets")


@pytest.mark.parametrize("asked", ["svms", "knn/21", "", "kn"])
def test_an_unknown_protocol(capsys, finished, parted, asked):
    words = ("evaluate", finished, "--data", parted, "--protocols", asked)
    refused(call(capsys, *words), "no protocol", "knn/20, knn/200, logreg")


def test_two_evaluations_agree(capsys, finished, parted):
    words = ("evaluate", finished, "--data", parted, "--json")
    assert call(capsys, *words).out == call(capsys, *words).out


def test_other_data_to_test_on(capsys, finished, data, tmp_path):
    test = archive(tmp_path / "test.npz", 9, classes=2)
    words = ("evaluate", finished, "--data", data, "--test", test, "--protocols", "knn", "--json")
    found = json.loads(call(capsys, *words).out)
    assert (found["train"], found["test"]) == (48, 9)


def test_classes_that_training_lacks(capsys, finished, data, tmp_path):
    test = archive(tmp_path / "test.npz", 10, classes=5)
    words = ("evaluate", finished, "--data", data, "--test", test)
    refused(call(capsys, *words), "classes that", "3, 4")


def test_data_without_labels(capsys, finished, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 8, 8), np.uint8))
    words = ("evaluate", finished, "--data", tmp_path / "x.npz")
    refused(call(capsys, *words), "no labels", "one folder a class", "embed")
    refused(call(capsys, "evaluate", finished, "--data", photographs(tmp_path / "in", 4)), "labels")


def test_colour_photographs_in_folders_of_classes(capsys, finished, tmp_path):
    for name in ("cat", "dog"):
        photographs(tmp_path / "in" / name, 12)
    (tmp_path / "in" / "cat" / "0003.jpg").write_bytes(b"broken")
    words = ("evaluate", finished, "--data", tmp_path / "in", "--protocols", "knn", "--json")
    answer = call(capsys, *words)
    assert answer.code in (0, 2), answer  # an encoder of one channel may refuse, in one line
    if answer.code:
        refused(answer, "channel")
    else:
        found = json.loads(answer.out)
        assert found["train"] + found["test"] == 23


def test_runs_that_are_none(capsys, data, tmp_path, finished):
    refused(call(capsys, "evaluate", tmp_path / "gone", "--data", data), "there is no run at")
    refused(call(capsys, "evaluate", tmp_path, "--data", data), "holds no finished encoder")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(finished, unfinished, ignore=shutil.ignore_patterns("encoder.*"))
    refused(call(capsys, "evaluate", unfinished, "--data", data), "--resume")


def test_missing_data(capsys, finished, tmp_path):
    words = ("evaluate", finished, "--data", tmp_path / "gone")
    refused(call(capsys, *words), "no folder, file or data set")


def test_data_are_required(capsys, finished):
    refused(call(capsys, "evaluate", finished), "--data")


def test_the_function_takes_a_loaded_encoder(finished, parted):
    encoder = selftaught.load(finished)
    found = selftaught.evaluate(encoder, parted, protocols=["knn/20"])
    assert found == selftaught.evaluate(finished, parted, protocols=["knn/20"])
    assert not encoder.training


def test_an_exported_encoder_is_evaluated_alike(finished, parted, tmp_path, capsys):
    assert main(["export", str(finished), "--out", str(tmp_path / "out")]) == 0
    words = ("--data", parted, "--protocols", "knn", "--json")
    expected = call(capsys, "evaluate", finished, *words).out
    assert call(capsys, "evaluate", tmp_path / "out", *words).out == expected
