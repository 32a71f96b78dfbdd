"""Whole runs with a node that lies: it is named and left out, and the run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from safetensors.torch import load, save

from experiments.run import main
from fedfuse.wire.messages import (
    DISTILL,
    FAILURES,
    HEADER,
    KNOWLEDGE,
    LOAD,
    LOCATE,
    METRICS,
    SAVE,
    STATES,
    TRAIN,
)
from server import loop
from server.transport.serial_grid import SerialGrid
from tests.server.reporters.test_files import read_metrics

LIAR = 2  # the node that hosts client 1
QUICK = (
    "dataset=synthetic",
    "num_clients=3",
    "num_rounds=3",
    "warmup_rounds=0",
    "public.size=20",
    "model=mlp",
    "evaluation.test_samples=50",
    "evaluation.own_test_samples=50",
    "baseline=none",
    "engine.num_nodes=3",
    "server.fail_fast=false",
)

Change = Callable[[Message, Message], None]


@pytest.fixture
def lies(monkeypatch) -> Callable[..., None]:
    """Return a function that lets the second node's replies to a message type be changed."""
    real, changes = SerialGrid.pull_messages, {}

    def pull(self, message_ids):
        asked = {each: self._waiting[each] for each in message_ids if each in self._waiting}
        for each, message in asked.items():
            [reply] = real(self, [each])
            change = changes.get(message.metadata.message_type)
            if change is not None and message.metadata.dst_node_id == LIAR:
                reply = change(message, reply) or reply
            yield reply

    def tell(**by_type: Change) -> None:
        names = {"train": TRAIN, "distill": DISTILL, "save": SAVE, "locate": LOCATE, "load": LOAD}
        changes.update({names[name]: change for name, change in by_type.items()})

    monkeypatch.setattr(SerialGrid, "pull_messages", pull)
    return tell


def events(folder: Path, kind: str = "quarantine") -> list[dict]:
    lines = (folder / "events.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == kind]


def unprintable(text: str) -> set[str]:
    return {char for char in text if not char.isprintable() and char not in "\n\t"}


def spoiled(_: Message, reply: Message) -> None:
    """Hand over another client's state."""
    content = np.frombuffer(save({"2/model/w": torch.ones(2)}), dtype=np.uint8)
    reply.content[STATES] = ArrayRecord({STATES: Array(content)})


def error_reply(text: str) -> Change:
    from flwr.app import Error

    return lambda message, _: Message(Error(code=0, reason=text), reply_to=message)


def test_who_could_not_be_saved_or_loaded_is_named_and_the_others_go_on(
    lies, tmp_path, monkeypatch, capsys
):
    folder, real = tmp_path / "run", loop.record

    def interrupt(round_, *args, **named):
        if round_ == 3:
            raise KeyboardInterrupt
        return real(round_, *args, **named)

    lies(save=spoiled)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "record", interrupt)
        assert main([*QUICK, f"hydra.run.dir={folder}"]) == 130
    contents = (folder / "checkpoint" / "states").glob("*")
    kept = {name.split("/")[0] for content in contents for name in load(content.read_bytes())}
    assert kept == {"0", "2"}
    lies(load=error_reply(WORDS))
    assert main([f"resume={folder}"]) == 0
    assert {(event["client"], event["phase"]) for event in events(folder)} == {(1, "save")}
    assert not unprintable("".join(capsys.readouterr()))


def failures(*, repeat: int = 1, **changes) -> Change:
    def change(message: Message, reply: Message) -> None:
        header = message.content.config_records[HEADER]
        told = {"client_id": 1, "round": header["round"], "phase": "train", "error": "x"}
        told |= {"traceback": "", "is_mistake": False, "own": "", **changes}
        del reply.content[KNOWLEDGE], reply.content[METRICS]
        reply.content[FAILURES] = ConfigRecord({"json": json.dumps([told] * repeat)})

    return change


WORDS = "\x1b]0;owned\x07\u202ereversed\u2028[bold red]x[/nope]\ud800 " * 3000


