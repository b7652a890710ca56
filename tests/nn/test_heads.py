import pytest
from torch import nn

from selftaught.nn.heads import mlp


@pytest.mark.parametrize("bias", [True, False])
def test_linear_norm_relu_linear(bias):
    layers = list(mlp(4, 8, 2, bias=bias))
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in layers] == kinds
    assert layers[0].bias is None
    assert (layers[-1].bias is not None) == bias


def test_one_layer_is_a_projection():
    assert [type(layer) for layer in mlp(4, 2)] == [nn.Linear]
