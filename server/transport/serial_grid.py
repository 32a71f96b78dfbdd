"""A Flower Grid in one process: no Ray, no ports, and breakpoints work.

This is the only file that touches what Flower keeps to itself: a ``Message`` can only be made
where ``TaskIdentity`` says who is speaking, which Flower's own runtimes set and we must.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

_run_ids = itertools.count(1)


class SerialGrid(Grid):
    """Call the ClientApp for one node after the other.

    Args:
        client_app: The app that every node runs.
        node_configs: One Flower ``node_config`` per node.
    """

    def __init__(
        self, client_app: ClientApp, node_configs: Sequence[Mapping[str, str | int | float | bool]]
    ) -> None:
        self.run_id = next(_run_ids)
        self._client_app = client_app
        self._contexts = {
            node_id: Context(
                run_id=self.run_id,
                node_id=node_id,
                node_config=dict(config),
                state=RecordDict(),
                run_config={},
            )
            for node_id, config in enumerate(node_configs, start=1)
        }
        self._waiting: dict[str, Message] = {}
        self._message_ids = itertools.count(1)
        TaskIdentity.run_id = self.run_id
        TaskIdentity.node_id = 0
        TaskIdentity.task_id = 0

    def set_run(self, run: Run) -> None:
        """Refuse: the run is this process."""
        raise NotImplementedError("a serial grid has one run, its own")

    @property
    def run(self) -> Run:
        """Return the run's description."""
        return Run.create_empty(self.run_id)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a new message (Flower deprecates this in favour of the constructor)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take the messages; they are worked on when their replies are pulled."""
        ids = []
        for message in messages:
            message_id = str(next(self._message_ids))
            message.metadata.__dict__["_message_id"] = message_id
            self._waiting[message_id] = message
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run the ClientApp on each message and return the replies."""
        replies = []
        for message_id in message_ids:
            message = self._waiting.pop(message_id)
            context = self._contexts[message.metadata.dst_node_id]
            replies.append(self._client_app(message, context))
        return replies

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002 - work in this process cannot be abandoned
    ) -> Iterable[Message]:
        """Run the ClientApp on each message, one after the other, and return the replies."""
        return self.pull_messages(self.push_messages(messages))
