import pytest

from references.distillation import cosine_momentum, teacher_temperature
from selftaught.nn.schedules import cosine, linear


@pytest.mark.parametrize("base", [0.5, 0.996])
def test_cosine_equals_the_reference_at_every_step(base):
    ours = [cosine(step / 10, base, 1.0) for step in range(10)]
    assert ours == pytest.approx([cosine_momentum(step, 10, base) for step in range(10)])
    assert ours[0] == pytest.approx(base)
    assert ours[-1] < 1


def test_linear_passes_through_the_authors_value_of_each_epoch():
    """Their last epoch of the warm-up has the final value: it ends one epoch earlier."""
    epochs, warmup = 20, 6
    ours = [linear(epoch / epochs, 0.04, 0.07, (warmup - 1) / epochs) for epoch in range(epochs)]
    theirs = [teacher_temperature(epoch, 0.04, 0.07, warmup) for epoch in range(epochs)]
    assert ours == pytest.approx(theirs)


def test_linear_over_no_share_is_the_end():
    assert linear(0.0, 0.04, 0.07, 0.0) == 0.07
