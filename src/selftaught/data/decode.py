"""One image file to uint8 pixels, or the reason why not.

What every kind of file becomes:

========================  ==========================================================================
8-bit grey, RGB           as it is; between grey and RGB by ITU-R 601-2 luma
1-bit                     0 and 255
palette                   its colours
alpha or a transparent    composited on white
colour
CMYK, YCbCr               Pillow's conversion to RGB; colour profiles are not applied
16-bit grey               0 to 65535 becomes 0 to 255, rounded (divided by 257)
16-bit RGB                Pillow's reduction to the high byte
32-bit and signed         0 to 255 or 0 to 65535, whichever is the smallest that holds the image;
integers (mode I)         else stretched from the image's least to its greatest value.  PNG and PPM
                          files are always 0 to 65535
floats (mode F)           0 to 1, 0 to 255 or 0 to 65535, by the same rule
EXIF orientation          applied
animated, multi-page      the first frame
========================  ==========================================================================

The allow-list of formats keeps what runs other programs (EPS) away from files nobody has looked at.
One fault is out of sight: a progressive JPEG whose last scans were lost but which was given a new
end decodes to a coarse image that no reader can tell from an intended one.
"""

import io
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
MEGAPIXELS = 100
LARGEST = 1024  # pixels of the shorter side

_ORIENTATION = 0x0112  # the EXIF tag
# The axes of (H, W) that each orientation flips; from 5 on height and width are swapped first.
_TURNS = {2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)}
_GREY = ("1", "L", "LA", "La", "I", "F")
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_END_OF_IMAGE = b"\xff\xd9"


class Broken(Exception):
    """A file that is not a sound image; its text is the reason, in one line."""


def decode(path: str | os.PathLike[str], channels: Literal[1, 3]) -> Tensor:
    """The pixels of an image file, upright: uint8 (channels, H, W).

    What has a shorter side of more than `LARGEST` pixels is reduced to that, antialiased; a JPEG
    with twice as much or more to a half, a quarter or an eighth first, in its cosine transform,
    which takes a fraction of the time.

    Raises `Broken` for whatever is not a whole image: a truncated file is never half grey.
    """
    with _opened(path) as image:
        jpeg = image.format in ("JPEG", "MPO")
        if jpeg:
            image.draft(None, (LARGEST, LARGEST))
        image.load()
        if jpeg:
            _check_jpeg(path, image)
        return tensor_of(image, channels)


def tensor_of(image: Image.Image, channels: int) -> Tensor:
    """The pixels of an open image, upright: uint8 (channels, H, W); raises `Broken`."""
    orientation = _orientation(image)
    pixels = _pixels(image, channels)  # (H, W) or (H, W, 3)
    x = pixels if pixels.ndim == 3 else np.stack([pixels] * channels, axis=2)
    x = x.swapaxes(0, 1) if orientation >= 5 else x
    x = np.flip(x, _TURNS.get(orientation, ())).copy()
    return _reduced(torch.from_numpy(x).permute(2, 0, 1))  # channels together: quicker to crop


def _reduced(x: Tensor) -> Tensor:
    """A photograph with its shorter side at most `LARGEST`, so that a batch of them fits memory."""
    height, width = x.shape[1:]
    shrink = LARGEST / min(height, width)
    if shrink >= 1:
        return x
    size = (round(height * shrink), round(width * shrink))
    # not x[None]: from its strides PyTorch does not see that channels lie together, and is slower
    batch = x.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return F.interpolate(batch, size=size, mode="bilinear", antialias=True)[0]


