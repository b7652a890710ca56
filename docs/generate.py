"""Write docs/methods: a page a method and a list of them in families. Run by `make docs`."""

from pathlib import Path

from selftaught.commands.methods import explain
from selftaught.recipes import RECIPES

FOLDER = Path(__file__).parent / "methods"
SHARED = """\
What all of them share, also at the paper's scale and whatever the authors' own code does:

- whole images, which a trained encoder sees, are resized bilinearly, and so are tiles;
- crops are antialiased, also where the authors' TensorFlow does not do so;
- learned tokens (class, mask) do not decay, unless all parameters do;
- a ResNet of timm's begins with the last scale of each block at zero.

What else differs from a paper, or from its code, is said in the docstring of the method
(`src/selftaught/methods`) or of its recipe (`src/selftaught/recipes`).
"""


def index() -> str:
    """The list, a family at a time."""
    lines = ["# Methods", "", SHARED]
    for family in dict.fromkeys(card.family for card in RECIPES.values()):
        lines += [f"## {family[0].upper()}{family[1:]}", ""]
        for name, card in RECIPES.items():
            if card.family == family:
                lines.append(f"- [`{name}`]({name}.md): {card.paper}, [{card.year}]({card.url})")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Write every page anew."""
    FOLDER.mkdir(exist_ok=True)
    for page in FOLDER.glob("*.md"):
        page.unlink()
    (FOLDER / "README.md").write_text(index())
    for name in RECIPES:
        (FOLDER / f"{name}.md").write_text(explain(name) + "\n")


if __name__ == "__main__":
    main()
