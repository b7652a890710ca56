import pytest
import torch

from contract.small import PIXELS, build, steps, stream
from references.distillation import ibot_loss, update_center
from selftaught.errors import UserError
from selftaught.methods.ibot import IBOT
from selftaught.nn.encoders import build as encoder
from selftaught.nn.masking import one_of_two, take

SMALL = {"hidden": 16, "bottleneck": 6, "outputs": 5}


def ibot(name="ibot", **more):
    """A run whose teacher is unlike its student, and a batch for it, in float64."""
    run = build(name, **{"crops": 2, "head_norm": False} | more)
    run.method.double().train()
    with torch.no_grad():
        for p in run.method.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))
    return run.method, next(stream(run, dtype=torch.float64))


@torch.no_grad()
def seen(method, batch, blanked):
    """Scores of all: student's of views and large views' patches, teacher's of both."""
    large = torch.cat(batch.views[:2])
    tokens = method.student.tokens(large, hidden=blanked.hidden, blank=method.blank)
    views = [*tokens.mean(1).chunk(2), *(method.student(x) for x in batch.views[2:])]
    _, head, *rest = method.teacher.modules_
    taught = method.encoder.tokens(large)
    return (
        torch.stack([method.heads[0](h) for h in views]).numpy(),
        method.heads[-1](tokens).unflatten(0, (2, -1)).numpy(),
        torch.stack([head(h) for h in taught.mean(1).chunk(2)]).numpy(),
        (rest[-1] if rest else head)(taught).unflatten(0, (2, -1)).numpy(),
    )


def drawn(batch, ratio=0.3):
    """What forward will hide after the same seed."""
    torch.manual_seed(5)
    blanked = one_of_two(len(batch.index), 16, ratio, torch.device("cpu"))
    torch.manual_seed(5)
    return blanked


@pytest.mark.parametrize("shared", [True, False])
def test_the_terms_are_the_papers(shared):
    method, batch = ibot(shared=shared, patch_temperature=0.06)
    method.progress = 0.15
    method.centre.value.normal_()
    method.patch_centre.value.normal_()
    blanked = drawn(batch)
    centres = (method.centre.value.numpy(), method.patch_centre.value.numpy())
    mask = blanked.hidden.unflatten(0, (2, -1)).numpy()
    arguments = (*seen(method, batch, blanked), mask, centres, (0.055, 0.05))
    drawn(batch)
    terms = method(batch)
    views = ibot_loss(*arguments, weights=(1, 0))
    patches = ibot_loss(*arguments, weights=(0, 1))
    assert terms["distillation"].item() == pytest.approx(views, rel=1e-9)
    assert terms["patches"].item() == pytest.approx(patches, rel=1e-9)


def test_the_centres_move_after_the_step_that_of_patches_by_all_of_them():
    method, batch = ibot()
    centres = (method.centre, method.patch_centre)
    _, _, views, patches = seen(method, batch, drawn(batch))
    before = [c.value.clone() for c in centres]
    method(batch)
    for centre, old in zip(centres, before, strict=True):
        assert torch.equal(centre.value, old)
    method.after_step()
    for centre, old, scores in zip(centres, before, (views, patches), strict=True):
        expected = torch.from_numpy(update_center(old.numpy(), scores))
        torch.testing.assert_close(centre.value, expected)


@pytest.mark.parametrize("shared", [True, False])
def test_views_and_patches_share_a_head_or_do_not(shared):
    method, batch = ibot(shared=shared, freeze=0.0)
    assert len(method.heads) == (1 if shared else 2)
    assert len(method.teacher.modules_) == 1 + len(method.heads)
    terms = method(batch)
    head = method.heads[0].weight
    (gradient,) = torch.autograd.grad(terms["patches"], head, allow_unused=True)
    assert (gradient is not None and bool(gradient.any())) == shared


def test_no_gradient_reaches_the_teacher_and_the_blank_token_learns():
    method, batch = ibot()
    sum(method(batch).values()).backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert method.blank.grad.any()


