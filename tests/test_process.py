"""The process around a command: an interruption that Python drops comes again."""

import ctypes
import signal
import sys
import time

import pytest

from sg_local.cli.process import Ended, ending_by_signal, interruption

CALLBACK = ctypes.CFUNCTYPE(None)


class Raising:
    """Raises while it is destroyed, where nobody can catch it."""

    def __init__(self, error):
        self.error = error

    def __del__(self):
        raise self.error


def test_an_interruption_dropped_in_a_destructor_comes_again():
    with pytest.raises(KeyboardInterrupt), ending_by_signal():
        Raising(KeyboardInterrupt())
        time.sleep(60)


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGHUP))
def test_a_signal_dropped_in_a_callback_of_c_comes_again_as_itself(number):
    def end():
        raise Ended(number)

    with pytest.raises(Ended) as ended, ending_by_signal():
        CALLBACK(end)()
        time.sleep(60)
    assert interruption(ended.value) == 128 + number


def test_an_interruption_dropped_at_the_end_is_not_forgotten():
    with pytest.raises(KeyboardInterrupt), ending_by_signal():
        Raising(KeyboardInterrupt())
    time.sleep(0.1)  # nothing comes after it


def test_other_dropped_errors_are_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with ending_by_signal():
        Raising(ValueError("a"))
    assert [type(one.exc_value) for one in told] == [ValueError]
    assert sys.unraisablehook == told.append
