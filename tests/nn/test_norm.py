"""Batch norm in groups and over processes equals its float64 reference."""

import copy
import multiprocessing
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed
from torch import nn

from group import one_of
from references.contrastive import numerical_gradient
from references.norm import batch_norm as reference
from selftaught import dist
from selftaught.errors import UserError
from selftaught.nn import norm as norms
from selftaught.nn.norm import group, synchronise

SHAPES = {"rows": (8, 3), "images": (8, 3, 2, 2)}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
every_groups = pytest.mark.parametrize("groups", [1, 2, 4])


def norm(shape, **options):
    """A batch norm whose parameters and statistics are not those it begins with."""
    made = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(shape[1], **options).double()
    g = torch.Generator().manual_seed(1)
    for tensor in made.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=g) + 0.5)
    return made


def data(shape, seed=2):
    """Rows whose groups differ in mean and variance."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=g, dtype=torch.float64)
    place = torch.arange(1.0, len(x) + 1, dtype=torch.float64).view(-1, *[1] * (x.ndim - 1))
    return x * place + place


def expected(module, x, groups):
    """The reference's output with scale and shift, and its running statistics."""
    y, mean, var = reference(
        x.numpy(), module.running_mean.numpy(), module.running_var.numpy(), groups, module.momentum
    )
    wide = (-1, *[1] * (x.ndim - 2))
    scale, shift = (p.detach().numpy().reshape(wide) for p in (module.weight, module.bias))
    return y * scale + shift, mean, var


def close(ours, theirs):
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-9, atol=1e-12)


@every_shape
@every_groups
def test_equals_the_reference(shape, groups):
    module, x = norm(shape), data(shape)
    grouped = group(copy.deepcopy(module), groups)
    for _ in range(2):
        y, mean, var = expected(grouped, x, groups)
        close(grouped(x), y)
        close(grouped.running_mean, mean)
        close(grouped.running_var, var)
        x = 2 - x
    assert grouped.num_batches_tracked == module.num_batches_tracked + 2


@every_shape
@every_groups
def test_gradient_equals_the_reference(shape, groups):
    module, x = norm(shape), data(shape).requires_grad_()
    before = copy.deepcopy(module)
    weights = data(shape, seed=3)
    y = group(module, groups)(x)
    (y * weights).sum().backward()
    slow = numerical_gradient(
        lambda v: np.sum(expected(before, torch.from_numpy(v), groups)[0] * weights.numpy()),
        x.detach().numpy(),
    )
    np.testing.assert_allclose(x.grad.numpy(), slow, atol=1e-5)
    assert torch.autograd.gradcheck(
        lambda v, scale, shift: torch.func.functional_call(
            module, {"weight": scale, "bias": shift}, v
        ),
        (x, module.weight, module.bias),
    )


@every_shape
def test_groups_are_not_the_whole_batch(shape):
    x = data(shape)
    whole, parts = norm(shape)(x), group(norm(shape), 4)(x)
    assert (whole - parts).abs().max() > 0.1


@every_shape
def test_in_eval_mode_it_is_plain_and_moves_nothing(shape):
    plain = norm(shape).eval()
    grouped = group(copy.deepcopy(plain), 4)
    x = data(shape)[:3]  # no multiple of the groups
    assert torch.equal(grouped(x), plain(x))
    for name, tensor in grouped.state_dict().items():
        assert torch.equal(tensor, plain.state_dict()[name]), name


@pytest.mark.parametrize("options", [{"momentum": None}, {"momentum": 0.0}, {"momentum": 0.7}])
def test_one_group_of_one_and_many_equal_ones_keep_the_same_statistics(options):
    plain, x = norm((4, 3), **options), data((4, 3))
    grouped = group(copy.deepcopy(plain), 2)
    for k in range(3):
        plain(x + k)
        grouped(torch.cat([x, x]) + k)
    for name, tensor in grouped.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], msg=name)


