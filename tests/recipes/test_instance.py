import pytest

from contract.small import PIXELS, build
from selftaught.errors import UserError


@pytest.mark.parametrize("name", ["moco", "moco_v2", "nnclr", "simclr_v2"])
def test_a_queue_longer_than_the_data_is_refused(name):
    with pytest.raises(UserError, match="--queue 32 or less"):
        build(name, queue=PIXELS.count + 1)
    assert len(build(name, queue=PIXELS.count).method.queue.rows) == PIXELS.count
