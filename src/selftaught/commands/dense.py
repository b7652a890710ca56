"""The trainings of detectors and segmenters."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught import checkpoint, pretrained, seeds
from selftaught.commands import settings
from selftaught.commands.scores import Score, in_percent
from selftaught.commands.supervised import Supervised, Training, longer
from selftaught.commands.trainings import TransferSettings, among
from selftaught.data.annotated import Annotated, masked
from selftaught.data.batches import plain
from selftaught.data.images import Images
from selftaught.errors import UserError
from selftaught.health import Verdict, verdict
from selftaught.method import VOID, Method
from selftaught.methods.detector import Detector
from selftaught.methods.segmenter import Segmenter
from selftaught.optim import Schedule, groups
from selftaught.protocols.dense import average_precision, mean_iou
from selftaught.recipes.run import Run
from selftaught.report.marked import boxed, coloured
from selftaught.views.whole import Whole, fitted

STEPS, EPOCHS = 400, 12  # by default the longer of the two
SURE = 0.5  # the score from which a box is drawn


class Chosen(NamedTuple):
    """The labelled images that are trained on."""

    part: Annotated
    items: Tensor  # (N,) among all images of the part


class Transferring(Supervised):
    """The training of a network on an encoder's weights, or on random ones."""

    masked = False  # whether the views have masks

    def __init__(self, training: Training, chosen: Chosen, *, scratch: bool) -> None:
        self.part, self.items = chosen
        self.scratch, self.size = scratch, training.call["size"]
        super().__init__(training)

    def complete(self) -> None:
        """Train to the end, unless that was done before, and write the encoder and all weights."""
        super().complete()
        self.restore_weights()
        state = self.run.method.state_dict()
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        path = self.folder.path / "model.safetensors"
        checkpoint.write_atomic(path, safetensors.torch.save(tensors))

    def scores(self, held: Annotated) -> dict[str, Score]:
        """Of the network as it is, on the test part."""
        raise NotImplementedError

    def pictures(self, images: Any) -> list[Tensor]:
        """What the network says of n uint8 images (C, H, W), drawn over them: (3, L, L) each."""
        views = self._plain()
        (squares,) = views.crop(images, ())
        said = self._predict(views.apply([squares], ())[0])
        return [self._drawn(x / 255, one) for x, one in zip(squares, said, strict=True)]

    def true_pictures(self, images: Any, held: Annotated, index: Sequence[int]) -> list[Tensor]:
        """What it should say of these test images."""
        (squares,) = self._plain().crop(images, ())
        pairs = zip(squares, index, strict=True)
        return [self._drawn(x / 255, self._true(held, i)) for x, i in pairs]

    def signals(self) -> dict[str, Any]:
        """None: with labels, the terms say enough."""
        return {}

    def verdict(self, *newest: dict[str, Any]) -> Verdict:
        """By the terms alone."""
        unknown = {"feature_std": 1.0, "effective_rank": None}
        kept = [r | {"signals": None} for r in (*self.folder.metrics(), *newest)]
        return verdict(kept, unknown)

    def _method(self, encoder: Any) -> Method:
        raise NotImplementedError

    def _predict(self, x: Tensor) -> list[Any]:
        """What the network says of views (B, C, S, S), in their pixels."""
        raise NotImplementedError

    def _true(self, held: Annotated, i: int) -> Any:
        """What it should say of a test image, in pixels of its view."""
        raise NotImplementedError

    def _drawn(self, x: Tensor, said: Any) -> Tensor:
        raise NotImplementedError

    def _predictions(self, held: Annotated) -> Iterator[tuple[int, Any]]:
        """The number of each sound test image, and what the network says of it."""
        for index, x in plain(held.images, self._plain(), self.run.batch_size):
            yield from zip(index.tolist(), self._predict(x), strict=True)

    def _flip(self) -> bool:
        """Whether half of the images are mirrored."""
        return self.pixels.flip and among(TransferSettings, self.call["arguments"]).flip

    def _plain(self) -> Whole:
        return Whole(self.size, self.pixels.mean, self.pixels.std)

    def _open(self, data: str) -> Images:
        return self.part.images

    def _choose(self) -> Images:
        return self.images.take(self.items)

    def _build(self) -> Run:
        own = among(TransferSettings, self.call["arguments"])
        with torch.random.fork_rng([]):
            encoder = self._encoder()
            seeds.plant(seeds.derive(self.call["seed"], "weights"))
            method = self._method(encoder)
        count = len(self.items)
        batch = settings.batch_size_for(None, own.batch_size, count)
        run = Run(
            method=method,
            views=Whole(self.size, self.pixels.mean, self.pixels.std, masked=self.masked),
            optimizer=torch.optim.AdamW(groups(method, weight_decay=own.weight_decay), lr=own.lr),
            batch_size=batch,
            epochs=longer(STEPS, EPOCHS, count // batch),
            schedule=Schedule(own.warmup),
        )
        return self._placed(run)

    def _encoder(self) -> Any:
        run, seed = self.call["arguments"]["run"], self.call["seed"]
        found = pretrained.untrained(self.card, seed) if self.scratch else pretrained.load(run)
        if self.size != self.pixels.size and not getattr(found.encoder, "any_size", False):
            raise UserError(
                f"the encoder of {run} sees images of {self.pixels.size} pixels only; use "
                f"--size {self.pixels.size}, or a run of resnet-nano, vit-nano or a convolutional "
                "network of timm's"
            )
        return found.encoder

    def _announce(self) -> None:
        self._say(
            f"{self.call['method']}: {len(self.items):,} labelled images, seen at {self.size} "
            f"pixels; {len(self.part.classes)} classes"
        )

    def _origin(self) -> dict[str, Any]:
        return {"transferred": self.call, "scratch": self.scratch}


class Detecting(Transferring):
    """The training of a detector."""

    def scores(self, held: Annotated) -> dict[str, Score]:
        """COCO's AP of the test part, boxes in the files' own pixels."""
        found, true = [], []
        for i, said in self._predictions(held):
            objects = held.objects(i)
            boxes = said["boxes"].cpu() / self._scale(held, i)
            found.append(
                {"boxes": boxes, "scores": said["scores"].cpu(), "labels": said["labels"].cpu()}
            )
            crowd = objects.ignored.long()
            true.append(
                {
                    "boxes": objects.boxes,
                    "labels": objects.labels,
                    "iscrowd": crowd,
                    "area": objects.areas,
                }
            )
        return in_percent(average_precision(found, true))

    def _method(self, encoder: Any) -> Method:
        targets = []
        for i in self.items.tolist():
            said = self._true(self.part, i)
            targets.append({"boxes": said["boxes"], "labels": said["labels"]})
        return Detector(
            encoder,
            channels=self.pixels.channels,
            size=self.size,
            classes=len(self.part.classes),
            targets=targets,
            flip=self._flip(),
        )

    @torch.no_grad()
    def _predict(self, x: Tensor) -> list[dict[str, Tensor]]:
        method: Any = self.run.method.eval()
        return method.detect(x.to(self.device))

    def _true(self, held: Annotated, i: int) -> dict[str, Tensor]:
        boxes, labels, ignored, _ = held.objects(i)
        boxes = boxes[~ignored] * self._scale(held, i)
        return {"boxes": boxes, "labels": labels[~ignored], "scores": torch.ones(len(boxes))}

    def _scale(self, part: Annotated, i: int) -> Tensor:
        """Pixels of the view for each of the file's: (4,)."""
        height, width = part.sizes[i]
        seen_height, seen_width = fitted(height, width, self.size)
        return torch.tensor([seen_width / width, seen_height / height] * 2)

    def _drawn(self, x: Tensor, said: dict[str, Tensor]) -> Tensor:
        sure = said["scores"] >= SURE
        labels = said["labels"][sure]
        names = [self.part.classes[k - 1] for k in labels.tolist()]
        return boxed(x, said["boxes"][sure], names, labels)


class Segmenting(Transferring):
    """The training of a segmenter."""

    masked = True

    def scores(self, held: Annotated) -> dict[str, Score]:
        """Mean IoU of the test part, in the files' own pixels."""
        pairs = ((self._at(held, i, said), held.mask(i)) for i, said in self._predictions(held))
        return in_percent(mean_iou(pairs, len(self.part.classes) + 1, VOID))

    def _at(self, held: Annotated, i: int, scores: Tensor) -> Tensor:
        """The classes of the file's pixels (H, W), from the view's scores."""
        height, width = fitted(*held.sizes[i], self.size)
        part = scores[None, :, :height, :width]
        return F.interpolate(part, held.sizes[i], mode="bilinear")[0].argmax(0).cpu()

    def _choose(self) -> Images:
        return masked(self.part, self.items)

    def _method(self, encoder: Any) -> Method:
        classes, size = len(self.part.classes), self.size
        channels, flip = self.pixels.channels, self._flip()
        return Segmenter(encoder, channels=channels, size=size, classes=classes, flip=flip)

    @torch.no_grad()
    def _predict(self, x: Tensor) -> list[Tensor]:
        method: Any = self.run.method.eval()
        return list(method.scores(x.to(self.device)).float())

    def _true(self, held: Annotated, i: int) -> Tensor:
        """Scores that say the mask."""
        mask = held.mask(i)
        mask = mask.where(mask != VOID, torch.zeros_like(mask))
        found = torch.zeros(self.size, self.size, dtype=torch.long)
        height, width = fitted(mask.shape[0], mask.shape[1], self.size)
        found[:height, :width] = F.interpolate(
            mask[None, None], (height, width), mode="nearest-exact"
        )[0, 0]
        return F.one_hot(found, len(self.part.classes) + 1).permute(2, 0, 1)

    def _drawn(self, x: Tensor, said: Tensor) -> Tensor:
        return coloured(x, said.argmax(0).cpu())
