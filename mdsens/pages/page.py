"""Pages of HTML that hold all that they need: scripts, styles, data and pictures.

No page asks the network for anything, and its policy forbids browsers to. Scripts are told from
each other by their hashes in that policy: whatever came to stand in a page as text, it never runs.
"""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from mdsens.digits import UNKNOWN
from mdsens.markup import for_html

#: Files of scripts, in the order in which they need each other.
SCRIPTS = (
    "common.js",
    "scene.js",
    "paint.js",
    "picture.js",
    "viewer.js",
    "several.js",
    "chart.js",
    "table.js",
    "sweep.js",
)
#: What stands at the right of its cell.
NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?( ± .*)?")
#: Says that scripts run, before anything is drawn: what stands for them is for print then.
BEGIN = "document.documentElement.classList.add('scripted');"


def page(title: str, parts: Iterable[str], framed: bool = False) -> str:
    """A page of HTML with the scripts of all its parts.

    Arguments:
        title: text; nothing in it is taken as markup.
        parts: HTML of its body, from the functions here.
        framed: whether it stands in the frame of a notebook, which has its own margins.

    Returns:
        The HTML.
    """
    body = "\n".join(parts)
    script = _scripts()
    policy = " ".join(f"'sha256-{_hash(text)}'" for text in (BEGIN, script))
    return (
        f"<!DOCTYPE html>\n<html lang='en'{' class=framed' if framed else ''}><head>"
        "<meta charset='utf-8'>"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; img-src data:; "
        f"style-src 'unsafe-inline'; script-src {policy}\">"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{for_html(title)}</title><style>{_asset('page.css')}</style>"
        f"<script>{BEGIN}</script></head>\n<body>\n{body}\n<script>{script}</script>\n"
        "</body></html>\n"
    )


def data_block(identifier: str, value: Any) -> str:
    """Data for the scripts of a page.

    Arguments:
        identifier: what the scripts know it by.
        value: numbers, texts, lists and dictionaries; no number but finite ones.

    Returns:
        HTML in which no text can be taken for markup.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"<script type='application/json' id='{for_html(identifier)}'>{text}</script>"


def structure_view(identifier: str, scene: Mapping[str, Any]) -> str:
    """A structure in three dimensions, or discs in two, that one turns and picks atoms of.

    Arguments:
        identifier: another than that of all other data of the page.
        scene: from `mdsens.plots.scene`.

    Returns:
        HTML.
    """
    name = for_html(identifier)
    return f"{data_block(identifier, scene)}<div class='live' data-structure='{name}'></div>"


def structures_view(
    identifier: str, scenes: Sequence[tuple[str, Mapping[str, Any]]], first: int = 0, left: int = 0
) -> str:
    """Several structures, one of which is seen at a time, with a slider to choose it by.

    Arguments:
        identifier: another than that of all other data of the page.
        scenes: what each is called, and what it is, from `mdsens.plots.scene`.
        first: which of them is seen at first, from 0.
        left: how many more there are that are not among them.

    Returns:
        HTML.
    """
    name = for_html(identifier)
    given = {"names": [of for of, _ in scenes], "scenes": [scene for _, scene in scenes],
             "first": first, "left": left}  # fmt: skip
    return f"{data_block(identifier, given)}<div class='live' data-structures='{name}'></div>"


def chart(identifier: str, drawn: Mapping[str, Any]) -> str:
    """A chart that tells the numbers under the pointer.

    Arguments:
        identifier: another than that of all other data of the page.
        drawn: ``x`` and ``y``, each with ``label``, ``unit`` and ``log``; and ``series``, each with
            ``name``, ``color``, ``x``, ``y``, ``error``, and whether ``line`` and ``points``.

    Returns:
        HTML.
    """
    name = for_html(identifier)
    return f"{data_block(identifier, drawn)}<div class='live chart' data-chart='{name}'></div>"


def sweep_view(identifier: str, runs: Mapping[str, Any]) -> str:
    """Linked charts of the runs of a sweep and their table.

    Arguments:
        identifier: another than that of all other data of the page.
        runs: ``columns``, each with ``name``, ``unit``, ``values``, and ``errors`` or None; ``x``,
            ``y`` and ``color``, which of them are shown first; ``links``, the page of each run or
            None.

    Returns:
        HTML.
    """
    name = for_html(identifier)
    return f"{data_block(identifier, runs)}<div class='live' data-sweep='{name}'></div>"


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], sortable: bool = True) -> str:
    """A table of texts, which one can sort by its columns; nothing in them is taken as markup.

    Arguments:
        head: titles of the columns.
        rows: their cells.
        sortable: whether it can be sorted and filtered.

    Returns:
        HTML.
    """
    listed = list(rows)
    columns = list(zip(*listed, strict=True)) or [()] * len(head)
    kinds = [
        "unit" if title == "unit" else "number" if column and all(map(_is_number, column)) else ""
        for title, column in zip(head, columns, strict=True)
    ]
    titles = "".join(
        f"<th{f' class={kind}' if kind else ''}>{for_html(title)}</th>"
        for title, kind in zip(head, kinds, strict=True)
    )
    lines = [
        f"<div class='scroll'><table{' class=sortable' if sortable else ''}>",
        f"<thead><tr>{titles}</tr></thead><tbody>",
    ]
    for row in listed:
        cells = "".join(
            f"<td class='{'number zero' if cell == '0' else 'number'}'>{for_html(cell)}</td>"
            if NUMBER.fullmatch(cell) or (kind == "number" and cell == UNKNOWN)
            else f"<td class='unit'>{for_html(cell)}</td>"
            if kind == "unit"
            else f"<td>{for_html(cell)}</td>"
            for cell, kind in zip(row, kinds, strict=True)
        )
        lines.append(f"<tr>{cells}</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def html_image(path: Path, kind: str = "") -> str:
    """A figure that is part of the page.

    Arguments:
        path: the PNG.
        kind: ``"wide"``; ``"still"`` for what stands in the place of something that moves, where a
            page is printed.

    Returns:
        HTML.
    """
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    begin = f"<figure class='{kind}'>" if kind else "<figure>"
    return f"{begin}<img alt='{for_html(path.stem)}' src='data:image/png;base64,{data}'></figure>"


def _is_number(cell: str) -> bool:
    return cell == UNKNOWN or NUMBER.fullmatch(cell) is not None


@functools.cache
def _asset(name: str) -> str:
    return resources.files("mdsens.pages").joinpath(name).read_text("utf-8")


@functools.cache
def _scripts() -> str:
    texts = "\n".join(map(_asset, SCRIPTS))
    return f'(() => {{\n"use strict";\n{texts}}})();'


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
