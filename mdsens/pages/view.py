"""View: a page, or a part of one, that a notebook shows in its place."""

import dataclasses
import html
from pathlib import Path

from mdsens.errors import InputError
from mdsens.files import path_of
from mdsens.pages.page import page


@dataclasses.dataclass(frozen=True, repr=False)
class View:
    """What one explores: a notebook shows it in its output, and `save` writes it as a page.

    Attributes:
        title: what it shows.
        body: HTML of the functions of `mdsens.pages`.
        height: how high it is in a notebook, pixels.
    """

    title: str
    body: str
    height: int = 620

    def __repr__(self) -> str:
        return f"{self.title}: shown in a notebook; .save('view.html') writes a page"

    def _repr_html_(self) -> str:
        # A page of its own inside the notebook's: neither has a say in the other's styles.
        inner = html.escape(page(self.title, [self.body], framed=True))
        return (
            f"<iframe srcdoc=\"{inner}\" sandbox='allow-scripts' width='100%' "
            f"height='{self.height}' style='border: 0'></iframe>"
        )

    def to_html(self) -> str:
        """The page, which needs no other file and no network."""
        return page(self.title, [self.body])

    def save(self, path: str | Path) -> Path:
        """Write the page to a file.

        Arguments:
            path: where to.

        Returns:
            The path.

        Raises:
            InputError: it cannot be written.
        """
        goal = path_of(path, "path")
        try:
            goal.write_text(self.to_html(), "utf-8")
        except OSError as error:
            raise InputError(
                f"path = {str(goal)!r} cannot be written: {error.strerror}; give another"
            ) from None
        return goal
