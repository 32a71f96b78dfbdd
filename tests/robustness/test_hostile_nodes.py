"""A node that lies about anything: what it says is refused by name, and nothing of it is kept."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from safetensors.torch import load, save

from fedfuse.errors import FedfuseError
from fedfuse.types import ClientMetrics, KnowledgeBank
from fedfuse.wire.encode import encode
from fedfuse.wire.messages import (
    CLIENTS,
    FAILURES,
    HEADER,
    KNOWLEDGE,
    LOCATE,
    METRICS,
    SAVE,
    STATES,
    TOKENS,
    TRAIN,
    Header,
    answers,
)
from server.transport.answer import ClientFailedError
from server.transport.federation import Federation
from server.transport.reply_timeout import ReplyTimeout
from server.transport.serial_grid import SerialGrid

LIAR = 2  # the node that hosts client 1
ASKED = Header("knfu", 3, share=True, evaluate=True)
Change = Callable[[Message, Message], Message | None]


def arrays(value) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in encode(value).items()})


def states(content: bytes) -> ArrayRecord:
    return ArrayRecord({STATES: Array(np.frombuffer(content, dtype=np.uint8))})


def honest() -> ClientApp:
    """Return an app of nodes that host the client of their number and say what they should."""
    app = ClientApp()

    def told(message: Message) -> dict:
        header = Header.parse(message.content.config_records[HEADER])
        return answers(header, message.metadata.message_type)

    @app.query()
    def hello(message, context):
        ids = ArrayRecord({"client_ids": Array(np.array([context.node_config["partition-id"]]))})
        header = ConfigRecord({"public": "p", "common": "c"})
        return Message(RecordDict({CLIENTS: ids, HEADER: header}), reply_to=message)

    @app.train()
    def train(message, context):
        ids = torch.tensor([context.node_config["partition-id"]])
        bank = KnowledgeBank(ids, torch.ones(1, 4, 3) * ids, torch.tensor([7]))
        metrics = ClientMetrics(ids, ("loss",), torch.ones(1, 1).double())
        report = ConfigRecord({"json": "[]", **told(message)})
        content = {FAILURES: report, KNOWLEDGE: arrays(bank), METRICS: arrays(metrics)}
        return Message(RecordDict(content), reply_to=message)

    @app.query("save")
    def hand_over(message, context):
        content = save({f"{context.node_config['partition-id']}/model/w": torch.ones(2)})
        parts = {STATES: states(content), HEADER: ConfigRecord(told(message))}
        return Message(RecordDict(parts), reply_to=message)

    @app.query("locate")
    def locate(message, context):
        token = ArrayRecord({TOKENS: Array(np.array([context.node_config["partition-id"] + 1]))})
        parts = {TOKENS: token, HEADER: ConfigRecord(told(message))}
        return Message(RecordDict(parts), reply_to=message)

    return app


@dataclass
class Lying(SerialGrid):
    """A grid in which one node's replies to a type of message are changed."""

    changes: dict[str, Change] = field(default_factory=dict)
    copies: int = 1
    liars: tuple[int, ...] = (LIAR,)

    def __post_init__(self) -> None:
        SerialGrid.__init__(self, honest(), [{"partition-id": i} for i in range(3)])

    def pull_messages(self, message_ids):
        replies = []
        for each in message_ids:
            message = self._waiting[each]
            [reply] = super().pull_messages([each])
            change = self.changes.get(message.metadata.message_type)
            if change is not None and message.metadata.dst_node_id in self.liars:
                reply = change(message, reply) or reply
            replies += [reply] * self.copies
        return replies


def meet(grid: Lying, *, fail_fast: bool = False, **more) -> Federation:
    return Federation(
        grid, num_clients=3, num_public=lambda _: 4, num_classes=3, public_fingerprint="p",
        common_fingerprint="c", num_nodes=3, fail_fast=fail_fast,
        reply_timeout=ReplyTimeout(interval=0.001), **more,
    )  # fmt: skip


def put(name: str, value) -> Change:
    def change(_: Message, reply: Message) -> None:
        del reply.content[name]
        if value is not None:
            reply.content[name] = value

    return change


def flat(*names: str) -> Change:
    return put(STATES, states(save({name: torch.ones(2) for name in names})))


def raw(data: bytes) -> Change:
    array = Array(dtype="uint8", shape=(1,), stype="numpy.ndarray", data=data)
    return put(STATES, ArrayRecord({STATES: array}))


