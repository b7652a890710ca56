import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import selftaught
from commands.tiny import archive, call, photographs, refused, training, tree
from selftaught.cli import main
from selftaught.commands import outputs
from selftaught.commands.evaluate import PROTOCOLS as PROTOCOLS_THERE_ARE
from selftaught.commands.evaluate import evaluate, merged
from selftaught.errors import UserError
from selftaught.pretrained import write
from selftaught.protocols import linear
from selftaught.protocols.knn import knn
from selftaught.protocols.linear import logreg
from selftaught.report import table

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


def test_what_is_being_done_is_told_of_each_row(finished, parted):
    told = []
    asked = ["knn/20", "linear_sgd"]
    evaluate(finished, parted, protocols=asked, tell=lambda *what: told.append(what))
    for row in ROWS:
        own = [(what.removeprefix(f"{row}: "), *of) for what, *of in told if what.startswith(row)]
        assert own[:3] == [("knn/20", 0, 0), ("features", 0, 240), ("features", 128, 240)]
        steps = [done for what, done, whole in own if what == "linear_sgd" and whole == 200]
        assert steps == list(range(201))


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


@pytest.fixture
def diverged(finished, tmp_path) -> Path:
    """A run whose encoder has weights that are NaN."""
    encoder = selftaught.load(finished)
    with torch.no_grad():
        for p in encoder.parameters():
            p.fill_(torch.nan)
    (tmp_path / "diverged").mkdir()
    write(tmp_path / "diverged", encoder.encoder, encoder.card)
    return tmp_path / "diverged"


@pytest.mark.parametrize(
    "asked", ["retrieval", "fewshot/1", "linear_sgd", "clustering", "knn", "logreg", "all"]
)
def test_features_that_are_not_finite(capsys, diverged, parted, asked):
    words = ("evaluate", diverged, "--data", parted, "--protocols", asked)
    refused(call(capsys, *words), "features hold NaN or infinity")


def test_a_weight_that_is_nan_and_counts_for_nothing(finished, parted):
    encoder = selftaught.load(finished)
    encoder.encoder.unused = torch.nn.Parameter(torch.tensor([torch.nan]))
    assert evaluate(encoder, parted, protocols=["knn/20"])["rows"]["encoder"]