def test_what_is_hidden_is_hidden_from_the_student_alone():
    """Other pixels there change the targets and nothing the student says."""
    method, batch = ibot()
    blanked = drawn(batch)
    large = torch.cat(batch.views[:2])
    other = large.clone()
    square = blanked.hidden.view(-1, 1, 4, 4)
    other[square.repeat_interleave(4, 2).repeat_interleave(4, 3).expand_as(large)] += 1
    with torch.no_grad():
        one, two = (
            method.student.tokens(x, hidden=blanked.hidden, blank=method.blank)
            for x in (large, other)
        )
        torch.testing.assert_close(one, two)
        assert not torch.allclose(method.encoder.tokens(large), method.encoder.tokens(other))


def test_the_teachers_encoder_is_exported():
    run = build("ibot")
    list(steps(run, 3))
    assert run.method.encoder is run.method.teacher.modules_[0]
    pairs = zip(run.method.encoder.parameters(), run.method.student.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_prototypes_are_held_at_first_whatever_the_weight_decay():
    run = build("ibot", freeze=0.5, weight_decay=0.5)
    head = run.method.heads[0]
    before = [p.clone() for p in (head.weight, head.lengths)]
    for step in steps(run, 6):
        for p, old in zip((head.weight, head.lengths), before, strict=True):
            assert torch.equal(p, old) == (step.number <= 3)


@pytest.mark.parametrize("length", [16, 25, 196])
def test_of_two_views_one_has_blocks_hidden(length):
    torch.manual_seed(0)
    hidden, rows, places = one_of_two(200, length, 0.3, torch.device("cpu"))
    count = round(0.3 * length)
    assert places.shape == (200, count)
    per_view = hidden.sum(dim=1)
    assert (per_view[rows] == count).all()
    assert (per_view.view(2, 200).sum(dim=0) == count).all()
    assert 60 < (rows >= 200).sum() < 140
    assert torch.equal(rows % 200, torch.arange(200))
    marks = hidden[rows].double().unsqueeze(-1)
    assert take(marks, places).all()


def test_hidden_patches_lie_together():
    torch.manual_seed(0)
    hidden, rows, _ = one_of_two(200, 196, 0.3, torch.device("cpu"))
    square = hidden[rows].view(200, 14, 14)
    alike = (square[:, 1:] == square[:, :-1]).float().mean()  # 0.58 without blocks
    assert alike > 0.8


def test_blocks_may_be_smaller_than_a_ninth():
    torch.manual_seed(0)
    device = torch.device("cpu")

    def alone(smallest):  # share of the hidden patches whose right neighbour is seen
        hidden, rows, _ = one_of_two(400, 256, 0.3, device, smallest=smallest)
        square = hidden[rows].view(400, 16, 16)
        return (square[:, :, :-1] & ~square[:, :, 1:]).float().mean()

    assert alone(4) > 1.1 * alone(25)
    assert alone(0) == pytest.approx(alone(25).item(), rel=0.05)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"temperature": 0.0}, "--temperature"),
        ({"patch_temperature": 0.0}, "--patch-temperature"),
        ({"momentum": 1.1}, "--momentum"),
        ({"ratio": -0.1}, "--ratio"),
        ({"centre_momentum": 1.5}, "--centre-momentum"),
        ({"outputs": 1}, "--outputs"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, named):
    with pytest.raises(UserError, match=named):
        IBOT(encoder("vit-nano", channels=1, size=16, patch=4), **SMALL | wrong)


def test_an_encoder_without_tokens_is_refused():
    with pytest.raises(UserError, match="vit-nano"):
        IBOT(encoder("resnet-nano", channels=1, size=16), **SMALL)


@pytest.mark.parametrize("ratio", [0.01, 0.99])
def test_a_ratio_that_hides_nothing_or_leaves_nothing_is_refused(ratio):
    with pytest.raises(UserError, match="--ratio"):
        build("ibot", pixels=PIXELS, ratio=ratio)
