"""What a signal raises is known again in whatever wraps it."""

import signal
import time

import jax
import pytest

from mdsens.cli import exit_status
from mdsens.signals import INTERRUPTED, TERMINATED, hear_requests_to_end, signal_behind


@pytest.fixture(autouse=True)
def requests_to_end(monkeypatch):
    monkeypatch.setattr("sys.unraisablehook", None)
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    # Shells start what runs in the background without ears for Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hear_requests_to_end()
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def while_a_class_is_made(number):
    """Python wraps what is raised here, as while numpy is imported."""

    class Name:
        def __set_name__(self, owner, name):
            signal.raise_signal(number)

    type("Owner", (), {"name": Name()})


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)]
)
def test_a_signal_that_arrives_while_a_class_is_made_ends_the_command(
    number, status, monkeypatch, capsys
):
    with pytest.raises((RuntimeError, KeyboardInterrupt, SystemExit)) as raised:
        while_a_class_is_made(number)
    assert signal_behind(raised.value) == status

    def command(*_, **__):
        raise raised.value

    monkeypatch.setattr("mdsens.cli.app", command)
    try:
        found = exit_status([])
    except SystemExit as ended:
        found = ended.code
    assert found == status
    assert "unexpected" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), SystemExit(None)])
def test_no_signal_is_behind_other_errors(error):
    assert signal_behind(error) is None


def fail_after_an_interrupt():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise ValueError("cannot go on") from None


def test_an_error_while_an_interrupt_is_handled_is_one():
    with pytest.raises(ValueError, match="cannot") as raised:
        fail_after_an_interrupt()
    assert signal_behind(raised.value) == INTERRUPTED


def wait(seconds):
    """As code in Python does, in which signals arrive."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_waits_until_jax_is_imported(number, raised, monkeypatch):
    """Its compiled parts crash where an error is raised while they are loaded."""
    monkeypatch.setattr(jax.__spec__, "_initializing", True, raising=False)
    signal.raise_signal(number)
    wait(0.3)

    def end_of_import():
        jax.__spec__._initializing = False
        wait(10.0)

    with pytest.raises(raised):
        end_of_import()


def test_who_ignores_ctrl_c_still_does():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hear_requests_to_end()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
