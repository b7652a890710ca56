import copy

import pytest
import torch
from torch import nn

from contract.small import build, steps, stream
from references.distillation import cosine_momentum, dino_loss, dino_targets, update_center
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.dino import DINO

SMALL = {"hidden": 16, "bottleneck": 6, "outputs": 5}


class Flat(nn.Linear):
    """The smallest encoder; it remembers what it was shown."""

    dim = 8

    def __init__(self):
        super().__init__(12, self.dim)
        self.shown = []

    def forward(self, input):
        self.shown.append(input)
        return super().forward(input)


def dino(**more):
    torch.manual_seed(0)
    method = DINO(Flat(), **SMALL | more).double()
    with torch.no_grad():  # a teacher unlike the student
        for p in method.student.parameters():
            p.add_(torch.randn_like(p))
    return method


def batch(views=4, n=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return ViewBatch(
        tuple(torch.randn(views, n, 12, generator=g, dtype=torch.float64)), torch.arange(n)
    )


def scores_of(method, x):
    with torch.no_grad():
        student = torch.stack([method.head(method.student(v)) for v in x.views])
        teacher = torch.stack([method.teacher(v) for v in x.views[:2]])
    return student.numpy(), teacher.numpy()


@pytest.mark.parametrize("progress", [0.0, 0.15, 0.9])
@pytest.mark.parametrize("views", [2, 4])
def test_the_term_is_the_papers(progress, views):
    method, x = dino(), batch(views)
    method.progress = progress
    method.centre.value.normal_()
    student, teacher = scores_of(method, x)
    temperature = 0.04 + 0.03 * min(progress / 0.3, 1)
    targets = dino_targets(teacher, method.centre.value.numpy(), temperature)
    expected = dino_loss(student, targets, 0.1)
    assert method(x)["distillation"].item() == pytest.approx(expected, rel=1e-9)


def test_the_teacher_sees_the_two_large_views_and_the_student_all():
    method, x = dino(), batch(5)
    method(x)
    for encoder, seen in ((method.encoder, x.views[:2]), (method.student, x.views)):
        assert torch.equal(torch.cat(encoder.shown), torch.cat(seen))


def test_the_centre_moves_after_the_step_by_the_mean_of_both_views():
    method = dino(centre_momentum=0.8)
    for step in range(3):
        x, before = batch(seed=step), method.centre.value.clone()
        _, teacher = scores_of(method, x)
        method(x)
        assert torch.equal(method.centre.value, before)
        method.after_step()
        expected = torch.from_numpy(update_center(before.numpy(), teacher, 0.8))
        torch.testing.assert_close(method.centre.value, expected)


def test_the_teacher_moves_along_the_papers_schedule():
    run = build("dino", momentum=0.5)
    method = run.method
    before = copy.deepcopy(list(method.teacher.parameters()))
    for step in steps(run, 6):
        momentum = cosine_momentum(step.number - 1, 6, base=0.5)
        student = [*method.student.parameters(), *method.head.parameters()]
        now = list(method.teacher.parameters())
        for a, b, c in zip(before, student, now, strict=True):
            torch.testing.assert_close(c, momentum * a + (1 - momentum) * b.detach())
        before = copy.deepcopy(now)


def test_the_teachers_encoder_is_exported():
    run = build("dino")
    list(steps(run, 3))
    exported, student = run.method.encoder, run.method.student
    assert exported is run.method.teacher.modules_[0]
    assert not any(p.requires_grad for p in exported.parameters())
    pairs = zip(exported.parameters(), student.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_no_gradient_reaches_the_teacher():
    method = dino()
    method(batch())["distillation"].backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad.any() for p in method.student.parameters())


def test_the_prototypes_are_held_at_first_whatever_the_weight_decay():
    run = build("dino", freeze=0.5, weight_decay=0.5)
    head = run.method.head
    before = copy.deepcopy(head)
    for step in steps(run, 6):
        assert torch.equal(head.weight, before.weight) == (step.number <= 3)
        assert (head.weight.grad is None) == (step.number <= 3)
        if step.number > 1:  # at the first, the learning rate is zero
            assert not torch.equal(head.mlp[0].weight, before.mlp[0].weight)


def test_small_views_may_have_another_size():
    run = build("dino", crops=2)
    sizes = [x.shape[-1] for x in next(stream(run)).views]
    assert sizes == [16, 16, 8, 8]


def test_solarising_is_for_the_second_view():
    kinds = [
        [type(step).__name__ for step in view.then]
        for view in build("dino", solarize=0.2, crops=1).views.views
    ]
    assert ["Solarize" in names for names in kinds] == [False, True, False]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"temperature": 0.0}, "--temperature"),
        ({"student_temperature": -1.0}, "--student-temperature"),
        ({"start_temperature": 0.0}, "--start-temperature"),
        ({"momentum": 1.1}, "--momentum"),
        ({"freeze": -0.1}, "--freeze"),
        ({"temperature_warmup": 2.0}, "--temperature-warmup"),
        ({"centre_momentum": 1.5}, "--centre-momentum"),
        ({"outputs": 1}, "--outputs"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, named):
    with pytest.raises(UserError, match=named):
        DINO(Flat(), **SMALL | wrong)
