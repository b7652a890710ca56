import copy
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from contract.small import build, stream
from references import distillation as reference
from selftaught import dist
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.data2vec import Data2Vec
from selftaught.nn import encoders
from selftaught.train import fit

L = 16  # patches of the encoder below


def every_third(x, n, length):
    return ((torch.arange(n)[:, None] + torch.arange(length)) % 3 == 0).expand(n, length)


def data2vec(seed=0, **more):
    """In float64, with a slow copy that is unlike the encoder."""
    torch.manual_seed(seed)
    encoder = encoders.build("vit-nano", channels=1, size=16, patch=4)
    method = Data2Vec(encoder, **{"mask": every_third, "top": 2} | more).double()
    with torch.no_grad():
        for p in method.target.parameters():
            p += 0.02 * torch.randn_like(p)
    return method


def batch(seed=1, n=3):
    g = torch.Generator().manual_seed(seed)
    return ViewBatch((torch.randn(n, 1, 16, 16, generator=g).double(),), torch.arange(n))


def teacher(method):
    return method.target.modules_[0]


@pytest.mark.parametrize(
    ("norms", "beta"),
    [(("layer", "layer"), 2.0), (("instance", "none"), 0.0), (("layer", "none"), 0.1)],
)
@pytest.mark.parametrize("top", [1, 4])
def test_the_term_is_the_papers(top, norms, beta):
    block_norm, final_norm = norms
    method = data2vec(top=top, beta=beta, block_norm=block_norm, final_norm=final_norm)
    x, hidden = batch().views[0], every_third(None, 3, L)
    ours = method(batch())["regression"].item()
    with torch.no_grad():
        blocks = [b.numpy() for b in teacher(method).layers(x)]
        tokens = method.encoder.tokens(x, hidden=hidden, blank=method.blank)
        p = F.linear(tokens, method.head.weight, method.head.bias).numpy()
    target = reference.data2vec_targets(blocks, top, block_norm, final_norm)
    expected = reference.data2vec_loss(p, target, hidden.numpy(), beta or None)
    assert ours == pytest.approx(expected, rel=1e-9)


def test_the_slow_copy_sees_what_is_hidden_and_the_encoder_does_not():
    method = data2vec()
    x = batch().views[0]
    other = x.clone()
    other[0, 0, 1, 1] += 3  # in patch 0, which is hidden
    seen = x.clone()
    seen[0, 0, 1, 6] += 3  # in patch 1, which is not
    hidden = every_third(None, 3, L)
    assert hidden[0, 0]
    assert not hidden[0, 1]
    assert not torch.allclose(method.targets(x), method.targets(other))
    tokens = [method.encoder.tokens(i, hidden=hidden, blank=method.blank) for i in (x, other, seen)]
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.allclose(tokens[0], tokens[2])


def test_the_slow_copy_gets_no_gradient_and_moves_only_after_the_step():
    method = data2vec()
    before = copy.deepcopy(method.target.state_dict())
    method(batch())["regression"].backward()
    assert all(p.grad is None for p in method.target.parameters())
    assert method.blank.grad.abs().sum() > 0
    assert method.encoder.net.patch_embed.proj.weight.grad.abs().sum() > 0
    for name, value in method.target.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.25, 0.3, 0.99])
def test_the_momentum_rises_in_a_line_and_then_stays(progress):
    method = data2vec(momentum=0.9, final_momentum=0.98, ramp=0.25)
    method.progress = progress
    before = [p.clone() for p in method.target.parameters()]
    method.after_step()
    momentum = reference.linear_momentum(round(progress * 100), 0.9, 0.98, 25)
    sources = method.encoder.parameters()
    for old, new, source in zip(before, method.target.parameters(), sources, strict=True):
        torch.testing.assert_close(new, momentum * old + (1 - momentum) * source.detach())


@pytest.mark.parametrize("momentum", [0.9998, 0.5])
def test_without_a_ramp_the_momentum_is_the_papers_for_images(momentum):
    method = data2vec(momentum=momentum)
    for progress in (0.0, 0.5):
        method.progress = progress
        before = teacher(method).net.norm.bias.clone()
        method.after_step()
        moved = (teacher(method).net.norm.bias - before) / (method.encoder.net.norm.bias - before)
        np.testing.assert_allclose(moved.detach().numpy(), 0.0002, rtol=1e-6)


def test_several_masks_share_one_target():
    def drawn(x, n, length):
        return torch.rand(n, length) < 0.4

    method = data2vec(mask=drawn, masks=3)
    one = data2vec(mask=drawn)
    torch.manual_seed(5)
    together = method(batch())["regression"]
    torch.manual_seed(5)
    apart = [one(batch())["regression"].item() for _ in range(3)]
    assert len(set(apart)) == 3
    assert together.item() == pytest.approx(sum(apart) / 3, rel=1e-12)


