"""The ``load.py`` of each export: what loads it without anything else."""

from collections.abc import Mapping
from typing import Any

PACKAGES = {
    "safetensors": "selftaught",
    "timm": "timm numpy pillow",
    "onnx": "onnxruntime numpy pillow",
    "torch_export": "torch numpy pillow",
    "sklearn": "selftaught",
}

_HEAD = '''"""Load this {name}; needs `pip install {packages}`.

{about}
"""

'''

_PIXELS = '''
FOLDER = Path(__file__).parent
CARD = json.loads((FOLDER / "encoder.json").read_text())
SEEN = CARD["preprocessing"]


def pixels(path):
    """One image file, upright, its central square: uint8 (S, S, C)."""
    with Image.open(path) as file:
        sixteen = file.mode == "I" and file.format in ("PNG", "PPM")
        sixteen = sixteen or file.mode.startswith("I;16")
        image = ImageOps.exif_transpose(file)
    if sixteen:  # convert() would clip it
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"{path} has neither 8 nor 16 bits a pixel; convert it")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if SEEN["channels"] == 1 else "RGB")
    side = min(image.size)
    left, top = (round((length - side) / 2) for length in image.size)
    image = image.crop((left, top, left + side, top + side))
    image = image.resize((SEEN["size"], SEEN["size"]), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(SEEN["size"], SEEN["size"], SEEN["channels"])
'''

_PREPROCESS = '''

def preprocess(paths):
    """Images as the network wants them: float32 (N, C, S, S)."""
    x = np.stack([pixels(path) for path in paths]).astype(np.float32) / 255
    mean, std = np.float32(SEEN["mean"]), np.float32(SEEN["std"])
    return np.ascontiguousarray(((x - mean) / std).transpose(0, 3, 1, 2))
'''

_END = """

if __name__ == "__main__":
    import sys

    images = sys.argv[1:]  # paths
    if images:
        print({found})
    else:
        print(f"{{{card}['recipe']}}: {{{dim}}} {result}; give it paths of images")
"""

_SAFETENSORS = """from pathlib import Path

import selftaught

encoder = selftaught.load(Path(__file__).parent)  # in eval mode, with its preprocessing
"""

_NUMPY = """import json
from pathlib import Path

import numpy as np
"""

_TIMM = """

net = timm.create_model({model!r}, **CARD["timm"]["options"])
{stem}net.load_state_dict(load_file(FOLDER / "model.safetensors"))
net.eval()
"""

_TORCH = '''

def {name}(x):
    """The {result} (N, {dim}) of preprocessed images."""
    with torch.no_grad():
        return net(torch.from_numpy(x))
'''

_STEM = """# the stem of small images: it looks at every pixel, and nothing is pooled
width = net.layer1[0].conv1.in_channels
net.conv1 = torch.nn.Conv2d(SEEN["channels"], width, 3, 1, 1, bias=False)
net.bn1 = torch.nn.BatchNorm2d(width)
net.maxpool = torch.nn.Identity()
"""

_ONNX = '''

session = onnxruntime.InferenceSession(
    FOLDER / "{name}.onnx", providers=onnxruntime.get_available_providers()
)


def {name}(x):
    """The {result} (N, {dim}) of preprocessed images."""
    return session.run(None, {{"images": x}})[0]
'''

_TORCH_EXPORT = """

net = torch.export.load(FOLDER / "{name}.pt2").module()
"""

_SKLEARN = '''

transformer = SelfTaughtTransformer(FOLDER)  # fit and transform images.reshape(len(images), -1)


def table(paths):
    """Images as rows: uint8 (N, S * S * C)."""
    return np.stack([pixels(path).ravel() for path in paths])
'''


def snippet(
    form: str, about: str, words: tuple[str, str], timm: Mapping[str, Any] | None = None
) -> str:
    """The script for that format; ``about`` is what its docstring says of the network.

    ``words`` are what that is called and what it makes of images, ``timm`` is what the card says of
    timm's model.
    """
    name, result = words
    said: dict[str, Any] = {"name": name, "result": result, "dim": "dim"}
    head = _HEAD.format(packages=PACKAGES[form], about=about, **said)
    if form == "safetensors":
        said |= {"card": "encoder.card", "dim": "encoder.dim"}
        found = "encoder(encoder.preprocess(images))"
        return head + _SAFETENSORS + _END.format(found=found, **said)
    shown = said | {"card": "CARD", "dim": "CARD['dim']"}
    if form == "sklearn":
        imports = (
            "from PIL import Image, ImageOps\n\nfrom selftaught.sklearn import "
            "SelfTaughtTransformer\n"
        )
        end = _END.format(found="transformer.fit_transform(table(images))", **shown)
        return head + _NUMPY + imports + _PIXELS + _SKLEARN + end
    imports, body = {
        "onnx": ("import onnxruntime\nfrom PIL import Image, ImageOps\n", _ONNX),
        "torch_export": (
            "import torch\nfrom PIL import Image, ImageOps\n",
            _TORCH_EXPORT + _TORCH,
        ),
        "timm": (
            "import timm\nimport torch\nfrom PIL import Image, ImageOps\nfrom safetensors.torch "
            "import load_file\n",
            _TIMM + _TORCH,
        ),
    }[form]
    if name == "classifier":
        said["dim"] = "classes"
        shown["result"] = "classes"
        found = "[CARD['classes'][k] for k in classifier(preprocess(images)).argmax(1)]"
    else:
        found = f"{name}(preprocess(images))"
    if timm is not None:
        said |= {"model": timm["name"], "stem": _STEM if timm["small_stem"] else ""}
    end = _END.format(found=found, **shown)
    return head + _NUMPY + imports + _PIXELS + _PREPROCESS + body.format(**said) + end
