import torch

from contract.small import build


def test_image_gpt_reads_no_mirrored_image():
    parameters = build("igpt").views.draw(torch.Generator().manual_seed(0), 200)
    ((crop,),) = parameters
    assert not crop.flip.any()
