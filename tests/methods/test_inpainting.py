import dataclasses

import pytest
import torch

from contract.small import PIXELS, build, images, papers, steps, stream
from references import painting
from selftaught.errors import UserError
from selftaught.method import Reconstructs

HOLES = pytest.mark.parametrize("hole", ["centre", "blocks"])


def a_batch(run):
    return next(stream(run))


def noisy_hole(method, x, seed):
    """The images with other pixels where the next hole is, and that hole."""
    torch.manual_seed(seed)
    hidden, _ = method.holes.draw(len(x))
    torch.manual_seed(seed)
    return torch.where(hidden, torch.randn_like(x), x), hidden


@HOLES
@pytest.mark.parametrize("encoder", ["resnet-nano", "vit-nano"])
def test_the_hole_is_never_seen(hole, encoder):
    method = build("inpainting", hole=hole, encoder=encoder).method.eval()
    x = torch.randn(4, 1, 16, 16)
    other, hidden = noisy_hole(method, x, 3)
    with torch.no_grad():
        assert torch.equal(method.paint(x, hidden), method.paint(other, hidden))
        assert not torch.equal(method.paint(x, hidden), method.paint(x + 1, hidden))
        torch.manual_seed(3)
        first = method.pictures(x)
        torch.manual_seed(3)
        second = method.pictures(other)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name])


@HOLES
def test_only_the_error_of_the_window_that_counts_is_taken(hole):
    method = build("inpainting", hole=hole, adversarial=0.0).method.eval()
    batch = a_batch(build("inpainting"))
    x = batch.views[0]
    torch.manual_seed(5)
    hidden, weight = method.holes.draw(len(x))
    painted, real = method.paint(x, hidden), x[:, :, method.holes.window, method.holes.window]
    squares = (weight * (painted - real).square()).flatten(1).sum(1) / (weight > 0).flatten(1).sum(
        1
    )
    torch.manual_seed(5)
    terms = method(batch)
    assert terms.keys() == {"reconstruction"}
    torch.testing.assert_close(terms["reconstruction"], 0.999 * squares.mean())


@HOLES
def test_the_terms_are_the_papers(hole):
    """What is painted of the hole, beside what is real around it, is shown to the critic."""
    method = build("inpainting", hole=hole, adversarial=0.25).method.double().eval()
    batch = next(stream(build("inpainting"), dtype=torch.float64))
    x = batch.views[0]
    with torch.no_grad():
        torch.manual_seed(5)
        hidden, weight = method.holes.draw(len(x))
        painted, real = method.paint(x, hidden), x[:, :, method.holes.window, method.holes.window]
        shown = torch.where(weight > 0, painted, real)
        of_real, of_shown = (method.critic(images).numpy() for images in (real, shown))
        torch.manual_seed(5)
        found = {name: term.item() for name, term in method(batch).items()}
    assert abs(of_real.mean() - of_shown.mean()) > 1e-4
    loss = painting.hole_loss(painted.numpy(), real.numpy(), weight.double().numpy())
    assert found == {
        "reconstruction": pytest.approx(0.999 * loss, rel=1e-6),
        "adversarial": pytest.approx(0.25 * painting.painter_loss(of_shown), rel=1e-9),
        "critic": pytest.approx(painting.critic_loss(of_real, of_shown), rel=1e-9),
    }


def players(method):
    critic = {n: p for n, p in method.named_parameters() if n.startswith("critic.")}
    painter = {n: p for n, p in method.named_parameters() if n not in critic}
    return critic, painter


@HOLES
@pytest.mark.parametrize("term", ["reconstruction", "adversarial", "critic"])
def test_each_term_moves_one_player(hole, term):
    run = build("inpainting", hole=hole)
    critic, painter = players(run.method)
    run.method(a_batch(run))[term].backward()
    of = {True: critic, False: painter}[term == "critic"]
    other = {True: painter, False: critic}[term == "critic"]
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for n, p in of.items() if "weight" in n
    )
    assert all(p.grad is None for p in other.values())


def test_the_critic_learns_which_pictures_are_painted():
    run = build("inpainting", adversarial=1e-9, critic_lr=1.0, lr=4e-3)
    losses = [step.terms["critic"].item() for step in steps(run, 120)]
    assert 0 < sum(losses[-5:]) < 0.75 * sum(losses[:5])