def test_without_scale_shift_and_statistics():
    module = group(nn.BatchNorm1d(3, affine=False, track_running_stats=False), 2)
    x = data((8, 3))
    y, _, _ = reference(x.numpy(), np.zeros(3), np.ones(3), 2)
    close(module(x), y)
    assert not module.state_dict()


def test_bfloat16_autocast():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    grouped = group(copy.deepcopy(plain), 2)
    x = torch.randn(8, 3, 4, 4)
    exact = copy.deepcopy(grouped)(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = grouped(x)
        assert y.dtype == plain(x).dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05)
    y.float().square().sum().backward()
    assert grouped[1].running_mean.dtype == grouped[1].weight.grad.dtype == torch.float32


def test_channels_last_stays():
    x = torch.randn(8, 3, 4, 4).to(memory_format=torch.channels_last)
    assert group(nn.BatchNorm2d(3), 2)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("training", [True, False])
def test_the_activation_of_timm_is_kept(training):
    from timm.layers import BatchNormAct2d

    x = data((8, 3, 2, 2)).float()
    plain = group(nn.BatchNorm2d(3), 2).train(training)
    act = group(BatchNormAct2d(3), 2).train(training)
    assert torch.equal(act(x), plain(x).relu())
    assert not torch.equal(act(x), plain(x))


def test_what_it_is_made_of_stays():
    plain = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm1d(3)))
    names, parameters = list(plain.state_dict()), list(plain.parameters())
    grouped = group(plain, 4)
    assert grouped is plain
    assert list(grouped.state_dict()) == names
    assert all(a is b for a, b in zip(grouped.parameters(), parameters, strict=True))
    assert isinstance(grouped[1], nn.BatchNorm1d)
    assert [m.groups for m in (grouped[1], grouped[2][0])] == [4, 4]


def test_a_copy_has_the_groups_and_its_own_statistics():
    one = group(norm((8, 3)), 4)
    other = copy.deepcopy(one)
    x = data((8, 3))
    assert torch.equal(other(x), one(x))
    other(x + 1)
    assert not torch.equal(other.running_mean, one.running_mean)


def test_synchronise_leaves_groups_alone_and_needs_no_processes():
    parts = nn.ModuleList([group(norm((8, 3)), 4), norm((8, 3))])
    x = data((8, 3))
    before = [copy.deepcopy(part)(x) for part in parts]
    synchronise(parts)
    assert [part.groups for part in parts] == [4, 1]
    for part, y in zip(parts, before, strict=True):
        torch.testing.assert_close(part(x), y)


@pytest.mark.parametrize(
    ("batch", "groups", "words"),
    [(6, 4, "4 groups"), (4, 4, "one value"), (4, 0, "0 groups")],
)
def test_bad_groups(batch, groups, words):
    with pytest.raises(UserError, match=words):
        group(norm((8, 3)), groups)(data((batch, 3)))


def test_groups_of_one_row_may_have_several_pixels():
    x = data((2, 3, 2, 2))
    y, _, _ = expected(norm(x.shape), x, 2)
    close(group(norm(x.shape), 2)(x), y)


# Several processes


CASES = {
    (kind, name): (kind, SHAPES[name]) for kind in ("synchronised", "4 groups") for name in SHAPES
} | {
    (kind, "images"): (kind, SHAPES["images"])
    for kind in ("without scale and shift", "without shift", "frozen", "channels last")
}


def changed(module, kind):
    """The module, with what the kind lacks left out and in the groups that it names."""
    if kind == "without scale and shift":
        module.weight = module.bias = None
    elif kind == "without shift":
        module.bias = None
    elif kind == "frozen":
        module.requires_grad_(False)
    if kind == "plain":
        return module
    return group(module, 4) if kind == "4 groups" else synchronise(module)


