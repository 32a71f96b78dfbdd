"""Headers and failures survive the wire, and nothing else is taken for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedfuse.errors import KnowledgeError
from fedfuse.failure import Failure
from fedfuse.wire.messages import Header, dump_failures, load_failures

HEADER = Header(arm="knfu", round=3, share=True, evaluate=False)


def test_a_header_survives_its_fields():
    assert Header.parse(HEADER.fields()) == HEADER
    for ids in ((), (0, 2)):
        told = replace(HEADER, taught=ids, present=(1,))
        assert Header.parse(told.fields()) == told
        assert [told.teaches(i) for i in range(3)] == [i in ids for i in range(3)]
    assert HEADER.teaches(7)


@pytest.mark.parametrize(
    "change",
    [{"round": "3"}, {"round": True}, {"share": 1}, {"arm": None}, {"extra": 1}]
    + [{"taught": bad} for bad in (1, [-1], [True], ["0"])],
    ids=str,
)
def test_a_changed_header_is_refused(change):
    with pytest.raises(KnowledgeError, match="header"):
        Header.parse({**HEADER.fields(), **change})


def test_a_missing_field_is_refused():
    fields = HEADER.fields()
    del fields["evaluate"]
    with pytest.raises(KnowledgeError, match="evaluate"):
        Header.parse(fields)


def test_failures_survive_the_wire():
    failures = [Failure(1, 2, "train", "boom", "Traceback ...", False)]
    assert load_failures(dump_failures(failures)) == failures


@pytest.mark.parametrize("text", ["", "{}x", "[1]", '[{"client_id": 1}]', "null"])
def test_something_else_is_no_list_of_failures(text):
    with pytest.raises(KnowledgeError, match="failures"):
        load_failures(text)
