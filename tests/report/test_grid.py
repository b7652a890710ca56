import numpy as np
import torch
from PIL import Image

from selftaught.report.grid import CAPTION, GAP, side_by_side


def test_a_long_caption_makes_its_cells_large_enough(tmp_path):
    columns = {"in": torch.zeros(1, 1, 28, 28), "reconstruction": torch.zeros(1, 1, 28, 28)}
    side_by_side(columns, tmp_path / "grid.png")
    picture = np.asarray(Image.open(tmp_path / "grid.png").convert("L"))
    step = picture.shape[1] // 2
    assert (step - GAP) % 28 == 0
    ink = (picture[:CAPTION, step:] < 128).any(axis=0).nonzero()[0]
    assert ink.max() < step - GAP  # the last letter ends before the cell does


def test_cells_are_whole_multiples_of_the_image(tmp_path):
    image = torch.rand(1, 3, 8, 8)
    side_by_side({"x": image}, tmp_path / "grid.png")
    found = np.asarray(Image.open(tmp_path / "grid.png"))[CAPTION:]
    zoom = (found.shape[1] - GAP) // 8
    expected = (image[0] * 255).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(
        found[zoom // 2 : 8 * zoom : zoom, zoom // 2 : 8 * zoom : zoom], expected
    )
