"""What the README shows runs as it stands."""

import re
from pathlib import Path

TEXT = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_plain_training_loop_learns():
    (code,) = [b for b in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "SimCLR(" in b]
    losses = []
    code = code.replace("range(100)", "range(12)").replace(
        "optimizer.zero_grad()", "losses.append(loss.item()); optimizer.zero_grad()"
    )
    exec(code, {"losses": losses})
    assert len(losses) == 12
    assert sum(losses[-3:]) < sum(losses[:3])


def test_it_has_no_open_places():
    assert "@@" not in TEXT
