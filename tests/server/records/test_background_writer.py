"""Work beside the rounds: one piece at a time, and no failure is lost."""

from __future__ import annotations

import threading

import pytest

from server.records.background_writer import Behind


def test_the_next_piece_waits_for_the_one_before():
    order, gate = [], threading.Event()

    def first() -> None:
        gate.wait(20)
        order.append("first")

    with Behind() as behind:
        behind.start(first)
        assert order == []  # it does not keep the caller
        threading.Timer(0.05, gate.set).start()
        behind.start(lambda: order.append("second"))
    assert order == ["first", "second"]


def fail() -> None:
    raise OSError("full")


def test_a_failure_is_raised_by_the_next_call_and_once():
    with Behind() as behind:
        behind.start(fail)
        with pytest.raises(OSError, match="full"):
            behind.wait()
        behind.start(fail)
        with pytest.raises(OSError, match="full"):
            behind.start(lambda: None)


def test_a_failure_of_the_last_piece_is_raised_at_the_end():
    with pytest.raises(OSError, match="full"), Behind() as behind:
        behind.start(fail)


def test_another_error_is_not_hidden_and_the_work_is_finished():
    done = []

    def rounds(behind: Behind) -> None:
        behind.start(lambda: done.append(1))
        behind.start(fail)
        raise KeyError("other")

    with pytest.raises(KeyError, match="other"), Behind() as behind:
        rounds(behind)
    assert done == [1]
