"""That a method trains where its parameters are, and learns there what it learns on the CPU."""

import pytest
import torch

from contract.small import build, images, pixels_of, stream, whole
from elsewhere import HERE, THERE, elsewhere
from selftaught import seeds
from selftaught.data.batches import moved
from selftaught.method import Method, ViewBatch
from selftaught.recipes import RECIPES
from selftaught.train import fit


def finished(run, device):
    """Views of some images that were finished on that device, from crops there."""
    found = images(pixels_of(run))[: run.batch_size]
    parameters = run.views.draw(seeds.generator(0, "views", 0), len(found))
    crops = [crop.to(device) for crop in run.views.crop(found, parameters)]
    return run.views.apply(crops, parameters)


def trained(run, device):
    """The terms of some steps in float64 on that device, and the method's signals after them."""
    exact, pixels = torch.float64, pixels_of(run)
    run.method.to(device, exact)
    terms = fit(
        run.method,
        (moved(batch, device) for batch in stream(run, dtype=exact)),
        run.optimizer,
        steps=3,
        survey=lambda: (moved(batch, device) for batch in whole(exact, pixels)),
        survey_every=run.survey_every,
    )
    found = [{name: term.item() for name, term in step.terms.items()} for step in terms]
    x = next(whole(exact, pixels)).views[0].to(device)
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        found.append(run.method.eval().signals(x) | run.method.chance(x, len(x)))
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_views_are_finished_where_the_crops_are(name):
    run = build(name)
    expected = finished(run, HERE)
    with elsewhere():
        found = finished(run, THERE)
        assert all(x.device == THERE for x in found)
        torch.testing.assert_close([x.cpu() for x in found], list(expected))


@pytest.mark.parametrize("name", RECIPES)
def test_training_elsewhere_is_training_here(name):
    here, there = build(name), build(name)
    expected = trained(here, HERE)
    with elsewhere():
        found = trained(there, THERE)
        state = there.method.state_dict()
        assert {t.device for t in state.values()} == {THERE}
        state = {key: value.cpu() for key, value in state.items()}
    for theirs, ours in zip(found, expected, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-6, nan_ok=True)
    torch.testing.assert_close(state, here.method.state_dict(), rtol=1e-6, atol=1e-8)
    start = build(name).method.double().state_dict()
    assert any(not torch.equal(value, start[key]) for key, value in state.items())


class Misplaced(Method):
    """A method that makes a tensor where it should not."""

    def __init__(self, where):
        super().__init__()
        self.encoder, self.where = torch.nn.Linear(4, 4), where

    def forward(self, batch):
        return {"term": (self.encoder(batch.views[0]) - torch.ones(4, device=self.where)).sum()}


def test_tensors_of_two_devices_do_not_meet():
    with elsewhere():
        x = torch.ones(2, 4).to(THERE)
        assert Misplaced(THERE).to(THERE)(ViewBatch((x,), torch.arange(2)))["term"].device == THERE
        with pytest.raises(RuntimeError, match="of tensors of two devices"):
            Misplaced(HERE).to(THERE)(ViewBatch((x,), torch.arange(2)))
        with pytest.raises(RuntimeError, match="by a generator of cpu"):
            torch.rand(3, device=THERE, generator=torch.Generator())
        with pytest.raises(RuntimeError, match="not supported"):
            x.numpy()
        with pytest.raises(RuntimeError, match="of tensors of two devices"):
            torch.zeros(2)[x[:, 0].long()]
        assert (x * torch.tensor(2.0)).cpu().tolist() == [[2.0] * 4] * 2
