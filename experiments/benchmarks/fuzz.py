"""Throw mutated messages at both ends of the wire, and say what held.

    python -m experiments.benchmarks.fuzz payloads 10000
    python -m experiments.benchmarks.fuzz checkpoints 2000

A message of a hostile node has to end in knowledge that keeps every promise, or in quarantine; one
of a hostile server in knowledge or in a :class:`fedfuse.errors.FedfuseError`. Anything else is a
crash, and is printed with the number that repeats it. What honest nodes sent in the same round has
to come through bit by bit.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from clients.sharing.channel import ClientChannel
from experiments.benchmarks import fuzz_messages as sent
from experiments.benchmarks.fuzz_checkpoints import checkpoint_case
from experiments.benchmarks.fuzz_messages import IDS, NUM_CLASSES, NUM_PUBLIC, WIDTH, Odds
from experiments.benchmarks.mutations import Rng, bend_message
from fedfuse.codec import Channel, Parcel
from fedfuse.codec.channel import cfd, delta, float16, top_k
from fedfuse.errors import FedfuseError
from fedfuse.exchange.beside import FEATURES, PROTOTYPES
from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.exchange.kind import Kind
from fedfuse.exchange.models import ModelBank
from fedfuse.exchange.predictions import PREDICTIONS
from fedfuse.failure import Failure
from fedfuse.fusion import All, DataSize, KnFu, MeanLogits, MeanProbabilities
from fedfuse.fusion.pipeline import Pipeline
from fedfuse.payload import (
    ArrayField,
    Payload,
)
from fedfuse.payload.fields import schema
from fedfuse.types import KnowledgeBank, Space, Teachers
from fedfuse.wire.encode import Expectation, decode, encode
from fedfuse.wire.messages import (
    CLIENTS,
    FAILURES,
    HEADER,
    KNOWLEDGE,
    METRICS,
    TEACHERS,
    Header,
    dump_failures,
)
from fedfuse.wire.record_checks import read_arrays, read_ids, take
from server.transport.channel import ServerChannel
from server.transport.handshake import read_handshake
from server.transport.replies import Question, Reply, odd_ones_out, read_reply

OTHERS = (0, 7)
SLOW = 2.0
"""Seconds of processor time after which a message counts as a hang."""


@dataclass
class Findings:
    """What a run of the fuzzer found.

    Args:
        tried: Messages.
        outcomes: How many of them were accepted, refused, ...
        crashes: What must not happen, with the seed that repeats it.
        slowest: Seconds of processor time of the slowest message.
        growth: MiB by which the process grew beyond its size after the first hundred.
    """

    tried: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    slowest: float = 0.0
    growth: float = 0.0


Bend = Callable[[RecordDict, Rng], RecordDict]
Case = Callable[[Rng], str]
"""Mutate one message and read it; return the outcome, raise for what must not happen."""


def fuzz(cases: list[Case], count: int, seed: int = 0) -> Findings:
    """Run ``count`` mutated messages through the cases in turn."""
    findings = Findings()
    size = 0.0
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        begun = time.process_time()  # on a busy machine any message may wait
        try:
            outcome = cases[number % len(cases)](rng)
            findings.outcomes[outcome] += 1
        except Exception:
            findings.crashes.append(f"seed {seed}, message {number}:\n{traceback.format_exc()}")
        seconds = time.process_time() - begun
        findings.slowest = max(findings.slowest, seconds)
        if seconds > SLOW:
            findings.crashes.append(f"seed {seed}, message {number}: {seconds:.1f} s")
        findings.tried += 1
        if number == min(100, count - 1):
            size = _peak()
    findings.growth = _peak() - size
    return findings


def payload_cases(bend: Bend = bend_message) -> list[Case]:
    """Return every kind of message that either end reads, each changed by ``bend``."""
    bank = sent.bank(IDS)
    cases: list[Case] = [_handshake(bend)]
    for kind, value in (
        (PREDICTIONS, bank),
        (Kind(ClassKnowledge, ClassKnowledge, {"D": WIDTH}), sent.class_knowledge()),
        (Kind(ModelBank, ModelBank, {"N": (0, 0, 5, 0, 0, 7, 0, 0, 0, 4)}), sent.models()),
        (
            Kind(Odds, Odds, {"W": WIDTH, "N": (0, 0, 2, 0, 0, 0, 0, 0, 0, 3)}),
            sent.odds(),
        ),
    ):
        cases.append(_upload(kind, value, Channel(), bend))
    for channel in (float16(), top_k(k=2), cfd(), delta()):
        parcel, _ = ClientChannel(channel).write(bank, {i: {} for i in IDS})
        cases.append(_upload(PREDICTIONS, parcel, channel, bend))
    beside = sent.beside(bank)
    kind = Kind(KnowledgeBank, Teachers, {"D": WIDTH}, up=FEATURES | PROTOTYPES)
    masked = replace(
        beside,
        mask=torch.arange(len(IDS) * NUM_PUBLIC).view(len(IDS), -1) % 4 > 0,
    )
    parcel, _ = ClientChannel().write(masked, {i: {} for i in IDS})
    cases += [_upload(kind, value, Channel(), bend) for value in (beside, parcel)]
    for space in Space:
        targets = bank.logits if space is Space.LOGITS else bank.logits.softmax(dim=2)
        cases.append(_teachers(Teachers(torch.tensor(IDS), targets, space), bend))
    return cases


def _upload(kind: Kind, value: Payload | Parcel, channel: Channel, bend: Bend) -> Case:
    """A hostile node's reply beside an honest one's."""
    honest = _reply(value, IDS, [])
    failed = Failure(5, 3, "train", "boom", "Traceback", is_mistake=False)
    partly = _reply(value.rows(torch.tensor([0, 2])), (2, 9), [failed])
    beside = sent.bank(OTHERS)
    pipelines = (
        Pipeline(KnFu(), All(), MeanProbabilities(), None),
        Pipeline(DataSize(), All(), MeanLogits(), None),
    )

    def expect(ids: tuple[int, ...]) -> Expectation:
        return kind.expect(ids, NUM_PUBLIC, NUM_CLASSES)

    def case(rng: Rng) -> str:
        server = ServerChannel(channel)
        read = partial(server.read, kind.upload)
        hostile = bend(honest if rng.integers(8) else partly, rng)
        question = Question(IDS, Header("knfu", 3, True, True), "train", expect, read, kind.upload)
        reply = read_reply(hostile, question)
        _promises(reply, kind)
        if isinstance(reply.knowledge, KnowledgeBank):
            kept, _ = odd_ones_out([beside, reply.knowledge])
            stacked = KnowledgeBank.stack([b for b in kept if isinstance(b, KnowledgeBank)])
            rows = torch.isin(stacked.client_ids, torch.tensor(OTHERS))
            if bool(rows.any()):
                assert torch.equal(stacked.logits[rows], beside.logits), "an honest node changed"
            for pipeline in pipelines:
                teachers = pipeline(stacked, None, torch.device("cpu")).teachers
                assert isinstance(teachers, Teachers)
                assert bool(torch.isfinite(teachers.targets).all()), "teachers are not finite"
        quarantined = sum(failure.quarantined for failure in reply.failures)
        return ("accepted", "some clients refused", "some clients refused", "refused")[quarantined]

    return case


def _reply(value: Payload | Parcel, ids: tuple[int, ...], failures: list[Failure]) -> RecordDict:
    """Return what an honest node sends."""
    arrays = value.arrays() if isinstance(value, Parcel) else encode(value)
    return RecordDict(
        {
            KNOWLEDGE: _record(arrays),
            METRICS: _record(encode(sent.metrics(ids))),
            FAILURES: ConfigRecord({"json": dump_failures(failures)}),
        }
    )


def _promises(reply: Reply, kind: Kind) -> None:
    """Assert that what was accepted is what was asked for."""
    failed = {failure.client_id for failure in reply.failures}
    assert len(failed) == len(reply.failures), "a client failed twice"
    assert failed <= set(IDS), "a client that was not asked failed"
    assert all(len(failure.error) < 25_000 for failure in reply.failures), "an endless error"
    left = [i for i in IDS if i not in failed]
    for part in (reply.knowledge, reply.metrics):
        assert (part is not None) == bool(left), "nothing, and no failure"
        if part is not None:
            assert part.client_ids.tolist() == left, "other clients than asked"
    if reply.knowledge is not None:
        assert isinstance(reply.knowledge, kind.upload)
        for name, declared in schema(kind.upload).items():
            values, field = getattr(reply.knowledge, name), declared.field
            if isinstance(field, ArrayField) and values is not None:
                values = values.double()  # a bound may not fit their type
                assert bool(torch.isfinite(values).all()), "numbers that are not finite"
                within = (values >= field.bounds.least) & (values <= field.bounds.most)
                assert bool(within.all()), "numbers out of bounds"


def _teachers(teachers: Teachers, bend: Bend) -> Case:
    """A hostile server's request, as a client reads it."""
    honest = RecordDict(
        {
            HEADER: ConfigRecord(Header("knfu", 3, False, True).fields()),  # type: ignore[arg-type]
            CLIENTS: _record({"client_ids": np.array(IDS)}),
            TEACHERS: _record(encode(teachers)),
        }
    )

    def case(rng: Rng) -> str:
        message = bend(honest, rng)
        try:
            header = Header.parse(take(message.config_records, HEADER, "it"))
            ids = read_ids(take(message.array_records, CLIENTS, "it"), "it", IDS)
            arrays = read_arrays(take(message.array_records, TEACHERS, "it"), "it")
            read = decode(Teachers, arrays, Expectation(ids, NUM_PUBLIC, NUM_CLASSES))
        except FedfuseError:
            return "refused"
        assert "/" not in header.arm, "a path"
        assert bool(torch.isfinite(read.targets).all()), "numbers that are not finite"
        return "accepted"

    return case


