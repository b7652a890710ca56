"""Whether views are mirrored is said of the data, once for every method."""

from dataclasses import replace

import pytest

from contract.small import SMALL, build, pixels_of
from selftaught.views.image import View

#: Whose paper mirrors nothing, or shows the whole image.
NEVER = {
    *("jigsaw", "relative_patch", "exemplar", "ijepa", "igpt"),
    *("vae", "gan", "bigan", "aae"),
}


def shares(view):
    """How often a view and each of its tiles are mirrored."""
    crop = getattr(view, "cropper", None)
    own = [view.flip] if hasattr(view, "flip") else []
    return own + (shares(crop) if isinstance(crop, View) else [getattr(crop, "flip", 0.0)])


@pytest.mark.parametrize("name", SMALL)
def test_views_are_mirrored_only_where_a_mirror_image_means_the_same(name):
    run = build(name)
    mirrored = [share for view in run.views.views for share in shares(view)]
    assert max(mirrored) == (0.0 if name in NEVER else 0.5)
    never = build(name, pixels=replace(pixels_of(run), flip=False))
    assert not any(share for view in never.views.views for share in shares(view))
