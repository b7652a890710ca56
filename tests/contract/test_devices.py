"""That a method trains where its parameters are: nothing is made on another device.

PyTorch's meta device stands in for a GPU: it refuses tensors of two devices in one operation, but
has no values that could be read.
"""

import contextlib

import pytest
import torch

from contract.small import build, images, pixels_of, stream
from selftaught import seeds
from selftaught.method import ViewBatch
from selftaught.recipes import RECIPES

META = torch.device("meta")
# Methods that read values on the way, and where.
READ = {
    "instdisc": "entries of the bank that come twice",
    "pirl": "entries of the bank that come twice",
    "deepcluster": "whether features are finite",
    "deepcluster_v2": "which images were seen",
    "simmim": "which patches are hidden",
    "maskfeat": "which patches are hidden",
    "beit": "which patches are hidden",
    "vqvae": "how often a code is used",
    "igpt": "which colours there are",
    "colorization": "how often a colour comes",
}


@pytest.fixture
def nothing_is_cast(monkeypatch):
    """The meta device has no autocast."""
    autocast = torch.autocast
    monkeypatch.setattr(
        torch,
        "autocast",
        lambda device, *rest, **more: (
            contextlib.nullcontext() if device == "meta" else autocast(device, *rest, **more)
        ),
    )


def drawn(run):
    """A batch whose views were finished on the meta device from crops there."""
    found = images(pixels_of(run))[: run.batch_size]
    parameters = run.views.draw(seeds.generator(0, "views", 0), len(found))
    crops = [crop.to(META) for crop in run.views.crop(found, parameters)]
    return ViewBatch(run.views.apply(crops, parameters), torch.arange(len(found)))


@pytest.mark.usefixtures("nothing_is_cast")
@pytest.mark.parametrize("name", RECIPES)
def test_views_are_finished_where_the_crops_are(name):
    run = build(name)
    expected = next(stream(run)).views
    found = drawn(run).views
    assert [x.shape for x in found] == [x.shape for x in expected]
    assert all(x.device == META for x in found)


@pytest.mark.usefixtures("nothing_is_cast")
@pytest.mark.parametrize("name", [name for name in RECIPES if name not in READ])
def test_a_step_stays_on_the_device_of_the_parameters(name):
    run = build(name)
    batch, method = drawn(run), run.method.to(META).train()
    terms = method(batch)
    torch.stack(list(terms.values())).sum().backward()
    method.after_step()
    assert {t.device for t in method.state_dict().values()} == {META}
    assert all(p.grad is None or p.grad.device == META for p in method.parameters())


def test_methods_that_read_values_are_methods():
    assert set(READ) <= set(RECIPES)
