"""Work beside the rounds: one piece at a time, and no failure is lost."""

from __future__ import annotations

import threading
import time

import pytest

from server.records import background_writer
from server.records.background_writer import BackgroundWriter

WAITING = 16


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


def test_what_is_made_here_is_taken_there_in_order_while_more_is_made(monkeypatch):
    monkeypatch.setattr(background_writer, "WAITING", WAITING * (1 + len(b"0")))
    made, taken, gate = [], [], threading.Event()

    def pieces():
        for number in range(3 * WAITING):
            made.append(number)
            if number == WAITING:  # more would not wait
                assert taken == []
                gate.set()
            yield bytes([number])

    def work(arriving):
        gate.wait(300)
        taken.extend(piece[0] for piece in arriving)

    with BackgroundWriter() as writer:
        writer.feed(pieces(), work)
    assert made == taken == list(range(3 * WAITING))


def test_of_large_pieces_one_waits(monkeypatch):
    monkeypatch.setattr(background_writer, "WAITING", 100)
    made, ahead = [], []

    def pieces():
        for number in range(6):
            made.append(number)
            yield bytes(1000)

    def work(arriving):
        for taken, _ in enumerate(arriving, 1):
            time.sleep(0.02)
            ahead.append(len(made) - taken)

    with BackgroundWriter() as writer:
        writer.feed(pieces(), work)
    assert len(made) == len(ahead) == 6
    assert max(ahead) <= 2  # one waits, and one has been made and may not yet


def test_a_writer_that_fails_keeps_nobody_waiting(monkeypatch):
    monkeypatch.setattr(background_writer, "WAITING", WAITING)
    with BackgroundWriter() as writer:
        writer.feed((b"" for _ in range(3 * WAITING)), lambda _: fail())
        with pytest.raises(OSError, match="full"):
            writer.wait()


def test_who_fails_to_make_a_piece_fails_the_work():
    taken: list[bytes] = []

    def pieces():
        yield b"one"
        raise KeyError("two")

    with BackgroundWriter() as writer:
        with pytest.raises(KeyError, match="two"):
            writer.feed(pieces(), taken.extend)
        with pytest.raises(KeyError, match="two"):
            writer.wait()