def test_a_failure_in_hostile_words_is_shown_as_one_short_line(lies, tmp_path, capsys):
    folder = tmp_path / "run"
    lies(train=failures(error=WORDS, traceback=WORDS))
    assert main([*QUICK, f"hydra.run.dir={folder}"]) == 0
    told = events(folder, "absent")
    assert [(event["client"], event["round"]) for event in told] == [(1, 1), (1, 2), (1, 3)]
    assert all(len(event["reason"]) <= 1000 for event in told)
    said = "".join(capsys.readouterr())
    assert "[bold red]x[/nope]" in said
    assert len(said) < 20_000
    assert not unprintable(said + told[0]["reason"] + (folder / "run.json").read_text())
    # And by default it is the message that ends the run.
    lines = [line for line in QUICK if not line.startswith("server.fail_fast")]
    assert main([*lines, f"hydra.run.dir={tmp_path / 'other'}"]) == 1
    assert not unprintable("".join(capsys.readouterr()))


def test_a_node_that_has_measured_nothing_spoils_nobodys_numbers(lies, tmp_path):
    def nothing(_: Message, reply: Message) -> None:
        sent = dict(reply.content.array_records[METRICS].items())
        empty = np.full(sent["values"].numpy().shape, np.nan)
        reply.content[METRICS] = ArrayRecord(sent | {"values": Array(empty)})

    folder = tmp_path / "run"
    lies(train=nothing, distill=nothing)
    lines = [line for line in QUICK if not line.startswith("baseline")]
    assert main([*lines, f"hydra.run.dir={folder}"]) == 0
    assert {event["client"] for event in events(folder)} == {1}
    rows = read_metrics(folder / "metrics.parquet")
    assert {row.client_id for row in rows if row.metric == "accuracy_global"} == {0, 2}
    assert all(np.isfinite(row.value) for row in rows)


def test_a_confidence_that_the_rule_cannot_take_costs_its_own_client(lies, tmp_path):
    more = ("rule=uploaded_confidence", "rule.form=ratio", "familiarity=auxiliary")

    def negative(_: Message, reply: Message) -> None:
        sent = dict(reply.content.array_records[KNOWLEDGE].items())
        shape = sent["confidence"].numpy().shape
        sent["confidence"] = Array(np.full(shape, -1, dtype=np.float32))
        reply.content[KNOWLEDGE] = ArrayRecord(sent)

    lies(train=negative)
    assert main([*QUICK, *more, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    found = events(tmp_path / "run")
    assert [(event["client"], event["round"]) for event in found] == [(1, 1), (1, 2), (1, 3)]
    assert "A confidence cannot be used" in found[0]["reason"]


def test_the_only_one_asked_cannot_end_a_run_by_lying(lies, tmp_path):
    def rubbish(_: Message, reply: Message) -> None:
        del reply.content[FAILURES]

    lies(train=rubbish)
    few = ("participation=uniform", "participation.fraction=0.34", "num_rounds=6")
    lines = [line for line in QUICK if not line.startswith("num_rounds")]
    assert main([*lines, *few, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    assert {event["client"] for event in events(tmp_path / "run")} == {1}


NO_SUCH = np.iinfo(np.int32).max
IMPOSSIBLE = {
    "fedhkd": ("values", -5),
    "fedgkt": ("labels", NO_SUCH),
    "fedcache": ("labels", NO_SUCH),
}


@pytest.mark.parametrize("method", IMPOSSIBLE)
def test_what_the_server_can_make_nothing_of_costs_its_own_client(method, lies, tmp_path):
    """The others are taught as they are where the liar's whole answer is refused."""
    name, number = IMPOSSIBLE[method]

    def filled(field: str, value: float) -> Change:
        def change(_: Message, reply: Message) -> None:
            sent = dict(reply.content.array_records[KNOWLEDGE].items())
            array = sent[field].numpy()
            sent[field] = Array(np.full(array.shape, value, dtype=array.dtype))
            reply.content[KNOWLEDGE] = ArrayRecord(sent)

        return change

    def unread(_: Message, reply: Message) -> None:
        del reply.content[KNOWLEDGE]

    found = []
    for change in (filled(name, number), unread):
        folder = tmp_path / change.__name__
        lies(train=change)
        assert main([*QUICK, f"method={method}", f"hydra.run.dir={folder}"]) == 0
        quarantined = [(event["client"], event["round"]) for event in events(folder)]
        assert {client for client, _ in quarantined} == {1}
        found.append((quarantined, read_metrics(folder / "metrics.parquet")))
    if method != "fedcache":  # which tells labels once, so that later rounds have none to bend
        assert found[0] == found[1]