def header_of(text: str, body: bytes = b"") -> Change:
    return put(STATES, states(struct.pack("<Q", len(text)) + text.encode() + body))


def error_reply(text: str) -> Change:
    return lambda message, _: Message(Error(code=0, reason=text), reply_to=message)


def entry(shape, offsets, dtype="F32") -> str:
    return json.dumps({"dtype": dtype, "shape": shape, "data_offsets": offsets})


ACTS = "\x1b]0;owned\x07\u202ereversed\u2028[bold]x[/nope]\ud800\n "
OTHER_ROUND = ConfigRecord({"arm": "knfu", "round": 2, "to": SAVE})
SPOILED = {
    "garbage": put(STATES, states(b"\0" * 100)),
    "no bytes": put(STATES, states(b"")),
    "no array": put(STATES, ConfigRecord({"x": 1})),
    "floats": put(STATES, ArrayRecord({STATES: Array(np.ones(3))})),
    "no record": put(STATES, None),
    "nothing of a client at work": flat(),
    "another client's beside its own": flat("1/model/w", "2/model/w"),
    "another client's": flat("0/model/w"),
    "no client's": flat("model/w"),
    "a client's by another name": flat("1/model/w", "١/model/w"),
    "a name that acts": flat("1/model/\x1b[2Jw"),
    "a part that nobody has": flat("1/secret/w"),
    "a terabyte announced": header_of(f'{{"1/model/w": {entry([2**38], [0, 2**40])}}}'),
    "overlapping tensors": header_of(
        f'{{"1/model/a": {entry([2], [0, 8])}, "1/model/b": {entry([2], [0, 8])}}}', b"\0" * 8
    ),
    "bytes of nobody": header_of(f'{{"1/model/a": {entry([2], [0, 8])}}}', b"\0" * 80),
    "one name twice": header_of(
        f'{{"1/model/a": {entry([2], [0, 8])}, "1/model/a": {entry([2], [0, 8])}}}', b"\0" * 8
    ),
    "an unknown type": header_of(f'{{"1/model/a": {entry([2], [0, 8], "O")}}}', b"\0" * 8),
    "offsets that are none": header_of(f'{{"1/model/a": {entry([True], [0.0, 4])}}}', b"\0" * 4),
    "a deep header": header_of("[" * 100_000),
    "a zip archive": raw(b"PK\x03\x04" + b"\0" * 60),
    "an npy header that lies": raw(
        b"\x93NUMPY\x01\0\x45\0{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999,)} \n"
    ),
    "a pickle": raw(b"\x80\x04."),
    "the states of an earlier round": put(HEADER, OTHER_ROUND),
    "an error that acts": error_reply(ACTS * 2000),
}


def test_honest_nodes_lose_nothing():
    federation = meet(Lying())
    assert federation.train(ASKED, range(3)).failures == ()
    contents = [load(content) for content in federation.states.save(ASKED, range(3))]
    assert sorted(name for content in contents for name in content) == [
        f"{i}/model/w" for i in range(3)
    ]
    assert federation.train(ASKED, range(3)).noted == ()


@pytest.mark.parametrize("change", SPOILED.values(), ids=SPOILED)
def test_states_that_are_none_reach_no_checkpoint(change):
    federation = meet(Lying({SAVE: change}))
    federation.train(ASKED, range(3))
    contents = [load(content) for content in federation.states.save(ASKED, range(3))]
    assert sorted(name for content in contents for name in content) == ["0/model/w", "2/model/w"]
    [failure] = federation.train(ASKED, range(3)).noted
    assert (failure.client_id, failure.round, failure.phase) == (1, 3, "save")
    assert failure.quarantined
    assert failure.error.isprintable()
    assert len(failure.error) < 1100
    assert federation.train(ASKED, range(3)).noted == ()


def test_by_default_they_end_the_run_by_name():
    federation = meet(Lying({SAVE: flat("0/model/w")}), fail_fast=True)
    with pytest.raises(
        ClientFailedError, match="client 1 failed in round 3, phase 'save'"
    ) as ended:
        list(federation.states.save(ASKED, range(3)))
    assert ended.value.failure.quarantined


def test_what_a_node_itself_cannot_do_is_told_as_a_mistake():
    federation = meet(Lying({SAVE: error_reply("a state does not fit")}), fail_fast=True)
    with pytest.raises(FedfuseError, match=r"Node 2 cannot save or load .* does not fit"):
        list(federation.states.save(ASKED, range(3)))


