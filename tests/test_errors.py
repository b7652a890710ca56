"""What is said of a setting out of range."""

import math

import pytest

from selftaught.errors import UserError, above_zero, from_zero, from_zero_to_one


def test_settings_in_range_pass():
    above_zero(temperature=1e-9, epsilon=math.inf)
    from_zero(clip=0, weight_decay=1e9)
    from_zero_to_one(momentum=0, mix=1)


@pytest.mark.parametrize("value", [0, -0.5, math.nan])
def test_the_first_setting_that_is_not_above_zero_is_named(value):
    with pytest.raises(UserError) as error:
        above_zero(temperature=0.1, start_temperature=value, epsilon=value)
    assert str(error.value) == f"a start temperature of {value}; use --start-temperature above 0"


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_the_first_setting_that_is_not_from_zero_is_named(value):
    with pytest.raises(UserError) as error:
        from_zero(clip=0, weight_decay=value, bias_lr=value)
    assert str(error.value) == f"a weight decay of {value}; use --weight-decay from 0"


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_the_first_setting_that_is_no_share_is_named(value):
    with pytest.raises(UserError) as error:
        from_zero_to_one(momentum=0.5, epsilon=value, mix=value)
    said = f"an epsilon of {value}; use --epsilon with a number from 0 to 1"
    assert str(error.value) == said
