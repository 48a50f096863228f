"""The documentation site: `python -m sphinx docs build/site`."""

import importlib
import inspect
import itertools
import os
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
# One core and no preallocated memory are enough to read docstrings.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import mdsens  # noqa: E402 (from this checkout)

project = "mdsens"
author = "The mdsens developers"
copyright = author  # noqa: A001 (Sphinx's name)
version = release = mdsens.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
nitpicky = True
# Other projects' names lead nowhere from here; the inventory of none is fetched.
nitpick_ignore_regex = [
    ("py:.*", r"(?!mdsens\b).*"),
    # What annotations and bases name below the public face has no page.
    ("py:.*", r"mdsens\.(\w+\.\w+|summary|archive|pictured)\.\w+"),
    ("py:.*", r"mdsens\.potentials\.files\..*"),
]

myst_enable_extensions = ["dollarmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3
# Notebooks are executed by their own tests, which keep what comes out in them.
nb_execution_mode = "off"
nb_merge_streams = True

default_role = "code"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autosummary_generate = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = True

html_theme = "furo"
html_title = "mdsens"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
toc_object_entries_show_parents = "hide"
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True


def bring(source: Path, target: Path, picture: str | None = None, page: str | None = None) -> None:
    """Copy a file into the tree of pages, where it has changed.

    What comes before the name of a picture, and instead of `docs/` before that of a page.
    """
    held = source.read_bytes()
    if picture is not None:
        held = re.sub(r"(!\[[^\]]*\]\()", picture, held.decode()).encode()
    if page is not None:
        held = held.replace(b"](docs/", f"]({page}".encode())
    target.parent.mkdir(exist_ok=True)
    if not target.exists() or held != target.read_bytes():
        target.write_bytes(held)


# Notebooks, and the pages and pictures of the ready studies, stand where they are used.
HERE = Path(__file__).parent
for path in ROOT.glob("notebooks/*.ipynb"):
    bring(path, HERE / "notebooks" / path.name)
for path in ROOT.glob("systems/*/README.md"):
    study = path.parent.name
    bring(path, HERE / "studies" / f"{study}.md", picture=rf"\1{study}-")
for path in ROOT.glob("systems/*/*.png"):
    bring(path, HERE / "studies" / f"{path.parent.name}-{path.name}")
bring(ROOT / "CHANGELOG.md", HERE / "changelog.md", page="")


def list_names(app: Any, page: str, source: list[str]) -> None:
    """Put names where pages ask for them.

    `OTHER PAGES` on the front page: those that it does not name. `NAMES OF module`: its own.
    """
    found = re.search(r"NAMES OF (\S+)", source[0])
    if page.startswith("api/") and found:
        module = importlib.import_module(found[1])
        names = module.__all__
        # Constants have no docstring of their own to summarise, nor has a type.
        names = [
            name
            for name in names
            if inspect.isroutine(value := getattr(module, name)) or inspect.isclass(value)
        ]
        source[0] = source[0].replace(found[0], "\n   ".join(names))
    if page == "index":
        named = set(re.findall(r"^(\w+)$", source[0], re.MULTILINE)) | {"index"}
        pages = [path.stem for path in HERE.glob("*.md") if not path.stem.startswith("from_")]
        pages = sorted(set(pages) - named)
        source[0] = source[0].replace("OTHER PAGES", "\n".join(pages))


def is_formula(paragraph: list[str]) -> bool:
    """Whether a paragraph of a docstring stands as it is: lines that are indented on purpose."""
    indents = [len(line) - len(line.lstrip()) for line in paragraph]
    return max(indents) > 0 and not re.match(r"([-*]|\d+\.) |[A-Z]\w+:$", paragraph[0].lstrip())


def escaped(line: str) -> str:
    """Text with code in backticks, as reStructuredText."""
    parts = re.split(r"(`+[^`]+`+)", line)
    for place, part in enumerate(parts):
        if place % 2:
            parts[place] = f"``{part.strip('`')}``"
        else:
            parts[place] = re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", part)
    return "".join(parts)


def as_text(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are text with code in backticks: all else that is markup to Sphinx is escaped.

    A paragraph with indented lines before the first section, such as `Arguments:`, is a formula.
    """
    written: list[str] = []
    rest = list(lines)
    in_section = False
    while rest:
        paragraph = list(itertools.takewhile(str.strip, rest))
        rest = rest[len(paragraph) :]
        in_section = in_section or bool(paragraph and re.match(r"[A-Z]\w+:$", paragraph[0]))
        if paragraph and not in_section and is_formula(paragraph):
            written += ["::", "", *(f"    {line}" for line in paragraph)]
        else:
            written += map(escaped, paragraph)
        if rest:
            written.append(rest.pop(0))
    lines[:] = written


def short_arrays(
    app: Any,
    what: str,
    name: str,
    thing: Any,
    options: Any,
    given: str | None,
    returned: str | None,
) -> tuple[str | None, str | None]:
    """An array of JAX is called that, wherever its class lives."""
    long = re.compile(r"(?<![~\w.])jax(lib)?(\.\w+)*\.Array\b")
    return given and long.sub("Array", given), returned and long.sub("Array", returned)


def plain_types(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Types of attributes, with the shapes of jaxtyping, are code."""
    for number, line in enumerate(lines):
        lines[number] = re.sub(r"^(\s*:vartype \w+: )([^`].*)$", r"\1``\2``", line)


def skip(app: Any, what: str, name: str, thing: Any, skipped: bool, options: Any) -> bool | None:
    """Fields of named tuples say nothing that the class does not."""
    return True if (thing.__doc__ or "").startswith("Alias for field number") else None


def mathml(translator: Any, node: nodes.Element, as_block: bool) -> None:
    """An equation that browsers draw themselves: no script is loaded from anywhere."""
    written = node.astext().replace(r"\dots", r"\ldots")
    written = re.sub(r"\\[bB]ig(?![a-z])", "", written)
    one = r"\s*(\\[a-zA-Z]+|[0-9a-zA-Z])"  # \frac12, which means \frac{1}{2}
    written = re.sub(rf"\\[td]?frac{one}{one}", r"\\frac{\1}{\2}", written)
    try:
        drawn = tex2mathml(written, as_block=as_block)
    except MathError as error:
        logging.getLogger(__name__).warning("%s: %s", written, error, location=node)
        drawn = translator.encode(written)
    translator.body.append(f'<div class="equation">{drawn}</div>' if as_block else drawn)
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Connect what is above."""
    app.connect("source-read", list_names)
    app.connect("autodoc-process-docstring", as_text, priority=100)
    app.connect("autodoc-process-docstring", plain_types, priority=900)
    app.connect("autodoc-process-signature", short_arrays)
    app.connect("autodoc-skip-member", skip)
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(lambda self, node: mathml(self, node, as_block=False), None),
        block_renderers=(lambda self, node: mathml(self, node, as_block=True), None),
    )


html_math_renderer = "mathml"