def normalised(kind, shape):
    """Output, gradients and statistics; of this process's rows, those that have rows."""
    module = changed(norm(shape), kind)
    x = dist.mine(data(shape)).clone()
    if kind == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    y = module(x)
    (y * dist.mine(data(shape, seed=3))).sum().backward()
    found = {
        "y": dist.gather(y.detach()),
        "x gradient": dist.gather(x.grad),
        "mean": module.running_mean,
        "variance": module.running_var,
        "batches": module.num_batches_tracked,
    }
    for name, p in (("scale", module.weight), ("shift", module.bias)):
        if p is not None and p.grad is not None:
            found[f"{name} gradient"] = dist.total(p.grad)
    found["last"] = torch.tensor(y.ndim == 4 and y.stride(1) == 1)
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def refusal(groups):
    try:
        group(norm((8, 3)), groups)(dist.mine(data((8, 3))))
    except UserError as error:
        return str(error)
    return ""


def in_half_precision(kind):
    """The types, and the largest difference from single precision, of outputs and gradients."""
    x = dist.mine(data((8, 3))).float().requires_grad_()
    single, half = (synchronise(norm((8, 3)).float()) for _ in range(2))
    half = half.bfloat16() if kind == "parameters" else half
    other = x.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y, theirs = half(other), single(x)
    weights = dist.mine(data((8, 3), seed=3)).float() / 10
    (y * weights).sum().backward()
    (theirs * weights).sum().backward()
    pairs = (y, theirs), (other.grad, x.grad), (half.bias.grad, single.bias.grad)
    types = {str(a.dtype) for a in (y, other.grad)}
    return types, [((a - b).abs().max() / b.abs().max()).item() for a, b in pairs]


def process(rank, place, answers):
    with one_of(2, rank, place):
        found = {case: normalised(*of) for case, of in CASES.items()}
        found["plain"] = normalised("plain", SHAPES["rows"])
        found["refused"] = refusal(3)
        found |= {f"half {kind}": in_half_precision(kind) for kind in ("autocast", "parameters")}
        # what flows back through the statistics forgets the other process
        norms.dist = SimpleNamespace(**vars(dist) | {"total": torch.clone})
        found["deaf"] = normalised("synchronised", SHAPES["rows"])
        answers.put((rank, found))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    place = str(tmp_path_factory.mktemp("norm") / "meeting")
    processes = [context.Process(target=process, args=(r, place, answers)) for r in range(2)]
    for p in processes:
        p.start()
    found = dict(answers.get(timeout=120) for _ in processes)
    for p in processes:
        p.join()
        assert p.exitcode == 0
    return found


def differing(ours, theirs):
    assert ours.keys() == theirs.keys()
    return {n for n in ours if not np.allclose(ours[n], theirs[n], rtol=1e-9, atol=1e-11)}


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_two_processes_equal_one(case, two):
    kind, shape = CASES[case]
    one = normalised(kind, shape)
    for rank in range(2):
        assert not differing(two[rank][case], one)
    assert two[0][case]["last"] == (kind == "channels last")
    if kind.startswith("without"):
        return
    y, mean, var = expected(norm(shape), data(shape), 4 if kind == "4 groups" else 1)
    np.testing.assert_allclose(two[0][case]["y"], y, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(two[0][case]["mean"], mean, rtol=1e-9)
    np.testing.assert_allclose(two[0][case]["variance"], var, rtol=1e-9)


def test_the_comparison_notices_what_is_not_synchronised(two):
    one = normalised("synchronised", SHAPES["rows"])
    assert {"y", "x gradient", "mean"} <= differing(two[0]["plain"], one)
    assert differing(two[0]["deaf"], one) == {"x gradient"}


@pytest.mark.parametrize("kind", ["autocast", "parameters"])
def test_two_processes_in_bfloat16(two, kind):
    types, differences = two[0][f"half {kind}"]
    assert types == {"torch.bfloat16"}
    assert max(differences) < 0.02


def test_groups_that_two_processes_do_not_divide_are_refused(two):
    assert "3 groups" in two[0]["refused"]
    assert two[0]["refused"] == two[1]["refused"]
