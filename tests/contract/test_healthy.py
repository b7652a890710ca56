"""A short run of every recipe at its defaults, as a person starts it, is not called ill."""

import dataclasses

import numpy as np
import pytest

import selftaught
from contract.small import COLOUR, NEED_COLOUR, NEED_TOKENIZER, PIXELS, SMALL, images, tokenizer
from selftaught.commands.job import Job
from selftaught.recipes import RECIPES

COUNT = 560  # enough for the rank of the default encoder's 256 features
# Recipes whose terms are still those of a guess by then, with features nearly one, and why.
NOT_YET = {"cpc": "patches of smooth images are not told apart in forty steps"}
FINE = ("healthy", "learning slowly")  # forty steps may be too few to learn much


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_short_run_is_not_called_ill(name, tmp_path, monkeypatch):
    monkeypatch.setattr(Job, "probes", 4)
    pixels = dataclasses.replace(COLOUR if name in NEED_COLOUR else PIXELS, count=COUNT)
    np.savez(tmp_path / "x.npz", x=images(pixels).permute(0, 2, 3, 1).numpy())
    more = {"tokenizer": tokenizer()} if name in NEED_TOKENIZER else {}
    run = selftaught.pretrain(
        name,
        tmp_path / "x.npz",
        out=tmp_path / "run",
        steps=40,
        evaluate="off",
        quiet=True,
        precision="float32",
        **({"batch_size": 32} | SMALL[name] | more),
    )
    fine = ("collapse",) if name in NOT_YET else FINE
    assert run["verdict"]["word"] in fine, run["verdict"]
