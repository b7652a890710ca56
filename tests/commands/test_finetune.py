import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import selftaught
from commands.tiny import archive, call, equal, photographs, refused, training, tree
from selftaught import checkpoint, pretrained
from selftaught.commands import finetune as module
from selftaught.commands.classifying import Chosen, Classifying
from selftaught.commands.parts import parts
from selftaught.commands.supervised import Training, call_of
from selftaught.commands.trainings import FineTuneSettings
from selftaught.errors import UserError
from selftaught.methods.classifier import Classifier
from selftaught.pretrained import read_card
from selftaught.protocols import linear
from selftaught.runfolder import RunFolder

ROWS = ["fine-tuned", "from scratch", "logreg", "logreg on pixels"]


def tune(capsys, run, few, out, *more, steps=6):
    words = ("finetune", run, few, "--out", out, "--labels", "4-per-class", "--steps", steps)
    return call(capsys, *words, "--batch-size", 4, "--json", *more)


def described(out):
    return json.loads((out / "finetune.json").read_text())


def weights(folder):
    return checkpoint.latest(folder / "checkpoints")[1]["method"]


def test_four_numbers_with_the_same_labels(capsys, finished, few, tmp_path):
    out = tmp_path / "out"
    answer = tune(capsys, finished, few, out)
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert list(found["rows"]) == ROWS
    assert (found["labels"], found["test"]) == (12, 30)
    assert found == described(out)
    lines = [line.split("\t") for line in (out / "labels.txt").read_text().splitlines()]
    assert [sum(c == k for _, c in lines) for k in "012"] == [4, 4, 4]
    assert all(int(name) % 3 == int(c) for name, c in lines)


def test_it_learns_what_can_be_seen(capsys, finished, few, tmp_path):
    found = json.loads(tune(capsys, finished, few, tmp_path / "out", steps=60).out)
    assert found["rows"]["fine-tuned"] > 60
    table = call(
        *(capsys, "finetune", finished, few, "--out", tmp_path / "t", "--labels", "4-per-class"),
        *("--steps", 2, "--batch-size", 4),
    ).out
    assert "accuracy, % (12 labels, 30 test)" in table


def test_a_regression_that_did_not_converge_says_so(capsys, finished, few, tmp_path, monkeypatch):
    def cut_short(*arguments):
        return linear.logreg(*arguments)._replace(converged=False)

    monkeypatch.setattr(module, "logreg", cut_short)
    notes = json.loads(tune(capsys, finished, few, tmp_path / "out").out)["notes"]
    assert list(notes) == ROWS[2:]
    assert all("did not converge" in note for note in notes.values())
    words = ("--labels", "4-per-class", "--steps", 2, "--batch-size", 4)
    said = call(capsys, "finetune", finished, few, "--out", tmp_path / "t", *words).out
    assert "* logreg: the fit did not converge" in said


def test_one_begins_from_the_encoder_and_the_other_does_not(capsys, finished, few, tmp_path):
    out = tmp_path / "out"
    tune(capsys, finished, few, out, "--lr", "1e-12", "--weight-decay", 0, steps=1)
    learned = load_file(finished / "encoder.safetensors")
    for name, same in (("fine-tuned", True), ("from-scratch", False)):
        state = load_file(out / name / "encoder.safetensors")
        close = [torch.allclose(state[k], v, atol=1e-6) for k, v in learned.items() if v.ndim > 1]
        assert all(close) == same


def test_a_fine_tuned_encoder_is_loaded_as_any_other(capsys, finished, few, tmp_path):
    out = tmp_path / "out"
    tune(capsys, finished, few, out)
    encoder = selftaught.load(out / "fine-tuned")
    assert encoder.card["finetuned"]["arguments"]["labels"] == "4-per-class"
    assert encoder(encoder.preprocess(np.zeros((8, 8), np.uint8))).shape == (1, encoder.dim)


