"""The errors and warnings that a user can meet, each with one line that says what to do."""


class MdsensError(Exception):
    """Base class of every error that mdsens raises on purpose."""


class InputError(MdsensError, ValueError):
    """Something the user gave is not allowed; the message names it and what is."""


class RelaxationError(MdsensError, RuntimeError):
    """A relaxation met numbers that are not finite, or a structure that flies apart."""


class UnreliableDerivativeError(MdsensError, RuntimeError):
    """A derivative was asked for at a structure that is not a converged, stable minimum."""


class ConvergenceError(MdsensError, RuntimeError):
    """An iterative solver ended without a solution; the message says how far it came."""


class MdsensWarning(UserWarning):
    """What was asked for is done, but may not be what was meant; the message says what to do."""
