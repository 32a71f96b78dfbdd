"""Work beside the rounds: one piece at a time, and no failure is lost."""

from __future__ import annotations

import threading

import pytest

from server.records.background_writer import BackgroundWriter


def test_the_next_piece_waits_for_the_one_before():
    order, gate = [], threading.Event()

    def first() -> None:
        gate.wait(300)
        order.append("first")

    with BackgroundWriter() as writer:
        writer.start(first)
        assert order == []  # it does not keep the caller
        threading.Timer(0.05, gate.set).start()
        writer.start(lambda: order.append("second"))
    assert order == ["first", "second"]


def fail() -> None:
    raise OSError("full")


def test_a_failure_is_raised_by_the_next_call_and_once():
    with BackgroundWriter() as writer:
        writer.start(fail)
        with pytest.raises(OSError, match="full"):
            writer.wait()
        writer.start(fail)
        with pytest.raises(OSError, match="full"):
            writer.start(lambda: None)


def test_a_failure_of_the_last_piece_is_raised_at_the_end():
    with pytest.raises(OSError, match="full"), BackgroundWriter() as writer:
        writer.start(fail)


def test_another_error_is_not_hidden_and_the_work_is_finished():
    done = []

    def rounds(writer: BackgroundWriter) -> None:
        writer.start(lambda: done.append(1))
        writer.start(fail)
        raise KeyError("other")

    with pytest.raises(KeyError, match="other"), BackgroundWriter() as writer:
        rounds(writer)
    assert done == [1]
