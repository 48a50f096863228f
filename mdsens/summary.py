"""What results say of themselves: a few lines in a terminal, a small table in a notebook."""

import dataclasses
from collections.abc import Sequence

from mdsens.markup import for_html, visible

#: So many rows of a long table are shown.
MOST_ROWS = 12


@dataclasses.dataclass(frozen=True)
class Summary:
    """What is worth knowing of an object at first sight.

    Attributes:
        title: what it is.
        facts: what is known of it: names, and values with their units.
        head: titles of the columns of a table; empty where there is none.
        rows: rows of the table, as many texts each.
        most_rows: so many of them are shown.
    """

    title: str
    facts: list[tuple[str, str]]
    head: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = dataclasses.field(default_factory=list)
    most_rows: int = MOST_ROWS

    def as_text(self) -> str:
        """Lines of plain text: the title, and indented all else."""
        facts = [(visible(name), visible(value)) for name, value in self.facts]
        width = max((len(name) for name, _ in facts), default=0)
        lines = [visible(self.title), *(f"  {name:{width}s}  {value}" for name, value in facts)]
        table = [tuple(map(visible, row)) for row in (self.head, *self._shown_rows) if row]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for row in table:
            cells = (f"{cell:{width}s}" for cell, width in zip(row, widths, strict=True))
            lines.append(f"  {'  '.join(cells)}".rstrip())
        return "\n".join([*lines, *([f"  {self._more}"] if self._more else [])])

    def as_html(self) -> str:
        """An HTML element with the same: the title, facts and table; nothing is taken as markup."""
        parts = [f"<strong>{for_html(self.title)}</strong>"]
        parts.append(_html_table([], self.facts))
        if self.head:
            parts.append(_html_table(self.head, self._shown_rows))
        if self._more:
            parts.append(f"<p>{for_html(self._more)}</p>")
        return f"<div>{''.join(parts)}</div>"

    @property
    def _shown_rows(self) -> list[tuple[str, ...]]:
        return self.rows[: self.most_rows]

    @property
    def _more(self) -> str:
        left = len(self.rows) - self.most_rows
        return f"... and {left} more rows" if left > 0 else ""


class Summarised:
    """A class whose objects show a Summary where they are printed, in terminals and notebooks."""

    def _summary(self) -> Summary | None:
        """What to show; None where there are no numbers to show, as inside jit."""
        raise NotImplementedError

    def __repr__(self) -> str:
        summary = self._summary()
        return super().__repr__() if summary is None else summary.as_text()

    def _repr_html_(self) -> str | None:
        summary = self._summary()
        return None if summary is None else summary.as_html()


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{for_html(cell)}</{tag}>' for cell in cells)}</tr>"

    first = f"<thead>{line(head, 'th')}</thead>" if head else ""
    return f"<table>{first}<tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"
