import copy

import pytest
import torch
from torch import nn

from contract.small import build, stream
from references import distillation as reference
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.ijepa import IJEPA
from selftaught.nn import encoders
from selftaught.nn.transformer import sine_position
from selftaught.train import fit

SMALL = {"dim": 24, "depth": 2, "heads": 2}
N = 3


def ijepa(seed=0, **more):
    """In float64, with a teacher that is unlike the student; 8 x 8 patches."""
    torch.manual_seed(seed)
    encoder = encoders.build("vit-nano", channels=1, size=16, patch=2)
    method = IJEPA(encoder, **SMALL | more).double()
    with torch.no_grad():
        for p in method.teacher.parameters():
            p += 0.02 * torch.randn_like(p)
    return method


def images(seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(N, 1, 16, 16, generator=g).double()


def batch(x):
    return ViewBatch((x,), torch.arange(len(x)))


def drawn(method, seed=3):
    """The context and the targets of the forward pass that begins at this seed."""
    torch.manual_seed(seed)
    return method.blocks(N)


def term(method, x, seed=3):
    torch.manual_seed(seed)
    return method(batch(x))["prediction"]


def predicted(method, seen, context, block):
    """The predictor, image by image and in the paper's words: tokens of one block (B, T, D)."""
    position = sine_position(24, 8).double()
    found = []
    for i in range(N):
        known = method.narrow(seen[i]) + position[context[i]]
        asked = method.blank + position[block[i]]
        tokens = method.predictor(torch.cat([known, asked])[None])[0]
        found.append(method.widen(tokens[len(known) :]))
    return torch.stack(found)


@torch.no_grad()
def test_the_term_is_the_papers():
    method, x = ijepa(), images()
    context, targets = drawn(method)
    seen = method.student.tokens(x, context)
    blocks = targets.unbind(1)
    predictions = [predicted(method, seen, context, block).numpy() for block in blocks]
    teacher = method.teacher.modules_[0].tokens(x).numpy()
    expected = reference.ijepa_loss(predictions, teacher, [block.numpy() for block in blocks])
    assert term(method, x).item() == pytest.approx(expected, rel=1e-9)


@torch.no_grad()
def test_the_student_sees_the_context_and_the_teacher_everything():
    method, x = ijepa(), images()
    context, targets = drawn(method)

    def changed(patch):
        other = x.clone()
        other[0, 0, 2 * (patch // 8), 2 * (patch % 8)] += 3
        return other

    hidden, known = targets[0, 0, 0].item(), context[0, 0].item()
    same, moved = (method.student.tokens(changed(p), context) for p in (hidden, known))
    before = method.student.tokens(x, context)
    assert torch.equal(same, before)
    assert not torch.allclose(moved, before)
    assert not torch.allclose(method.encoder.tokens(changed(hidden)), method.encoder.tokens(x))
    assert term(method, changed(hidden)).item() != pytest.approx(term(method, x).item(), rel=1e-6)


def test_no_gradient_reaches_the_teacher_which_moves_only_after_the_step():
    method = ijepa()
    before = copy.deepcopy(method.teacher.state_dict())
    term(method, images()).backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    for part in (method.blank, method.student.net.patch_embed.proj.weight, method.narrow.weight):
        assert part.grad.abs().sum() > 0
    for name, value in method.teacher.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("step", [0, 25, 99])
def test_the_momentum_rises_to_one_in_a_line(step):
    method = ijepa(momentum=0.9)
    method.progress = step / 100
    before = [p.clone() for p in method.teacher.parameters()]
    method.after_step()
    momentum = reference.ijepa_momentum(step, 100, 0.9)
    sources = method.student.parameters()
    for old, new, source in zip(before, method.teacher.parameters(), sources, strict=True):
        torch.testing.assert_close(new, momentum * old + (1 - momentum) * source.detach())


def test_the_exported_encoder_is_the_teachers():
    run = build("ijepa")
    method = run.method
    assert method.encoder is method.teacher.modules_[0]
    assert method.encoder is not method.student
    assert not any(name.startswith("encoder.") for name in method.state_dict())
    before = method.encoder.net.patch_embed.proj.weight.clone()
    for _ in fit(method, stream(run), run.optimizer, steps=2):
        pass
    after, student = method.encoder.net.patch_embed.proj.weight, method.student.net.patch_embed.proj
    assert not torch.equal(after, before)
    assert (after - before).norm() < (student.weight - before).norm()


def test_it_begins_with_a_teacher_equal_to_the_student():
    torch.manual_seed(0)
    method = IJEPA(encoders.build("vit-nano", channels=1, size=16, patch=2), **SMALL)
    pairs = zip(method.teacher.parameters(), method.student.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_weights_begin_as_in_the_authors_code():
    torch.manual_seed(0)
    method = IJEPA(encoders.build("vit-nano", channels=1, size=16, patch=2), **SMALL | {"dim": 96})
    blocks = [*method.student.net.blocks, *method.predictor[:2]]
    layers = [layer for b in blocks for layer in (b.attn.qkv, b.attn.proj, b.mlp.fc1, b.mlp.fc2)]
    for layer in (*layers, method.narrow, method.widen):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not layer.bias.any()
    assert isinstance(method.predictor[2], nn.LayerNorm)
    assert method.predictor[2].weight.eq(1).all()


def test_targets_tell_their_places_apart():
    """Two blocks of one image get unlike predictions from the same context."""
    method, x = ijepa(), images()
    with torch.no_grad():
        context, targets = drawn(method)
        seen = method.student.tokens(x, context)
        one, two = (predicted(method, seen, context, targets[:, m]) for m in (0, 1))
    assert not torch.equal(targets[:, 0], targets[:, 1])
    assert not torch.allclose(one, two)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"encoder": "resnet-nano"}, "--encoder vit-nano"),
        ({"patch": 4}, "4 x 4 patches are too few"),
        ({"dim": 30}, "make 2 divide it"),
        ({"dim": 32, "heads": 3}, "make 3 divide it"),
        ({"momentum": -0.1}, "--momentum"),
        ({"targets": 0}, "--targets"),
        ({"smallest_target": 0.5}, "--smallest-target above 0 and --largest-target from that up"),
        ({"largest_target": 1.5}, "--largest-target from that up to 1"),
        ({"smallest_context": 0.0}, "--smallest-context above 0 up to 1"),
    ],
)
def test_bad_settings_are_one_line(settings, said):
    with pytest.raises(UserError, match=said):
        build("ijepa", **settings)
