import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import selftaught
from commands.tiny import archive, photographs, training
from selftaught import UserError, pretrained
from selftaught.cli import main
from selftaught.data.images import open_images
from selftaught.recipes.run import Pixels

CHANNELS = {"grey": 1, "colour": 3}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A run on grey arrays of 8 pixels and one on colour photographs of 16."""
    root = tmp_path_factory.mktemp("runs")
    data = archive(root / "data.npz")
    assert main(training("simclr", data, root / "grey", steps=2)) == 0
    data = photographs(root / "in", 12)
    words = training("mae", data, root / "colour", "--batch-size", "4", "--size", "16", steps=2)
    assert main(words) == 0
    return root


def test_it_is_in_eval_mode_and_knows_its_width(runs):
    encoder = selftaught.load(runs / "grey")
    assert not any(module.training for module in encoder.modules())
    assert encoder.dim == 256
    assert encoder.card["recipe"] == "simclr"
    assert selftaught.load(str(runs / "colour")).dim == 128


def test_features_do_not_depend_on_the_rest_of_the_batch(runs):
    encoder = selftaught.load(runs / "grey")
    x = encoder.preprocess(list(np.load(runs / "data.npz")["x"][:6]))
    with torch.no_grad():
        torch.testing.assert_close(encoder(x)[2:3], encoder(x[2:3]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CHANNELS)
def test_what_preprocess_takes(runs, name, tmp_path):
    encoder, channels = selftaught.load(runs / name), CHANNELS[name]
    size = encoder.pixels.size
    draw = np.random.default_rng(0)
    array = draw.integers(0, 256, (20, 30, 3)[: 3 if channels == 3 else 2], dtype=np.uint8)
    picture = Image.fromarray(array)
    picture.save(tmp_path / "one.png")
    tensor = torch.from_numpy(array if channels == 3 else array[..., None]).permute(2, 0, 1)
    found = encoder.preprocess(picture)
    assert (found.shape, found.dtype) == ((1, channels, size, size), torch.float32)
    for other in (array, tensor, tmp_path / "one.png", str(tmp_path / "one.png")):
        assert torch.equal(encoder.preprocess(other), found)
    several = encoder.preprocess([picture, array, tmp_path / "one.png"])
    assert torch.equal(several, found.expand(3, -1, -1, -1))


def test_preprocess_is_the_central_square_normalised(runs):
    encoder = selftaught.load(runs / "grey")
    size, (mean,), (std,) = encoder.pixels.size, encoder.pixels.mean, encoder.pixels.std
    wide = np.zeros((size, 3 * size), np.uint8)
    wide[:, size : 2 * size] = 255
    expected = torch.full((1, 1, size, size), (1 - mean) / std)
    torch.testing.assert_close(encoder.preprocess(wide), expected, atol=1e-5, rtol=1e-5)


def test_an_array_with_one_channel_of_its_own(runs):
    encoder = selftaught.load(runs / "grey")
    array = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert torch.equal(encoder.preprocess(array[..., None]), encoder.preprocess(array))


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey", np.zeros((8, 8), np.float32)),
        ("grey", np.zeros((8, 8, 3), np.uint8)),
        ("colour", np.zeros((8, 8), np.uint8)),
        ("colour", torch.zeros(8, 8, 3, dtype=torch.uint8)),
        ("colour", torch.zeros(8, 8, dtype=torch.uint8)),
        ("colour", torch.zeros(3, 8, 8)),
    ],
)
def test_arrays_that_do_not_fit(runs, name, image):
    with pytest.raises(UserError, match=rf"give uint8 with {CHANNELS[name]} channels"):
        selftaught.load(runs / name).preprocess(image)


def test_no_images_at_all(runs):
    encoder = selftaught.load(runs / "grey")
    with pytest.raises(UserError, match="image"):
        encoder.preprocess([])


def test_files_that_are_no_images(runs, tmp_path):
    (tmp_path / "page.jpg").write_text("<html>")
    for path in (tmp_path / "page.jpg", tmp_path / "gone.jpg"):
        with pytest.raises(UserError, match=f"cannot read {path}"):
            selftaught.load(runs / "grey").preprocess([path])


def test_a_deep_picture_is_not_clipped(runs, tmp_path):
    deep = (np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    encoder = selftaught.load(runs / "grey")
    from_file = encoder.preprocess(tmp_path / "deep.png")
    assert len(from_file.unique()) > 50
    assert torch.equal(encoder.preprocess(Image.open(tmp_path / "deep.png")), from_file)


def test_untrained_is_the_run_as_it_began(runs):
    card = pretrained.read_card(runs / "grey")
    images = list(np.load(runs / "data.npz")["x"][:4])
    trained, one, again = (selftaught.load(runs / "grey"), *map(pretrained.untrained, [card] * 2))
    x = trained.preprocess(images)
    with torch.no_grad():
        assert torch.equal(one(x), again(x))
        assert not torch.equal(one(x), trained(x))
        assert not torch.equal(one(x), pretrained.untrained(card, seed=1)(x))


def test_rebuild_depends_on_the_seed_alone():
    pixels = Pixels(channels=1, size=8, count=9, mean=(0.5,), std=(0.5,))
    before = torch.get_rng_state()
    states = []
    for caller in (1, 2):
        torch.manual_seed(caller)
        states.append(pretrained.rebuild("simclr", pixels, {"hidden": 32}, 7).method.state_dict())
        assert torch.initial_seed() == caller
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    torch.set_rng_state(before)


def test_the_images_of_a_run_are_seen_as_in_training(runs):
    encoder = selftaught.load(runs / "colour")
    images = open_images(runs / "in")
    assert (encoder.pixels.channels, encoder.pixels.count) == (images.channels, len(images))


# Damage


@pytest.fixture
def run(runs, tmp_path) -> Path:
    shutil.copytree(runs / "grey", tmp_path / "run")
    return tmp_path / "run"


def test_the_home_folder(run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.parent))
    assert selftaught.load("~/run").dim == 256


def test_no_run(tmp_path):
    with pytest.raises(UserError, match="there is no run at"):
        selftaught.load(tmp_path / "gone")
    with pytest.raises(UserError, match=r"holds no finished encoder.*--resume"):
        selftaught.load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="there is no run at"):
        selftaught.load(tmp_path / "file")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"recipe": "simclr"}', "null"])
def test_a_damaged_card(run, text):
    (run / "encoder.json").write_text(text)
    with pytest.raises(UserError, match=r"encoder\.json is damaged"):
        selftaught.load(run)


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "of another"])
def test_damaged_weights(run, runs, damage):
    file = run / "encoder.safetensors"
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "of another":
        shutil.copy(runs / "colour" / "encoder.safetensors", file)
    else:
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    with pytest.raises(UserError, match=r"encoder\.safetensors is damaged") as caught:
        selftaught.load(run)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_gone(run):
    card = json.loads((run / "encoder.json").read_text())
    (run / "encoder.json").write_text(json.dumps(card | {"recipe": "gone_package:simclr"}))
    with pytest.raises(UserError, match="gone_package"):
        selftaught.load(run)


def test_views_of_arrays_are_read(runs):
    encoder = selftaught.load(runs / "grey")
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 1), dtype=np.uint8)
    wanted = encoder.preprocess([image.copy()])
    turned = image[::-1][::-1]
    frozen = image.copy()
    frozen.flags.writeable = False
    assert all(torch.equal(encoder.preprocess([x]), wanted) for x in (turned, frozen))


@pytest.mark.parametrize(("size", "side"), [(64, 64), (96, 32)])
def test_raw_pixels_of_large_images_are_those_of_a_tiny_one(size, side):
    pixels = Pixels(channels=3, size=size, count=9, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    net = nn.Conv2d(3, 4, 1)
    net.dim = 4
    raw = pretrained.RawPixels(pretrained.Pretrained(net, pixels, {}))
    image = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(v)[:, None, None] for v in (pixels.mean, pixels.std))
    found = raw((image - mean) / std).unflatten(1, (3, side, side))
    every = size // side
    want = image.unflatten(3, (side, every)).unflatten(2, (side, every)).mean((3, 5))
    torch.testing.assert_close(found, want)