def located(values) -> Change:
    return put(TOKENS, ArrayRecord({TOKENS: Array(np.array(values))}))


@pytest.mark.parametrize(
    "change",
    [located([5]), located([0]), located([-5]), located([1.5]), located([3, 4]), put(TOKENS, None)],
    ids=["a file that is not there", "none", "negative", "a float", "too many", "nothing"],
)
def test_a_node_that_names_no_file_of_its_clients_is_left_out(tmp_path, change):
    federation = meet(Lying({LOCATE: change}), states=tmp_path)
    for client_id in range(3):
        (tmp_path / f"knfu-{client_id}-{client_id + 1:x}.safetensors").write_bytes(
            save({"model/w": torch.ones(2)})
        )
    federation.train(ASKED, range(3))
    [content] = federation.states.save(ASKED, range(3))
    assert sorted(load(content)) == ["0/model/w", "2/model/w"]
    [failure] = federation.train(ASKED, range(3)).noted
    assert (failure.client_id, failure.phase) == (1, "save")


@pytest.mark.parametrize("what", ["garbage", "link", "pipe"])
def test_a_file_that_is_no_state_is_left_out(tmp_path, what):
    federation = meet(Lying(), states=tmp_path)
    for client_id in (0, 2):
        (tmp_path / f"knfu-{client_id}-{client_id + 1:x}.safetensors").write_bytes(
            save({"model/w": torch.ones(2)})
        )
    theirs = tmp_path / "knfu-1-2.safetensors"
    if what == "garbage":
        theirs.write_bytes(b"x" * 100)
    elif what == "link":
        theirs.symlink_to(tmp_path / "knfu-0-1.safetensors")
    else:
        os.mkfifo(theirs)
    [content] = federation.states.save(ASKED, range(3))
    assert sorted(load(content)) == ["0/model/w", "2/model/w"]
    [failure] = federation.train(ASKED, range(3)).noted
    assert (failure.client_id, failure.phase) == (1, "save")


def replay() -> Change:
    """Answer with what was answered to the first request."""
    first: list[RecordDict] = []

    def change(message: Message, reply: Message) -> Message:
        first.append(reply.content)
        return Message(first[0], reply_to=message)

    return change


def envelope(**changes) -> Change:
    def change(_: Message, reply: Message) -> None:
        reply.metadata.__dict__.update({f"_{name}": value for name, value in changes.items()})

    return change


def failures(*, repeat: int = 1, **changes) -> Change:
    def change(message: Message, reply: Message) -> None:
        told = {"client_id": 1, "round": message.content.config_records[HEADER]["round"]}
        told |= {"phase": "train", "error": "x", "traceback": "", "own": "", "is_mistake": False}
        told |= changes
        del reply.content[KNOWLEDGE], reply.content[METRICS]
        reply.content[FAILURES] = ConfigRecord({"json": json.dumps([told] * repeat)})

    return change


def within(name: str, **changes) -> Change:
    def change(_: Message, reply: Message) -> None:
        sent = dict(reply.content.array_records[name].items())
        reply.content[name] = ArrayRecord(sent | {k: Array(v) for k, v in changes.items()})

    return change


def metrics_of(values: dict[str, float]) -> Change:
    names = np.frombuffer("\n".join(values).encode(), np.uint8)
    return within(METRICS, names=names, values=np.array([[*values.values()]]))


def named(*names: str) -> Change:
    entries = {name: Array(np.ones(1)) for name in names}
    return lambda _, reply: reply.content.__setitem__(KNOWLEDGE, ArrayRecord(entries))


