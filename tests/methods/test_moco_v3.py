import numpy as np
import pytest
import torch
from torch import nn

from contract.small import build, same, steps, stream
from methods.toy import Rows, rows
from references.instance import moco_v3_loss
from references.regression import ema
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods import MoCoV3

VIT = {"encoder": "vit-nano"}


def moco(**more):
    torch.manual_seed(0)
    return MoCoV3(Rows(), **{"hidden": 8, "dim": 4} | more).double()


def linears(head):
    return [m.out_features for m in head if isinstance(m, nn.Linear)]


def test_loss_equals_the_reference():
    method, batch = moco(temperature=0.3), rows(6)
    q = [method.predictor(method.projector(method.encoder(x))) for x in batch.views]
    k = [method.target(x) for x in batch.views]
    parts = [x.detach().numpy() for x in (*q, *k)]
    loss = method(batch)["info_nce"].item()
    assert loss == pytest.approx(moco_v3_loss(*parts, 0.3), rel=1e-9)


def test_keys_get_no_gradient():
    """With predictions that are held nothing is left that could learn."""
    method, batch = moco(), rows(6)
    with torch.no_grad():
        method.predictor[1].weight.zero_()
        method.predictor[1].bias.fill_(1.0)
    views = tuple(x.requires_grad_() for x in batch.views)
    method(ViewBatch(views, batch.index))["info_nce"].backward()
    assert not any(x.grad.any() for x in views)
    assert not any(p.requires_grad for p in method.target.parameters())


@pytest.mark.parametrize(("progress", "momentum"), [(0.0, 0.9), (0.5, 0.95), (1.0, 1.0)])
def test_the_copys_momentum_rises_to_one_along_a_cosine(progress, momentum):
    method = moco(momentum=0.9)
    copy = method.target.modules_[0].linear.weight
    old = copy.clone().numpy()
    with torch.no_grad():
        method.encoder.linear.weight.add_(1)
    method.progress = progress
    method.after_step()
    np.testing.assert_allclose(copy.numpy(), ema(old, old + 1, momentum), rtol=1e-9)


def test_it_remembers_nothing_but_its_copy():
    buffers = [name for name, _ in moco().named_buffers()]
    assert all("running" in name or "tracked" in name for name in buffers)


def test_other_encoders_have_the_shorter_head_and_no_batch_norm_behind_the_predictor():
    method = moco()
    assert linears(method.projector) == [8, 4]
    assert not method.projector[-1].affine
    assert linears(method.predictor) == [8, 4]
    assert isinstance(method.predictor[-1], nn.Linear)
    heads = [*method.projector, *method.predictor]
    assert all(m.bias is None for m in heads if isinstance(m, nn.Linear))


# Vision transformers


def projections(method):
    """The projection of patches of the network and of its slow copy."""
    return [e.net.patch_embed.proj for e in (method.encoder, method.target.modules_[0])]


def test_a_transformer_has_the_longer_head_and_batch_norm_behind_the_predictor():
    method = build("moco_v3", **VIT).method
    assert linears(method.projector) == [32, 32, 16]
    assert linears(method.predictor) == [32, 16]
    for head in (method.projector, method.predictor):
        assert isinstance(head[-1], nn.BatchNorm1d)
        assert not head[-1].affine


def test_a_transformers_patch_projection_is_random_and_stays():
    run = build("moco_v3", **VIT)
    own, slow = projections(run.method)
    bound = (6 / (own.weight[0].numel() + len(own.weight))) ** 0.5
    assert own.weight.abs().max() <= bound
    assert own.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert not own.bias.any()
    assert not own.weight.requires_grad
    assert not own.bias.requires_grad
    weight, others = own.weight.clone(), dict(run.method.named_parameters())
    before = {name: p.clone() for name, p in others.items()}
    for _ in steps(run, 3, of=10):
        pass
    assert torch.equal(own.weight, weight)
    assert torch.equal(slow.weight, weight)
    assert not own.bias.any()
    moved = {name for name, p in others.items() if not torch.equal(p, before[name])}
    assert {name for name, p in others.items() if p.requires_grad} <= moved
    assert not [name for name in moved if "patch_embed" in name]


def test_the_optimiser_leaves_the_frozen_projection_out():
    run = build("moco_v3", **VIT)
    covered = [p for group in run.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in covered} == {id(p) for p in run.method.parameters() if p.requires_grad}
    frozen = {id(p) for proj in projections(run.method) for p in proj.parameters()}
    assert not frozen & {id(p) for p in covered}


def test_it_learns_where_it_is_not_frozen():
    run = build("moco_v3", freeze_patches=False, **VIT)
    own, _ = projections(run.method)
    before = own.weight.clone()
    for _ in steps(run, 3, of=10):
        pass
    assert not torch.equal(own.weight, before)


def test_a_resumed_run_keeps_the_frozen_projection():
    run, other = build("moco_v3", **VIT), build("moco_v3", seed=1, **VIT)
    other.method.load_state_dict(run.method.state_dict())
    same(run.method.state_dict(), other.method.state_dict())
    terms = [r.method.train()(next(stream(r)))["info_nce"] for r in (run, other)]
    assert torch.equal(*terms)


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ({"temperature": 0.0}, "--temperature"),
        ({"momentum": 1.1}, "--momentum"),
        ({"momentum": -0.1}, "--momentum"),
    ],
)
def test_what_cannot_be_is_refused(more, option):
    with pytest.raises(UserError, match=option):
        moco(**more)
