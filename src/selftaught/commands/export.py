"""An encoder on its own, to carry elsewhere."""

from pathlib import Path
from typing import Any

from selftaught import pretrained
from selftaught.errors import UserError
from selftaught.runfolder import RunFolder

SNIPPET = '''"""Load this encoder; needs `pip install selftaught`."""

from pathlib import Path

import selftaught

encoder = selftaught.load(Path(__file__).parent)  # in eval mode, with its preprocessing

if __name__ == "__main__":
    import sys

    images = sys.argv[1:]  # paths
    if images:
        print(encoder(encoder.preprocess(images)))  # (N, dim)
    else:
        print(f"{encoder.card['recipe']}: {encoder.dim} features; give it paths of images")
'''


def export(run: str | Path, *, out: str | Path) -> dict[str, Any]:
    """Write ``encoder.safetensors``, its card ``encoder.json`` and ``load.py`` into a new folder.

    Returns the card: recipe, data, preprocessing and what was measured. Raises UserError where
    ``out`` exists.
    """
    folder = Path(out).expanduser()
    if folder.exists():
        raise UserError(f"{folder} exists and is not overwritten; give another folder to --out")
    encoder = pretrained.load(run)
    card = encoder.card
    described = RunFolder(run)
    if described.begun():
        card |= {"evaluation": described.describe().get("evaluation")}
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot make {folder} ({error.strerror}); choose another --out") from error
    pretrained.write(folder, encoder.encoder, card)
    (folder / "load.py").write_text(SNIPPET)
    return card
