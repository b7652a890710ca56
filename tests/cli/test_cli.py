import errno
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import selftaught
from commands.tiny import RECIPE, call, recipe, refused
from selftaught import cli, recipes
from selftaught.commands.methods import explain
from selftaught.recipes.parameters import parameters

HEAVY = ("torch", "numpy", "timm", "sklearn", "matplotlib", "torchvision", "pyarrow", "PIL")


def imported_by(*words: str) -> str:
    """What of the heavy packages a command imports, and what it prints."""
    script = (
        "import sys\n"
        "from selftaught.cli import main\n"
        f"try:\n    main({list(words)!r})\nexcept SystemExit as ended:\n    assert not ended.code\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True
    )
    return said.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        [],
        ["methods"],
        ["methods", "mae", "--json"],
        ["evaluate", "--help"],
    ],
)
def test_what_answers_at_once_imports_nothing_heavy(words):
    assert "HEAVY []" in imported_by(*words)


def test_import_is_light():
    script = "import sys, selftaught; print([n for n in ('torch', 'numpy') if n in sys.modules])"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert said.stdout == "[]\n"


def test_help_names_every_command():
    said = imported_by("--help")
    for name in cli.COMMANDS:
        assert re.search(rf"\b{name}\b", said), name


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"selftaught {selftaught.__version__}\n"


def test_an_unknown_command(capsys):
    refused(call(capsys, "evalute", "run"), "no command named 'evalute'; did you mean 'evaluate'?")


def test_what_a_command_says_on_stderr_is_heard(capsys, monkeypatch):
    def doctor(data: str) -> None:
        print(f"about {data}", file=sys.stderr)

    monkeypatch.setitem(cli.COMMANDS, "doctor", doctor)
    assert call(capsys, "doctor", "--data", "it").err == "about it\n"


def test_python_dash_m():
    said = subprocess.run(
        [sys.executable, "-m", "selftaught", "methods", "simclear"],
        capture_output=True,
        text=True,
    )
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("selftaught: no method named 'simclear'; did you mean 'simclr'?")
    assert said.stderr.count("\n") == 1


def test_the_script_is_the_command_line():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    module, _, function = project["project"]["scripts"]["selftaught"].partition(":")
    assert (module, function) == (cli.main.__module__, cli.main.__name__)


def test_every_public_name_is_there():
    assert sorted(selftaught.__all__) == selftaught.__all__
    for name in selftaught.__all__:
        assert getattr(selftaught, name).__name__ == name
        assert name in dir(selftaught)
    with pytest.raises(AttributeError, match="no attribute 'pretrian'"):
        _ = selftaught.pretrian


# Methods


