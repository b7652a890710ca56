import copy
import dataclasses

import pytest
import torch

from contract.small import PIXELS, build, papers, stream, train
from references import codes as reference
from selftaught.errors import UserError
from selftaught.method import Codes, Reconstructs, Samples, ViewBatch
from selftaught.methods.vqvae import VQVAE
from selftaught.nn.decoders import Decoder
from selftaught.nn.encoders import build as encoder_of


def vqvae(seed=0, **more):
    """In float64, with places of 4 pixels."""
    torch.manual_seed(seed)
    encoder = encoder_of("resnet-nano", channels=1, size=16, stride=4)
    decoder = Decoder(8, 1, 16, side=4, width=8, vector=False)
    return VQVAE(encoder, decoder, **{"codes": 16, "dim": 8} | more).double()


def batch(n=6):
    g = torch.Generator().manual_seed(1)
    return ViewBatch((torch.randn(n, 1, 16, 16, generator=g).double(),), torch.arange(n))


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_terms_are_the_papers(decay):
    method = vqvae(decay=decay, beta=0.7)
    terms = method(batch())
    (x,) = batch().views
    with torch.no_grad():
        z = method.embed(x)
        vectors = method.codebook.vectors
        ids = reference.nearest(z.flatten(0, 2).numpy(), vectors.numpy())
        codebook, commitment = reference.vq_terms(z.flatten(0, 2).numpy(), vectors.numpy(), 0.7)
        y = method.paint(vectors[torch.from_numpy(ids)].view(z.shape))
    expected = {
        "reconstruction": reference.squared_error(y.numpy(), x.numpy()),
        "commitment": commitment,
        "codebook": codebook,
    }
    if decay:
        del expected["codebook"]
    assert {n: t.item() for n, t in terms.items()} == pytest.approx(expected, rel=1e-9)


def test_the_encoder_gets_the_gradient_of_the_decoders_input():
    method = vqvae()
    seen = {}

    def keep(name):
        def hook(value):
            seen[name] = value

        return hook

    embed, paint = method.embed, method.paint

    def watched_embed(x):
        z = embed(x)
        z.register_hook(keep("encoder"))
        return z

    def watched_paint(q):
        q.register_hook(keep("decoder"))
        return paint(q)

    method.embed, method.paint = watched_embed, watched_paint
    method(batch())["reconstruction"].backward()
    assert seen["decoder"].abs().max() > 0
    assert torch.equal(seen["encoder"], seen["decoder"])
    assert method.codebook.vectors.grad is None


def test_each_term_trains_its_own_part():
    """Section 3.2: decoder by the first, encoder by the first and the last, codes by the second."""
    for term, parts in (
        ("reconstruction", {"encoder", "narrow", "decoder"}),
        ("codebook", {"codebook"}),
        ("commitment", {"encoder", "narrow"}),
    ):
        method = vqvae()
        method(batch())[term].backward()
        touched = {n.split(".")[0] for n, p in method.named_parameters() if p.grad is not None}
        assert touched == parts, term


def test_the_codebook_term_moves_codes_towards_what_they_stand_for():
    method = vqvae()
    method(batch())["codebook"].backward()
    with torch.no_grad():
        z = method.embed(batch().views[0])
        ids = method.codebook.nearest(z)
        for k in range(16):
            own = z[ids == k]
            mean = (method.codebook.vectors[k] - own).sum(0) * 2 / z.numel()
            torch.testing.assert_close(method.codebook.vectors.grad[k], mean)


def test_with_a_decay_only_what_comes_after_the_step_moves_the_codes():
    method = vqvae(decay=0.9)
    assert not any(n.startswith("codebook") for n, _ in method.named_parameters())
    before = method.codebook.vectors.clone()
    sum(method(batch()).values()).backward()
    assert torch.equal(method.codebook.vectors, before)
    expected = copy.deepcopy(method.codebook)
    with torch.no_grad():
        z = method.embed(batch().views[0])
        expected.update(expected.uses(z, expected.nearest(z)))
    method.after_step()
    torch.testing.assert_close(method.codebook.vectors, expected.vectors)
    assert not torch.equal(method.codebook.vectors, before)


