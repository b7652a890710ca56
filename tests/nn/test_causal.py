import pytest
import torch

from selftaught.errors import UserError
from selftaught.nn.causal import CausalBlock


def block(fused=False):
    torch.manual_seed(0)
    found = CausalBlock(8, 2, length=300 if fused else 6, total=4).double()
    with torch.no_grad():
        for p in found.parameters():
            p.add_(0.3 * torch.randn_like(p))
    assert found.fused_attn == fused
    return found


def tokens():
    return torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("place", range(6))
def test_a_token_is_seen_by_itself_and_those_after_it(place, fused):
    part, x = block(fused), tokens()
    other = x.clone()
    other[:, place, 0] += 1  # of one channel, since the norm takes a shift of all away
    changed = (part(x) - part(other)).abs().amax(dim=(0, 2)) > 1e-9
    assert changed.tolist() == [i >= place for i in range(6)]


def test_the_two_ways_to_attend_agree():
    torch.testing.assert_close(block(fused=True)(tokens()), block(fused=False)(tokens()))


@pytest.mark.parametrize("fused", [True, False])
def test_token_by_token_is_as_all_at_once(fused):
    part, x, past = block(fused), tokens(), {}
    apart = [part(x[:, i : i + 1], past) for i in range(6)]
    torch.testing.assert_close(torch.cat(apart, dim=1), part(x))


def test_the_more_blocks_the_less_attention_adds_alone():
    torch.manual_seed(0)
    one, many = (CausalBlock(64, 2, 4, total) for total in (1, 25))
    assert (one.proj.weight.std() / many.proj.weight.std()).item() == pytest.approx(5, rel=0.1)
    assert many.down.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("shape", [(8, 3), (0, 1), (8, 0)])
def test_heads_that_do_not_divide_the_width_are_refused(shape):
    with pytest.raises(UserError, match="--heads"):
        CausalBlock(*shape, length=4, total=1)