def test_a_frozen_encoder_stays_as_it_was(capsys, finished, few, tmp_path):
    out = tmp_path / "out"
    assert tune(capsys, finished, few, out, "--freeze").code == 0
    before = load_file(finished / "encoder.safetensors")
    after = load_file(out / "fine-tuned" / "encoder.safetensors")
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_it_begins_with_the_solution_on_frozen_features(capsys, finished, few, tmp_path):
    still = ("--freeze", "--lr", "1e-12", "--weight-decay", 0)
    found = json.loads(tune(capsys, finished, few, tmp_path / "a", *still, steps=1).out)["rows"]
    assert found["fine-tuned"] == found["logreg"]
    kept = ("--from-head-layer", 1)
    assert tune(capsys, finished, few, tmp_path / "b", *still, *kept, steps=1).code == 0
    tune(capsys, finished, few, tmp_path / "c", *still, *kept, "--no-probe", steps=1)
    probed, random = (weights(tmp_path / n / "fine-tuned")["network.2.bias"] for n in ("b", "c"))
    assert not torch.allclose(probed, random)


def test_weights_are_mixed_with_those_it_began_with(capsys, finished, few, tmp_path, monkeypatch):
    places = {share: tmp_path / str(share) for share in ("0", "0.25", "1")}
    for share, out in places.items():
        assert tune(capsys, finished, few, out, "--mix", share).code == 0
    start, mixed, end = (weights(out / "fine-tuned") for out in places.values())
    moved = [name for name in start if not torch.equal(start[name], end[name])]
    assert {"network.0.stem.weight", "network.2.weight"} <= set(moved)
    for name in moved:
        torch.testing.assert_close(mixed[name], 0.75 * start[name] + 0.25 * end[name])
    assert described(places["0"])["rows"]["fine-tuned"] == described(places["0"])["rows"]["logreg"]
    encoder = load_file(places["0.25"] / "fine-tuned" / "encoder.safetensors")
    assert torch.equal(encoder["stem.weight"], mixed["network.0.stem.weight"])
    scratch = [weights(out / "from-scratch")["network.0.stem.weight"] for out in places.values()]
    assert all(torch.equal(x, scratch[0]) for x in scratch)


def test_weights_are_mixed_once_however_often_it_goes_on(
    capsys, finished, few, tmp_path, monkeypatch
):
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert tune(capsys, finished, few, whole, "--mix", "0.5").code == 0

    def full(*arguments):
        raise UserError("no space left")

    with monkeypatch.context() as patched:  # after the weights, before the run is called finished
        patched.setattr(pretrained, "write", full)
        refused(tune(capsys, finished, few, part, "--mix", "0.5"), "no space left")
    assert tune(capsys, finished, few, part, "--mix", "0.5", "--resume").code == 0
    for name in ("fine-tuned", "from-scratch"):
        equal(weights(part / name), weights(whole / name))


def test_the_statistics_of_batch_norm_stay_if_asked(capsys, finished, few, tmp_path):
    before = load_file(finished / "encoder.safetensors")
    means = [name for name in before if name.endswith("running_mean")]
    assert means
    for words, same in (((), True), (("--no-freeze-norm",), False)):
        out = tmp_path / f"{same}"
        assert tune(capsys, finished, few, out, *words).code == 0
        after = load_file(out / "fine-tuned" / "encoder.safetensors")
        assert all(torch.equal(after[name], before[name]) for name in means) == same
        scratch = load_file(out / "from-scratch" / "encoder.safetensors")
        assert not any(torch.equal(scratch[n], torch.zeros_like(scratch[n])) for n in means)


