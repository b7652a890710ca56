import dataclasses
import shutil

import numpy as np
import pytest
import torch

import selftaught
from commands.tiny import call, refused
from contract.small import PIXELS, build, stream, tokenizer, train
from references.masked import beit_loss
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.beit import BEiT
from selftaught.methods.vqvae import VQVAE
from selftaught.nn import encoders
from selftaught.nn.masking import blockwise
from selftaught.nn.tokenizer import Tokenizer


class Words(torch.nn.Module):
    """The word of a patch is how many of its pixels are bright."""

    def __init__(self, encoder):
        super().__init__()
        self.cut = encoder.patches

    def forward(self, x):
        return (self.cut(x) > 0).sum(-1) % 5


def beit(**more):
    torch.manual_seed(0)
    encoder = encoders.build("vit-nano", channels=1, size=16, patch=4)
    return BEiT(encoder, Words(encoder), words=5, **{"smallest": 2, **more}).double()


def image():
    return torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(1)).double()


def test_the_term_is_the_papers():
    method, x = beit(), image()
    torch.manual_seed(5)
    ours = method(ViewBatch((x,), torch.arange(3)))["words"].item()
    torch.manual_seed(5)
    hidden = blockwise(3, 4, 6, smallest=2)
    with torch.no_grad():
        tokens = method.encoder.tokens(x, hidden=hidden, blank=method.blank)
        scores, words = method.head(tokens), method.tokenizer(x)
    expected = beit_loss(scores.numpy(), words.numpy(), hidden.numpy())
    assert ours == pytest.approx(expected, rel=1e-9)
    found = (scores.argmax(-1) == words)[hidden].double().mean()
    assert method.watched["found"].item() == pytest.approx(found.item())


def test_the_encoder_never_reads_a_hidden_pixel():
    method, x = beit(), image()
    torch.manual_seed(5)
    hidden = blockwise(3, 4, 6, smallest=2)
    patches = method.encoder.patches(x)
    other = method.encoder.images(torch.where(hidden.unsqueeze(-1), patches + 9, patches))
    one, two = (method.encoder.tokens(v, hidden=hidden, blank=method.blank) for v in (x, other))
    assert torch.equal(one, two)


def test_the_tokenizer_is_that_of_the_run_and_stays_as_it_is():
    run = build("beit")
    codes = run.method.tokenizer.codes
    assert isinstance(codes, VQVAE)
    before = {name: t.clone() for name, t in codes.state_dict().items()}
    other = selftaught.pretrained.method_of(tokenizer())[0].eval()
    (x,) = next(stream(run)).views
    assert torch.equal(run.method.train().tokenizer(x), other.ids(x))
    train(run, 3)
    assert all(torch.equal(value, before[name]) for name, value in codes.state_dict().items())


def test_images_normalised_otherwise_have_the_same_words():
    method = selftaught.pretrained.method_of(tokenizer())[0].eval()
    pixels = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    own, given = ((0.5,), (0.25,)), ((0.1,), (0.7,))
    words = Tokenizer(method, own, given)((pixels - 0.1) / 0.7)
    assert torch.equal(words, method.ids((pixels - 0.5) / 0.25))
    assert len(words.unique()) > 1


def test_an_exported_encoder_needs_no_tokenizer(capsys, tmp_path):
    folder, out = tmp_path / "words", tmp_path / "run"
    data = tmp_path / "x.npz"
    np.savez(data, x=np.random.default_rng(0).integers(0, 256, (48, 8, 8), dtype=np.uint8))
    own = ("--batch-size", 16, "--steps", 2, "--evaluate", "off")
    small = ("--codes", 8, "--dim", 4, "--width", 8, "--stride", 2)
    assert call(capsys, "pretrain", "vqvae", data, "--out", folder, *own, *small).code == 0
    words = ("pretrain", "beit", data, "--out", out, "--tokenizer", folder, *own)
    answer = call(capsys, *words, "--smallest-block", 2)
    assert answer.code == 0, answer.err
    shutil.rmtree(folder)
    encoder = selftaught.load(out)
    assert encoder.card["architecture"] == {"name": "vit-nano", "patch": 2}
    assert encoder(torch.zeros(1, 1, 8, 8)).shape == (1, 128)
    words = ("pretrain", "beit", data, "--out", tmp_path / "b", "--tokenizer", folder, *own)
    refused(call(capsys, *words), "there is no run")


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UserError, match="train one with `selftaught pretrain vqvae`"):
        build("beit", tokenizer="")
    with pytest.raises(UserError, match="there is no run"):
        build("beit", tokenizer=str(tmp_path))
    with pytest.raises(UserError, match="use a vqvae run of --stride 2"):
        build("beit", patch=2)
    with pytest.raises(UserError, match="beit needs an encoder with tokens"):
        build("beit", encoder="resnet-nano")
    with pytest.raises(UserError, match="hides nothing or leaves nothing"):
        build("beit", ratio=0.99)
    with pytest.raises(UserError, match="--smallest-block from 1"):
        build("beit", smallest_block=0)
    with pytest.raises(UserError, match="a run on images like these"):
        build("beit", pixels=dataclasses.replace(PIXELS, size=32))


def test_a_tokenizer_of_another_method_is_refused(capsys, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((32, 16, 16), np.uint8))
    words = ("pretrain", "autoencoder", tmp_path / "x.npz", "--out", tmp_path / "run", "--dim", 4)
    call(capsys, *words, "--batch-size", 16, "--steps", 1, "--evaluate", "off", "--width", 8)
    with pytest.raises(UserError, match="is a run of autoencoder"):
        build("beit", tokenizer=str(tmp_path / "run"))


def test_weights_begin_as_in_the_authors_code():
    method = beit()
    net = method.encoder.net
    assert method.head.weight.abs().max() <= 0.02
    for number, block in enumerate(net.blocks, start=1):
        assert block.mlp.fc1.weight.abs().max() <= 0.02
        assert 0.98 < block.mlp.fc2.weight.abs().max() * (2 * number) ** 0.5 / 0.02 < 1.01