def test_hidden_places_of_all_processes_count_alike(monkeypatch):
    """Where one process hides more than the other, as with sequences of unlike lengths."""

    def growing(x, n, length):
        return torch.arange(length) < x[:, 0, 0, :1].abs() * 5 + 1

    method, whole = data2vec(mask=growing), batch(n=4).views[0]
    one = method(ViewBatch((whole,), torch.arange(4)))["regression"].item()
    total = growing(whole, 4, L).sum()
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    monkeypatch.setattr(dist, "total", lambda x: total)
    parts = [method(ViewBatch((x,), torch.arange(2)))["regression"].item() for x in whole.chunk(2)]
    assert parts[0] != pytest.approx(parts[1], rel=1e-3)
    assert sum(parts) / 2 == pytest.approx(one, rel=1e-9)


class Words(NamedTuple):
    """A padded batch of sequences."""

    ids: torch.Tensor  # (B, L)
    lengths: torch.Tensor  # (B,)

    def real(self):
        return torch.arange(self.ids.shape[1]) < self.lengths[:, None]  # (B, L)


class Reader(nn.Module):
    """The smallest encoder of words: two layers of attention, with dropout."""

    def __init__(self, words=20, dim=16, length=8, dropout=0.0):
        super().__init__()
        self.dim = dim
        self.embed = nn.Embedding(words, dim)
        self.position = nn.Parameter(torch.randn(length, dim))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, 2, 32, dropout, batch_first=True) for _ in range(2)
        )

    def layers(self, x, *, hidden=None, blank=None):
        tokens = self.embed(x.ids)
        if hidden is not None:
            tokens = torch.where(hidden[..., None], blank, tokens)
        tokens = tokens + self.position
        found = []
        for block in self.blocks:
            tokens = block(tokens, src_key_padding_mask=~x.real())
            found.append(tokens)
        return found

    def tokens(self, x, keep=None, *, hidden=None, blank=None):
        return self.layers(x, hidden=hidden, blank=blank)[-1]


def sentences(n=64):
    """Each counts up from a random word, so that any word tells of the others."""
    first = torch.randint(0, 10, (n, 1))
    return Words(first + torch.arange(8), torch.randint(4, 9, (n,)))


def real_words(x, n, length):
    return (torch.rand(n, length) < 0.3) & x.real()


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_it_learns_from_words_too():
    torch.manual_seed(0)
    method = Data2Vec(Reader(), mask=real_words, top=2, momentum=0.99, final_momentum=0.999)
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], 3e-3)
    batches = iter(lambda: ViewBatch((sentences(),), torch.arange(64)), None)
    losses = [s.terms["regression"].item() for s in fit(method, batches, optimizer, steps=60)]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_padding_changes_nothing():
    torch.manual_seed(0)
    method = Data2Vec(Reader(), mask=lambda x, n, length: x.real(), top=2)
    x = sentences(4)
    other = Words(torch.where(x.real(), x.ids, 19), x.lengths)
    assert not torch.equal(x.ids, other.ids)
    one, two = (method(ViewBatch((i,), torch.arange(4)))["regression"] for i in (x, other))
    assert one.item() == pytest.approx(two.item(), rel=1e-6)


def test_dropout_is_for_the_encoder_alone():
    method = Data2Vec(Reader(dropout=0.5), mask=real_words, top=2).train()
    assert method.encoder.training
    x = sentences(4)
    assert torch.equal(method.targets(x), method.targets(x))
    hidden = real_words(x, 4, 8)
    one, two = (method.encoder.tokens(x, hidden=hidden, blank=method.blank) for _ in range(2))
    assert not torch.equal(one, two)


def test_the_recipe_hides_blocks_of_the_size_asked_for():
    run = build("data2vec", patch=2, ratio=0.5)
    (x,) = next(stream(run)).views
    hidden = run.method.mask(x, len(x), 64)
    assert (hidden.sum(dim=1) == 32).all()
    square = hidden.view(-1, 8, 8)
    assert (square[:, 1:] == square[:, :-1]).float().mean() > 0.7


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"encoder": "resnet-nano"}, "--encoder vit-nano"),
        ({"ratio": 0.01}, "--ratio"),
        ({"ratio": 1.0}, "--ratio"),
        ({"top": 0}, "--top"),
        ({"masks": 0}, "--masks"),
        ({"beta": -1.0}, "--beta"),
        ({"momentum": 1.5}, "--momentum"),
        ({"momentum": 0.9, "final_momentum": 0.5}, "--final-momentum"),
        ({"ramp": 2.0}, "--ramp"),
    ],
)
def test_bad_settings_are_one_line(settings, said):
    with pytest.raises(UserError, match=said):
        build("data2vec", **settings)


def test_more_blocks_than_there_are_is_one_line():
    with pytest.raises(UserError, match="an encoder of 6 blocks; use --top"):
        data2vec(top=7)(batch())


def test_weights_begin_as_in_the_authors_code():
    torch.manual_seed(0)
    method = Data2Vec(encoders.build("vit-nano", channels=1, size=16, patch=4))
    net = method.encoder.net
    assert method.head.weight.abs().max() <= 0.02
    pairs = zip(method.target.parameters(), method.encoder.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    for number, block in enumerate(net.blocks, start=1):
        assert block.mlp.fc1.weight.abs().max() <= 0.02
        assert 0.98 < block.mlp.fc2.weight.abs().max() * (2 * number) ** 0.5 / 0.02 < 1.01