ANSWERS = {
    "the reply of an earlier round": replay(),
    "another node's": envelope(src_node_id=3),
    "another phase's": envelope(message_type="train.distill"),
    "another round's": envelope(group_id="99"),
    "a failure of another client": failures(client_id=2),
    "a failure of another phase": failures(phase=ACTS),
    "a failure of another round": failures(round=2),
    "one failure twice": failures(repeat=2),
    "other clients in mid-run": within(METRICS, client_ids=np.array([2])),
    "other clients' knowledge": within(KNOWLEDGE, client_ids=np.array([0])),
    "more clients in mid-run": within(KNOWLEDGE, client_ids=np.array([1, 2])),
    "names that act": within(METRICS, names=np.frombuffer(b"\x1b[2J", np.uint8)),
    "endless names": within(METRICS, names=np.frombuffer(b"x" * 2**17, np.uint8)),
    "more names than metrics": metrics_of({f"m{i}": 1.0 for i in range(300)}),
    "an accuracy of 700 %": metrics_of({"accuracy_own": 7.0}),
    "an accuracy below none": metrics_of({"accuracy_own": -0.1}),
    "a test of no number of samples": metrics_of({"test_samples_own": 1e300}),
    "an accuracy that is no number": metrics_of({"accuracy_global": np.nan}),
    "steps that nobody took": metrics_of({"steps": -1.0}),
    "samples without a number": metrics_of({"samples": np.nan}),
    "infinite metrics": within(METRICS, values=np.array([[np.inf]])),
    "arrays whose names act": named(ACTS),
    "a thousand long names": named(*(f"{i}{'x' * 10_000}" for i in range(1000))),
}


@pytest.mark.parametrize("change", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_none_is_quarantined(change):
    federation = meet(Lying({TRAIN: change}))
    federation.train(Header("knfu", 2, share=True, evaluate=True), range(3))
    answer = federation.train(ASKED, range(3))
    assert answer.knowledge.client_ids.tolist() == answer.metrics.client_ids.tolist() == [0, 2]
    [failure] = answer.failures
    assert (failure.client_id, failure.round, failure.phase) == (1, 3, "train")
    assert failure.quarantined
    assert failure.error.isprintable()
    assert len(failure.error) < 1100


@pytest.mark.parametrize("width", [0, 1, 3, 2**12])
def test_who_says_nothing_of_its_tests_takes_it_from_nobody_else(width):
    last = Header("knfu", 3, share=True, evaluate=True, answers=True)
    bits = np.full((1, 2), 128, np.uint8)
    names = {"names": np.frombuffer(b"accuracy_global", np.uint8), "values": np.array([[0.1]])}
    rows = {"right_own": bits, "right_global": np.full((1, width), 255, np.uint8)}
    told = {**names, "right_own": bits, "right_global": bits}

    def change(message: Message, reply: Message) -> None:
        lies = message.metadata.dst_node_id == LIAR
        if lies and not width:
            within(METRICS, **names)(message, reply)
        else:
            within(METRICS, **(names | rows if lies else told))(message, reply)

    grid = Lying({TRAIN: change})
    grid.liars = (1, 2, 3)
    answer = meet(grid, num_tests=10).train(last, range(3))
    assert answer.metrics.client_ids.tolist() == [0, 2]
    assert answer.metrics.right_global.tolist() == [[128, 128]] * 2
    assert [failure.client_id for failure in answer.failures] == [1]


def test_a_long_error_of_an_honest_node_is_not_cut_short():
    words = "a path that is long: /" + "x" * 700
    [failure] = meet(Lying({TRAIN: error_reply(words)})).train(ASKED, range(3)).failures
    assert failure.error.endswith(words)


def test_a_failure_in_hostile_words_becomes_one_short_line():
    hostile = failures(error=ACTS * 5000, traceback=ACTS * 5000, own=f"\n{ACTS}\nerror: x")
    federation = meet(Lying({TRAIN: hostile}))
    [failure] = federation.train(ASKED, range(3)).failures
    assert not failure.quarantined
    assert failure.error.isprintable()
    assert len(failure.error) <= 1000
    assert all(line.isprintable() for line in failure.traceback.split("\n"))
    assert all(line.isprintable() and line[:2] == "  " for line in failure.own.split("\n"))


@pytest.mark.parametrize("message_type", [TRAIN, "query"])
def test_an_error_reply_in_hostile_words_becomes_one_short_line(message_type):
    grid = Lying({message_type: error_reply(ACTS * 5000)})
    if message_type == TRAIN:
        [failure] = meet(grid).train(ASKED, range(3)).failures
        words = failure.error
    else:
        with pytest.raises(Exception, match="cannot take part") as refused:
            meet(grid, fail_fast=True)
        words = str(refused.value)
    assert words.isprintable()
    assert len(words) < 1500


def test_a_second_copy_of_a_reply_counts_once():
    once, twice = (meet(Lying(copies=n)).train(ASKED, range(3)) for n in (1, 2))
    assert torch.equal(once.knowledge.logits, twice.knowledge.logits)
    assert once.metrics.client_ids.tolist() == twice.metrics.client_ids.tolist() == [0, 1, 2]
