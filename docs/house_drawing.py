"""The floors of the house, drawn from the table that tests hold the imports against."""

import ast
import html
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH, GAP, MARGIN = 860, 6, 10
#: Of a floor of one room, and of several, whose words take more lines.
LOW, HIGH = 36, 60


def floors() -> list[tuple[str, ...]]:
    """Names of the rooms of each floor, from the ground up, as in `tests/test_package.py`."""
    tree = ast.parse((ROOT / "tests" / "test_package.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS":
            return list(ast.literal_eval(node.value))
    raise LookupError("tests/test_package.py has no FLOORS")


def holds(room: str) -> str:
    """What a room says of itself in its first line."""
    source = ROOT / "mdsens"
    path = source / room / "__init__.py" if (source / room).is_dir() else source / f"{room}.py"
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]


def drawing() -> str:
    """An SVG of the house: one strip for each floor, one box for each room."""
    storeys = floors()[::-1]
    heights = [LOW if len(rooms) == 1 else HIGH for rooms in storeys]
    height = sum(heights) + GAP * (len(storeys) - 1) + 2 * MARGIN
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, rooms in enumerate(storeys):
        y = MARGIN + sum(heights[:number]) + number * GAP
        wide = (WIDTH - 2 * MARGIN - GAP * (len(rooms) - 1)) / len(rooms)
        for place, room in enumerate(rooms):
            x = MARGIN + place * (wide + GAP)
            shade = "#e8eef7" if number % 2 else "#f4f7fb"
            drawn.append(
                f'<rect x="{x}" y="{y}" width="{wide}" height="{heights[number]}" rx="4" '
                f'fill="{shade}" stroke="#7a8ca8"/>'
                f'<text x="{x + 12}" y="{y + 23}" font-size="15" font-weight="bold" '
                f'fill="#1f3350">{room}</text>'
            )
            lines = textwrap.wrap(holds(room), int((wide - 24 - 110) / 5.8))
            for line, said in enumerate(lines):
                drawn.append(
                    f'<text x="{x + 122}" y="{y + 22 + 16 * line}" font-size="12" '
                    f'fill="#333">{html.escape(said)}</text>'
                )
    return "\n".join([*drawn, "</svg>\n"])