def test_methods_lists_them_all_and_cuts_nothing(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    answer = call(capsys, "methods")
    assert answer.code == 0
    lines = [line.strip() for line in answer.out.splitlines()]
    assert max(map(len, lines)) <= 80
    text = " ".join(answer.out.split())
    for name, card in recipes.RECIPES.items():
        assert f"{name} {card.paper}, {card.year} {card.modality};" in text
        assert f"defaults measured on {card.measured}" in text
        assert card.family in lines


def test_what_the_disk_refuses_is_one_line(capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "runs/curves.png")

    monkeypatch.setattr("selftaught.commands.methods.show", full)
    refused(call(capsys, "methods"), "runs/curves.png: No space left on device")


def test_methods_as_json(capsys):
    found = json.loads(call(capsys, "methods", "--json").out)
    assert [card["name"] for card in found] == list(recipes.RECIPES)
    for card in found:
        for field in ("family", "modality", "paper", "year", "url", "measured"):
            assert card[field], field


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_method_is_explained(capsys, name):
    answer = call(capsys, "methods", name)
    card = recipes.RECIPES[name]
    for said in (card.diagram, card.url, *parameters(recipes.find(name))):
        assert said in answer.out
    assert card.idea.count(". ") == 1, "two sentences"


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_the_documentation_says_the_same(name):
    page = Path(__file__).parents[2] / "docs" / "methods" / f"{name}.md"
    assert page.read_text() == explain(name) + "\n", "run `make docs`"


def test_one_method(capsys):
    answer = call(capsys, "methods", "mae")
    assert answer.code == 0
    assert "2021" in answer.out
    assert "share of the patches that is hidden" in answer.out
    (found,) = json.loads(call(capsys, "methods", "mae", "--json").out)
    assert found["url"] == "https://arxiv.org/abs/2111.06377"


@pytest.mark.parametrize(
    ("wrong", "right"), [("simclear", "simclr"), ("BYOL", "byol"), ("m", "mae")]
)
def test_a_misspelt_method_names_the_nearest(capsys, tmp_path, wrong, right):
    hint = f"did you mean {right!r}?"
    refused(call(capsys, "methods", wrong), hint)
    refused(call(capsys, "pretrain", wrong, "digits", "--out", tmp_path / "run"), hint)
    assert not any(tmp_path.iterdir())


# Options


def test_pretrain_help_shows_the_recipes_parameters(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["pretrain", "mae", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "selftaught pretrain mae" in said
    for option in ("--out", "--minutes", "--resume", "--ratio", "--patch", "--seed", "--workers"):
        assert option in said
    assert "share of the patches that is hidden" in " ".join(said.replace("│", " ").split())
    assert "--temperature" not in said


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_parameter_of_a_recipe_is_explained(name):
    found = parameters(recipes.find(name))
    assert [p.name for p in found.values() if not p.meaning] == []


@pytest.mark.parametrize(
    ("words", "hints"),
    [
        (["pretrian", "simclr", "digits"], ["pretrain"]),
        (["pretrain"], []),
        (["pretrain", "simclr"], ["--out"]),
        (["pretrain", "simclr", "digits"], ["--out"]),
        (["pretrain", "--out", "x", "simclr", "digits"], []),
        (["pretrain", "simclr", "digits", "--out", "x", "--temprature", "1"], ["--temperature"]),
        (["pretrain", "simclr", "digits", "--out", "x", "--ratio", "0.5"], ["--ratio"]),
        (
            ["pretrain", "simclr", "digits", "--out", "x", "--steps", "ten"],
            ["--steps ten is", "a whole number"],
        ),
        (
            ["pretrain", "simclr", "digits", "--out", "x", "--lr", "high"],
            ["--lr high is", "a number"],
        ),
        (["pretrain", "simclr", "digits", "--out", "x", "--lr", "-1"], ["--lr", "from 0"]),
        (
            ["pretrain", "mae", "digits", "--out", "x", "--ratio", "nan"],
            ["--ratio nan is no number"],
        ),
        (["pretrain", "digits", "simclr", "--out", "x"], ["selftaught pretrain simclr digits"]),
        (["pretrain", "simclr", "", "--out", "x"], ["no data"]),
        (["compare", "digits", "--methods", "simclr", "byol", "--out", "x"], ["byol", "commas"]),
        (
            ["classify", "run", "digits", "--out", "x.csv"],
            ["no classifier at run", "finetune --out"],
        ),
        (["pretrain", "simclr", "digits", "--out", "x", "--device", "tpu"], ["tpu"]),
        (["evaluate"], ["--data"]),
        (["embed", "run", "digits"], ["--out"]),
        (["export", "run", "--otu", "x"], ["--out"]),
    ],
)
def test_a_usage_error_is_one_line(capsys, tmp_path, monkeypatch, words, hints):
    monkeypatch.chdir(tmp_path)
    refused(call(capsys, *words), *hints)
    assert not any(tmp_path.iterdir())


def test_cuda_where_there_is_none(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ("pretrain", "simclr", "digits", "--out", tmp_path / "run", "--device", "cuda")
    refused(call(capsys, *words), "--device cpu")


# Recipes of one's own


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("no_such_module_here:simclr", "no_such_module_here"),
        ("selftaught.recipes.instance:simclear", "simclear"),
        ("selftaught.seeds:derive", "-> Run"),
        ("selftaught.seeds:", "cannot use"),
        (":simclr", "cannot use"),
    ],
)
def test_recipes_that_are_none(capsys, tmp_path, name, hint):
    refused(call(capsys, "pretrain", name, "digits", "--out", tmp_path / "run"), hint)


def test_a_module_that_does_not_even_parse(capsys, tmp_path, monkeypatch):
    name = recipe(tmp_path, monkeypatch, "own_unparsable", "def agreement(:\n")
    refused(call(capsys, "pretrain", name, "digits", "--out", tmp_path / "run"), "cannot use")


def test_a_recipe_with_postponed_annotations(capsys, tmp_path, monkeypatch):
    text = f"from __future__ import annotations\n{RECIPE}"
    name = recipe(tmp_path, monkeypatch, "own_postponed", text)
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 8, 8), np.uint8))
    words = ("pretrain", name, tmp_path / "x.npz", "--out", tmp_path / "run", "--steps", 1)
    answer = call(capsys, *words, "--batch-size", 4)
    assert answer.code == 0, answer.err


def test_a_recipe_that_sets_its_own_batch(capsys, tmp_path, monkeypatch):
    text = RECIPE.replace("*, batch_size: int = 16,", "*,").replace("=batch_size", "=4")
    name = recipe(tmp_path, monkeypatch, "own_batch", text)
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 8, 8), np.uint8))
    words = ("pretrain", name, tmp_path / "x.npz", "--out", tmp_path / "run", "--steps", 1)
    answer = call(capsys, *words)
    assert answer.code in (0, 2), answer
    if answer.code:
        refused(answer, "batch_size")


def test_a_reader_that_has_had_enough():
    command = f"{sys.executable} -m selftaught methods --json | head -c 20"
    found = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert found.stderr == ""
