"""What may import what, read from the syntax trees."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "selftaught"
BASE = {
    "errors",
    "seeds",
    "precision",
    "method",
    "dist",
    "trees",
    "paths",
}  # any module may import these
PARTS = {"objectives", "nn", "views", "data", "protocols"}  # none imports another of these

ALLOWED = {
    "allocator": set(),
    "cores": set(),
    "errors": set(),
    "seeds": set(),
    "precision": {"errors"},
    "dist": {"errors"},
    "trees": set(),
    "paths": {"errors"},
    "method": set(),
    **{part: BASE | {part} for part in PARTS},
    "optim": BASE,
    "checkpoint": BASE,
    "health": set(),
    "train": BASE | {"optim", "nn"},
    "methods": {"method", "dist", "errors", "objectives", "nn", "methods"},
    # a recipe may begin from another run, as BEiT does from its tokenizer's
    "recipes": BASE | PARTS | {"methods", "optim", "recipes", "pretrained"},
}
TOP = {
    "commands",
    "report",
    "pretrained",
    "initial",
    "runfolder",
    "sklearn",
}  # may import everything but the cli
HEAVY = {"torch", "torchvision", "timm", "numpy", "sklearn", "scipy", "matplotlib", "pyarrow"}

FILES = sorted(SOURCE.rglob("*.py"))


def part_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Dotted names of all modules that a tree imports, at any depth."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own(names: set[str]) -> set[str]:
    return {n.split(".")[1] for n in names if n.startswith("selftaught.")}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_each_module_imports_only_its_layer(file):
    part = part_of(file)
    found = own(imported(ast.parse(file.read_text())))
    if part in ALLOWED:
        assert found <= ALLOWED[part]
    elif part not in ("cli", "__main__"):
        assert part in TOP | {"__init__"}, f"{part} has no layer: give it one here"
        assert "cli" not in found


def test_only_dist_talks_to_torch_distributed():
    for file in FILES:
        if part_of(file) != "dist":
            assert not any("distributed" in n for n in imported(ast.parse(file.read_text()))), file


def test_a_method_imports_no_other_method_and_has_at_most_120_lines():
    for file in (SOURCE / "methods").glob("*.py"):
        if file.name == "__init__.py":
            continue
        names = imported(ast.parse(file.read_text()))
        assert not any(n.startswith("selftaught.methods") for n in names), file
        assert len(file.read_text().splitlines()) <= 120, file


def test_nothing_heavy_is_imported_to_answer_help():
    commands = [str(f.relative_to(SOURCE)) for f in (SOURCE / "cli").glob("*.py")]
    for name in ("__init__.py", *commands, "errors.py", "recipes/__init__.py"):
        tree = ast.parse((SOURCE / name).read_text())
        top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        names = {n.split(".")[0] for node in top for n in imported(node)}
        assert not names & HEAVY, name


def test_timm_is_imported_only_inside_functions():
    for file in FILES:
        tree = ast.parse(file.read_text())
        top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        assert "timm" not in {n.split(".")[0] for node in top for n in imported(node)}, file
