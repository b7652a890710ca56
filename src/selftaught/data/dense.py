"""Where images with marked objects come from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from selftaught.data.annotated import Annotated
from selftaught.data.coco import is_coco, open_coco
from selftaught.data.images import Part
from selftaught.data.voc import is_voc, open_voc
from selftaught.errors import UserError
from selftaught.paths import expanded


def open_annotated(
    data: str | Path,
    part: Part,
    *,
    channels: Literal[1, 3],
    masks: bool,
    classes: Sequence[str] | None = None,
) -> Annotated:
    """One part of a folder in the format of COCO or of VOC (`open_coco`, `open_voc`).

    ``masks`` asks for the class of each pixel instead of boxes; ``classes`` are those of the part
    that is trained on, whose numbers the test part has too. Raises UserError.
    """
    root = expanded(data)
    if not root.is_dir():
        raise UserError(f"there is no folder {data}; give one in COCO's or VOC's format")
    for known, opened in ((is_coco, open_coco), (is_voc, open_voc)):
        if known(root):
            return opened(root, part, channels=channels, masks=masks, classes=classes)
    raise UserError(
        f"{root} is neither a COCO folder (annotations/instances_train*.json) nor a VOC folder "
        "(JPEGImages/, ImageSets/); give one of these"
    )
