import pytest
import torch
from safetensors.torch import load_file, save_file

from contract.small import build, train
from selftaught import initial
from selftaught.errors import UserError
from selftaught.initial import initialise
from selftaught.nn import encoders
from selftaught.nn.residual import ResNetNano


def weights(tmp_path, name="resnet-nano", **more):
    torch.manual_seed(9)
    net = encoders.build(name, channels=1, size=16, **more)
    path = tmp_path / "w.safetensors"
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, path)
    return path, net.state_dict()


def same(module, state):
    return all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_the_encoder_begins_with_the_weights_of_a_file(tmp_path):
    path, state = weights(tmp_path)
    run = build("simclr")
    before = run.method.projector[0].weight.clone()
    said = initialise(run.method, str(path))
    assert same(run.method.encoder, state)
    assert torch.equal(run.method.projector[0].weight, before)
    assert f"{len(state)} tensors" in said
    train(run, 1)  # the optimiser holds these very parameters
    assert not same(run.method.encoder, state)


@pytest.mark.parametrize("name", ["byol", "moco_v2", "data2vec", "ijepa", "dino"])
def test_so_do_its_slow_copies(name, tmp_path):
    run = build(name)
    encoder = run.method.encoder
    kind = "resnet-nano" if isinstance(encoder, ResNetNano) else "vit-nano"
    path, state = weights(tmp_path, kind, patch=getattr(encoder, "patch", None))
    initialise(run.method, str(path))
    alike = [m for m in run.method.modules() if type(m) is type(encoder)]
    assert len(alike) == 2
    assert all(same(part, state) for part in alike)


def test_what_the_encoder_has_no_place_for_is_left_out_and_said(tmp_path):
    path, state = weights(tmp_path)
    save_file({**load_file(path), "fc.weight": torch.zeros(3)}, path)
    run = build("simclr")
    assert "left out: 1, fc.weight the first" in initialise(run.method, str(path))
    assert same(run.method.encoder, state)


def test_names_of_timms_are_found_inside_the_encoder(tmp_path, monkeypatch):
    run = build("simclr", encoder="resnet18")
    torch.manual_seed(9)
    other = encoders.build("resnet18", channels=1, size=16).net
    monkeypatch.setattr("timm.create_model", lambda name, **options: other)
    initialise(run.method, "timm:resnet18")
    assert same(run.method.encoder.net, other.state_dict())


def test_another_shape_is_refused_and_nothing_is_loaded(tmp_path):
    path, _ = weights(tmp_path)
    state = load_file(path)
    save_file({**state, "stem.weight": torch.zeros(32, 3, 3, 3)}, path)
    run = build("simclr")
    before = {k: v.clone() for k, v in run.method.state_dict().items()}
    with pytest.raises(UserError, match=r"stem.weight is \(32, 3, 3, 3\) and not \(32, 1, 3, 3\)"):
        initialise(run.method, str(path))
    del state["stem.weight"]
    save_file(state, path)
    with pytest.raises(UserError, match="weight is missing; 1 such"):
        initialise(run.method, str(path))
    assert same(run.method, before)


def test_weights_that_are_not_there(tmp_path, monkeypatch):
    run = build("simclr")
    with pytest.raises(UserError, match="give --init a finished run"):
        initialise(run.method, str(tmp_path / "no"))
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="is no sound"):
        initialise(run.method, str(tmp_path / "bad.safetensors"))

    with pytest.raises(UserError, match="is no network for this encoder"):
        initialise(build("igpt").method, f"{initial.TIMM}resnet18")

    def offline(name, **options):
        raise OSError("no route to host\nand so on")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(UserError, match=r"weights of timm's resnet18 \(no route to host\)"):
        initialise(run.method, f"{initial.TIMM}resnet18")
