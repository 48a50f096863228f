"""Results that draw themselves: figures and pages are made on a higher floor, when one asks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mdsens.pages import View


class Pictured:
    """A structure that can be drawn, and explored in a notebook."""

    def plot(self) -> "Figure":
        """A figure of it.

        Returns:
            The Figure, which a notebook shows.
        """
        return _drawing("plot")(self)

    def view(self) -> "View":
        """The structure in a notebook or a page: one turns it, and picks atoms.

        Returns:
            The View, which a notebook shows, and ``save(path)`` writes as a page.

        Raises:
            InputError: it has more atoms than a page can turn.
        """
        return _drawing("view")(self)


class PicturedWithMotion:
    """A relaxed structure, and how it moves with the parameters of its potential."""

    def plot(self, parameter: str | None = None) -> "Figure":
        """A figure of it.

        Arguments:
            parameter: the structure with an arrow on each particle, d x / d parameter; None: the
                structure alone, or, of a sensitivity, its derivatives as bars.

        Returns:
            The Figure, which a notebook shows.

        Raises:
            InputError: a parameter that there is no derivative in.
            UnreliableDerivativeError: a parameter is given, and the structure is unconverged or
                unstable.
        """
        return _drawing("plot")(self, parameter)

    def view(self, parameter: str | None = None) -> "View":
        """The structure in a notebook or a page: one turns it, moves it, and picks atoms.

        Arguments:
            parameter: the one whose motion is shown; None: of a sensitivity, the first that moves
                an atom; of a relaxed structure, none.

        Returns:
            The View, which a notebook shows, and ``save(path)`` writes as a page.

        Raises:
            InputError: a parameter that there is no derivative in, or more atoms than a page can
                turn.
            UnreliableDerivativeError: a parameter is given, and the structure is unconverged or
                unstable.
        """
        return _drawing("view")(self, parameter)


class PicturedBatch:
    """Several relaxed structures side by side."""

    def plot(self) -> "Figure":
        """A figure of all of them, over their index.

        Returns:
            The Figure, which a notebook shows.
        """
        return _drawing("plot")(self)

    def view(self, index: int = 0, parameter: str | None = None) -> "View":
        """The structures in a notebook or a page, where a slider chooses the one that is seen.

        Arguments:
            index: which one is seen at first; of very many, those around it are there.
            parameter: as of a single one.

        Returns:
            The View, which a notebook shows, and ``save(path)`` writes as a page.

        Raises:
            InputError: as of a single one.
            RelaxationError: its relaxation has failed.
        """
        return _drawing("batch_view")(self, index, parameter)


def _drawing(name: str) -> Any:
    """What draws, of a floor above those of all that is drawn."""
    from mdsens import plots

    return getattr(plots, name)
