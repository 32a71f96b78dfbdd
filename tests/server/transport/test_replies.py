"""Replies of a hostile node: refused whole or by client, with the reason, never believed."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedfuse.errors import FedfuseError, KnowledgeError
from fedfuse.types import ClientMetrics, KnowledgeBank
from fedfuse.wire.encode import Expectation, decode, encode
from fedfuse.wire.messages import CLIENTS, FAILURES, HEADER, KNOWLEDGE, METRICS, Header
from fedfuse.wire.npy import parse_array
from fedfuse.wire.record_checks import read_ids
from server.transport.handshake import read_handshake
from server.transport.replies import Question, odd_ones_out, read_reply

IDS = (2, 5, 9)
P, C = 4, 3


def bank(ids=IDS, **extra):
    logits = torch.arange(len(ids) * P * C, dtype=torch.float32).reshape(len(ids), P, C)
    return KnowledgeBank(torch.tensor(ids), logits, torch.full((len(ids),), 7), **extra)


def metrics(ids=IDS):
    return ClientMetrics(torch.tensor(ids), ("loss",), torch.ones(len(ids), 1).double())


def record(value):
    return ArrayRecord({name: Array(array) for name, array in encode(value).items()})


def reply(**changes):
    parts = {
        FAILURES: ConfigRecord({"json": "[]"}),
        KNOWLEDGE: record(bank()),
        METRICS: record(metrics()),
    }
    parts |= changes
    return RecordDict({name: part for name, part in parts.items() if part is not None})


def question(share=True, evaluate=True):
    return Question(
        IDS,
        Header("knfu", 3, share, evaluate),
        "train",
        lambda ids: Expectation(ids, P, C),
        lambda arrays, expected: decode(KnowledgeBank, arrays, expected),
        KnowledgeBank,
    )


def raw(data, shape=(1,), dtype="int64", stype="numpy.ndarray"):
    return Array(dtype=dtype, shape=shape, stype=stype, data=data)


def npy(header: str, body=b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def test_an_honest_reply_is_read():
    read = read_reply(reply(), question())
    assert torch.equal(read.knowledge.logits, bank().logits)
    assert read.metrics == read.metrics.aligned(("loss",))
    assert read.failures == ()


def test_single_answers_are_read_only_if_they_were_asked_for():
    bits = torch.tensor([[128], [64], [0]], dtype=torch.uint8)
    sent = record(replace(metrics(), right_own=bits, right_global=bits))
    asked = question()
    asked = replace(asked, header=replace(asked.header, answers=True))
    assert torch.equal(read_reply(reply(metrics=sent), asked).metrics.right_own, bits)
    refused = read_reply(reply(metrics=sent), question())
    assert refused.metrics is None
    assert "nobody asked for" in refused.failures[0].error


def broken_logits(*rows, value=float("nan")):
    sent = bank()
    for row in rows:
        sent.logits[row, 0, 0] = value
    return record(sent)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_impossible_numbers_cost_their_own_client_only(value):
    read = read_reply(reply(knowledge=broken_logits(1, value=value)), question())
    assert read.knowledge.client_ids.tolist() == [2, 9]
    assert torch.equal(read.knowledge.logits, bank().logits[[0, 2]])
    assert read.metrics.client_ids.tolist() == [2, 9]
    [failure] = read.failures
    assert (failure.client_id, failure.round, failure.phase) == (5, 3, "train")
    assert failure.quarantined
    assert not failure.is_mistake
    assert "'logits' of client 5" in failure.error


def test_a_node_all_of_whose_clients_lie_has_nothing_left():
    read = read_reply(reply(knowledge=broken_logits(0, 1, 2)), question())
    assert read.knowledge is read.metrics is None
    assert [failure.client_id for failure in read.failures] == list(IDS)


FAILED = (
    '[{"client_id": %s, "round": %s, "phase": "train", "error": "x", "traceback": "", '
    '"is_mistake": %s, "own": ""}]'
)
HUGE = "1000000000000000"


@pytest.mark.parametrize(
    "changes",
    [
        {FAILURES: None},
        {FAILURES: ConfigRecord({})},
        {FAILURES: ConfigRecord({"json": 3})},
        {FAILURES: ConfigRecord({"json": "{}"})},
        {FAILURES: ConfigRecord({"json": "[" * 100_000})},
        {FAILURES: ConfigRecord({"json": FAILED % (3, 3, "false")})},
        {FAILURES: ConfigRecord({"json": FAILED % (5, 2, "false")})},
        {FAILURES: ConfigRecord({"json": FAILED % (5, 3, "0")})},
        {FAILURES: ConfigRecord({"json": FAILED % ("9" * 5000, 3, "false")})},
        {FAILURES: ConfigRecord({"json": " " * (17 * 2**20)})},
        {KNOWLEDGE: None},
        {METRICS: None},
        {KNOWLEDGE: ConfigRecord({"logits": 1})},
        {METRICS: ArrayRecord({})},
        {KNOWLEDGE: record(bank((2, 5)))},
        {KNOWLEDGE: record(bank((2, 5, 9, 11)))},
        {KNOWLEDGE: record(bank((2, 5, 8)))},
        {KNOWLEDGE: ArrayRecord({"client_ids": raw(b"")})},
        {KNOWLEDGE: ArrayRecord({"client_ids": raw(b"PK\x03\x04 zip")})},
        {KNOWLEDGE: ArrayRecord({"client_ids": raw(b"x", stype="pickle")})},
        {METRICS: record(replace(metrics(), values=torch.full((3, 1), torch.inf).double()))},
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_a_malformed_reply_puts_all_clients_of_the_node_into_quarantine(changes):
    read = read_reply(reply(**changes), question())
    assert read.knowledge is read.metrics is None
    assert [failure.client_id for failure in read.failures] == list(IDS)
    assert all(failure.quarantined for failure in read.failures)


@pytest.mark.parametrize(("share", "evaluate"), [(False, True), (True, False)])
def test_what_nobody_asked_for_is_refused(share, evaluate):
    read = read_reply(reply(), question(share, evaluate))
    assert "nobody asked for" in read.failures[0].error


def test_a_client_that_failed_honestly_is_no_liar():
    told = ConfigRecord({"json": FAILED % (5, 3, "false")})
    sent = {KNOWLEDGE: record(bank((2, 9))), METRICS: record(metrics((2, 9)))}
    read = read_reply(reply(**{FAILURES: told}, **sent), question())
    assert read.knowledge.client_ids.tolist() == [2, 9]
    assert [(f.client_id, f.quarantined) for f in read.failures] == [(5, False)]


def test_escape_sequences_do_not_reach_the_terminal():
    told = ConfigRecord({"json": (FAILED % (5, 3, "false")).replace('"x"', '"\\u001b[2Jx"')})
    sent = {KNOWLEDGE: record(bank((2, 9))), METRICS: record(metrics((2, 9)))}
    assert read_reply(reply(**{FAILURES: told}, **sent), question()).failures[0].error == "?[2Jx"


def test_uploads_that_hold_other_fields_than_most_are_set_aside():
    mask = torch.ones(1, P, dtype=torch.bool)
    good, odd = bank((2, 5)), bank((9,), mask=mask)
    kept, out = odd_ones_out([odd, good])
    assert kept == [good]
    assert out[0][0] is odd
    assert "mask" in out[0][1]
    assert odd_ones_out([good, good]) == ([good, good], [])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x03\x00" + b"\x00" * 20,
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (" + HUGE + ",), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, " + HUGE + "), }", b"1234"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", b"1234"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", b"12345678"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"12345678"),
        npy("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", b"1234"),
        npy("{'descr': '|b1', 'fortran_order': False, 'shape': (1,), }", b"\x07"),
        npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", b"1234"),
        npy("__import__('os').abort()"),
        npy("(" * 900),
        npy("x" * 3000),
    ],
    ids=lambda data: repr(data[:70]),
)  # fmt: skip
def test_bytes_that_are_no_array(data):
    with pytest.raises(KnowledgeError, match="'x' cannot be read"):
        parse_array(data, "x")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, np.uint8])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_any_array_survives(order, dtype, shape):
    array = np.asarray(np.random.default_rng(0).integers(0, 2, shape), dtype=dtype, order=order)
    file = io.BytesIO()
    np.save(file, array)
    read = parse_array(file.getvalue(), "x")
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype


def hello(public="p", common="c", ids=(0, 1)):
    clients = ArrayRecord({"client_ids": Array(np.array(ids))})
    return RecordDict(
        {HEADER: ConfigRecord({"public": public, "common": common}), CLIENTS: clients}
    )


def test_first_words_are_read():
    assert read_handshake(hello(), 7, ("p", "c"), 2) == (0, 1)


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({HEADER: ConfigRecord({})}),
        hello(public="x" * 10_000),
        hello(ids=(0, 0)),
        hello(ids=(2,)),
        hello(ids=(-1,)),
        hello(ids=np.zeros((1, 2), dtype=np.int64)),
        hello(ids=np.array([0.5])),
        hello(ids=np.zeros(100_000, dtype=np.int64)),
    ],
    ids=range(9),
)
def test_strange_first_words_are_refused_in_one_short_message(content):
    with pytest.raises(FedfuseError) as refused:
        read_handshake(content, 7, ("p", "c"), 2)
    assert len(str(refused.value)) < 500


def test_a_hostile_server_may_not_name_clients_of_others():
    with pytest.raises(KnowledgeError, match="should not"):
        read_ids(ArrayRecord({"client_ids": Array(np.array([4]))}), "The request", (0, 1))


@pytest.mark.parametrize("arm", ["../../etc/cron", "a/b", "", ".hidden", "a\\b", "x" * 200])
def test_a_hostile_server_may_not_choose_where_states_are_written(arm):
    with pytest.raises(KnowledgeError, match="impossible"):
        Header.parse({**Header("knfu", 1, True, True).fields(), "arm": arm})
