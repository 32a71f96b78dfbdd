"""What fedfuse changes of Flower's Ray backend, in one place.

Flower's backend gives each message to whichever worker is idle, looks for messages ten times a
second, waits for a worker without end and gives the next message to one that has died. With few
nodes that host many clients each of these matters: a node that stays with its worker finds its
clients' states there, and a phase of a hundred clients takes less than a tenth of a second. Looking
more often would take processor time from the workers (13% of a core at 2 ms), so nobody looks:
whoever writes a message into Flower's state wakes its reader.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import Empty, Queue, SimpleQueue
from threading import Event
from typing import Any

import ray
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.server.superlink.fleet.vce import vce_api
from flwr.server.superlink.fleet.vce.backend import raybackend
from flwr.simulation.ray_transport.ray_actor import BasicActorPool
from ray.exceptions import RayActorError

from experiments.engines.ray_cluster import swapped
from experiments.engines.ray_worker import Worker

START_TIMEOUT = 20.0
"""Seconds in which the replacement of a dead worker must come up."""

FEW_NODES = 64
"""Up to so many nodes the server reads each reply as it comes; each look costs time per node."""


class Notifier:
    """Wake whoever waits for a message or a reply when there is one.

    Args:
        num_nodes: How many nodes there are.
    """

    def __init__(self, num_nodes: int) -> None:
        self.interval = 0.1 if num_nodes <= FEW_NODES else 0.05
        """Seconds after which the server looks for replies, rung or not."""
        self.asked: SimpleQueue[int | None] = SimpleQueue()
        """Nodes that a message waits for; None when the server has ended."""
        self._queues: list[Mailbox] = []
        self._wakes = num_nodes <= FEW_NODES
        self._answered = Event()

    def sleep(self, seconds: float) -> None:
        """Wait for a reply; with many nodes let some gather."""
        if not self._wakes:
            time.sleep(seconds)
        elif self._answered.wait(seconds):
            # What comes from here on is seen by the look that follows, or rings again.
            self._answered.clear()

    def queue(self) -> Mailbox:
        """Return a queue for Flower whose readers hear of the server's end."""
        self._queues.append(Mailbox())
        return self._queues[-1]

    def end(self) -> None:
        """Wake everybody: the server has ended."""
        self.asked.put(None)
        for queue in self._queues:
            queue.put(None)

    def hang(self, state: Any) -> None:
        """Ring for whatever is written into Flower's state from now on."""
        store_message, store_reply = state.store_message_ins, state.store_message_res

        def store_message_ins(message: Message) -> str | None:
            stored: str | None = store_message(message)
            self.asked.put(message.metadata.dst_node_id)
            return stored

        def store_message_res(message: Message) -> str | None:
            stored: str | None = store_reply(message)
            self._answered.set()
            return stored

        state.store_message_ins, state.store_message_res = store_message_ins, store_message_res


class Mailbox(Queue[Any]):
    """A queue of Flower's, which waits for a second before it looks whether the run has ended."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return what comes; nothing does when None has come."""
        item = super().get(block, timeout)
        if item is not None:
            return item
        self.put(None)  # the next reader waits as well
        time.sleep(0.005)  # Flower sets its flag right after the server's last line
        raise Empty


class PinnedRayBackend(raybackend.RayBackend):
    """Flower's backend with a worker per node, if there are enough, and without waiting for ever.

    Args:
        backend_config: Flower's.
        num_nodes: How many nodes there are; no more workers than that are started.
        check: Called while waiting; raises what ends the run.
    """

    def __init__(
        self, backend_config: dict[str, Any], *, num_nodes: int, check: Callable[[], None]
    ) -> None:
        super().__init__(backend_config)
        self._num_nodes = num_nodes
        self._check = check
        self._idle: SimpleQueue[int] = SimpleQueue()
        self._actors: list[Any] = []
        self._dead: set[int] = set()

    def build(self, app_fn: Callable[[], ClientApp]) -> None:
        """Start the workers."""
        self.app_fn = app_fn
        self.pool = BasicActorPool(
            actor_type=Worker,  # type: ignore[arg-type]
            client_resources=self.client_resources,
            actor_kwargs=self.actor_kwargs,
        )
        self.pool.add_actors_to_pool(min(self.pool.actors_capacity, self._num_nodes))
        self._actors = list(self.pool.pool)
        for slot in range(len(self._actors)):
            self._idle.put(slot)

    def terminate(self) -> None:
        """End the workers at once; Ray itself is ended by whoever has started it."""
        for actor in self._actors:
            ray.kill(actor)

    def process_message(self, message: Message, context: Context) -> tuple[Message, Context]:
        """Let a worker answer: the node's own, or with more nodes than workers an idle one."""
        partition = int(context.node_config["partition-id"])
        if self._num_nodes <= len(self._actors):
            return self._process(partition, message, context)
        slot = self._idle.get()
        try:
            return self._process(slot, message, context)
        finally:
            self._idle.put(slot)

    def _process(self, slot: int, message: Message, context: Context) -> tuple[Message, Context]:
        if slot in self._dead:
            self._replace(slot)
        actor = self._actors[slot]
        reference = actor.run.remote(self.app_fn, message, context)
        try:
            while not ray.wait([reference], timeout=0.5)[0]:
                self._check()
            answer: tuple[Message, Context] = ray.get(reference)
        except RayActorError:
            self._dead.add(slot)
            raise
        return answer

    def _replace(self, slot: int) -> None:
        """Start a new worker in a dead one's place; if there is no room, share another's."""
        assert self.pool is not None
        self._dead.discard(slot)
        new: Any = self.pool.create_actor_fn()  # type: ignore[no-untyped-call]
        # Ray may take a lost machine's room for there still, and wait for it.
        begun, starting = time.monotonic(), new.__ray_ready__.remote()
        ready: list[Any] = []
        while not ready and time.monotonic() - begun < START_TIMEOUT:
            ready, _ = ray.wait([starting], timeout=0.5)
            self._check()
        alive = [self._actors[i] for i in range(len(self._actors)) if i not in self._dead | {slot}]
        if not ready and alive:
            ray.kill(new)
            new = alive[slot % len(alive)]
        self._actors[slot] = new


@contextmanager
def tuned(notifier: Notifier, num_nodes: int, check: Callable[[], None]) -> Iterator[None]:
    """Let Flower's simulation use the pinned backend, and the bell instead of looking."""

    def add_messages_to_queue(
        state: Any, queue: Queue[Message], nodes_mapping: dict[int, int], f_stop: Event
    ) -> None:
        notifier.hang(state)
        for known in nodes_mapping:  # who was asked before that
            notifier.asked.put(known)
        while not f_stop.is_set():
            try:
                node_id = notifier.asked.get(timeout=0.5)
            except Empty:
                continue
            if node_id is None:
                f_stop.wait(timeout=0.5)
                continue
            for message in state.get_message_ins(node_id=node_id, limit=1):
                queue.put(message)

    backend = partial(PinnedRayBackend, num_nodes=num_nodes, check=check)
    with (
        swapped(raybackend, RayBackend=backend),
        swapped(vce_api, add_messages_to_queue=add_messages_to_queue, Queue=notifier.queue),
    ):
        yield
