"""What fedfuse changes of Flower's Ray backend, in one place.

Flower's backend gives each message to whichever worker is idle, looks for messages ten times a
second, waits for a worker without end and gives the next message to one that has died. With few
nodes that host many clients each of these matters: a node that stays with its worker finds its
clients' states there, and a phase of a hundred clients takes less than a tenth of a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import Queue, SimpleQueue
from threading import Event
from typing import Any

import ray
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.server.superlink.fleet.vce import vce_api
from flwr.server.superlink.fleet.vce.backend import raybackend
from flwr.simulation.ray_transport.ray_actor import BasicActorPool, ClientAppActor
from ray.exceptions import RayActorError

PATIENCE = 20.0
"""Seconds in which the replacement of a dead worker must come up."""

FEW_NODES = 64
"""Up to so many nodes Flower's state is looked at every 2 ms; each look costs time per node."""


def interval(num_nodes: int) -> float:
    """Return the seconds between two looks for messages or replies."""
    return 0.002 if num_nodes <= FEW_NODES else 0.05


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
            actor_type=ClientAppActor,
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
        partition = str(context.node_config["partition-id"])
        reference = actor.run.remote(self.app_fn, message, partition, context)
        try:
            while not ray.wait([reference], timeout=0.5)[0]:
                self._check()
            _, reply, context = ray.get(reference)
        except RayActorError:
            self._dead.add(slot)
            raise
        return reply, context

    def _replace(self, slot: int) -> None:
        """Start a new worker in a dead one's place; if there is no room, share another's."""
        assert self.pool is not None
        self._dead.discard(slot)
        new: Any = self.pool.create_actor_fn()  # type: ignore[no-untyped-call]
        # Ray may take a lost machine's room for there still, and wait for it.
        begun, starting = time.monotonic(), new.__ray_ready__.remote()
        ready: list[Any] = []
        while not ready and time.monotonic() - begun < PATIENCE:
            ready, _ = ray.wait([starting], timeout=0.5)
            self._check()
        alive = [self._actors[i] for i in range(len(self._actors)) if i not in self._dead | {slot}]
        if not ready and alive:
            ray.kill(new)
            new = alive[slot % len(alive)]
        self._actors[slot] = new


@contextmanager
def tuned(num_nodes: int, check: Callable[[], None]) -> Iterator[None]:
    """Let Flower's simulation use the pinned backend and look for messages more often."""

    def add_messages_to_queue(
        state: Any, queue: Queue[Message], nodes_mapping: dict[int, int], f_stop: Event
    ) -> None:
        while not f_stop.is_set():
            for node_id in nodes_mapping:
                for message in state.get_message_ins(node_id=node_id, limit=1):
                    queue.put(message)
            f_stop.wait(interval(num_nodes))

    backend, feed = raybackend.RayBackend, vce_api.add_messages_to_queue
    raybackend.RayBackend = partial(PinnedRayBackend, num_nodes=num_nodes, check=check)  # type: ignore[misc,assignment]
    vce_api.add_messages_to_queue = add_messages_to_queue
    try:
        yield
    finally:
        raybackend.RayBackend = backend  # type: ignore[misc]
        vce_api.add_messages_to_queue = feed
