import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from contract.small import PIXELS, build
from methods.toy import Rows, rows
from references.instance import bank_update, instdisc_constant, instdisc_nce, pirl_loss
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods import PIRL

COUNT, TILES = 30, 9


def pirl(**more):
    torch.manual_seed(0)
    method = PIRL(Rows(), **{"count": COUNT, "dim": 4, "negatives": 7} | more).double()
    method.bank.rows.copy_(F.normalize(method.bank.rows, dim=1))  # to all digits
    return method


def some(n=5, seed=0):
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(seed))
    return ViewBatch(rows(n, views=1 + TILES, seed=seed).views, order[:n])


def image_feature(method, batch):
    return method.projector(method.encoder(batch.views[0])).detach()


def tiles_feature(method, batch):
    """One image and one tile at a time."""
    found = []
    for i in range(len(batch.index)):
        parts = [method.each(method.encoder(x[[i]])) for x in batch.views[1:]]
        found.append(method.all(torch.cat(parts, dim=1)))
    return torch.cat(found).detach()


@pytest.mark.parametrize("mix", [0.5, 0.2])
def test_loss_equals_the_reference(mix):
    method, batch = pirl(mix=mix, temperature=0.2), some()
    torch.manual_seed(3)
    negatives = method._others(batch.index)
    image, tiles = image_feature(method, batch).numpy(), tiles_feature(method, batch).numpy()
    bank, index, drawn = (x.numpy() for x in (method.bank.rows, batch.index, negatives))
    torch.manual_seed(3)
    terms = method(batch)
    constant = instdisc_constant(tiles, bank, drawn, 0.2)
    expected = pirl_loss(image, tiles, bank, index, (drawn, drawn), 0.2, constant, mix)
    assert sum(terms.values()).item() == pytest.approx(expected, rel=1e-9)
    of_image = instdisc_nce(image, bank, index, drawn, 0.2, constant)
    assert terms["image"].item() == pytest.approx((1 - mix) * of_image, rel=1e-9)


def test_the_constant_stays_that_of_the_first_batch():
    method = pirl()
    found = []
    for seed in (0, 1):
        method(some(seed=seed))
        method.after_step()
        found.append(method.constant.log.item())
    assert found[0] == found[1]


def test_negatives_are_all_other_images_and_equally_likely():
    index = torch.tensor([0, 13, COUNT - 1])
    drawn = pirl(negatives=20000)._others(index)
    for own, row in zip(index, drawn, strict=True):
        share = row.bincount(minlength=COUNT) / len(row) * (COUNT - 1)
        assert len(share) == COUNT
        assert share[own] == 0
        others = torch.cat([share[:own], share[own + 1 :]])
        torch.testing.assert_close(others, torch.ones(COUNT - 1), rtol=0.2, atol=0)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_image_alone_moves_its_entry(momentum):
    method, batch = pirl(momentum=momentum), some()
    before = method.bank.rows.numpy().copy()
    z = image_feature(method, batch).numpy()
    method(batch)
    np.testing.assert_array_equal(method.bank.rows.numpy(), before)
    method.after_step()
    expected = bank_update(before, batch.index.numpy(), z, momentum)
    np.testing.assert_allclose(method.bank.rows.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize(("term", "learns"), [("image", "projector"), ("jigsaw", "all")])
def test_the_two_features_never_meet(term, learns):
    method, batch = pirl(), some()
    method(batch)[term].backward()
    heads = {n: p.grad is not None for n, p in method.named_parameters() if n.endswith("weight")}
    assert heads[f"{learns}.weight"]
    assert heads["projector.weight"] == (term == "image")
    assert heads["all.weight"] == heads["each.weight"] == (term == "jigsaw")


def test_the_recipe_shows_the_image_and_nine_tiles_of_one_size():
    run = build("pirl")
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (4, 1, 16, 16), dtype=torch.uint8, generator=generator)
    parameters = run.views.draw(generator, 4)
    image, *tiles = run.views.apply(run.views.crop(x, parameters), parameters)
    assert len(tiles) == TILES
    assert {t.shape for t in tiles} == {(4, 1, 8, 8)}
    assert image.shape == (4, 1, 16, 16)


def test_a_transformers_tiles_are_whole_patches():
    run = build("pirl", encoder="vit-nano")
    assert run.views.views[1].tile % run.method.encoder.patch == 0


def test_an_encoder_of_one_size_is_refused():
    pixels = dataclasses.replace(PIXELS, size=32)
    with pytest.raises(UserError, match="--encoder"):
        build("pirl", pixels=pixels, encoder="swin_tiny_patch4_window7_224")


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ({"temperature": 0.0}, "--temperature"),
        ({"momentum": 1.1}, "--momentum"),
        ({"mix": -0.1}, "--mix"),
        ({"negatives": 0}, "--negatives"),
        ({"count": 1}, "two images"),
    ],
)
def test_what_cannot_be_is_refused(more, option):
    with pytest.raises(UserError, match=option):
        pirl(**more)


def test_a_batch_without_tiles_is_refused():
    batch = some()
    with pytest.raises(UserError, match="tiles"):
        pirl()(ViewBatch(batch.views[:2], batch.index))
