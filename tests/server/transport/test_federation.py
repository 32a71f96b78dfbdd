"""Meeting the nodes and waiting for them: who is refused, who is named, who is given up."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from fedfuse.errors import FedfuseError
from fedfuse.wire.messages import CLIENTS, FAILURES, HEADER, Header
from server.transport.federation import Federation
from server.transport.reply_timeout import ReplyTimeout
from server.transport.serial_grid import SerialGrid


@dataclass
class Host:
    """A node that says what it is told to say, after so many looks of the server."""

    client_ids: tuple[int, ...]
    public: str = "p"
    common: str = "c"
    looks: int = 0


@dataclass
class SlowGrid:
    """A grid whose nodes answer a phase only after the server has looked for a while."""

    hosts: list[Host]
    sleeping: bool = False
    _looks: dict[str, int] = field(default_factory=dict)
    _messages: dict[str, Message] = field(default_factory=dict)

    def __post_init__(self) -> None:
        app = ClientApp()
        by_partition = dict(enumerate(self.hosts))

        @app.query()
        def hello(message, context):
            host = by_partition[int(context.node_config["partition-id"])]
            ids = ArrayRecord({"client_ids": _array(host.client_ids)})
            header = ConfigRecord({"public": host.public, "common": host.common})
            return Message(RecordDict({CLIENTS: ids, HEADER: header}), reply_to=message)

        @app.train()
        def train(message, context):
            return Message(RecordDict({FAILURES: ConfigRecord({"json": "[]"})}), reply_to=message)

        self.inner = SerialGrid(app, [{"partition-id": i} for i in by_partition])

    def get_node_ids(self):
        return self.inner.get_node_ids()

    def push_messages(self, messages):
        ids = list(self.inner.push_messages(messages))
        self._messages.update(zip(ids, messages, strict=True))
        return ids

    def pull_messages(self, ids):
        ready = []
        for each in ids:
            host = self.hosts[self._messages[each].metadata.dst_node_id - 1]
            self._looks[each] = self._looks.get(each, 0) + 1
            if not self.sleeping or self._looks[each] > host.looks:
                ready.append(each)
        return self.inner.pull_messages(ready)


def _array(ids):
    from flwr.app import Array

    return Array(np.array(ids, dtype=np.int64))


def meet(
    *hosts: Host,
    reply_timeout: ReplyTimeout = ReplyTimeout(interval=0.001),  # noqa: B008
    **more,
) -> Federation:
    grid = SlowGrid(list(hosts))
    federation = Federation(
        grid, num_clients=3, num_public=lambda _: 1, num_classes=2, public_fingerprint="p",
        common_fingerprint="c", num_nodes=len(hosts), reply_timeout=reply_timeout, **more,
    )  # fmt: skip
    grid.sleeping = True
    return federation


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        (
            [Host((0, 1)), Host((2,), public="other")],
            ["another public set", "hash other", "hash p"],
        ),
        ([Host((0, 1)), Host((2,), common="other")], ["another test pool", "hash other", "hash c"]),
        ([Host((0, 1)), Host((1, 2))], ["each client once", "[0, 1, 1, 2]", "partition-id"]),
        ([Host((0, 0, 1, 2))], ["Node 1", "too many client ids", "num_clients"]),
        ([Host((0, 1)), Host((3,))], ["Node 2", "[3]", "num_clients"]),
    ],
    ids=["public set", "test pool", "client at two nodes", "client twice at a node", "stranger"],
)
def test_nodes_that_do_not_fit_together_are_refused_before_the_first_round(hosts, words):
    with pytest.raises(FedfuseError) as refused:
        meet(*hosts)
    for word in words:
        assert word in str(refused.value)


def test_nodes_that_do_not_come_end_the_run():
    with pytest.raises(FedfuseError, match="did not come"):
        Federation(
            SlowGrid([Host((0,))]), num_clients=3, num_public=lambda _: 1, num_classes=2,
            public_fingerprint="p", common_fingerprint="c", num_nodes=2,
            reply_timeout=ReplyTimeout(interval=0.001, arrival=0.02),
        )  # fmt: skip


NEVER = 10**9
HEAD = Header("knfu", 4, share=False, evaluate=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a clock that goes on by a second with each look of the server, and so its sleep."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("server.transport.reply_timeout.time.monotonic", lambda: now.seconds)

    def sleep(_: float) -> None:
        now.seconds += 1

    now.sleep = sleep
    return now


def test_who_is_silent_for_too_long_has_failed_and_the_others_have_not(clock):
    reply_timeout = ReplyTimeout(timeout=5, sleep=clock.sleep)
    federation = meet(Host((0, 2)), Host((1,), looks=NEVER), reply_timeout=reply_timeout)
    begun = clock.seconds
    (failure,) = federation.train(HEAD, range(3)).failures
    assert 5 <= clock.seconds - begun <= 6
    assert (failure.client_id, failure.round, failure.phase) == (1, 4, "train")
    assert "did not answer within 5 s (engine.timeout)" in failure.error


def silences(clock, *hosts: Host, rounds: int = 1, **more) -> list[list[tuple]]:
    """Return what was said about silent clients in each round, one look a second."""
    said: list[tuple] = []
    federation = meet(
        *hosts, reply_timeout=ReplyTimeout(sleep=clock.sleep, silence=10, **more),
        on_silence=lambda ids, seconds: said.append((ids, seconds)),
    )  # fmt: skip
    found = []
    for _ in range(rounds):
        federation.train(HEAD, range(3))
        found.append(said.copy())
        said.clear()
    return found


def test_who_is_silent_is_named_before_the_timeout_and_again_after_each_doubling(clock):
    hosts = [Host((0,), looks=3), Host((1, 2), looks=NEVER)]
    (said,) = silences(clock, *hosts, timeout=100)
    # The last answer came after 3 seconds; from there 10, 20, 40 and 80 seconds.
    assert said == [([1, 2], 13), ([1, 2], 23), ([1, 2], 43), ([1, 2], 83)]


def test_a_phase_that_always_takes_long_names_nobody_twice(clock):
    hosts = [Host((0, 1), looks=30), Host((2,), looks=30)]
    first, second = silences(clock, *hosts, rounds=2)
    assert first == [([0, 1, 2], 10), ([0, 1, 2], 20)]
    assert second == []
