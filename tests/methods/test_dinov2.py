import copy

import pytest
import torch

from contract.small import build, steps, stream
from references.distillation import (
    cosine_momentum,
    dino_loss,
    koleo_loss,
    patch_loss,
    sinkhorn_targets,
)
from selftaught.errors import UserError
from selftaught.methods.dinov2 import DINOv2
from selftaught.nn.encoders import build as encoder
from selftaught.nn.masking import one_of_two, take

SMALL = {"hidden": 16, "bottleneck": 6, "outputs": 5}


def dinov2(**more):
    """A method whose teacher is unlike its student, and a batch for it, in float64."""
    papers = {"head_norm": False, "temperature": 0.07, "koleo_weight": 0.1}
    run = build("dinov2", **{"crops": 2} | papers | more)
    run.method.double().train()
    with torch.no_grad():
        for p in run.method.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))
    return run.method, next(stream(run, dtype=torch.float64))


@torch.no_grad()
def expected(method, batch, temperature, iterations):
    """The three terms by the references."""
    n = len(batch.index)
    torch.manual_seed(5)
    blanked = one_of_two(n, 16, 0.3, torch.device("cpu"), smallest=4)
    large = torch.cat(batch.views[:2])
    tokens = method.student.tokens(large, hidden=blanked.hidden, blank=method.blank)
    views = [*tokens.mean(1).chunk(2), *(method.student(x) for x in batch.views[2:])]
    taught = method.encoder.tokens(large)
    _, head, patch_head = method.teacher.modules_
    targets = sinkhorn_targets(head(taught.mean(1)).numpy(), temperature, iterations)
    student = torch.stack([method.head(h) for h in views]).numpy()
    hidden = take(taught[blanked.rows], blanked.places)
    patches = sinkhorn_targets(patch_head(hidden).numpy(), temperature, iterations)
    seen = method.patch_head(take(tokens[blanked.rows], blanked.places)).numpy()
    everywhere = torch.ones(1, *patches.shape[:2], dtype=torch.bool).numpy()
    return {
        "distillation": dino_loss(student, targets.reshape(2, n, -1)),
        "patches": patch_loss(seen[None], patches[None], everywhere) / 2,  # whole views count as 0
        "koleo": 0.1 * sum(koleo_loss(h.numpy()) for h in views[:2]),
    }


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_terms_are_the_papers(iterations):
    method, batch = dinov2(iterations=iterations)
    method.progress = 0.15
    wanted = expected(method, batch, 0.055, iterations)
    torch.manual_seed(5)
    terms = method(batch)
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-9), name


def test_the_heads_are_untied():
    method, batch = dinov2(freeze=0.0)
    terms = method(batch)
    heads = (method.head.weight, method.patch_head.weight)
    for term, own in (("distillation", 0), ("patches", 1), ("koleo", None)):
        found = torch.autograd.grad(terms[term], heads, allow_unused=True, retain_graph=True)
        assert [g is not None and bool(g.any()) for g in found] == [own == 0, own == 1]


def test_koleo_moves_the_student_and_nothing_reaches_the_teacher():
    method, batch = dinov2()
    method(batch)["koleo"].backward()
    assert method.student.net.patch_embed.proj.weight.grad.any()
    assert all(p.grad is None for p in method.teacher.parameters())


def test_the_teacher_moves_along_the_papers_schedule_and_is_exported():
    run = build("dinov2", momentum=0.5)
    method = run.method
    assert method.encoder is method.teacher.modules_[0]
    before = copy.deepcopy(list(method.teacher.parameters()))
    for step in steps(run, 4):
        momentum = cosine_momentum(step.number - 1, 4, base=0.5)
        parts = (method.student, method.head, method.patch_head)
        student = [p for part in parts for p in part.parameters()]
        now = list(method.teacher.parameters())
        for a, b, c in zip(before, student, now, strict=True):
            torch.testing.assert_close(c, momentum * a + (1 - momentum) * b.detach())
        before = copy.deepcopy(now)


def test_prototypes_of_both_heads_are_held_at_first():
    run = build("dinov2", freeze=0.5, weight_decay=0.5)
    parts = [run.method.head, run.method.patch_head]
    held = [p for part in parts for p in (part.weight, part.lengths)]
    before = [p.clone() for p in held]
    for step in steps(run, 6):
        for p, old in zip(held, before, strict=True):
            assert torch.equal(p, old) == (step.number <= 3)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"temperature": 0.0}, "--temperature"),
        ({"momentum": 1.1}, "--momentum"),
        ({"ratio": -0.1}, "--ratio"),
        ({"iterations": 0}, "--iterations"),
        ({"outputs": 1}, "--outputs"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, named):
    with pytest.raises(UserError, match=named):
        DINOv2(encoder("vit-nano", channels=1, size=16, patch=4), **SMALL | wrong)


def test_an_encoder_without_tokens_is_refused():
    with pytest.raises(UserError, match="vit-nano"):
        DINOv2(encoder("resnet-nano", channels=1, size=16), **SMALL)


@pytest.mark.parametrize("ratio", [0.01, 0.99])
def test_a_ratio_that_hides_nothing_or_leaves_nothing_is_refused(ratio):
    with pytest.raises(UserError, match="--ratio"):
        build("dinov2", ratio=ratio)