def test_the_adversary_is_weighted():
    def terms(weight):
        run = build("inpainting", adversarial=weight)
        torch.manual_seed(0)
        return run.method(a_batch(run))

    little, much = terms(0.001), terms(1.0)
    torch.testing.assert_close(1000 * little["adversarial"], much["adversarial"])
    assert little["critic"] == much["critic"]
    assert 0.5 < much["adversarial"] < 1  # ln 2, before anything is learnt


def test_a_critic_of_blocks_sees_real_pixels_around_them():
    method = build("inpainting", hole="blocks").method
    seen = []
    method.critic.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    batch = a_batch(build("inpainting"))
    (x,) = batch.views
    torch.manual_seed(1)
    hidden, _ = method.holes.draw(len(x))
    torch.manual_seed(1)
    method(batch)
    for pictures in seen:
        assert torch.equal(pictures[~hidden], x[~hidden])
    assert sum(torch.equal(pictures, x) for pictures in seen) == 1


@HOLES
@pytest.mark.parametrize("size", [8, 15, 28])
@pytest.mark.parametrize("encoder", ["resnet-nano", "vit-nano"])
def test_pictures(hole, size, encoder):
    pixels = dataclasses.replace(PIXELS, size=size, count=3)
    patch = {"patch": 5} if (size, encoder) == (15, "vit-nano") else {}
    method = build("inpainting", pixels=pixels, hole=hole, encoder=encoder, **patch).method.eval()
    assert isinstance(method, Reconstructs)
    x = (images(pixels).float() / 255 - 0.5) / 0.25
    torch.manual_seed(2)
    hidden, _ = method.holes.draw(3)
    torch.manual_seed(2)
    with torch.no_grad():
        found = method.pictures(x)
    assert list(found) == ["seen", "painted"]
    assert torch.equal(found["seen"], x.masked_fill(hidden, 0))
    assert torch.equal(found["painted"][~hidden], x[~hidden])
    with torch.no_grad():
        window = method.paint(x, hidden)
    inside = hidden[:, :, method.holes.window, method.holes.window]
    torch.testing.assert_close(found["painted"][hidden], window[inside])


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_critics_rate_stays_a_share_of_the_painters(schedule):
    run = build("inpainting", lr=1e-2, critic_lr=0.1, schedule=schedule, warmup=0.3)
    critic = {id(p) for p in run.method.critic.parameters()}
    rates = []
    for _ in steps(run, 9, of=10, schedule=run.schedule):
        own, others = set(), set()
        for group in run.optimizer.param_groups:
            whose = own if all(id(p) in critic for p in group["params"]) else others
            whose.add(group["lr"])
            assert group["betas"] == (0.5, 0.999)
        ((mine,), (theirs,)) = own, others
        assert mine == pytest.approx(0.1 * theirs)
        rates.append(theirs)
    assert max(rates) == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(max(rates)) or schedule == "cosine"
    assert rates[-1] < 0.2 * max(rates) or schedule == "constant"


def test_the_papers_rates_are_constant():
    """train.lua: 0.0002 for the critic and ten times that for the painter, to the end."""
    run = papers("inpainting", pixels=dataclasses.replace(PIXELS, size=32))
    assert {group["lr"] for group in run.optimizer.param_groups} == {2e-3, 2e-4}
    assert {run.schedule(share / 10) for share in range(10)} == {1.0}


def test_the_decoder_and_the_critic_begin_small():
    method = build("inpainting").method
    layers = [
        m
        for part in (method.decoder, method.critic)
        for m in part.modules()
        if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
    ]
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.15)
        assert layer.bias is None or not layer.bias.any()
    x = torch.randn(3, 1, 16, 16)
    assert method.critic(x).abs().max() < 0.5


def test_a_map_finer_than_the_window_is_refused():
    with pytest.raises(UserError, match="larger --patch, or --hole blocks"):
        build("inpainting", encoder="vit-nano", patch=1, hole="centre")


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ({"reconstruction": 0.0}, "--reconstruction"),
        ({"adversarial": -1.0}, "--adversarial"),
        ({"critic_lr": 0.0}, "--critic-lr"),
        ({"width": 0}, "1 or more"),
    ],
)
def test_what_cannot_be_is_refused(more, option):
    with pytest.raises(UserError, match=option):
        build("inpainting", **more)
