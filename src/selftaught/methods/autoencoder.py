"""Autoencoder: make the image again from few numbers."""

from torch import Tensor, nn

from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.objectives.reconstruction import squared_error


class Autoencoder(Method):
    """Reducing the Dimensionality of Data with Neural Networks.

    Hinton & Salakhutdinov 2006, Science 313, https://doi.org/10.1126/science.1127647. A code of
    ``dim`` numbers, linear in the encoder's feature, is all that the decoder knows of the image.
    Exported is the encoder; the code is one linear map further.

    Deviations: all layers are trained at once by backpropagation from random weights, where the
    paper first trains them one by one as restricted Boltzmann machines; encoder and decoder are
    convolutional; the squared error of normalised pixels, where the paper takes the cross-entropy
    of pixels as probabilities.

    ``decoder`` maps codes (B, dim) to images.
    """

    def __init__(self, encoder: Encoder, decoder: nn.Module, *, dim: int = 30) -> None:
        super().__init__()
        self.encoder = encoder
        self.bottleneck = nn.Linear(encoder.dim, dim)
        self.decoder = decoder

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``reconstruction``, the error of each pixel."""
        (x,) = batch.views
        return {"reconstruction": squared_error(self.decode(self.code(x)), x)}

    def code(self, x: Tensor) -> Tensor:
        """Codes (B, dim) of images (B, C, S, S)."""
        return self.bottleneck(self.encoder(x))

    def decode(self, code: Tensor) -> Tensor:
        """Images of codes."""
        return self.decoder(code)

    def pictures(self, x: Tensor) -> dict[str, Tensor]:
        """The images, and what was made of their codes."""
        return {"seen": x, "reconstruction": self.decode(self.code(x))}
