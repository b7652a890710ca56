"""The class of every image, by a classifier that was trained here."""

import csv
import io
from pathlib import Path
from typing import NamedTuple

from selftaught.checkpoint import write_atomic
from selftaught.commands.features import features
from selftaught.commands.outputs import new_file, warn_of_broken
from selftaught.commands.settings import device_of
from selftaught.commands.supervised import trained_classifier
from selftaught.data.images import Part, open_images
from selftaught.data.sources import printable
from selftaught.pretrained import Pretrained
from selftaught.recipes.run import Pixels
from selftaught.report.live import Tell, silent


class Classified(NamedTuple):
    """An image, and the class that a classifier gives it."""

    name: str
    label: str
    probability: float


def load_classifier(run: str | Path) -> Pretrained:
    """The classifier that `finetune` or `distill` trained, in eval mode, with its preprocessing.

    ``classifier(classifier.preprocess(images))`` are scores (N, K), whose softmax is the
    probability of each of the K classes; ``classifier.card["classes"]`` are their names. Raises
    UserError where there is none.
    """
    network, card = trained_classifier(run)
    names = card.get("classes") or [str(k) for k in range(network.dim)]
    return Pretrained(network, Pixels.read(card["pixels"]), card | {"classes": names})


def classify(
    run: str | Path,
    data: str | Path,
    *,
    out: str | Path,
    part: Part = "train",
    device: str = "auto",
    tell: Tell = silent,
) -> list[Classified]:
    """Write the class of every image, and its probability, to a new .csv file, and return them.

    ``run`` is the folder of `finetune` or `distill`; of data that have a test part, ``part`` says
    which. The columns are ``name``, ``class`` and ``probability``. Broken images are left out, with
    a warning. ``tell`` hears how many are done. Raises UserError for another ending, for a file
    that exists and where there is no classifier.
    """
    path = new_file(out, ".csv")
    classifier = load_classifier(run).to(device_of(device))
    images = open_images(data, part, classifier.pixels.channels)
    scores, index = features(classifier, classifier, images, tell=tell)
    warn_of_broken(len(images), len(index))
    probabilities, classes = scores.softmax(dim=1).max(dim=1)
    names = [printable(str(images.names[i])) for i in index.tolist()]
    labels = [printable(classifier.card["classes"][k]) for k in classes.tolist()]
    found = [*map(Classified, names, labels, probabilities.tolist())]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("name", "class", "probability"))
    table.writerows((of.name, of.label, f"{of.probability:.4f}") for of in found)
    write_atomic(path, text.getvalue().encode())
    return found
