"""An encoder in the files that other libraries read, and what they make of images then."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from selftaught import pretrained, seeds
from selftaught.checkpoint import write_atomic
from selftaught.errors import UserError
from selftaught.nn.base import TimmCall
from selftaught.nn.encoders import small_stem
from selftaught.nn.heads import ClassScores
from selftaught.pretrained import Pretrained

WORDS = {False: ("encoder", "features"), True: ("classifier", "scores")}  # what gives what
ONNX = ("onnx", "onnxscript", "onnxruntime")  # packages
COUNT = 5  # images that an export is tried on; a graph is made of another number of them


class Sample(NamedTuple):
    """Random images, as arrays and as the encoder sees them."""

    images: np.ndarray  # uint8 (N, S, S, C)
    x: Tensor  # float32 (N, C, S, S)


def sample(encoder: Pretrained, size: int) -> Sample:
    """Images of noise, of ``size`` pixels a side."""
    shape = (COUNT, size, size, encoder.pixels.channels)
    draw = torch.randint(256, shape, generator=seeds.generator(0, "export"), dtype=torch.uint8)
    images, pixels = draw.numpy(), replace(encoder.pixels, size=size)
    return Sample(images, Pretrained(encoder.encoder, pixels, {}).preprocess(list(images)))


class Written(NamedTuple):
    """What the library, by name and version, makes of the sample after it has read the file."""

    reader: str
    features: Tensor | np.ndarray


def words(encoder: Pretrained) -> tuple[str, str]:
    """What it is called, and what it makes of images."""
    return WORDS[isinstance(encoder.encoder, ClassScores)]


def safetensors(folder: Path, encoder: Pretrained, card: dict[str, Any], given: Sample) -> Written:
    """Weights for `selftaught.load`, and a card that says how to build the network for them."""
    pretrained.write(folder, encoder.encoder, card)
    return Written(_named("selftaught"), pretrained.load(folder)(given.x))


def sklearn(folder: Path, encoder: Pretrained, card: dict[str, Any], given: Sample) -> Written:
    """The same for `selftaught.sklearn`."""
    from selftaught.sklearn import SelfTaughtTransformer

    pretrained.write(folder, encoder.encoder, card)
    transformer = SelfTaughtTransformer(folder)
    rows = given.images.reshape(COUNT, -1)
    return Written(_named("scikit-learn"), transformer.fit_transform(rows))  # pyright: ignore


def timm(folder: Path, encoder: Pretrained, card: dict[str, Any], given: Sample) -> Written:
    """Weights that ``timm.create_model`` takes, all of them and no others.

    Raises UserError where timm knows no such network.
    """
    import timm as library
    from safetensors.torch import load_file, save

    found: TimmCall | None = getattr(encoder.encoder, "timm", None)
    if found is None:
        raise UserError(
            f"timm does not know the encoder of {card['recipe']}, a "
            f"{type(encoder.encoder).__name__}; use --format safetensors, onnx, torch_export or "
            "sklearn"
        )
    options = found.options
    net: Any = library.create_model(found.name, **options)
    if found.small_stem:
        small_stem(net, options["in_chans"])
    own: dict[str, Tensor] = encoder.encoder.net.state_dict()  # pyright: ignore
    lacking = sorted(net.state_dict().keys() - own.keys())
    if lacking:
        raise UserError(
            f"the encoder has no {lacking[0]} for timm's {found.name}; use --format safetensors"
        )
    weights = {name: own[name].detach().cpu().contiguous() for name in net.state_dict()}
    write_atomic(folder / "model.safetensors", save(weights))
    net.load_state_dict(load_file(folder / "model.safetensors"))
    card["timm"] = found._asdict()
    return Written(_named("timm"), net.eval()(given.x))


def torch_export(folder: Path, encoder: Pretrained, card: dict[str, Any], given: Sample) -> Written:
    """The graph that PyTorch runs without any of our code."""
    path = folder / f"{words(encoder)[0]}.pt2"
    torch.export.save(_graph(encoder.encoder, card, given), path)
    return Written(_named("torch"), torch.export.load(path).module()(given.x))


def onnx(folder: Path, encoder: Pretrained, card: dict[str, Any], given: Sample) -> Written:
    """The graph for ONNX runtimes. Raises UserError where what makes one is not installed."""
    missing = [name for name in ONNX if find_spec(name) is None]
    if missing:
        raise UserError(f"an ONNX file needs {missing[0]}; pip install 'selftaught[onnx]'")
    import onnxruntime

    graph = _graph(encoder.encoder, card, given)
    name, result = words(encoder)
    path = folder / f"{name}.onnx"
    names: Any = {"input_names": ["images"], "output_names": [result]}
    with _quiet():
        try:
            program = torch.onnx.export(graph, dynamo=True, verbose=False, **names)
        except Exception as error:  # of an operation that ONNX lacks
            raise _unfit(card, error) from error
        assert program is not None
        program.save(path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (features,) = session.run(None, {"images": given.x.numpy()})
    return Written(_named("onnxruntime"), features)  # pyright: ignore


GRAPHS = ("onnx", "torch_export")  # of one size of images, and of any number of them
FORMATS: dict[str, Callable[[Path, Pretrained, dict[str, Any], Sample], Written]] = {
    "safetensors": safetensors,
    "timm": timm,
    "onnx": onnx,
    "torch_export": torch_export,
    "sklearn": sklearn,
}


def _graph(net: nn.Module, card: dict[str, Any], given: Sample) -> torch.export.ExportedProgram:
    """What the encoder does to any number of images of that size."""
    dynamic = ({0: torch.export.Dim("batch")},)
    with _quiet():
        try:
            return torch.export.export(net, (given.x[: COUNT - 2],), dynamic_shapes=dynamic)
        except Exception as error:  # of whatever the network does
            raise _unfit(card, error) from error


def _unfit(card: dict[str, Any], error: Exception) -> UserError:
    said = str(error).strip().splitlines() or [type(error).__name__]
    return UserError(
        f"the encoder of {card['recipe']} is no fixed graph for any number of images ({said[0]}); "
        "use --format safetensors or sklearn"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, logs or prints of those who make graphs: what they say is for their makers."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _named(package: str) -> str:
    return f"{package} {version(package)}"
