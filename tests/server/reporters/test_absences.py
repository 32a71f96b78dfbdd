"""Few clients that fail have an event each, thousands one together."""

from __future__ import annotations

from fedfuse.failure import Failure
from server.reporters.files import TOLD_ONE_BY_ONE, absence, absences


def failed(count: int, phase: str = "train", *, quarantined: bool = False) -> list[Failure]:
    return [
        Failure(
            client_id=i,
            round=3,
            phase=phase,
            error=f"reason {i % 2 or i}",
            traceback="",
            is_mistake=False,
            quarantined=quarantined,
        )
        for i in reversed(range(count))
    ]


def test_few_have_an_event_each():
    few = [*failed(TOLD_ONE_BY_ONE), *failed(2, "distill"), *failed(1, quarantined=True)]
    assert sorted(map(repr, absences(few))) == sorted(repr(absence(failure)) for failure in few)


def test_many_have_one_together():
    many = [*failed(5_000), *failed(2, "distill")]
    (kind, words), *others = absences(many)
    assert kind == "absent"
    assert words.pop("reasons")["reason 1"] == 2_500
    assert words == {"clients": 5_000, "first": list(range(10)), "round": 3, "phase": "train"}
    assert [words["client"] for _, words in others] == [1, 0]


def test_who_lied_is_told_apart():
    kinds = [kind for kind, _ in absences([*failed(500), *failed(500, quarantined=True)])]
    assert kinds == ["absent", "quarantine"]
