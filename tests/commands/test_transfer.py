import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import selftaught
from commands.tiny import call, refused, training, tree
from data.marked import said, say, voc
from selftaught import checkpoint
from selftaught.commands import heldout

SCORES = {"detection": ["AP", "AP50", "AP75"], "segmentation": ["mIoU"]}
ROWS = ["pre-trained", "from scratch"]
FOLDERS = ["pre-trained", "from-scratch"]


def words(task, run, data, out, *more, steps=3):
    usual = ("--images", 6, "--batch-size", 2, "--size", 32)
    return ("transfer", task, run, data, "--out", out, "--steps", steps, *usual, *more)


def weights(folder):
    return checkpoint.latest(folder / "checkpoints")[1]["method"]


@pytest.mark.parametrize("task", SCORES)
def test_both_are_trained_on_the_same_images(capsys, finished, canvases, tmp_path, task):
    out = tmp_path / "out"
    answer = call(capsys, *words(task, finished, canvases, out, "--json"))
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found == json.loads((out / "transfer.json").read_text())
    assert list(found["rows"]) == ROWS
    assert all(list(scores) == SCORES[task] for scores in found["rows"].values())
    for row, scores in found["rows"].items():
        for name in scores:
            low, high = found["intervals"][row][name]
            assert 0 <= low <= high <= 100
    assert (found["images"], found["test"]) == (6, 8)
    names = (out / "images.txt").read_text().split()
    assert len(set(names)) == 6
    assert all(name.startswith("train-") for name in names)
    with Image.open(out / "predictions.png") as picture:
        assert picture.width > 3 * 192
    for name in FOLDERS:
        state = load_file(out / name / "model.safetensors")
        assert all(torch.equal(state[k], v) for k, v in weights(out / name).items())
        assert selftaught.load(out / name).card["transferred"]["arguments"]["images"] == 6


@pytest.mark.parametrize("task", SCORES)
def test_every_label_is_trained_on(capsys, finished, canvases, tmp_path, task, monkeypatch):
    monkeypatch.setattr(heldout, "SHARE", 1)
    monkeypatch.setattr(heldout, "LEAST", 1)
    out = tmp_path / "out"
    assert call(capsys, *words(task, finished, canvases, out, steps=1)).code == 0
    assert json.loads((out / "pre-trained" / "run.json").read_text())["held_out"] == 0


@pytest.mark.parametrize("task", SCORES)
def test_only_the_encoders_first_weights_differ(capsys, finished, canvases, tmp_path, task):
    out = tmp_path / "out"
    still = ("--lr", "1e-12", "--weight-decay", 0)
    assert call(capsys, *words(task, finished, canvases, out, *still, steps=1)).code == 0
    learned = load_file(finished / "encoder.safetensors")
    states = [load_file(out / name / "encoder.safetensors") for name in FOLDERS]
    for state, same in zip(states, (True, False), strict=True):
        close = [torch.allclose(state[k], v, atol=1e-6) for k, v in learned.items() if v.ndim > 1]
        assert all(close) == same
    one, two = (load_file(out / name / "model.safetensors") for name in FOLDERS)
    heads = [k for k in one if "encoder." not in k and one[k].ndim > 1]
    assert heads
    assert all(torch.allclose(one[k], two[k], atol=1e-6) for k in heads)


def test_voc_folders_do_as_well(capsys, finished, canvases, tmp_path):
    data = voc(tmp_path / "voc", canvases)
    file = data / "Annotations" / "train-00001.xml"
    file.write_text(file.read_text().replace("<xmax>", "<xmax>9", 1))
    answer = call(capsys, *words("detection", finished, data, tmp_path / "out"))
    assert answer.code == 0, answer.err
    assert "1 box of the train part is empty or outside its image" in answer.out
    assert "box AP, % (6 labelled images, 8 test)" in answer.out
    assert answer.out.index("│ pre-trained ") < answer.out.index("│ from scratch ")


def test_it_goes_on_bit_for_bit(capsys, finished, canvases, tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    call(capsys, *words("segmentation", finished, canvases, whole))
    shutil.copytree(whole, part)
    shutil.rmtree(part / "from-scratch")
    shutil.rmtree(part / "pre-trained" / "checkpoints" / "step-00000003")
    run = json.loads((part / "pre-trained" / "run.json").read_text())
    del run["finished"]
    (part / "pre-trained" / "run.json").write_text(json.dumps(run))
    again = words("segmentation", finished, canvases, part)
    refused(call(capsys, *again), "--resume")
    assert call(capsys, *again, "--resume").code == 0
    for name in FOLDERS:
        one, two = weights(whole / name), weights(part / name)
        assert all(torch.equal(two[k], v) for k, v in one.items())
    found = [json.loads((out / "transfer.json").read_text())["rows"] for out in (whole, part)]
    assert found[0] == found[1]
    before = tree(part)
    refused(call(capsys, *again, "--resume", "--lr", 1), "other settings: lr was 0.001, not 1.0")
    assert tree(part) == before


def test_other_annotations_are_another_run(capsys, finished, canvases, tmp_path):
    data = shutil.copytree(canvases, tmp_path / "data")
    again = words("segmentation", finished, data, tmp_path / "out", steps=1)
    assert call(capsys, *again).code == 0
    what = said(data, "train")
    what["annotations"][0]["category_id"] = 4 - what["annotations"][0]["category_id"]
    what["annotations"][0]["iscrowd"] = 1
    say(data, "train", what)
    refused(call(capsys, *again, "--resume"), "was begun on other labelled images")


def test_bad_input(capsys, finished, canvases, tmp_path):
    out = tmp_path / "out"

    def bad(*more, task="detection", run=finished, data=canvases):
        return call(capsys, *words(task, run, data, out, *more))

    refused(bad("--images", 13), "--images 13 of 12", "from 2 to 12")
    refused(bad("--images", 1), "--images 1")
    refused(bad("--size", 8), "--size from 32")
    refused(bad("--lr", 0), "--lr above 0")
    refused(bad("--minutes", 1), "two budgets")
    refused(bad(task="tracking"), "tracking")
    refused(bad(run=tmp_path / "no"), "there is no run")
    refused(bad(data=tmp_path), "neither a COCO folder")
    empty = shutil.copytree(canvases, tmp_path / "data")
    say(empty, "val", said(empty, "val") | {"annotations": []})
    refused(bad(data=empty), "no object")
    (empty / "annotations" / "instances_val.json").unlink()
    refused(bad(data=empty), "instances_val*.json")
    assert not out.exists()


def test_a_vision_transformer_is_a_backbone_too(capsys, few, canvases, tmp_path):
    run = tmp_path / "mae"
    assert call(capsys, *training("mae", few, run)).code == 0
    answer = call(capsys, *words("segmentation", run, canvases, tmp_path / "out", steps=1))
    assert answer.code == 0, answer.err


def test_what_is_ones_own_is_not_overwritten(capsys, finished, canvases, tmp_path):
    (tmp_path / "predictions.jpg").write_bytes(b"mine")
    refused(call(capsys, *words("detection", finished, canvases, tmp_path)), "holds other things")