def _handshake(bend: Bend) -> Case:
    """A hostile node's first words."""
    honest = RecordDict(
        {
            HEADER: ConfigRecord({"public": "p", "common": "c"}),
            CLIENTS: _record({"client_ids": np.array(IDS)}),
        }
    )

    def case(rng: Rng) -> str:
        try:
            ids = read_handshake(bend(honest, rng), 1, ("p", "c"), 10)
        except FedfuseError as error:
            return "refused" if len(str(error)) < 2000 else "refused at length"
        assert len(set(ids)) == len(ids), "a client twice"
        assert set(ids) <= set(range(10)), "a client that nobody has"
        return "accepted"

    return case


def _record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def _peak() -> float:
    """Return the largest size that the process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Fuzz and print what was found; the exit code is 1 if anything must not have happened."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.fuzz")
    parser.add_argument("what", choices=["payloads", "checkpoints"])
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wire = args.what == "payloads"
        cases = payload_cases() if wire else [checkpoint_case(Path(folder))]
        findings = fuzz(cases, args.count, args.seed)
    outcomes = ", ".join(f"{n} {name}" for name, n in sorted(findings.outcomes.items()))
    print(
        f"{findings.tried} mutated {args.what}: {outcomes}; {len(findings.crashes)} crashes; "
        f"slowest {findings.slowest:.2f} s; grew by {findings.growth:.0f} MiB"
    )
    for crash in findings.crashes[:5]:
        print(crash)
    return 1 if findings.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
