"""Why another program is ahead of mdsens on a problem, where it is."""

#: (problem, program): a sentence.
REASONS: dict[tuple[str, str], str] = {}
