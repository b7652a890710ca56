import pytest
import torch
from torch import nn

from selftaught.errors import UserError
from selftaught.nn.heads import PrototypeHead, first_layers, mlp


@pytest.mark.parametrize("bias", [True, False])
def test_linear_norm_relu_linear(bias):
    layers = list(mlp(4, 8, 2, bias=bias))
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in layers] == kinds
    assert layers[0].bias is None
    assert (layers[-1].bias is not None) == bias


def test_one_layer_is_a_projection():
    assert [type(layer) for layer in mlp(4, 2)] == [nn.Linear]


@pytest.mark.parametrize("bias", [True, False])
def test_without_norm_every_hidden_layer_has_a_bias(bias):
    layers = list(mlp(4, 8, 6, 2, bias=bias, norm=False))
    kinds = [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in layers] == kinds
    assert [layers[i].bias is not None for i in (0, 2, 4)] == [True, True, bias]


@pytest.mark.parametrize("norm", [True, False])
def test_a_norm_at_the_end_has_no_weights_and_the_layer_before_it_no_bias(norm):
    layers = list(mlp(4, 8, 2, norm=norm, norm_out=True))
    assert type(layers[-1]) is nn.BatchNorm1d
    assert layers[-1].num_features == 2
    assert list(layers[-1].parameters()) == []
    assert layers[-2].bias is None
    assert (type(layers[1]) is nn.BatchNorm1d) == norm
    x = mlp(4, 8, 2, norm=norm, norm_out=True)(torch.randn(64, 4))
    torch.testing.assert_close(x.mean(0), torch.zeros(2), atol=1e-5, rtol=0)


def test_gelu_takes_the_place_of_relu():
    layers = list(mlp(4, 8, 8, 2, gelu=True, norm=False))
    kinds = [nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]
    assert [type(layer) for layer in layers] == kinds


@pytest.mark.parametrize("dims", [(4, 0, 2), (4, -1)])
def test_a_width_below_one_is_one_line(dims):
    with pytest.raises(UserError, match="at least 1"):
        mlp(*dims)


@pytest.mark.parametrize("learn_lengths", [False, True])
def test_prototypes_are_directions_and_lengths(learn_lengths):
    torch.manual_seed(0)
    head = PrototypeHead(4, 8, 3, 5, learn_lengths=learn_lengths).double()
    h = torch.randn(2, 7, 4, dtype=torch.float64)
    scores = head(h)
    z = head.mlp(h)
    expected = z / z.norm(dim=-1, keepdim=True) @ (head.weight.T / head.weight.norm(dim=1))
    torch.testing.assert_close(scores, expected)
    with torch.no_grad():
        head.weight.mul_(torch.rand(5, 1))
    torch.testing.assert_close(head(h), scores)
    assert (head.lengths is not None) == learn_lengths
    if learn_lengths:
        with torch.no_grad():
            head.lengths.mul_(2)
        torch.testing.assert_close(head(h), 2 * scores)


def test_held_prototypes_get_no_gradient_and_the_mlp_its_own():
    head = PrototypeHead(4, 8, 3, 5, learn_lengths=True).double()
    h = torch.randn(7, 4, dtype=torch.float64)
    gradients = []
    for learn in (True, False):
        head.zero_grad()
        head(h, learn=learn).square().sum().backward()
        gradients.append(head.mlp[0].weight.grad)
        for p in (head.weight, head.lengths):
            assert (p.grad is not None) == learn
    torch.testing.assert_close(*gradients)


def test_scores_are_single_precision_under_autocast():
    head = PrototypeHead(16, 32, 8, 64)
    z = torch.nn.functional.normalize(torch.randn(9, 8), dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        scores = head.compare(z)
        assert head(torch.randn(9, 16)).dtype == torch.float32
    torch.testing.assert_close(scores, head.compare(z))


def test_one_prototype_is_refused():
    with pytest.raises(UserError, match="--outputs"):
        PrototypeHead(4, 8, 3, 1)


def test_batch_norm_in_a_prototype_head_is_over_all_tokens():
    torch.manual_seed(0)
    head = PrototypeHead(4, 8, 3, 5, norm=True).double()
    h = torch.randn(2, 7, 4, dtype=torch.float64)
    torch.testing.assert_close(head(h), head(h.flatten(0, 1)).view(2, 7, 5))
    assert [type(layer) for layer in head.mlp].count(nn.BatchNorm1d) == 2


def test_the_first_layers_end_with_their_activation():
    head = mlp(4, 6, 6, 2)
    x = torch.randn(5, 4)
    kept = first_layers(head, 1).eval()
    assert torch.equal(kept(x), head.eval()[:3](x))
    assert kept[0] is head[0]
    assert len(first_layers(head, 2)) == 6
    for count in (0, 3):
        with pytest.raises(UserError, match="--from-head-layer"):
            first_layers(head, count)
