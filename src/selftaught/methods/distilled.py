"""A student that says what its teacher says."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selftaught.errors import above_zero, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.heads import ClassScores
from selftaught.objectives.distillation import soft_cross_entropy


class Distilled(Method):
    """Distillation of a classifier on images without labels, and with those that there are.

    Hinton et al. 2015, https://arxiv.org/abs/1503.02531; SimCLR v2 (Chen et al. 2020,
    https://arxiv.org/abs/2006.10029), equations 2 and 3: the student's distribution over classes at
    a temperature matches the teacher's, both of the same view. ``labels`` (N,) are the classes of
    the N images, -1 where they are not known; their cross-entropy, of which the mean over known
    ones is estimated, has the weight ``label_weight`` and the teacher's term the rest. Raises
    UserError for settings out of range.
    """

    knows_samples = True

    def __init__(
        self,
        encoder: nn.Module,
        teacher: nn.Module,
        *,
        classes: int,
        labels: Tensor,
        temperature: float = 1.0,
        label_weight: float = 0.0,
    ) -> None:
        super().__init__()
        above_zero(temperature=temperature)
        from_zero_to_one(label_weight=label_weight)
        self.network = ClassScores(encoder, classes)
        self.teacher = teacher.requires_grad_(False)
        self.labels = nn.Buffer(labels.clone(), persistent=False)
        self.rarity = len(labels) / max(1, int((labels >= 0).sum()))
        self.temperature, self.label_weight = temperature, label_weight

    @property
    def encoder(self) -> nn.Module:  # pyright: ignore
        """The student's encoder."""
        return self.network[0]

    def train(self, mode: bool = True) -> "Distilled":
        """The teacher does not leave eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``teacher``, and ``labels`` where they have a weight."""
        (x,) = batch.views
        scores = self.network(x).float()  # (B, K)
        with torch.no_grad():
            told = self.teacher(x).float()
        share = 1 - self.label_weight
        terms = {"teacher": share * soft_cross_entropy(scores, told, self.temperature)}
        if self.label_weight:
            labels = self.labels[batch.index.to(self.labels.device)]
            known = F.cross_entropy(scores, labels, ignore_index=-1, reduction="sum")
            terms["labels"] = self.label_weight * self.rarity * known / len(labels)
        return terms
