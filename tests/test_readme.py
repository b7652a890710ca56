"""What the README shows runs as it stands."""

import re
from pathlib import Path

from selftaught.recipes import RECIPES

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


def test_its_table_has_the_methods_whose_cards_say_that_they_were_measured():
    _, table = TEXT.split("<!-- the table of benchmarks/image_methods.py -->\n\n")
    rows = re.findall(r"^\| (\w+) \|", table.split("\n\n")[0], re.MULTILINE)
    assert rows[1:] == [
        name for name, card in RECIPES.items() if not card.measured.startswith("not")
    ]
    assert f"[{len(rows) - 1} of them]" in TEXT
