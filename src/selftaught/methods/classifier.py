"""A classifier with labels: what a learned encoder is fine-tuned as."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.heads import ClassScores

UNKNOWN = 10.0  # a class without samples scores by so much less than the least of the others


class Classifier(Method):
    """Cross-entropy of a linear layer on an encoder's feature, all of it trained.

    ``kept`` is what stays of the projection head between the two, as in SimCLR v2 (Chen et al.
    2020, https://arxiv.org/abs/2006.10029, section 2 and appendix B.6). With ``freeze`` only the
    linear layer is trained, and the encoder stays in eval mode. With ``freeze_norm`` batch norm
    does: its statistics are those of many images, and here there may be few. ``labels`` (N,) are
    the classes of the N images that are trained on. Raises UserError for fewer than two classes.
    """

    knows_samples = True

    def __init__(
        self,
        encoder: nn.Module,
        *,
        labels: Tensor,
        classes: int,
        kept: nn.Sequential | None = None,
        freeze: bool = False,
        freeze_norm: bool = False,
    ) -> None:
        super().__init__()
        if classes < 2:
            raise UserError(f"{classes} class to tell from none; give labels of two or more")
        self.network = ClassScores(encoder, classes, kept)
        self.labels = nn.Buffer(labels.clone(), persistent=False)
        self.freeze, self.freeze_norm = freeze, freeze_norm
        if freeze:
            self.network.requires_grad_(False)
            self.network[2].requires_grad_(True)

    @property
    def encoder(self) -> nn.Module:  # pyright: ignore
        """The encoder that is fine-tuned."""
        return self.network[0]

    def train(self, mode: bool = True) -> "Classifier":
        """What is frozen does not leave eval mode."""
        super().train(mode)
        if self.freeze:
            self.network.eval()
        for part in self.network.modules() if self.freeze_norm else ():
            if isinstance(part, _BatchNorm):
                part.eval()
        return self

    @torch.no_grad()
    def begin_with(self, weight: Tensor, bias: Tensor, classes: Tensor) -> None:
        """Make the linear layer a solution on the frozen features: weight (K, D), bias (K,).

        ``classes`` (K,) are those that the solution knows; of any other it says that it is none.
        Fine-tuning from there distorts the features less than from a random layer: LP-FT (Kumar et
        al. 2022, https://arxiv.org/abs/2202.10054).
        """
        layer: nn.Linear = self.network[2]  # pyright: ignore
        layer.weight.zero_()[classes] = weight.to(layer.weight)
        layer.bias.fill_(bias.min() - UNKNOWN)[classes] = bias.to(layer.bias)

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``cross_entropy`` of one view."""
        (x,) = batch.views
        labels = self.labels[batch.index.to(self.labels.device)]
        return {"cross_entropy": F.cross_entropy(self.network(x).float(), labels)}