def test_it_goes_on_bit_for_bit(capsys, finished, few, tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    tune(capsys, finished, few, whole)
    tune(capsys, finished, few, part)
    shutil.rmtree(part / "from-scratch")
    shutil.rmtree(part / "fine-tuned" / "checkpoints" / "step-00000006")
    run = json.loads((part / "fine-tuned" / "run.json").read_text())
    del run["finished"]
    (part / "fine-tuned" / "run.json").write_text(json.dumps(run))
    refused(tune(capsys, finished, few, part), "--resume")
    assert tune(capsys, finished, few, part, "--resume").code == 0
    for name in ("fine-tuned", "from-scratch"):
        one, two = weights(whole / name), weights(part / name)
        assert all(torch.equal(two[k], v) for k, v in one.items())
    assert described(whole)["rows"] == described(part)["rows"]


def test_the_head_is_kept_from_a_layer_on(capsys, finished, few, tmp_path):
    out = tmp_path / "out"
    assert tune(capsys, finished, few, out, "--from-head-layer", 1).code == 0
    state = weights(out / "fine-tuned")
    assert state["network.1.0.weight"].shape == (32, 256)
    assert state["network.2.weight"].shape == (3, 32)
    answer = tune(capsys, finished, few, tmp_path / "no", "--from-head-layer", 2)
    refused(answer, "layer 2 of a head with 1 hidden")
    mae = tmp_path / "mae"
    call(capsys, *training("mae", few, mae))
    answer = tune(capsys, mae, few, tmp_path / "no", "--from-head-layer", 1)
    refused(answer, "mae has no projection head")


@pytest.mark.parametrize(
    ("scale", "more", "kept"),
    [("paper", (), 1), ("paper", ("--from-head-layer", 0), 0), ("small", (), 0)],
)
def test_of_simclr_v2_the_first_layer_is_kept_at_the_papers_scale(
    capsys, few, tmp_path, scale, more, kept
):
    run, out = tmp_path / "run", tmp_path / "out"
    pretrain = training("simclr_v2", few, run, "--scale", scale, "--encoder", "resnet-pico")
    assert call(capsys, *pretrain).code == 0
    assert tune(capsys, run, few, out, *more, steps=1).code == 0
    assert ("network.1.0.weight" in weights(out / "fine-tuned")) == bool(kept)
    assert described(out)["call"]["arguments"]["from_head_layer"] == kept


def test_the_settings_stay_those_it_began_with(capsys, finished, few, tmp_path):
    out = tmp_path / "out"
    tune(capsys, finished, few, out)
    before = tree(out)
    refused(
        tune(capsys, finished, few, out, "--resume", "--lr", 1),
        "other settings: lr was 0.001, not 1.0",
    )
    assert tree(out) == before


def test_the_weights_stay_those_it_began_with(capsys, finished, few, tmp_path):
    run, moved, out = tmp_path / "run", tmp_path / "moved", tmp_path / "out"
    shutil.copytree(finished, run)
    assert tune(capsys, run, few, out).code == 0
    run.rename(moved)
    assert tune(capsys, moved, few, out, "--resume").code == 0  # the same weights elsewhere
    assert call(capsys, *training("simclr", few, run, "--seed", 5, steps=2)).code == 0
    before = tree(out)
    refused(tune(capsys, run, few, out, "--resume"), "begun from other weights", "--out")
    assert tree(out) == before


def test_the_labelled_items_stay_those_it_began_with(capsys, finished, few, tmp_path):
    data, out = archive(tmp_path / "x.npz", 60), tmp_path / "out"
    words = ("finetune", finished, data, "--out", out, "--steps", 2, "--batch-size", 8, "--resume")
    assert call(capsys, *words, "--test", few).code == 0
    before = tree(out)
    refused(call(capsys, *words), "was begun on other labelled images", "--test")
    assert tree(out) == before
    assert call(capsys, *words, "--test", few).code == 0


def test_learning_rates_fall_where_the_encoder_is_learned(finished, few, tmp_path):
    rates = {}
    for name, scratch in (("fine-tuned", False), ("from scratch", True)):
        arguments = {"run": str(finished)} | asdict(FineTuneSettings(layer_decay=0.5))
        budget = {"steps": 1, "minutes": None, "seed": 0, "precision": "auto"}
        asked = call_of(few, 8, arguments, **budget) | {"method": name}
        some = Chosen.of(parts(few, None)[0], "all", 0)
        how = (RunFolder(tmp_path / name), asked, "cpu", Console(quiet=True), read_card(finished))
        job = Classifying(Training(*how), some, scratch=scratch)
        rates[name] = {group["lr"] for group in job.run.optimizer.param_groups}
    assert rates["from scratch"] == {1e-3}
    assert len(rates["fine-tuned"]) > 3


def test_bad_input(capsys, finished, few, tmp_path):
    out = tmp_path / "out"
    words = ("finetune", finished, few, "--out", out)
    refused(call(capsys, *words, "--labels", "some"), "--labels some is not understood")
    refused(call(capsys, *words, "--labels", "99-per-class"), "up to 20-per-class")
    refused(call(capsys, *words, "--layer-decay", 0), "--layer-decay above 0")
    for more in (("--batch-size", 0), ("--batch-size", 1), ("--weight-decay=-1",)):
        answer = call(capsys, *words, *more)
        refused(answer, "from")
        assert "Error parsing" not in answer.err
    refused(call(capsys, *words, "--mix", 2), "a mix of 2")
    refused(call(capsys, *words, "--steps", 1, "--minutes", 1), "two budgets")
    refused(call(capsys, "finetune", tmp_path / "no", few, "--out", out), "there is no run")
    unlabelled = photographs(tmp_path / "in", 4)
    refused(call(capsys, "finetune", finished, unlabelled, "--out", out), "labels")
    assert not out.exists()


def test_what_is_ones_own_is_not_overwritten(capsys, finished, few, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "annotations.txt").write_text("mine")
    refused(tune(capsys, finished, few, out), "holds other things")
    assert [p.name for p in out.iterdir()] == ["annotations.txt"]


def test_a_run_of_before_there_was_a_setting_goes_on(capsys, finished, few, tmp_path):
    out = tmp_path / "out"
    assert tune(capsys, finished, few, out).code == 0
    for name in ("fine-tuned", "from-scratch"):
        path = out / name / "run.json"
        found = json.loads(path.read_text())
        del found["call"]["arguments"]["flip"]
        path.write_text(json.dumps(found))
    assert tune(capsys, finished, few, out, "--resume").code == 0
    refused(tune(capsys, finished, few, out, "--resume", "--no-flip"), "flip was True, not False")


def test_a_class_that_train_lacks(capsys, finished, tmp_path):
    y = np.arange(60) % 4
    data = archive(
        tmp_path / "gap.npz",
        60,
        y=np.where(y == 1, 0, y),
        y_test=np.arange(12) % 4,
        x_test=np.zeros((12, 8, 8), np.uint8),
    )
    words = ("finetune", finished, data, "--out", tmp_path / "out", "--steps", 2)
    answer = call(capsys, *words, "--batch-size", 8, "--json")
    assert answer.code == 0, answer.err
    classifier = Classifier(selftaught.load(finished).encoder, labels=torch.arange(3), classes=4)
    weight, bias = 0.01 * torch.randn(3, 256), torch.randn(3)
    classifier.begin_with(weight, bias, torch.tensor([0, 2, 3]))
    scores = classifier.network[2](torch.randn(50, 256))
    assert (scores.argmax(1) != 1).all()


def test_weights_are_mixed_with_those_of_a_probe_only(capsys, finished, few, tmp_path):
    answer = tune(capsys, finished, few, tmp_path / "out", "--no-probe", "--mix", "0.5")
    refused(answer, "leave out --mix or --no-probe")
    assert tune(capsys, finished, few, tmp_path / "out", "--no-probe").code == 0


def test_one_label_a_class_is_said(capsys, finished, few, tmp_path):
    words = ("finetune", finished, few, "--out", tmp_path / "out", "--labels", "1-per-class")
    answer = call(capsys, *words, "--steps", 2, "--batch-size", 2, "--json")
    assert "no class has two labels" in json.loads(answer.out)["notes"]["fine-tuned"]


def test_the_card_has_no_number_of_the_encoder_it_began_with(capsys, finished, few, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    assert call(capsys, "export", finished, "--out", run).code == 0
    assert read_card(run).keys() > {"signals", "verdict", "evaluation", "dim"}
    assert tune(capsys, run, few, out, steps=1).code == 0
    card = read_card(out / "fine-tuned")
    assert not card.keys() & {"signals", "verdict", "evaluation", "dim", "exported"}
