import dataclasses

import numpy as np
import pytest
import torch

from contract.small import COLOUR, PIXELS, build, images, papers, stream, whole
from references.colour import colour_loss, rebalancing, soft_encoding
from selftaught.errors import UserError
from selftaught.method import Reconstructs, ViewBatch


def plain(run, x):
    """Images in [0, 1] as the method is given them."""
    mean, std = torch.tensor((run.views.mean, run.views.std))[:, :, None, None]
    return (x - mean) / std


def surveyed(run, found=None):
    with torch.no_grad():
        run.method.eval().survey(found or whole(pixels=COLOUR))
    return run.method


def test_the_prior_is_that_of_all_images():
    method = surveyed(build("colorization", stride=8))
    x = torch.cat([batch.views[0] for batch in whole(pixels=COLOUR)])
    ab = method._colours(method.encoder.lab(x)).permute(0, 2, 3, 1).flatten(0, 2).numpy()
    centres = method.bins.centres.numpy()
    prior = sum(soft_encoding(v, centres, 5, 5) for v in ab.astype("float64")) / len(ab)
    expected = torch.from_numpy(rebalancing(prior, 0.5))
    torch.testing.assert_close(method.bins.weight.double(), expected, rtol=1e-4, atol=1e-6)


def test_without_a_survey_all_bins_count_alike():
    assert (build("colorization").method.bins.weight == 1).all()


def test_rare_colours_count_more():
    run = build("colorization")
    x = torch.full((20, 3, 16, 16), 0.1)
    x[:, 0] = 0.7
    x[-1] = x[-1].flip(0)  # one blue among many red
    x = plain(run, x)
    method = surveyed(run, [ViewBatch((x,), torch.arange(20))])
    bins, _ = method.bins.encode(method._colours(method.encoder.lab(x[[0, -1]])))
    common, rare = method.bins.weight[bins[:, 0, 0, 0]]
    assert rare > 5 * common


def test_the_term_is_the_papers_with_rare_colours_counting_more():
    method = surveyed(build("colorization", stride=8)).double()
    batch = next(stream(build("colorization"), dtype=torch.float64))
    with torch.no_grad():
        lab = method.encoder.lab(batch.views[0])
        ab = method._colours(lab).permute(0, 2, 3, 1).numpy()  # (B, G, G, 2)
        scores = method.decoder(method.encoder.maps_of(lab)).numpy()
        found = method(batch)["colours"].item()
    centres, w = method.bins.centres.numpy(), method.bins.weight.numpy()
    places = [soft_encoding(colour, centres, 5, 5) for colour in ab.reshape(-1, 2)]
    z = np.stack(places).reshape(*ab.shape[:3], -1)
    assert w.max() > 2 * w.min()
    assert found == pytest.approx(colour_loss(scores, z, w), rel=1e-9)


def test_the_prior_is_measured_before_the_first_step_and_never_again():
    run = build("colorization")
    assert run.survey_every > 1e12
    assert "bins.weight" in run.method.state_dict()


def test_gray_images_count_nothing_and_nothing_but_gray_ones_is_refused():
    run = build("colorization")
    gray = plain(run, torch.rand(4, 1, 16, 16).expand(-1, 3, -1, -1))
    batch = ViewBatch((gray,), torch.arange(4))
    assert run.method(batch)["colours"] == 0
    with pytest.raises(UserError, match="gray"):
        surveyed(run, [batch])


def test_images_of_one_channel_are_refused_in_one_line():
    with pytest.raises(UserError, match="no colours to predict; give images in colour"):
        build("colorization", pixels=PIXELS)


def test_targets_are_pixels_and_not_mixtures():
    run = build("colorization", stride=4)
    x = torch.zeros(1, 3, 16, 16)
    x[:, 0, ::2], x[:, 2, 1::2] = 1, 1  # red and blue lines
    lab = run.method.encoder.lab(plain(run, x))
    found = run.method._colours(lab).permute(0, 2, 3, 1).flatten(0, 2)
    for colour in found:
        assert (lab[0, 1:].flatten(1).T - colour).norm(dim=1).min() < 1e-3


@pytest.mark.parametrize(("encoder", "stride"), [("resnet-nano", 4), ("vit-nano", 4)])
@pytest.mark.parametrize("size", [8, 15, 28])
def test_pictures(encoder, stride, size):
    pixels = dataclasses.replace(COLOUR, size=size)
    run = build("colorization", pixels=pixels, encoder=encoder, stride=stride)
    method = run.method.eval()
    assert isinstance(method, Reconstructs)
    x = plain(run, images(dataclasses.replace(pixels, count=3)).float() / 255)
    with torch.no_grad():
        found = method.pictures(x)
    assert list(found) == ["gray", "coloured"]
    before, gray, coloured = (method.encoder.lab(v) for v in (x, *found.values()))
    assert coloured.shape == x.shape
    torch.testing.assert_close(gray[:, 0], before[:, 0], atol=1e-2, rtol=0)
    assert gray[:, 1:].abs().max() < 0.1


def test_pictures_show_the_colours_that_were_told():
    """Where all scores say one bin, images get its colours at their own lightness."""
    method = build("colorization", grid=10).method.eval()
    (told,) = (method.bins.centres == torch.tensor([20.0, -10.0])).all(1).nonzero()[:, 0]
    layer = method.decoder.layers[-1]
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()[told] = 100
        x = method.encoder.lab.image(
            torch.full((1, 3, 16, 16), 50.0) * torch.tensor([1, 0, 0])[:, None, None]
        )
        lab = method.encoder.lab(method.pictures(x)["coloured"])
    expected = torch.tensor([50.0, 20.0, -10.0])[:, None, None].expand_as(lab[0])
    torch.testing.assert_close(lab[0], expected, atol=0.05, rtol=0)


def test_colours_are_told_at_the_encoders_places_where_these_are_finer():
    run = build("colorization", encoder="vit-nano", patch=2, stride=4)  # 8 x 8 for 4 x 4
    assert run.method.side == 8
    assert torch.isfinite(run.method(next(stream(run)))["colours"])


def test_the_exported_encoder_takes_colour_images():
    run = build("colorization")
    x = next(stream(run)).views[0]
    assert run.method.encoder(x).shape == (16, run.method.encoder.dim)


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ({"stride": 0}, "--stride"),
        ({"stride": 17}, "--stride"),
        ({"mix": 0.0}, "--mix"),
        ({"mix": 1.5}, "--mix"),
        ({"temperature": 0.0}, "--temperature"),
        ({"grid": 1}, "--grid"),
        ({"sigma": -1}, "--sigma"),
        ({"width": 0}, "1 or more"),
    ],
)
def test_what_cannot_be_is_refused(more, option):
    with pytest.raises(UserError, match=option):
        build("colorization", **more)


def test_the_papers_optimiser_is_that_of_the_authors_solver():
    """train/solver.prototxt: Adam of 0.9 and 0.99, decay in the gradient, a tenth every 225,000."""
    run = papers("colorization")
    assert isinstance(run.optimizer, torch.optim.Adam)
    assert not isinstance(run.optimizer, torch.optim.AdamW)
    assert {group["betas"] for group in run.optimizer.param_groups} == {(0.9, 0.99)}
    for step in (0, 224_000, 226_000, 449_000, 451_000, 499_999):
        assert run.schedule(step / 500_000) == pytest.approx(0.1 ** (step // 225_000))
