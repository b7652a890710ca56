"""Denoising autoencoder: make the image again from a damaged one."""

from torch import Tensor, nn

from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.objectives.reconstruction import squared_error


class DenoisingAutoencoder(Method):
    """Extracting and Composing Robust Features with Denoising Autoencoders.

    Vincent et al. 2008, https://doi.org/10.1145/1390156.1390294, section 2.3. The encoder sees a
    corrupted image, and the decoder has to make the clean one of the feature. Nothing else narrows
    the way: the code is the feature. What is exported sees clean images.

    Deviations: one deep, convolutional encoder and its decoder are trained at once, where the paper
    trains layer by layer with tied weights; the squared error of normalised pixels, where the paper
    takes the cross-entropy of pixels as probabilities.

    ``decoder`` maps features (B, dim) to images, ``corruption`` images to images.
    """

    def __init__(self, encoder: Encoder, decoder: nn.Module, corruption: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.corruption = corruption

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``reconstruction``, the error of each pixel of the clean images."""
        (x,) = batch.views
        return {"reconstruction": squared_error(self.decode(self.code(self.corruption(x))), x)}

    def code(self, x: Tensor) -> Tensor:
        """Features (B, dim) of images (B, C, S, S) as they are."""
        return self.encoder(x)

    def decode(self, code: Tensor) -> Tensor:
        """Images of features."""
        return self.decoder(code)

    def pictures(self, x: Tensor) -> dict[str, Tensor]:
        """The corrupted images, and what was made of them."""
        seen = self.corruption(x)
        return {"seen": seen, "reconstruction": self.decode(self.code(seen))}
