"""What the checks of a potential have found: a table in a terminal and in a notebook."""

import dataclasses
import math

from mdsens.digits import error_text, with_digits
from mdsens.errors import MdsensError
from mdsens.summary import Summarised, Summary

#: What a check can say.
PASSED, FAILED, NOT_JUDGED, NOT_ASKED = "passed", "FAILED", "not judged", "not asked"


@dataclasses.dataclass(frozen=True)
class Check:
    """One check of a potential.

    Attributes:
        name: what is checked.
        error: how far off it is, relative to the scale.
        tolerance: how far off it may be, relative to the scale.
        scale: what errors are relative to, such as the norm of all forces.
        unit: unit of the scale.
        verdict: ``"passed"``, ``"FAILED"``, ``"not judged"`` where finite differences are too
            blurred to tell, or ``"not asked"``.
        where: what is off most, such as a parameter; empty where there is nothing to name.
    """

    name: str
    error: float
    tolerance: float
    scale: float
    unit: str
    verdict: str
    where: str = ""

    @property
    def passed(self) -> bool:
        """Whether what is asked for is so."""
        return self.verdict in (PASSED, NOT_ASKED)


@dataclasses.dataclass(frozen=True, repr=False)
class PotentialReport(Summarised):
    """All checks of a potential.

    Attributes:
        potential: what kind of potential it is.
        structure: the atoms that it was checked on.
        checks: each with its error, tolerance and verdict.
        smoothness: how many derivatives of the energy go on without a jump where pairs begin to
            interact, 0 to 2; -1 if the energy itself jumps.
    """

    potential: str
    structure: str
    checks: tuple[Check, ...]
    smoothness: int

    def __getitem__(self, name: str) -> Check:
        return {check.name: check for check in self.checks}[name]

    @property
    def passed(self) -> bool:
        """Whether every check that is asked for has passed."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that have not passed."""
        return tuple(check for check in self.checks if not check.passed)

    def require(self) -> None:
        """Raise MdsensError, which names the checks that have not passed, if there are any."""
        if self.passed:
            return
        named = "; ".join(
            f"{check.name} is off by {error_text(check.error)} (allowed: {check.tolerance:g})"
            + (f" at {check.where}" if check.where else "")
            + (", which differences cannot judge" if check.verdict == NOT_JUDGED else "")
            for check in self.failed
        )
        raise MdsensError(f"{self.potential} fails {len(self.failed)} checks: {named}")

    @property
    def smoothness_text(self) -> str:
        """E.g. ``"C2"``."""
        return "none: the energy jumps" if self.smoothness < 0 else f"C{self.smoothness}"

    def _summary(self) -> Summary:
        facts = [
            ("checked on", self.structure),
            ("smoothness at its range", self.smoothness_text),
            ("passed", "all checks" if self.passed else f"all but {len(self.failed)}"),
        ]
        head = ("check", "error", "tolerance", "relative to", "passed")
        rows: list[tuple[str, ...]] = [
            (
                check.name + (f" ({check.where})" if check.where and not check.passed else ""),
                error_text(check.error),
                f"{check.tolerance:.0e}",
                _with_unit(check.scale, check.unit),
                check.verdict,
            )
            for check in self.checks
        ]
        return Summary(f"Checks of {self.potential}", facts, head, rows, most_rows=len(rows))


def _with_unit(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return with_digits(math.nan)
    return with_digits(value, most=3) + (f" {unit}" if unit != "1" else "")
