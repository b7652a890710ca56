import json
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer

import selftaught
from commands.tiny import call, refused, tree
from selftaught import UserError, pretrained
from selftaught.commands import formats
from selftaught.commands.formats import sample
from selftaught.nn.adversarial import DCGANCritic
from selftaught.nn.base import Encoder
from selftaught.nn.colour import Lightness
from selftaught.nn.encoders import Convolutional, build
from selftaught.nn.filtered import Sobel
from selftaught.nn.local import PatchGrid
from selftaught.nn.pixels import PixelGPT
from selftaught.nn.scales import AmdimNano
from selftaught.nn.transformer import ViT
from selftaught.pretrained import Pretrained
from selftaught.recipes.run import Pixels


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "deep" / "encoder"
    selftaught.export(finished, out=out)
    return out


def test_what_is_in_the_folder(capsys, finished, tmp_path):
    before = tree(finished)
    answer = call(capsys, "export", finished, "--out", tmp_path / "out")
    assert answer.code == 0
    assert "load.py" in answer.out
    found = {p.name for p in (tmp_path / "out").iterdir()}
    assert found == {"encoder.safetensors", "encoder.json", "load.py"}
    assert tree(finished) == before


def test_the_card(exported, finished):
    card = json.loads((exported / "encoder.json").read_text())
    run = json.loads((finished / "run.json").read_text())
    assert (card["recipe"], card["seed"], card["steps"]) == ("simclr", 0, 4)
    assert card["arguments"] == run["call"]["arguments"]
    assert card["data"]["fingerprint"] == run["data"]["fingerprint"]
    assert card["pixels"]["mean"] == run["data"]["mean"]


def test_it_loads_to_the_same_features(exported, finished, data):
    images = list(np.load(data)["x"])
    one, other = selftaught.load(exported), selftaught.load(finished)
    assert torch.equal(one.preprocess(images), other.preprocess(images))
    with torch.no_grad():
        assert torch.equal(one(one.preprocess(images)), other(other.preprocess(images)))


