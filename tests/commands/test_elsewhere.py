"""That a command finds on another device what it finds on the CPU."""

import numpy as np
import pytest

import selftaught
from elsewhere import elsewhere

PROTOCOLS = ("knn", "logreg", "linear_sgd", "svm", "fewshot", "clustering", "retrieval")
FLOAT = {"precision": "float32"}  # by itself it might be another on the CPU
TINY = {"steps": 4, "size": 8, "batch_size": 16, "evaluate": "off", "quiet": True} | FLOAT
METHODS = {
    "simclr": {"hidden": 32, "dim": 16},
    "vae": {"dim": 8, "width": 8},
    "gan": {"dim": 8, "width": 8},
}
pytestmark = pytest.mark.filterwarnings("ignore:.*to a meta parameter")  # it has values here


@pytest.fixture
def both(tmp_path, monkeypatch):
    """What a command returns on the CPU and elsewhere; what it writes goes to a folder of each."""

    def run(command, *given, out=None, **more):
        found = []
        for device in ("cpu", "meta"):
            place = tmp_path / device
            monkeypatch.setenv("SELFTAUGHT_CACHE", str(place / "cache"))
            options = more if out is None else more | {"out": place / out}
            place.mkdir(exist_ok=True)
            if device == "cpu":
                found.append(command(*given, **options, device=device))
                continue
            with elsewhere() as ran:
                found.append(command(*given, **options, device=device))
            assert ran.count > 100
        return found

    return run


def numbers(found, path=()):
    """The numbers in what a command returned, by where they are."""
    if isinstance(found, dict):
        return {
            k: v for name, part in found.items() for k, v in numbers(part, (*path, name)).items()
        }
    if isinstance(found, list | tuple):
        return numbers(dict(enumerate(found)), path)
    return {path: found} if isinstance(found, float) else {}


def assert_alike(found, *names):
    here, there = (numbers({name: part[name] for name in names}) for part in found)
    assert here
    assert there == pytest.approx(here, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_pretrain(both, data, method):
    assert_alike(
        both(selftaught.pretrain, method, data, out="run", **TINY, **METHODS[method]),
        *("untrained", "signals"),
    )


def test_evaluate(both, finished, few):
    options = {"protocols": PROTOCOLS, "rows": ("encoder",)}
    assert_alike(both(selftaught.evaluate, finished, few, **options), "rows")


def test_label_free(both, finished, few):
    assert_alike(both(selftaught.label_free, finished, few), "rows")


def test_finetune(both, finished, few):
    options = {"labels": "8-per-class", "steps": 6, "batch_size": 8, "quiet": True} | FLOAT
    assert_alike(both(selftaught.finetune, finished, few, out="out", **options), "rows")


def test_distill(both, teacher, few):
    options = {"student": "resnet-pico", "steps": 4, "batch_size": 16, "quiet": True} | FLOAT
    assert_alike(both(selftaught.distill, teacher, few, out="out", **options), "rows")


def test_classify_and_embed(both, teacher, few, tmp_path):
    both(selftaught.classify, teacher, few, out="classes.csv")
    both(selftaught.embed, teacher / "fine-tuned", few, out="features.npy")
    here, there = (tmp_path / place for place in ("cpu", "meta"))
    assert (here / "classes.csv").read_text() == (there / "classes.csv").read_text()
    np.testing.assert_allclose(
        np.load(here / "features.npy"), np.load(there / "features.npy"), 1e-4, 1e-6
    )


def test_robustness(both, finished, few):
    options = {"epsilons": (4,), "corruptions": ("gaussian_noise",), "images": 10, "steps": 4}
    assert_alike(both(selftaught.robustness, finished, few, quiet=True, **options), "rows")


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_transfer(both, finished, canvases, task):
    options = {"images": 6, "batch_size": 2, "size": 32, "steps": 3, "quiet": True} | FLOAT
    assert_alike(both(selftaught.transfer, task, finished, canvases, out="out", **options), "rows")


def test_doctor(both, data):
    here, there = both(selftaught.doctor, data, size=8, batch_size=16, quiet=True)
    assert here["batch_size"] == there["batch_size"]
