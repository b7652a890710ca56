import json

import numpy as np

import selftaught
from commands.tiny import call, refused


def taught(capsys, teacher, few, out, *more, steps=6, student="resnet-nano"):
    words = ("distill", teacher, few, "--student", student, "--out", out, "--steps", steps)
    return call(capsys, *words, "--batch-size", 16, *more)


def test_teacher_and_student_side_by_side(capsys, teacher, few, tmp_path):
    out = tmp_path / "out"
    answer = taught(capsys, teacher, few, out)
    assert answer.code == 0, answer.err
    assert "teacher" in answer.out
    found = json.loads((out / "distill.json").read_text())
    tuned = json.loads((teacher / "finetune.json").read_text())
    assert found["rows"]["teacher"] == tuned["rows"]["fine-tuned"]
    assert found["test"] == 30
    assert found["parameters"]["student"] > 1e6


def test_the_student_comes_to_say_what_the_teacher_says(capsys, teacher, few, tmp_path):
    taught(capsys, teacher, few, tmp_path / "short", steps=1)
    taught(capsys, teacher, few, tmp_path / "long", steps=80)
    short, long = (
        [json.loads(line) for line in (tmp_path / n / "metrics.jsonl").read_text().splitlines()]
        for n in ("short", "long")
    )
    assert long[-1]["terms"]["teacher"] < short[-1]["terms"]["teacher"]


def test_a_student_is_loaded_as_any_encoder(capsys, teacher, few, tmp_path):
    taught(capsys, teacher, few, tmp_path / "out", student="vit-nano")
    encoder = selftaught.load(tmp_path / "out")
    assert encoder.card["architecture"] == {"name": "vit-nano"}
    assert encoder(encoder.preprocess(np.zeros((8, 8), np.uint8))).shape == (1, 128)


def test_labels_are_not_needed(capsys, teacher, few, tmp_path):
    with np.load(few) as arrays:
        np.savez(tmp_path / "x.npz", x=arrays["x"])
    answer = taught(capsys, teacher, tmp_path / "x.npz", tmp_path / "out", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["rows"] == {}


def test_some_labels_may_be_used(capsys, teacher, few, tmp_path):
    out = tmp_path / "out"
    more = ("--labels", "5-per-class", "--label-weight", 0.5)
    answer = taught(capsys, teacher, few, out, *more)
    assert answer.code == 0, answer.err
    assert "15 labels" in answer.out
    terms = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])["terms"]
    assert set(terms) == {"teacher", "labels"}
    answer = taught(capsys, teacher, few, tmp_path / "no", "--labels", "5-per-class")
    refused(answer, "--labels and --label-weight together")


def test_a_larger_student_is_warned_of(capsys, teacher, few, tmp_path):
    answer = taught(capsys, teacher, few, tmp_path / "out", student="resnet18", steps=1)
    assert answer.code == 0
    assert "warning: the student resnet18 has" in answer.err
    assert answer.err.count("\n") == 1


def test_it_goes_on_with_the_same_settings_only(capsys, teacher, few, tmp_path):
    out = tmp_path / "out"
    one = taught(capsys, teacher, few, out, "--json")
    refused(taught(capsys, teacher, few, out, "--json"), "--resume")
    assert taught(capsys, teacher, few, out, "--json", "--resume").out == one.out
    refused(taught(capsys, teacher, few, out, "--resume", "--lr", 1), "other settings")


def test_the_images_that_are_held_out_are_not_trained_on(capsys, teacher, few, tmp_path):
    with np.load(few) as arrays:
        np.savez(tmp_path / "x.npz", x=arrays["x"], y=arrays["y"])
        np.savez(tmp_path / "test.npz", x=arrays["x"][::2], y=arrays["y"][::2])
    out, data = tmp_path / "out", tmp_path / "x.npz"
    answer = taught(capsys, teacher, data, out)
    assert answer.code == 0, answer.err
    assert "48 images, no labels" in answer.out
    found = json.loads((out / "distill.json").read_text())
    assert found["test"] == 12
    words = ("--test", tmp_path / "test.npz")
    refused(
        taught(capsys, teacher, data, out, "--resume", *words), "begun on other labelled images"
    )
    answer = taught(capsys, teacher, data, tmp_path / "all", *words)
    assert "60 images, no labels" in answer.out
    with_labels = ("--labels", "all", "--label-weight", 0.5, *words)
    answer = taught(capsys, teacher, data, tmp_path / "labels", *with_labels)
    assert "60 images, 60 labels" in answer.out


def test_labels_of_other_classes_say_nothing_of_the_teachers(capsys, teacher, few, tmp_path):
    other = tmp_path / "other.npz"
    with np.load(few) as arrays:
        names = np.array(["cat", "dog", "owl"])
        np.savez(other, **{k: v if k[0] == "x" else names[v] for k, v in arrays.items()})
    answer = taught(capsys, teacher, other, tmp_path / "out", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["rows"] == {}
    more = ("--labels", "all", "--label-weight", 0.5)
    refused(
        taught(capsys, teacher, other, tmp_path / "b", *more), "cat, dog, owl", "the teacher 0, 1"
    )


def test_a_student_teaches_and_is_fine_tuned(capsys, teacher, few, tmp_path):
    one, two, tuned = (tmp_path / name for name in ("one", "two", "tuned"))
    assert taught(capsys, teacher, few, one, student="resnet-pico").code == 0
    answer = taught(capsys, one, few, two, student="resnet-pico")
    assert answer.code == 0, answer.err
    said = [json.loads((run / "distill.json").read_text())["rows"] for run in (one, two)]
    assert said[1]["teacher"] == said[0]["student"]
    answer = call(capsys, "finetune", one, few, "--out", tuned, "--steps", 2, "--batch-size", 8)
    assert answer.code == 0, answer.err
    assert selftaught.load(tuned / "from-scratch").encoder.dim == 128
    assert selftaught.load_classifier(tuned).dim == 3


def test_bad_input(capsys, teacher, finished, few, tmp_path):
    refused(taught(capsys, finished, few, tmp_path / "a"), "is no classifier")
    refused(taught(capsys, tmp_path / "no", few, tmp_path / "a"), "no classifier at")
    refused(taught(capsys, teacher, few, tmp_path / "b", student="resnt18"), "did you mean")
    refused(taught(capsys, teacher, few, tmp_path / "c", "--temperature", 0), "--temperature above")
    for more in (("--batch-size", 1), ("--lr=-1",), ("--weight-decay=-1",)):
        refused(taught(capsys, teacher, few, tmp_path / "d", *more), more[0].split("=")[0])
