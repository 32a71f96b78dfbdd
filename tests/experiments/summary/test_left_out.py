"""What share of the public samples is left out, and when that is a warning."""

from __future__ import annotations

from experiments.summary.left_out import left_out


def told(**by_round: list[float]) -> list[str] | None:
    found = left_out(lambda name: dict(enumerate(by_round.get(name, []), start=2)))
    return None if found is None else found.lines()


def test_nothing_left_out_is_nothing_to_tell():
    assert told() is None
    assert told(left_out=[0.0, 0.0]) is None


def test_nine_tenths_are_no_warning_and_more_are():
    assert told(left_out=[0.9, 0.5], left_out_by_filter=[0.9, 0.5]) == []
    [line] = told(left_out=[0.95, 0.5], left_out_by_filter=[0.95, 0.4])
    assert "the filter left out 95%" in line
    assert "1 of 2 rounds" in line


def test_what_only_all_together_leave_out_is_told_as_that():
    [line] = told(left_out=[0.97], left_out_by_filter=[0.5], left_out_by_masks=[0.47])
    assert "mask, filter and cache together left out 97%" in line


def test_each_cause_is_told():
    lines = told(left_out=[1.0], left_out_by_masks=[0.95], left_out_by_rule=[0.92])
    assert [line.split(" left")[0] for line in lines] == [
        "warning: the clients' masks",
        "warning: the fusion rule",
    ]
