"""How long the server waits for its nodes, and how it looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from fedfuse.errors import FedfuseError, require
from fedfuse.wire.messages import one_line

Silence = Callable[[Sequence[Message], float], None]
"""Take the messages that nobody has answered yet and the seconds since they were sent."""

WORKER_LOST = ("ActorDiedError", "ActorUnavailableError", "RayActorError", "NodeDiedError")
"""What Ray calls a worker process that is gone."""


@dataclass(frozen=True, slots=True)
class ReplyTimeout:
    """Wait for replies.

    Args:
        timeout: Seconds for one phase; None waits for ever.
        interval: Seconds between two looks.
        arrival: Seconds in which the next node must come, before the first round.
        silence: Seconds without any reply after which whoever is missing is named.
        check: Called before each wait; raises what ends the run.
        sleep: Waits.
    """

    timeout: float | None = None
    interval: float = 0.1
    arrival: float = 120
    silence: float = 10
    check: Callable[[], None] = lambda: None
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        require(
            self.timeout is None or self.timeout > 0,
            "engine",
            "timeout",
            self.timeout,
            "seconds above 0, or null to wait for ever",
        )

    def arrivals(self, grid: Grid) -> Iterator[list[int]]:
        """Yield the ids of nodes as they come, until nobody wants more of them.

        Raises:
            FedfuseError: If nobody comes for ``arrival`` seconds.
        """
        begun, known = time.monotonic(), set[int]()
        while True:
            if found := sorted(set(grid.get_node_ids()) - known):
                known |= set(found)
                yield found
                begun = time.monotonic()
            self.check()
            if time.monotonic() - begun > self.arrival:
                raise FedfuseError(
                    "Some nodes did not come, and their clients with them",
                    got=f"{len(known)} nodes, no other one within {self.arrival:g} s",
                    next_step="Start the missing ones and look into their logs.",
                )
            self.sleep(self.interval)

    def ask(
        self,
        grid: Grid,
        messages: Sequence[Message],
        on_silence: Silence = lambda _, __: None,
        usual: float = 0.0,
    ) -> Iterator[tuple[Message, Message | str]]:
        """Send the messages; yield each with its reply, or with the reason why there is none.

        They come as they arrive; who is silent to the end of the time comes last.

        Args:
            grid: Flower's way to the nodes.
            messages: One per node.
            on_silence: Told who is missing when nobody has answered for ``silence`` seconds and
                twice as long as usual, and again after each doubling of that time.
            usual: Seconds that such messages have taken before.
        """
        begun = heard = time.monotonic()
        wait = max(self.silence, 2 * usual)
        waiting = dict(zip(grid.push_messages(messages), messages, strict=True))
        while waiting:
            for reply in grid.pull_messages(list(waiting)):
                message = waiting.pop(reply.metadata.reply_to_message_id, None)
                if message is None:
                    continue  # a second copy of what has been answered
                heard = time.monotonic()
                yield message, reason(reply) if reply.has_error() else reply
            if not waiting:
                return
            self.check()
            if (now := time.monotonic()) - heard >= wait:
                on_silence(list(waiting.values()), now - begun)
                wait *= 2
            if self.timeout is not None and time.monotonic() - begun > self.timeout:
                for message in waiting.values():
                    yield message, f"it did not answer within {self.timeout:g} s (engine.timeout)"
                return
            self.sleep(self.interval)


def reason(reply: Message) -> str:
    """Return an error reply's reason in one line of words, whoever wrote it.

    Flower wraps what a ClientApp raised as ``<class '...'>:<'...'>``.
    """
    text = str(reply.error.reason)
    if any(name in text for name in WORKER_LOST):
        return "its worker process is gone (killed, out of memory, or its machine went away)"
    if ":<'" in text and text.endswith("'>"):
        text = text.split(":<'", 1)[1].removesuffix("'>")
    return one_line(text)