def test_ids_are_words_that_the_image_is_made_of():
    run = build("vqvae")
    train(run, 8)
    method = run.method.eval().requires_grad_(False)
    (x,) = next(stream(run)).views
    ids = method.ids(x)
    assert ids.shape == (16, 4 * 4)
    assert ids.dtype == torch.long
    assert ids.min() >= 0
    assert ids.max() < 16
    assert len(ids.unique()) > 1
    nearest = method.codebook(ids).view(16, 4, 4, 8)
    distance = (method.embed(x) - nearest).norm(dim=-1)
    for vector in method.codebook.vectors:
        assert (distance <= (method.embed(x) - vector).norm(dim=-1) + 1e-5).all()
    pictures = method.pictures(x)
    assert list(pictures) == ["seen", "reconstruction"]
    assert torch.equal(pictures["seen"], x)
    torch.testing.assert_close(pictures["reconstruction"], method.paint(nearest))
    assert pictures["reconstruction"].shape == x.shape
    assert isinstance(method, Reconstructs)
    assert not isinstance(method, Codes)
    assert not isinstance(method, Samples)


@torch.no_grad()
def test_ids_tell_rows_of_places_from_top_to_bottom():
    method = vqvae().eval()
    (x,) = batch().views
    other = x.clone()
    z = method.embed(x)
    other[:, :, :2] = 9.0
    moved = (method.embed(other) - z).norm(dim=-1).mean(dim=(0, 2))  # by row
    assert moved[0] > 2 * moved[3]
    expected = method.codebook.nearest(z.flatten(1, 2))
    assert torch.equal(method.ids(x), expected)


@torch.no_grad()
def test_the_feature_is_the_mean_of_the_map():
    method = build("vqvae").method.eval()
    x = torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(method.encoder(x), method.encoder.maps(x).mean((2, 3)))


def test_the_perplexity_is_watched_and_not_minimised():
    method = vqvae()
    terms = method(batch())
    ids = method.ids(batch().views[0])
    expected = reference.perplexity(ids.flatten().numpy(), 16)
    assert set(terms) == {"reconstruction", "codebook", "commitment"}
    assert method.watched["perplexity"].item() == pytest.approx(expected)
    assert not method.watched["perplexity"].requires_grad


def test_restarts_bring_codes_into_use():
    few, many = (build("vqvae", codes=64, restart=restart) for restart in (0.0, 0.1))
    for run in (few, many):
        run.method.codebook.vectors.mul_(100)  # far from all that the encoder says
        train(run, 20)
    one, two = (run.method.watched["perplexity"].item() for run in (few, many))
    assert one < 5
    assert two > 20


@pytest.mark.parametrize("encoder", ["resnet-nano", "vit-nano", "resnet18"])
@pytest.mark.parametrize("size", [8, 16])
def test_any_encoder_with_a_map(encoder, size):
    method = build("vqvae", pixels=dataclasses.replace(PIXELS, size=size), encoder=encoder).method
    x = torch.randn(2, 1, size, size)
    assert method.pictures(x)["reconstruction"].shape == x.shape
    places = size // 4 if encoder != "resnet18" else size // 8
    assert method.ids(x).shape == (2, places**2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"stride": 3}, "--stride"),
        ({"codes": 1}, "--codes"),
        ({"dim": 0}, "1 or more"),
        ({"beta": -0.1}, "--beta"),
        ({"decay": 1.0}, "--decay"),
        ({"restart": 2.0}, "--restart"),
    ],
)
def test_bad_settings_are_one_line(settings, said):
    with pytest.raises(UserError, match=said):
        build("vqvae", **settings)


def test_an_encoder_without_a_map_is_one_line():
    with pytest.raises(UserError, match="no features of places"):
        build("vqvae", pixels=dataclasses.replace(PIXELS, size=32), encoder="vgg16_bn")


def test_the_papers_rate_is_constant():
    assert {papers("vqvae").schedule(share / 10) for share in range(10)} == {1.0}
