import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from commands.tiny import archive, call, refused, training
from selftaught.commands.heldout import kept
from selftaught.commands.pictures import reconstruct, sample, undisturbed
from selftaught.errors import UserError
from selftaught.pretrained import method_of

MADE = '''
import torch
from selftaught.recipes.masked import mae
from selftaught.recipes.run import Run


def toy(data, *, batch_size: int = 16) -> Run:
    """MAE that can also make images out of nothing, and of codes."""
    from dataclasses import replace
    from selftaught.recipes.shared import Training

    run = mae(data, patch=2, dim=32, depth=1, heads=2, training=Training(batch_size=batch_size))
    run.method.__class__ = Toy
    return run


from selftaught.methods.mae import MAE


class Toy(MAE):
    def sample(self, count):
        return torch.randn(count, 1, 8, 8)

    def code(self, x):
        return x.flatten(1)

    def decode(self, code):
        return code.unflatten(1, (1, 8, 8))
'''


@pytest.fixture
def data(tmp_path):
    return archive(tmp_path / "data.npz")


@pytest.fixture
def run(tmp_path, data, capsys):
    place = tmp_path / "run"
    assert call(capsys, *training("mae", data, place)).code == 0
    return place


@pytest.fixture
def toy(tmp_path, data, capsys, monkeypatch):
    (tmp_path / "made.py").write_text(MADE)
    monkeypatch.syspath_prepend(tmp_path)
    place = tmp_path / "toy"
    answer = call(
        *(capsys, "pretrain", "made:toy", data, "--out", place, "--steps", 2),
        *("--batch-size", 16, "--evaluate", "off"),
    )
    assert answer.code == 0, answer.err
    return place


