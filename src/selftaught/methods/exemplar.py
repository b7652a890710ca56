"""Exemplar-CNN: every image's patch is a class of its own, and its transformations the samples."""

import math

import torch
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.objectives.local import surrogate_class


class Exemplar(Method):
    """Discriminative Unsupervised Feature Learning with Exemplar Convolutional Neural Networks.

    Dosovitskiy, Fischer, Springenberg, Riedmiller, Brox 2014, https://arxiv.org/abs/1406.6909,
    equations 1 and 2. One surrogate class an image: ``classes`` is how many images there are to
    train on, and an image's place among them is its class. The classifier sees the feature with
    dropout, as the fully connected layers of the paper's networks do.

    Deviations: transformations are drawn anew at each visit, so that the number of samples a class
    has is the number of epochs (the paper draws about 100 a class, keeps them and goes on until
    nothing is gained); the networks are not the paper's plain ones; colours change along the
    principal components of the patch, not of the data.

    Raises UserError for less than two classes and a dropout outside [0, 1).
    """

    tells_apart = ("surrogate_class",)
    knows_samples = True

    def __init__(self, encoder: Encoder, *, classes: int, dropout: float = 0.5) -> None:
        super().__init__()
        if classes < 2:
            raise UserError(f"{classes} surrogate classes; use --classes with 2 or more")
        if not 0 <= dropout < 1:
            raise UserError(f"a dropout of {dropout}; use --dropout from 0 to below 1")
        self.encoder = encoder
        self.classifier = nn.Linear(encoder.dim, classes)
        self.dropout = dropout

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``surrogate_class``: the cross-entropy of each view's own class."""
        (x,) = batch.views
        h = self.encoder(x)  # (B, D)
        if self.training and self.dropout:
            kept = torch.rand(len(h) * dist.world_size(), h.shape[1]) >= self.dropout
            h = h * dist.mine(kept).to(h.device) / (1 - self.dropout)
        index = batch.index.to(h.device)
        return {"surrogate_class": surrogate_class(self.classifier(h), index)}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of classes."""
        return {"surrogate_class": math.log(self.classifier.out_features)}
