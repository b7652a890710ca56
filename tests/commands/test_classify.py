import csv
import json

import numpy as np
import torch

import selftaught
from commands.tiny import call, refused, tree


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_image_has_the_class_that_scores_most(capsys, teacher, few, tmp_path):
    before, out = tree(teacher), tmp_path / "classes.csv"
    answer = call(capsys, "classify", teacher, few, "--out", out)
    assert (answer.code, answer.out) == (
        0,
        f"60 images of the train part and their classes in {out}\n",
    ), answer.err
    classifier = selftaught.load_classifier(teacher)
    with np.load(few) as arrays, torch.no_grad():
        scores = classifier(classifier.preprocess(list(arrays["x"])))
    found = table(out)
    assert [row["name"] for row in found] == [str(i) for i in range(60)]
    assert [int(row["class"]) for row in found] == scores.argmax(1).tolist()
    assert len({row["class"] for row in found}) > 1
    largest = scores.softmax(1).amax(1).numpy()
    np.testing.assert_allclose([float(r["probability"]) for r in found], largest, atol=6e-5)
    assert tree(teacher) == before


def test_the_accuracy_is_that_of_fine_tuning(teacher, few, tmp_path):
    with np.load(few) as arrays:
        np.savez(tmp_path / "test.npz", x=arrays["x_test"])
        truth = [str(k) for k in arrays["y_test"]]
    found = selftaught.classify(teacher, tmp_path / "test.npz", out=tmp_path / "c.csv")
    right = np.mean([of.label == k for of, k in zip(found, truth, strict=True)])
    said = json.loads((teacher / "finetune.json").read_text())["rows"]
    assert round(100 * right, 2) == said["fine-tuned"]
    scratch = selftaught.classify(teacher / "from-scratch", few, out=tmp_path / "s.csv")
    right = np.mean([of.label == k for of, k in zip(scratch[:30], truth, strict=True)])
    assert round(100 * right, 2) == said["from scratch"]
    assert [of.probability for of in scratch] != [of.probability for of in found]


def test_a_students_classes_have_names(capsys, finished, few, tmp_path):
    names, data = np.array(["cat", "dog, small", "owl"]), tmp_path / "named.npz"
    with np.load(few) as arrays:
        np.savez(data, **{k: v if k[0] == "x" else names[v] for k, v in arrays.items()})
    tuned, student = tmp_path / "tuned", tmp_path / "student"
    more = ("--steps", 30, "--batch-size", 8, "--precision", "float32")  # not the processor's
    words = ("finetune", finished, data, "--out", tuned, "--labels", "8-per-class", *more)
    assert call(capsys, *words).code == 0
    words = ("distill", tuned, data, "--out", student, "--student", "resnet-pico", *more)
    assert call(capsys, *words).code == 0
    assert call(capsys, "classify", student, data, "--out", tmp_path / "c.csv").code == 0
    found = [row["class"] for row in table(tmp_path / "c.csv")]
    assert {"cat"} < set(found) <= set(names)
    with np.load(data) as arrays:
        right = np.mean(np.array(found[:30]) == arrays["y_test"])
    said = json.loads((student / "distill.json").read_text())["rows"]
    assert round(100 * right, 2) == said["student"]


def test_bad_input(capsys, teacher, finished, few, tmp_path):
    out = ("--out", tmp_path / "c.csv")
    refused(call(capsys, "classify", finished, few, *out), "is no classifier", "finetune --out")
    refused(call(capsys, "classify", teacher, few, "--out", tmp_path / "c.txt"), "no .csv")
    refused(call(capsys, "classify", teacher, tmp_path / "gone", *out), "no folder, file")
    (tmp_path / "c.csv").write_text("mine")
    refused(call(capsys, "classify", teacher, few, *out), "not overwritten")
    refused(call(capsys, "embed", teacher, few, "--out", tmp_path / "f.npy"), "give", "fine-tuned")