def opened(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_input_seen_and_output_side_by_side(run, data, tmp_path, capsys):
    out = tmp_path / "grid.png"
    answer = call(capsys, "reconstruct", run, data, "--out", out, "--count", 5)
    assert answer.code == 0, answer.err
    assert "psnr" in answer.out
    assert "of whole images, made knowing the mean and contrast of each hidden patch" in answer.out
    assert f"48 that were trained on, some of them in {out}" in answer.out
    sheet = opened(out)
    zoomed = 8 * 7 + 2  # 8 pixels, 7 times as large, and the gap
    assert sheet.shape == (14 + 5 * zoomed, 3 * zoomed, 3)
    first = np.load(data)["x"][0]
    cell = sheet[14 : 14 + 56 : 7, :56:7, 0].astype(int)
    assert np.abs(cell - first).max() <= 1


def test_what_was_seen_is_part_of_the_input(run, data):
    method, _, _ = method_of(run)
    x = torch.randn(4, 1, 8, 8)
    with undisturbed(method, 0):
        made = method.pictures(x)
    hidden = made["seen"] == 0
    assert 0.6 < hidden.float().mean() < 0.9
    torch.testing.assert_close(made["seen"][~hidden], x[~hidden])
    torch.testing.assert_close(made["painted"][~hidden], x[~hidden])
    assert not torch.equal(made["painted"][hidden], x[hidden])


def test_the_seed_decides_the_picture(run, data, tmp_path):
    scores = [
        reconstruct(run, data, out=tmp_path / f"{i}.png", seed=seed)["psnr"]
        for i, seed in enumerate((0, 0, 1))
    ]
    assert scores[0] == scores[1] != scores[2]
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()


def test_small_images_have_no_structural_similarity(run, data, tmp_path):
    assert "ssim" not in reconstruct(run, data, out=tmp_path / "a.png")


@pytest.fixture
def larger(tmp_path, capsys):
    """A run on 200 images of 12 pixels, of which it keeps 10, and its data."""
    draw = np.random.default_rng(3)
    x = draw.integers(0, 256, (250, 12, 12), dtype=np.uint8)
    np.savez(tmp_path / "larger.npz", x=x[:200])
    np.savez(tmp_path / "parts.npz", x_train=x[:200], x_test=x[200:])
    np.savez(tmp_path / "other.npz", x=x[1:201])
    place = tmp_path / "larger"
    own = ("--patch", "3", "--smallest-crop", "1")
    assert call(capsys, *training("mae", tmp_path / "larger.npz", place, *own)).code == 0
    return place


@pytest.mark.parametrize(
    ("name", "part", "count", "which"),
    [
        ("parts", "test", 50, "of the test part"),
        ("larger", "kept", 10, "that were kept from training"),
        ("other", "train", 200, "of the train part"),
    ],
)
def test_figures_are_of_images_that_were_not_trained_on(
    name, part, count, which, larger, tmp_path, capsys
):
    data, out = tmp_path / f"{name}.npz", tmp_path / "grid.png"
    answer = call(capsys, "reconstruct", larger, data, "--out", out)
    assert f"; {count} {which}, some of them in" in answer.out
    found = reconstruct(larger, data, out=tmp_path / "again.png")
    assert (found["part"], found["images"]) == (part, count)
    x = np.load(data)["x_test" if part == "test" else "x"]
    x = x[kept(200, 16)] if part == "kept" else x
    method, pixels, _ = method_of(larger)
    x = (torch.from_numpy(x)[:, None].double() / 255 - pixels.mean[0]) / pixels.std[0]
    with undisturbed(method, 0):
        made = [method.pictures(batch)["painted"] for batch in x.float().split(128)]
    made, x = (y.double() * pixels.std[0] + pixels.mean[0] for y in (torch.cat(made), x))
    error = ((made.clamp(0, 1) - x) ** 2).mean(dim=(1, 2, 3))
    assert found["psnr"] == pytest.approx((-10 * error.log10()).mean().item(), abs=1e-3)
    assert -1 < found["ssim"] < 1


def test_samples_and_what_lies_between_two_images(toy, data, run, tmp_path, capsys):
    answer = call(capsys, "sample", toy, "--out", tmp_path / "a.png", "--count", 10)
    assert answer.out == f"new images in {tmp_path / 'a.png'}\n", answer.err
    assert opened(tmp_path / "a.png").shape == (2 * 58, 8 * 58, 3)
    answer = call(capsys, "sample", toy, "--out", tmp_path / "b.png", "--between", data)
    assert answer.code == 0, answer.err
    sheet = opened(tmp_path / "b.png")
    first = np.load(data)["x"][0].astype(int)
    assert np.abs(sheet[:56:7, :56:7, 0] - first).max() <= 1
    assert sheet.shape == (8 * 58, 8 * 58, 3)


def test_samples_are_measured_by_an_encoder_of_ones_own(toy, run, data, tmp_path, capsys):
    found = sample(toy, out=tmp_path / "a.png", encoder=run, data=data)
    assert {"frechet", "precision", "recall", "images"} <= found.keys()
    assert found["images"] == 48
    assert found["frechet"] > 0
    answer = call(
        *(capsys, "sample", toy, "--out", tmp_path / "b.png"), *("--encoder", run, "--data", data)
    )
    assert f"in features of {run}: frechet" in answer.out


@pytest.mark.parametrize(
    ("name", "drawings"),
    [
        ("mae", ["reconstructed"]),
        ("vae", ["reconstructed", "sampled"]),
        ("gan", ["sampled"]),
        ("bigan", ["reconstructed", "sampled"]),
        ("igpt", ["sampled"]),
    ],
)
def test_a_run_draws_what_it_makes_and_is_not_disturbed(name, drawings, data, tmp_path, capsys):
    drawn, plain = tmp_path / "drawn", tmp_path / "plain"
    assert call(capsys, *training(name, data, drawn, "--draw-every", "1e-9")).code == 0
    assert call(capsys, *training(name, data, plain, "--draw-every", "0")).code == 0
    names = [p.name for p in sorted((drawn / "pictures").iterdir())]
    assert names == [f"step-{i:08d}-{what}.png" for i in (1, 2, 3, 4) for what in drawings]
    assert not (plain / "pictures").exists()
    for state in sorted((plain / "checkpoints" / "step-00000004").iterdir()):
        same = drawn / "checkpoints" / "step-00000004" / state.name
        assert same.read_bytes() == state.read_bytes(), state.name


def test_only_what_was_told_is_said_to_be_told(data, tmp_path, capsys):
    plain = training("mae", data, tmp_path / "plain", "--no-normalize-target")
    assert call(capsys, *plain).code == 0
    assert "told" not in reconstruct(tmp_path / "plain", data, out=tmp_path / "a.png")


def test_methods_that_make_no_images_draw_none(data, tmp_path, capsys):
    run = tmp_path / "run"
    assert call(capsys, *training("simclr", data, run, "--draw-every", "1e-9")).code == 0
    assert not (run / "pictures").exists()
    answer = call(capsys, "reconstruct", run, data, "--out", tmp_path / "a.png")
    refused(answer, "simclr does not make images again")
    refused(call(capsys, "sample", run, "--out", tmp_path / "a.png"), "simclr makes no new images")
    answer = call(capsys, "sample", run, "--out", tmp_path / "a.png", "--between", data)
    refused(answer, "simclr has no codes")


def test_bad_input(run, data, tmp_path, capsys):
    taken = tmp_path / "taken.png"
    taken.write_bytes(b"mine")
    refused(call(capsys, "reconstruct", run, data, "--out", taken), "not overwritten")
    assert taken.read_bytes() == b"mine"
    refused(call(capsys, "reconstruct", run, data, "--out", tmp_path / "a.jpg"), "no .png")
    refused(call(capsys, "reconstruct", run, data, "--out", tmp_path / "no" / "a.png"), "no folder")
    refused(call(capsys, "reconstruct", tmp_path / "no", data, "--out", taken), "there is no run")
    refused(call(capsys, "sample", run, "--out", taken, "--data", data), "--encoder and --data")
    new = ("--out", tmp_path / "new.png", "--count")
    refused(call(capsys, "sample", run, *new, -3), "--count with 1 or more")
    refused(call(capsys, "sample", run, *new, 3, "--between", data), "between others are 64")
    refused(call(capsys, "reconstruct", run, data, *new, 0), "--count with 1 or more")
    refused(call(capsys, *training("mae", data, tmp_path / "x", "--draw-every", "-1")), "0 or more")


def test_a_run_without_a_checkpoint(run, data, tmp_path):
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="no checkpoint yet"):
        reconstruct(run, data, out=tmp_path / "a.png")
