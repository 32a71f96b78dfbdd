"""How often the commands look for garbage."""

from __future__ import annotations

import atexit
import gc
import sys

from experiments.terminal.console import exit_code


def test_a_process_that_is_the_commands_own_collects_rarely(monkeypatch):
    kept, at_exit = gc.get_threshold(), []
    gc.set_threshold(*(before := (700, 10, 10)))  # another test may have been a command's process
    monkeypatch.setattr(atexit, "register", at_exit.append)
    monkeypatch.setattr(sys, "argv", ["fedfuse"])
    try:
        assert exit_code(lambda _: 0, []) == 0  # called by somebody else's process
        assert (gc.get_threshold(), at_exit) == (before, [])
        assert exit_code(lambda _: 0, None) == 0
        assert gc.get_threshold()[0] > before[0]
        assert at_exit == [gc.freeze]
    finally:
        gc.set_threshold(*kept)
