"""Names and descriptions as they are shown: never taken as markup, and nothing in them is hidden.

Whoever writes a study, or sends one, chooses its names. Shown as they are, they could be taken for
markup of the terminal, of HTML or of formulas in figures, break lines, or turn the order of what
stands beside them around.
"""

import html
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.console
    import rich.table
    import rich.text

#: Plain letters for the signs that mdsens itself prints, where the terminal has no others.
PLAIN_SIGNS = {
    "θ": "theta", "Å": "Ang", "°": "degree", "⁰": "^0", "¹": "^1", "²": "^2", "³": "^3", "⁴": "^4",
    "⁵": "^5", "⁶": "^6", "⁷": "^7", "⁸": "^8", "⁹": "^9", "₁": "_1", "–": "-", "…": "...",
}  # fmt: skip

#: Letters of a name that stand side by side at least, however little room numbers leave it.
LEAST_OF_A_NAME = 12


def visible(text: str) -> str:
    r"""Text in which every character can be seen: those that cannot become escapes.

    Arguments:
        text: any text.

    Returns:
        One line: line breaks, control characters, marks that change the direction of writing and
        the like are written as in Python, e.g. ``\n``, ``\x1b`` or ``\u202e``.
    """
    return "".join(_escaped(one) if _is_hidden(one) else one for one in text)


def for_terminal(text: str, style: str = "") -> "rich.text.Text":
    """Text for a console of rich, which takes nothing in it as markup.

    Arguments:
        text: any text.
        style: how rich shall show it, e.g. ``"bold"``.

    Returns:
        A rich Text of one line.
    """
    from rich.text import Text

    return Text(visible(text), style)


def for_html(text: str) -> str:
    """Text for an HTML page, in an element or an attribute.

    Arguments:
        text: any text.

    Returns:
        One line without markup.
    """
    return html.escape(visible(text))


def for_figure(text: str) -> str:
    """Text for a figure of matplotlib, which takes what stands between two ``$`` as a formula.

    Arguments:
        text: any text.

    Returns:
        One line without formulas.
    """
    return visible(text).replace("$", r"\$")


def console() -> "rich.console.Console":
    """The terminal; it takes no word for an emoji, and colours no numbers."""
    from rich.console import Console

    return Console(highlight=False, emoji=False)


def print_numbers(to: "rich.console.Console", table: "rich.table.Table") -> None:
    """Print a table of numbers, of which none is cut or parted however narrow the terminal is.

    Arguments:
        to: the terminal.
        table: names in its first column, which gives way, and numbers and units in the others.
    """
    name, *others = table.columns
    name.no_wrap, name.overflow = False, "fold"
    longest = max(to.measure(text).maximum for text in [name.header, *name.cells])
    name.min_width = min(longest, LEAST_OF_A_NAME)
    for column in others:
        texts = [column.header, *column.cells]
        column.min_width = max(to.measure(text).maximum for text in texts)
        column.no_wrap = True
    to.print(table, crop=False)


def plain_letters(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding does not have, for `codecs.register_error`.

    Arguments:
        error: what could not be encoded.

    Returns:
        Plain letters, e.g. ``theta`` for ``θ``, or escapes; and where to go on.

    Raises:
        UnicodeError: the same, if it is of another kind.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN_SIGNS.get(one) or _escaped(one) for one in text), error.end


def _is_hidden(one: str) -> bool:
    # C: control, format, surrogate, private and unassigned characters; Zl, Zp: line separators.
    category = unicodedata.category(one)
    return category[0] == "C" or category in ("Zl", "Zp")


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")
