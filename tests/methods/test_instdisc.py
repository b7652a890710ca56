import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from contract.small import build, steps, train
from methods.toy import Rows, rows
from references.instance import (
    bank_update,
    instdisc_constant,
    instdisc_nce,
    instdisc_proximal,
    instdisc_softmax,
)
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods import InstDisc

COUNT = 30


def instdisc(**more):
    torch.manual_seed(0)
    method = InstDisc(Rows(), **{"count": COUNT, "dim": 4, "noise": 7} | more).double()
    method.bank.rows.copy_(F.normalize(method.bank.rows, dim=1))  # to all digits
    return method


def some(n=5, seed=0):
    """A batch of images from all over the data."""
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(seed))
    return ViewBatch(rows(n, views=1, seed=seed).views, order[:n])


def features(method, batch):
    return method.projector(method.encoder(batch.views[0])).detach()


def terms(method, batch, seed=0):
    """The terms and the noise that was drawn for them."""
    torch.manual_seed(seed)
    drawn = torch.randint(COUNT, (len(batch.index), method.noise)) if method.noise else None
    torch.manual_seed(seed)
    return method(batch), drawn


# The terms


def test_noise_contrast_equals_the_reference_with_the_constant_of_its_first_batch():
    method, batch = instdisc(temperature=0.2), some()
    found, noise = terms(method, batch)
    z, bank = features(method, batch).numpy(), method.bank.rows.numpy()
    constant = instdisc_constant(z, bank, noise.numpy(), 0.2)
    expected = instdisc_nce(z, bank, batch.index.numpy(), noise.numpy(), 0.2, constant)
    assert found["nce"].item() == pytest.approx(expected, rel=1e-9)


def test_the_constant_is_estimated_once_and_kept():
    method, first = instdisc(temperature=0.2), some()
    assert method.constant.log.isneginf()
    _, noise = terms(method, first)
    parts = (features(method, first), method.bank.rows, noise)
    expected = instdisc_constant(*(x.numpy() for x in parts), 0.2)
    assert method.constant.log.isneginf()  # forward moves nothing
    method.after_step()
    constant = method.constant.log.exp().item()
    assert constant == pytest.approx(expected, rel=1e-9)
    for step in range(1, 4):
        batch = some(seed=step)
        found, noise = terms(method, batch, seed=step)
        parts = (features(method, batch), method.bank.rows, batch.index, noise)
        expected = instdisc_nce(*(x.numpy() for x in parts), 0.2, constant)
        assert found["nce"].item() == pytest.approx(expected, rel=1e-9)
        method.after_step()
        assert method.constant.log.exp().item() == constant


def test_a_checkpoint_holds_the_constant_and_the_bank():
    state = instdisc().state_dict()
    assert {"constant.log", "bank.rows"} <= state.keys()


def test_without_noise_it_is_the_exact_softmax():
    method, batch = instdisc(noise=0, temperature=0.2), some()
    found, _ = terms(method, batch)
    parts = (features(method, batch), method.bank.rows, batch.index)
    expected = instdisc_softmax(*(x.numpy() for x in parts), 0.2)
    assert found["softmax"].item() == pytest.approx(expected, rel=1e-9)
    assert "nce" not in found
    method.after_step()
    assert method.constant.log.isneginf()


@pytest.mark.parametrize("noise", [0, 7])
def test_the_proximal_term_is_the_distance_from_the_last_visit(noise):
    method, batch = instdisc(noise=noise), some()
    parts = (features(method, batch), method.bank.rows, batch.index)
    expected = instdisc_proximal(*(x.numpy() for x in parts), 30)
    found, _ = terms(method, batch)
    assert found["proximal"].item() == pytest.approx(expected, rel=1e-9)
    method.momentum = 0.0
    method.after_step()
    assert method(batch)["proximal"].item() == pytest.approx(0, abs=1e-12)


# The bank


def test_what_a_guess_has_is_known_of_the_softmax_alone():
    exact, noise = build("instdisc", noise=0).method, build("instdisc", noise=8).method
    x = torch.zeros(2, 1, 16, 16)
    assert exact.chance(x, 16) == {"softmax": pytest.approx(math.log(exact.count))}
    assert exact.tells_apart == ("softmax",)
    assert noise.chance(x, 16) == {}
    assert noise.tells_apart == ()


@pytest.mark.parametrize("noise", [0, 7])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_only_the_batchs_entries_move_half_of_the_way(noise, momentum):
    method, batch = instdisc(noise=noise, momentum=momentum), some()
    before = method.bank.rows.numpy().copy()
    z = features(method, batch).numpy()
    method(batch)
    np.testing.assert_array_equal(method.bank.rows.numpy(), before)
    method.after_step()
    expected = bank_update(before, batch.index.numpy(), z, momentum)
    np.testing.assert_allclose(method.bank.rows.numpy(), expected, rtol=1e-9)


def test_entries_are_kept_under_the_images_places_in_the_data():
    run = build("instdisc", momentum=0.0)
    before = run.method.bank.rows.clone()
    places = []
    original = run.method.forward
    run.method.forward = lambda batch: places.append(batch.index) or original(batch)
    for _ in steps(run, 2):
        pass
    moved = (run.method.bank.rows != before).any(dim=1).nonzero().squeeze(1)
    assert torch.equal(moved, torch.cat(places).unique())


def test_an_image_that_stands_in_for_another_is_remembered_once():
    method = instdisc()
    batch = ViewBatch(some().views, torch.tensor([3, 3, 8, 8, 8]))
    method(batch)
    method.after_step()
    assert torch.isfinite(method.bank.rows).all()
    torch.testing.assert_close(method.bank.rows.norm(dim=1), torch.ones(COUNT).double())


def test_it_sees_one_view_of_each_image():
    run = build("instdisc")
    assert len(run.views.views) == 1


@pytest.mark.parametrize("noise", [0, 8])
def test_both_forms_learn(noise):
    """To tell the images of one batch from the others, with the bank that they themselves fill."""
    run = build("instdisc", noise=noise, proximal=0.0)
    losses = [sum(terms.values()) for terms in train(run, 30, fixed=True)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ({"temperature": 0.0}, "--temperature"),
        ({"momentum": 1.1}, "--momentum"),
        ({"noise": -1}, "--noise"),
        ({"proximal": -1.0}, "--proximal"),
    ],
)
def test_what_cannot_be_is_refused(more, option):
    with pytest.raises(UserError, match=option):
        instdisc(**more)
