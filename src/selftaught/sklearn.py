"""A pre-trained encoder as a transformer of scikit-learn's."""

import math
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from selftaught.commands.settings import device_of
from selftaught.errors import UserError
from selftaught.pretrained import load


class SelfTaughtTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features of images whose pixels are the columns of a table.

    A row is an image, row by row and each pixel's channels together:
    ``images.reshape(len(images), -1)`` of images (N, H, W) or (N, H, W, C). It is seen as
    ``Pretrained.preprocess`` sees an image: in 256 grey levels, its central square, resized. The
    encoder comes from a folder without a pickle in it and is never trained here. Columns that make
    no square image, where no ``shape`` says which they make, are drawn into the smallest square
    that holds them, the rest black, with a warning.

    Args:
        path: folder of a finished run, or of an exported encoder.
        shape: of an image: (H, W), or (H, W, C); without it images are square.
        white: the value of a white pixel; black is 0. Without it, 255 where the data are uint8 when
            fitted, else the largest value of the data fitted to. Brighter pixels count as white.
        dtype: of the features and of all arithmetic. In float32, which is quicker, the last digits
            of a feature may depend on what else is transformed with it.
        batch_size: images computed at a time.
        device: cpu, cuda or auto.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shape: tuple[int, ...] | None = None,
        white: float | None = None,
        dtype: Literal["float64", "float32"] = "float64",
        batch_size: int = 128,
        device: str = "cpu",
    ) -> None:
        self.path = path
        self.shape = shape
        self.white = white
        self.dtype = dtype
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: ArrayLike, y: Any = None) -> "SelfTaughtTransformer":
        """Load the encoder and see what white is.

        Raises ValueError for settings and pixels that make no image, and for a damaged encoder.
        """
        if self.dtype not in ("float64", "float32"):
            raise UserError(f"a dtype of {self.dtype!r}; use float64 or float32")
        if self.batch_size < 1 or (self.white is not None and not self.white > 0):
            raise UserError(
                f"a batch_size of {self.batch_size} and a white of {self.white}; use at least 1, "
                "and a number above 0"
            )
        X = self._checked(X, reset=True)
        encoder = load(self.path).to(device_of(self.device), dtype=getattr(torch, self.dtype))
        self.shape_ = self._shape(X.shape[1], encoder.pixels.channels)
        largest = 255.0 if X.dtype == np.uint8 else float(X.max()) or 1.0
        self.white_ = largest if self.white is None else self.white
        self.encoder_ = encoder
        return self

    @torch.no_grad()
    def transform(self, X: ArrayLike) -> np.ndarray:
        """Features (N, dim) of images (N, H W C)."""
        check_is_fitted(self)
        images = self._images(self._checked(X, reset=False))
        net, size = self.encoder_, self.batch_size
        like = next(net.parameters())
        pieces = [images[i : i + size] for i in range(0, len(images), size)]
        return np.concatenate([net(net.preprocess(list(x)).to(like)).cpu().numpy() for x in pieces])

    def _checked(self, X: Any, *, reset: bool) -> np.ndarray:
        table: Any = validate_data(self, X, reset=reset)
        check_non_negative(table, type(self).__name__)
        return table

    def _shape(self, count: int, channels: int) -> tuple[int, int, int]:
        """Of the images that ``count`` columns make."""
        if self.shape is not None:
            height, width, depth = (*self.shape, 1)[:3]
            if height * width * depth != count or depth not in (1, channels):
                raise UserError(
                    f"{count} columns are no images of {self.shape} for an encoder of {channels} "
                    "channels; give their shape as (H, W) or (H, W, C)"
                )
            return height, width, depth
        side = math.ceil(math.sqrt(count / channels))
        if side * side * channels != count:
            warnings.warn(
                f"{count} columns are no square image of {channels} channels; drawn into {side} x "
                f"{side} pixels, the rest black. Give the shape if they are an image",
                stacklevel=3,
            )
        return side, side, channels

    def _images(self, X: np.ndarray) -> np.ndarray:
        """The images (N, H, W, C), uint8."""
        grey = np.rint(X * (255.0 / self.white_)).clip(0, 255).astype(np.uint8)
        missing = math.prod(self.shape_) - grey.shape[1]
        images = np.pad(grey, ((0, 0), (0, missing))).reshape(-1, *self.shape_)
        return np.repeat(images, self.encoder_.pixels.channels // self.shape_[2], axis=3)

    @property
    def _n_features_out(self) -> int:
        return self.encoder_.dim

    def __sklearn_tags__(self) -> Any:
        tags: Any = super().__sklearn_tags__()
        tags.input_tags.positive_only = True  # pixels are not negative
        tags.transformer_tags.preserves_dtype = [self.dtype]
        return tags