def test_it_needs_nothing_of_the_run(finished, data, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    selftaught.export(tmp_path / "run", out=tmp_path / "out")
    shutil.rmtree(tmp_path / "run")
    shutil.move(tmp_path / "out", tmp_path / "moved")
    assert selftaught.load(tmp_path / "moved").dim == 256


def test_its_script_runs_anywhere(exported, tmp_path):
    Image.new("L", (9, 11), 77).save(tmp_path / "one.png")
    script = [sys.executable, str(exported / "load.py"), "one.png"]
    said = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("tensor(")


def test_its_script_says_what_it_wants(exported, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["load.py"])
    runpy.run_path(str(exported / "load.py"), run_name="__main__")
    assert capsys.readouterr().out == "simclr: 256 features; give it paths of images\n"


def test_nothing_is_overwritten(capsys, finished, tmp_path):
    refused(call(capsys, "export", finished, "--out", tmp_path), "not overwritten", "--out")
    assert not any(tmp_path.iterdir())


def test_below_a_file(capsys, finished, tmp_path):
    (tmp_path / "file").write_text("")
    refused(call(capsys, "export", finished, "--out", tmp_path / "file" / "out"), "cannot make")


def test_runs_that_are_none(capsys, finished, tmp_path):
    out = ("--out", tmp_path / "out")
    refused(call(capsys, "export", tmp_path / "gone", *out), "there is no run at")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(finished, unfinished, ignore=shutil.ignore_patterns("encoder.*"))
    refused(call(capsys, "export", unfinished, *out), "--resume")
    assert not (tmp_path / "out").exists()


# Formats for others


def put(folder, net, size, channels=1, **more):
    """A folder with an encoder that no run made; its running statistics are no longer the first."""
    shape = (16, channels, size, size)
    with torch.no_grad():
        net.train()(2 * torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 1)
    pixels = {"channels": channels, "size": size, "count": 9}
    pixels |= {"mean": [0.4, 0.5, 0.3][:channels], "std": [0.2, 0.3, 0.25][:channels]}
    card = {"recipe": "simclr", "arguments": {}, "seed": 0, "pixels": pixels} | more
    folder.mkdir()
    pretrained.write(folder, net.eval(), card)
    return folder


def named(folder, name, size, channels=1):
    net = build(name, channels=channels, size=size)
    return put(folder, net, size, channels, architecture={"name": name})


def given(net, size, channels=1):
    """The same where only this test can build it."""
    pixels = Pixels(channels, size, 9, (0.4, 0.5, 0.3)[:channels], (0.2, 0.3, 0.25)[:channels])
    card = {"recipe": "mine", "arguments": {}, "seed": 0}
    return Pretrained(net.eval(), pixels, card)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """One image of each kind that is easily read wrongly."""
    root, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    colour = draw.integers(0, 256, (20, 31, 4), dtype=np.uint8)
    Image.fromarray(colour).save(root / "transparent.png")
    Image.fromarray(colour[..., :3]).save(root / "colour.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(colour[..., :3]).save(root / "turned.jpg", exif=turned, quality=95)
    Image.fromarray(colour[:, :20, 0]).save(root / "grey.png")
    deep = draw.integers(0, 65536, (21, 30), dtype=np.uint16)
    Image.fromarray(deep).save(root / "deep.png")
    Image.fromarray(colour[..., 0]).convert("P").save(root / "palette.gif")
    return sorted(root.iterdir())


@pytest.fixture(scope="module")
def carried(finished, tmp_path_factory):
    """The run in each of the formats that a network of our own can have."""
    root = tmp_path_factory.mktemp("carried")
    for form in ("onnx", "torch_export", "sklearn"):
        selftaught.export(finished, out=root / form, format=form)
    return root


def script(folder, *words):
    """What the script defines; as a program, where there are words."""
    name = "__main__" if words else "loaded"
    before = sys.argv
    sys.argv = ["load.py", *map(str, words)]
    try:
        return runpy.run_path(str(folder / "load.py"), run_name=name)
    finally:
        sys.argv = before


def same_as_ours(folder, run, photos):
    """The script's features of image files are the encoder's, to within a grey level of pixels."""
    theirs, ours = script(folder), selftaught.load(run)
    x = ours.preprocess(photos)
    read = theirs["preprocess"](photos)
    step = 1 / 255 / min(ours.pixels.std)
    assert (read.shape, read.dtype) == (tuple(x.shape), np.float32)
    np.testing.assert_allclose(read, x, atol=1.01 * step)
    found = np.asarray(theirs["encoder"](x.numpy()))
    with torch.no_grad():
        np.testing.assert_allclose(found, ours(x), atol=1e-4, rtol=1e-4)
    one = np.asarray(theirs["encoder"](x.numpy()[1:2]))
    np.testing.assert_allclose(one, found[1:2], atol=1e-4, rtol=1e-4)


NEEDS_NOT = {"onnx": ("selftaught", "torch", "timm"), "torch_export": ("selftaught", "timm")}


@pytest.mark.parametrize("form", NEEDS_NOT)
def test_a_graph_read_by_its_own_library(carried, finished, photos, form, monkeypatch, capsys):
    same_as_ours(carried / form, finished, photos)
    for name in NEEDS_NOT[form]:
        monkeypatch.setitem(sys.modules, name, None)  # cannot be imported
    capsys.readouterr()
    script(carried / form, photos[0])
    assert capsys.readouterr().out.startswith(("[[", "tensor("))


@pytest.mark.parametrize("form", ["onnx", "torch_export", "sklearn"])
def test_scripts_say_what_they_want(carried, form, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["load.py"])
        runpy.run_path(str(carried / form / "load.py"), run_name="__main__")
    assert capsys.readouterr().out == "simclr: 256 features; give it paths of images\n"


def test_a_graph_takes_any_number_of_images_of_one_size(carried):
    import onnxruntime

    session = onnxruntime.InferenceSession(carried / "onnx" / "encoder.onnx")
    ((name, shape),) = [(i.name, i.shape) for i in session.get_inputs()]
    assert (name, shape[1:]) == ("images", [1, 8, 8])
    for count in (1, 2, 300):
        x = np.zeros((count, 1, 8, 8), np.float32)
        assert session.run(None, {"images": x})[0].shape == (count, 256)
    graph = torch.export.load(carried / "torch_export" / "encoder.pt2").module()
    for count in (1, 2, 300):
        assert graph(torch.zeros(count, 1, 8, 8)).shape == (count, 256)


def test_the_transformer_of_the_script(carried, finished, photos, capsys):
    theirs, ours = script(carried / "sklearn"), selftaught.load(finished)
    rows = theirs["table"](photos)
    found = theirs["transformer"].fit_transform(rows)
    with torch.no_grad():
        expected = ours(ours.preprocess(list(rows.reshape(-1, 8, 8))))
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    script(carried / "sklearn", photos[0])
    assert capsys.readouterr().out.startswith("[[")


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [("vit-nano", 8, 1), ("vit_tiny_patch16_224", 8, 3), ("resnet10t", 72, 3), ("resnet18", 16, 1)],
)
def test_timm_loads_it_strictly(tmp_path, photos, monkeypatch, name, size, channels):
    run = named(tmp_path / "run", name, size, channels)
    card = selftaught.export(run, out=tmp_path / "out", format="timm")
    same_as_ours(tmp_path / "out", run, photos)
    if not card["timm"]["small_stem"]:
        net = timm.create_model(card["timm"]["name"], **card["timm"]["options"])
        net.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"), strict=True)
        assert net.num_classes == 0
    monkeypatch.setitem(sys.modules, "selftaught", None)
    assert script(tmp_path / "out")["net"].training is False


def test_networks_that_timm_does_not_know(capsys, finished, tmp_path):
    answer = call(capsys, "export", finished, "--out", tmp_path / "out", "--format", "timm")
    refused(answer, "timm does not know", "ResNetNano", "onnx")
    assert not (tmp_path / "out").exists()


def tiny_vit(**more):
    shape = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
    return VisionTransformer(**shape, in_chans=1, num_classes=0, **more)


SMALL = {  # each kind of encoder that recipes build
    "vit": lambda: ViT(tiny_vit()),
    "dcgan": lambda: DCGANCritic(channels=1, size=8, width=4),
    "amdim": lambda: AmdimNano(channels=1, size=8, width=4, dim=32, depth=1),
    "cpc": lambda: PatchGrid(build("resnet-nano", channels=1, size=4), 8, patch=4, slack=1),
    "igpt": lambda: PixelGPT(
        channels=1, size=8, side=4, palette=5, dim=8, heads=2, depth=1, total=2
    ),
    "sobel": lambda: Sobel(DCGANCritic(channels=2, size=8, width=4)),
    "lightness": lambda: Lightness(
        DCGANCritic(channels=1, size=8, width=4), (0.5, 0.5, 0.5), (0.3, 0.3, 0.3)
    ),
}


@pytest.mark.parametrize("kind", SMALL)
def test_every_kind_of_encoder_has_graphs(tmp_path, kind):
    torch.manual_seed(0)
    channels = 3 if kind == "lightness" else 1
    encoder = given(SMALL[kind](), 8, channels)
    tried = sample(encoder, 8)
    with torch.no_grad():
        expected = encoder(tried.x)
        for write in (formats.torch_export, formats.onnx):
            found = write(tmp_path, encoder, encoder.card, tried).features
            np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0


class Choosy(Encoder):
    """Counts the bright places of an image: as many as there are."""

    dim = 2

    def forward(self, x):
        bright = (x > 0).nonzero()
        return bright[: len(bright) // 2, :2].float()


class Swayed(Encoder):
    """Says other things once it was made a graph."""

    dim = 1

    def forward(self, x):
        return x.mean(dim=(1, 2, 3))[:, None] + torch.compiler.is_exporting()


@pytest.mark.parametrize("form", ["onnx", "torch_export"])
@pytest.mark.parametrize(
    ("kind", "words"), [(Choosy, "no fixed graph"), (Swayed, "other features")]
)
def test_encoders_that_graphs_cannot_hold(capsys, tmp_path, monkeypatch, form, kind, words):
    monkeypatch.setattr(pretrained, "load", lambda run: given(kind(), 8))
    answer = call(capsys, "export", tmp_path, "--out", tmp_path / "out", "--format", form)
    refused(answer, words, "--format safetensors")
    assert not (tmp_path / "out").exists()


def test_a_dynamic_size_has_to_be_fixed(capsys, tmp_path, monkeypatch):
    net = Convolutional(tiny_vit(dynamic_img_size=True))
    monkeypatch.setattr(pretrained, "load", lambda run: given(net, 8))
    for form in ("onnx", "torch_export"):
        words = ("export", tmp_path, "--out", tmp_path / form, "--format", form)
        refused(call(capsys, *words), "dynamic", "--size 8", "--format timm")
        assert not (tmp_path / form).exists()
    answer = call(capsys, *words, "--size", "12")
    assert (answer.code, answer.err) == (0, "")
    assert "1 x 12 x 12" in answer.out
    x = torch.randn(2, 1, 12, 12)
    graph = torch.export.load(tmp_path / "torch_export" / "encoder.pt2").module()
    with torch.no_grad():
        torch.testing.assert_close(graph(x), net(x))


def test_sizes_that_do_not_fit(capsys, tmp_path, finished):
    out = ("--out", tmp_path / "out")
    refused(call(capsys, "export", finished, *out, "--size", "8"), "--size is for graphs")
    words = ("export", finished, *out, "--format", "torch_export", "--size")
    refused(call(capsys, *words, "0"), "not 0")
    fixed = named(tmp_path / "run", "amdim-nano", 8)
    words = ("export", fixed, *out, "--format", "torch_export", "--size")
    refused(call(capsys, *words, "12"), "8 pixels", "not 12")
    assert not (tmp_path / "out").exists()


def test_what_onnx_needs_is_said_in_one_line(capsys, tmp_path, finished, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else 1)
    words = ("export", finished, "--out", tmp_path / "out", "--format", "onnx")
    refused(call(capsys, *words), "needs onnxscript", "pip install 'selftaught[onnx]'")
    assert not (tmp_path / "out").exists()


def test_another_format(tmp_path, finished):
    with pytest.raises(UserError, match=r"no format named 'tflite'; use --format safetensors, "):
        selftaught.export(finished, out=tmp_path / "out", format="tflite")


def test_what_others_load_is_not_ours(carried):
    with pytest.raises(UserError, match=r"for others \(onnx\), which load\.py there loads"):
        selftaught.load(carried / "onnx")
    assert selftaught.load(carried / "sklearn").dim == 256


def test_the_card_of_a_format(carried, finished):
    card = json.loads((carried / "onnx" / "encoder.json").read_text())
    run = json.loads((finished / "run.json").read_text())
    assert card["method"]["name"] == "simclr"
    assert (card["method"]["year"], card["method"]["url"][:8]) == (2020, "https://")
    assert card["data"]["fingerprint"] == run["data"]["fingerprint"]
    assert (card["dim"], card["feature"][:31]) == (256, "the mean over the places of the")
    seen = card["preprocessing"]
    assert (seen["size"], seen["channels"]) == (8, 1)
    assert (seen["mean"], seen["std"]) == (run["data"]["mean"], run["data"]["std"])
    assert card["exported"]["format"] == "onnx"
    assert card["exported"]["read_by"].startswith("onnxruntime ")
    assert 0 <= card["exported"]["largest_difference"] < 1e-4


def test_the_card_has_all_that_was_measured(capsys, data, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    found = selftaught.evaluate(tmp_path / "run", data, protocols=["knn/20"])
    place = described["call"]["data"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(described | {"evaluation": found}))
    for protocols in ("clustering", "fewshot/1"):
        words = ("evaluate", tmp_path / "run", "--data", place, "--protocols", protocols)
        assert call(capsys, *words).code == 0
    once = selftaught.export(tmp_path / "run", out=tmp_path / "once")
    twice = selftaught.export(tmp_path / "once", out=tmp_path / "twice")
    for card in (once, twice):
        measured = card["evaluation"][place]
        assert measured["versions"].keys() == {"knn/20", "clustering", "fewshot/1"}
        assert measured["rows"].keys() == {"encoder", "random", "pixels"}
        assert measured["rows"]["random"]["knn/20"] == found["rows"]["random"]["knn/20"]
        assert (measured["train"], measured["split"]) == (found["train"], found["split"])


def test_scripts_hold_nothing_from_outside(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    card = json.loads((tmp_path / "run" / "encoder.json").read_text())
    card["data"]["name"] = card["feature"] = card["verdict"]["word"] = (
        '"""\nraise SystemExit("ran")'
    )
    (tmp_path / "run" / "encoder.json").write_text(json.dumps(card))
    selftaught.export(tmp_path / "run", out=tmp_path / "out")
    assert "SystemExit" not in (tmp_path / "out" / "load.py").read_text()


@pytest.mark.parametrize("format", ["onnx", "torch_export"])
def test_a_classifier_as_a_graph(capsys, teacher, few, tmp_path, format):
    out = tmp_path / "out"
    words = ("export", teacher, "--out", out, "--format", format, "--classifier")
    answer = call(capsys, *words)
    assert answer.code == 0, answer.err
    assert answer.out.startswith(f"the classifier is in {out}")
    card = json.loads((out / "encoder.json").read_text())
    assert (card["classes"], card["dim"]) == (["0", "1", "2"], 3)
    assert card["feature"].startswith("the scores of the classes")
    said = json.loads((teacher / "finetune.json").read_text())
    assert card["accuracy"]["rows"] == said["rows"]
    loaded = runpy.run_path(str(out / "load.py"))
    with np.load(few) as arrays:
        images = list(arrays["x"])
    classifier = selftaught.load_classifier(teacher)
    x = classifier.preprocess(images)
    with torch.no_grad():
        expected = classifier(x)
    np.testing.assert_allclose(loaded["classifier"](x.numpy()), expected, atol=1e-4, rtol=1e-4)
    path = tmp_path / "one.png"
    Image.fromarray(images[1]).save(path)
    script = [sys.executable, str(out / "load.py"), str(path), str(path)]
    printed = subprocess.run(script, capture_output=True, text=True, timeout=100)
    assert printed.stdout == f"{[str(int(expected[1].argmax()))] * 2}\n", printed.stderr


def test_a_classifier_is_exported_as_a_graph_only(capsys, teacher, finished, tmp_path):
    out = ("--out", tmp_path / "out", "--classifier")
    refused(call(capsys, "export", teacher, *out), "--format onnx or torch_export")
    words = ("export", finished, *out, "--format", "onnx")
    refused(call(capsys, *words), "is no classifier")
    assert not (tmp_path / "out").exists()
