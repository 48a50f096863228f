"""The one rule of all inputs: what is given is taken, or refused by an MdsensError in one line."""

from mdsens.errors import MdsensError

#: Longest line that an error may be.
LONGEST_LINE = 400


class BrokenRuleError(AssertionError):
    """An input was neither taken nor refused in a line."""


def refusal(use) -> str:
    """Call a function that uses an input; whatever is no MdsensError goes on its way.

    Returns:
        The line by which the input is refused; an empty text where it is taken.
    """
    try:
        use()
    except MdsensError as error:
        line = str(error)
        if not line.strip() or not line.isprintable() or len(line) > LONGEST_LINE:
            raise BrokenRuleError(f"not one short line ({len(line)}): {line[:600]!r}") from error
        return line
    return ""
