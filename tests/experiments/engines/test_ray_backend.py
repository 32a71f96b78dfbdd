"""Whoever writes into Flower's state wakes its reader; nobody looks for messages in vain."""

from __future__ import annotations

import threading
import time
from importlib.util import find_spec
from queue import Queue
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.skipif(not find_spec("ray"), reason="the extra 'sim' is not installed")


@pytest.fixture(scope="module")
def backend():
    """What is tested; with Ray it takes two seconds, which each worker would pay for an import."""
    from experiments.engines import ray_backend

    return ray_backend


class State:
    """Flower's state, as far as the bell touches it."""

    def __init__(self) -> None:
        self.waiting: list[SimpleNamespace] = []
        self.looks = 0

    def store_message_ins(self, message):
        self.waiting.append(message)
        return "stored"

    def store_message_res(self, message):
        return None

    def get_message_ins(self, node_id, limit):
        self.looks += 1
        found = [m for m in self.waiting if m.metadata.dst_node_id == node_id][:limit]
        for message in found:
            self.waiting.remove(message)
        return found


def message(node_id: int) -> SimpleNamespace:
    return SimpleNamespace(metadata=SimpleNamespace(dst_node_id=node_id))


def test_a_reply_ends_the_wait_and_rings_once(backend):
    notifier, state = backend.Notifier(2), State()
    notifier.hang(state)
    threading.Timer(0.05, lambda: state.store_message_res(message(1))).start()
    begun = time.monotonic()
    notifier.sleep(300)
    assert time.monotonic() - begun < 250
    notifier.sleep(0.01)  # would return at once if the bell still rang
    assert not notifier._answered.is_set()


def test_a_reply_that_comes_before_the_wait_is_not_lost(backend):
    notifier, state = backend.Notifier(2), State()
    notifier.hang(state)
    state.store_message_res(message(1))
    begun = time.monotonic()
    notifier.sleep(300)
    assert time.monotonic() - begun < 250


def test_with_many_nodes_replies_gather(backend):
    notifier, state = backend.Notifier(backend.FEW_NODES + 1), State()
    notifier.hang(state)
    state.store_message_res(message(1))
    begun = time.monotonic()
    notifier.sleep(0.05)
    assert time.monotonic() - begun >= 0.05


def test_messages_reach_the_queue_whenever_they_come_and_nobody_looks_in_vain(backend):
    notifier, state, queue, stop = backend.Notifier(2), State(), Queue(), threading.Event()
    early, late = message(7), message(8)
    state.store_message_ins(early)  # before the bell hangs
    with backend.tuned(notifier, 2, lambda: None):
        feeder = threading.Thread(
            target=backend.vce_api.add_messages_to_queue, args=(state, queue, {7: 0, 8: 1}, stop)
        )
        feeder.start()
        try:
            assert queue.get(timeout=300) is early
            time.sleep(0.1)
            assert state.store_message_ins(late) == "stored"
            assert queue.get(timeout=300) is late
        finally:
            stop.set()
            feeder.join()
    assert state.looks == 3  # each node's first, and the late message
    assert state.waiting == []