def test_all_leaves_out_what_the_data_cannot_support(capsys, finished, tmp_path):
    data = tmp_path / "x.npz"
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    np.savez(data, x=x, y=np.arange(30) % 5, x_test=x[:10], y_test=np.arange(10) % 5)
    words = ("evaluate", finished, "--data", data, "--protocols")
    answer = call(capsys, *words, "all", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert list(found["left_out"]) == ["fewshot/10"]
    assert "of which one has 6" in found["left_out"]["fewshot/10"]
    assert "fewshot/10" not in found["versions"]
    for row in found["rows"].values():
        assert "fewshot/5" in row
        assert "fewshot/10" not in row
    assert "fewshot/10 is left out: 10 samples of each class" in call(capsys, *words, "all").out
    refused(call(capsys, *words, "fewshot/10"), "of which one has 6")


def test_what_is_known_of_a_fit_stands_beside_its_number(capsys, finished, parted, monkeypatch):
    monkeypatch.setattr(linear, "FINAL", 0.0)
    words = ("evaluate", finished, "--data", parted, "--protocols", "logreg,knn/20")
    found = json.loads(call(capsys, *words, "--json").out)
    for row in ROWS:
        assert set(found["notes"][row]) == {"logreg"}
        assert "the fit did not converge" in found["notes"][row]["logreg"]
    answer = call(capsys, *words).out
    low, high = found["intervals"]["encoder"]["logreg"]
    assert f"{found['rows']['encoder']['logreg']:.1f} ±{(high - low) / 2:.1f}*" in answer
    assert "* logreg of raw pixels: the fit did not converge" in answer


def test_notes_are_kept_and_go_with_what_they_are_of():
    common = {"split": "", "train": 1, "test": 1, "intervals": {"e": {}}, "sd": {"e": {}}}
    common |= {"chosen": {"e": {}}, "settings": {}}
    old = common | {"rows": {"e": {"a": 1, "b": 1}}, "notes": {"e": {"a": "x", "b": "y"}}}
    new = common | {"rows": {"e": {"b": 2}}, "notes": {"e": {}}}
    found = merged(old | {"versions": {"a": 1, "b": 1}}, new | {"versions": {"b": 1}})
    assert found["rows"] == {"e": {"a": 1, "b": 2}}
    assert found["notes"] == {"e": {"a": "x"}}
    del old["notes"]  # as it was written before there were any
    assert merged(old | {"versions": {}}, new | {"versions": {}})["notes"] == {"e": {}}


def shown(width, **more):
    """The table of a result of these protocols, on a terminal of that width."""
    scores = dict.fromkeys(more, 80.0)
    result = {"rows": dict.fromkeys(ROWS, scores), "train": 10, "test": 10, "split": "test: some"}
    result |= {"intervals": {row: dict.fromkeys(more, (79.0, 81.0)) for row in ROWS}}
    sd = {name: value for name, value in more.items() if value is not None}
    console = Console(width=width, file=io.StringIO())
    table.show(result | {"sd": dict.fromkeys(ROWS, sd)}, console)
    return console.file.getvalue()


def test_many_protocols_are_rows_so_that_every_number_can_be_read():
    names = {f"fewshot/{n}": None for n in range(9)}
    narrow, wide = shown(80, **names), shown(200, **names)
    for out in (narrow, wide):
        assert out.count("80.0 ±1.0") == 27
        assert "…" not in out
    assert max(map(len, narrow.splitlines())) <= 80
    assert "same encoder, random weights" in wide
    assert "│ random weights │" in narrow.replace("┃", "│")
    assert "same encoder, random weights" in shown(80, **{"knn/20": None})


def test_the_spread_of_draws_is_their_deviation():
    out = shown(80, **{"knn/20": None, "fewshot/1": 3.25})
    assert out.count("80.0 ±1.0") == 3
    assert out.count("80.0 ±3.2") == 3
    said = "±: half of the 95 % interval over test images; the standard deviation over draws of"
    assert f"{said} fewshot/1" in " ".join(out.split())
    assert "±: half of the 95 % interval over test images\n" in shown(80, **{"knn/20": None})


def test_the_images_of_the_train_part_are_no_test_part(capsys, finished, data, tmp_path):
    words = ("evaluate", finished, "--data", data, "--protocols", "knn", "--test")
    refused(call(capsys, *words, data), f"{data} holds the images of", "--test")
    copy = shutil.copy(data, tmp_path / "copy.npz")
    refused(call(capsys, *words, copy), "which are trained on")
    folders = [tmp_path / name for name in ("one", "other")]
    for folder, shade in zip(folders, (0, 90), strict=True):  # files of one name and size
        for name in ("cat", "dog"):
            (folder / name).mkdir(parents=True)
            for i in range(3):
                pixels = np.full((8, 8), 10 * i + shade, np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{i}.bmp")
    words = ("evaluate", finished, "--data", folders[0], "--protocols", "knn", "--test")
    refused(call(capsys, *words, folders[0]), "which are trained on")
    assert call(capsys, *words, folders[1]).code == 0


def test_the_split_says_what_was_pre_trained_on(finished, data, tmp_path):
    other = archive(tmp_path / "other.npz", seed=1)
    split = [evaluate(finished, d, protocols=["knn/20"])["split"] for d in (data, other)]
    assert split[0].endswith("held out by seed 0; its images, not its labels, were pre-trained on")
    assert split[1].endswith("held out by seed 0")


def test_two_evaluations_agree(capsys, finished, parted):
    words = ("evaluate", finished, "--data", parted, "--json")
    assert call(capsys, *words).out == call(capsys, *words).out


def test_other_data_to_test_on(capsys, finished, data, tmp_path):
    test = archive(tmp_path / "test.npz", 9, classes=2)
    words = ("evaluate", finished, "--data", data, "--test", test, "--protocols", "knn", "--json")
    found = json.loads(call(capsys, *words).out)
    assert (found["train"], found["test"]) == (48, 9)


def test_a_class_of_another_spelling_in_the_test_part(capsys, finished, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    names = np.array(["cat", "dog"] * 6)
    other = np.char.replace(names, "cat", "Cat")
    np.savez(tmp_path / "both.npz", x=x, y=names, x_test=255 - x, y_test=other)
    words = ("evaluate", finished, "--data", tmp_path / "both.npz", "--protocols", "knn")
    answer = call(capsys, *words)
    assert answer.code == 0, answer.err
    assert "train has no image of Cat" in " ".join(answer.out.split())


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
        assert answer.err.count("1 of 24 images are broken and left out") == 1


def test_the_same_encoder_with_labels_is_a_row_where_it_is_given(
    capsys, finished, few, teacher, tmp_path
):
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("evaluation.json"))
    words = ("evaluate", run, "--data", few, "--protocols", "knn/20")
    answer = call(capsys, *words, "--supervised", teacher)
    assert answer.code == 0, answer.err
    assert "same encoder, trained with labels" in answer.out
    found = json.loads((run / "evaluation.json").read_text())[str(few)]
    assert list(found["rows"]) == ["encoder", "supervised", "random", "pixels"]
    alone = evaluate(teacher / "from-scratch", few, rows=["encoder"], protocols=["knn/20"])
    assert found["rows"]["supervised"] == alone["rows"]["encoder"]
    assert call(capsys, *words[:-1], "knn/200").code == 0
    later = json.loads((run / "evaluation.json").read_text())[str(few)]
    assert later["rows"]["supervised"] == found["rows"]["supervised"]
    assert later["rows"]["encoder"].keys() == {"knn/20", "knn/200"}
    refused(call(capsys, *words, "--supervised", finished), "is not the same encoder trained from")


def test_settings_stand_beside_the_numbers(capsys, finished, few):
    words = ("evaluate", finished, "--data", few, "--protocols", "knn,logreg")
    said = " ".join(call(capsys, *words).out.split())
    found = json.loads(call(capsys, *words, "--json").out)
    x, y, tx = (torch.from_numpy(np.load(few)[name]) for name in ("x", "y", "x_test"))
    encoder = selftaught.load(finished)
    with torch.no_grad():
        features = [encoder(encoder.preprocess(list(part.numpy()))) for part in (x, tx)]
    chosen = logreg(features[0], y, features[1]).C
    assert found["chosen"]["encoder"] == {"logreg": f"C {chosen:g}"}
    assert f"logreg: C by held-out tenths of train (C {chosen:g})" in said
    assert "knn/20, knn/200: cosine, temperature 0.07;" in said


def test_an_encoder_that_evaluation_changes_is_noticed(finished, few):
    encoder = selftaught.load(finished)

    def move(*_):
        next(encoder.parameters()).data.add_(1)

    encoder.register_forward_hook(move)
    with pytest.raises(RuntimeError, match="the evaluation changed"):
        evaluate(encoder, few, rows=["encoder"], protocols=["knn"])


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


def test_numbers_of_changed_labels_are_not_put_together(capsys, finished, tmp_path):
    run, data = tmp_path / "run", archive(tmp_path / "data.npz")
    shutil.copytree(finished, run)
    (run / "evaluation.json").unlink(missing_ok=True)
    words = ("evaluate", run, "--data", data, "--protocols")
    call(capsys, *words, "knn/20")
    archive(tmp_path / "data.npz", y=(np.arange(48) + 1) % 3)
    call(capsys, *words, "fewshot/1")
    kept = json.loads((run / "evaluation.json").read_text())[str(data)]
    assert list(kept["rows"]["encoder"]) == ["fewshot/1"]


def test_numbers_that_cannot_be_kept_are_printed(capsys, finished, parted, monkeypatch):
    def full(*_):
        raise UserError("no space left")

    monkeypatch.setattr(outputs, "write_atomic", full)
    answer = call(capsys, "evaluate", finished, "--data", parted, "--protocols", "knn/20", "--json")
    assert answer.code == 0
    assert "knn/20" in json.loads(answer.out)["rows"]["encoder"]
    assert "not kept: no space left" in answer.err


def test_the_split_says_what_was_trained_on_with_labels(capsys, teacher, few, tmp_path):
    student = tmp_path / "student"
    words = ("distill", teacher, few, "--out", student, "--student", "resnet-pico", "--steps", 2)
    assert call(capsys, *words, "--batch-size", 16).code == 0
    with np.load(few) as arrays:
        np.savez(tmp_path / "same.npz", x=arrays["x"], y=arrays["y"])
    other = archive(tmp_path / "other.npz", 60, seed=1)
    for run in (teacher / "fine-tuned", student):
        for data, test in ((tmp_path / "same.npz", None), (other, tmp_path / "same.npz")):
            split = evaluate(run, data, test=test, protocols=["knn/20"])["split"]
            assert split.endswith("was trained on its images, and with labels of the same data")
        split = evaluate(run, few, test=other, protocols=["knn/20"])["split"]
        assert split == f"test: the train part of {other}"


def test_grey_images_are_seen_by_an_encoder_of_colours(capsys, tmp_path, parted):
    run = tmp_path / "run"
    call(capsys, *training("simclr", photographs(tmp_path / "in", 16), run, "--size", 8))
    answer = call(capsys, "evaluate", run, "--data", parted, "--protocols", "knn/20", "--json")
    assert answer.code == 0, answer.err


def test_queries_without_a_class_in_train_are_said(finished, tmp_path):
    data = archive(tmp_path / "d.npz")
    for last in range(48):  # one of its kind, which is held out in one of these
        y = np.arange(48) % 3
        y[last] = 3
        np.savez(data, x=np.load(data)["x"], y=y)
        found = evaluate(finished, data, rows=["encoder"], protocols=["retrieval"])
        if found["notes"]["encoder"]:
            break
    assert found["notes"]["encoder"]["retrieval/map"] == "of the 9 of 10 whose class is in train"


def test_what_was_found_before_stays_whether_or_not_broken_images_were_met():
    one = {"split": "s", "content": "c", "train": 199, "test": 49, "versions": {"knn": 1}}
    one |= {"settings": {}}
    two = one | {"train": 200, "test": 50, "versions": {"linear_sgd": 1}}
    for found, name in ((one, "knn/20"), (two, "linear_sgd")):
        found |= {
            part: {"encoder": {name: 1}} for part in ("rows", "intervals", "sd", "notes", "chosen")
        }
    for before, after in ((one, two), (two, one)):
        found = merged(before, after)
        assert found["rows"]["encoder"].keys() == {"knn/20", "linear_sgd"}
        assert (found["train"], found["test"]) == (199, 49)
    assert merged(one, two | {"content": "d"})["rows"] == two["rows"]


def test_no_protocol_is_one_line(finished, few):
    with pytest.raises(UserError, match="name one or more"):
        evaluate(finished, few, protocols=[])