def size(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Height, width (upright) and channels (1 or 3) of an image file, from its header only.

    Raises `Broken` as `decode` does, as far as a header shows it. A PNG that tells its orientation
    only after its pixels counts as upright here.
    """
    with _opened(path) as image:
        width, height = image.size
        if _orientation(image) >= 5:
            height, width = width, height
        grey = image.mode in _GREY or image.mode.startswith("I;16")
        return height, width, 1 if grey else 3


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """An image with its header read; whatever goes wrong until it is closed becomes `Broken`."""
    _check_file(path)
    truncated, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    kind = "image"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                kind = image.format or kind
                if image.width * image.height > MEGAPIXELS * 1_000_000:
                    raise Image.DecompressionBombError
                yield image
    except Broken:
        raise
    except UnidentifiedImageError:
        raise Broken("not an image of a known format, or its header is damaged") from None
    except Image.DecompressionBombError:
        raise Broken(f"larger than {MEGAPIXELS} megapixels (decompression bomb)") from None
    except Exception as error:  # a decoder may raise anything on a damaged file
        text = " ".join(str(error).split()) or type(error).__name__
        state = "truncated" if "truncated" in text.lower() else "damaged"
        raise Broken(f"{state} {kind} ({text})") from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated


def _check_file(path: str | os.PathLike[str]) -> None:
    """Refuse what is not a file with something in it, without opening it: a FIFO would hang."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise Broken(f"unreadable: {(error.strerror or 'unknown').lower()}") from None
    if not stat.S_ISREG(status.st_mode):
        raise Broken("not a regular file")
    if status.st_size == 0:
        raise Broken("empty file")


def _check_jpeg(path: str | os.PathLike[str], image: Image.Image) -> None:
    """Refuse a JPEG whose data end early although the file goes on, with zeros or a new end.

    The decoder fills what is missing with mid-grey and says nothing. Where the last pixel is
    mid-grey, bytes put before the end marker tell: a whole image does not change by them.
    """
    with open(path, "rb") as file:
        data = file.read()
    end = _jpeg_end(data)
    if end < 0:
        raise Broken("truncated JPEG (it has no end)")
    last = np.asarray(image.crop((image.width - 1, image.height - 1, image.width, image.height)))
    if ((last == 127) | (last == 128)).all():
        longer = data[:end] + b"\x55" * 64 + _END_OF_IMAGE
        with Image.open(io.BytesIO(longer), formats=("JPEG",)) as other:
            other.draft(None, (LARGEST, LARGEST))
            if not np.array_equal(np.asarray(image), np.asarray(other)):
                raise Broken("truncated JPEG (its data end before its pixels)")


def _jpeg_end(data: bytes) -> int:
    """Where the first image's end marker stands; -1 where there is none."""
    at = 2
    while marker := _MARKER.search(data, at):
        if marker.group() == _END_OF_IMAGE:
            return marker.start()
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return -1


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation still to be applied, 1 to 8; a damaged EXIF block counts as 1."""
    if image.format == "TIFF":  # Pillow turns it
        return 1
    if image.format == "PNG" and "exif" not in image.info:  # getexif would decode the pixels
        return 1
    with suppress(Exception):
        found = image.getexif().get(_ORIENTATION)
        return found if found in _TURNS else 1
    return 1


def _pixels(image: Image.Image, channels: int) -> np.ndarray:
    """uint8 (H, W), or (H, W, 3) for three channels of an image that has colours."""
    if image.mode.startswith("I;16"):
        return _eight_bits(np.asarray(image), (65535,))
    if image.mode == "I":
        sixteen = image.format in ("PNG", "PPM")
        return _eight_bits(np.asarray(image), (65535,) if sixteen else (255, 65535))
    if image.mode == "F":
        return _eight_bits(np.asarray(image), (1, 255, 65535))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = "L" if channels == 1 else "RGB"
    return np.asarray(image if image.mode == mode else image.convert(mode))


def _eight_bits(values: np.ndarray, whites: tuple[int, ...]) -> np.ndarray:
    """0 to the first white that holds all values, or else least to greatest, as 0 to 255."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise Broken("pixels that are NaN or infinite")
    black, white = float(values.min()), float(values.max())
    if black >= 0:
        black, white = next(((0.0, float(w)) for w in whites if white <= w), (black, white))
    return np.rint((values - black) * (255 / ((white - black) or 1))).astype(np.uint8)
