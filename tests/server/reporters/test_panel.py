"""The live panel and the plain lines."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from fedfuse.types import MetricRow, RoundRecord
from server.reporters.lines import Lines
from server.reporters.many import Many
from server.reporters.panel import Panel
from server.reporters.protocol import RunInfo

INFO = RunInfo("knfu", ("local", "knfu"), 2, 12, "mnist5k", "dirichlet(alpha=0.1)", "lenet5")


def record(round_: int, own: float, overall: float) -> RoundRecord:
    rows = [
        MetricRow(round_, client, "fused", name, value + shift)
        for name, value in (("accuracy_own", own), ("accuracy_global", overall))
        for client, shift in ((0, -0.1), (1, 0.1))
    ]
    before = MetricRow(round_, 0, "local", "accuracy_own", 0.0)
    return RoundRecord(round_, (*rows, before), None)


def test_lines_print_one_line_a_round() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.start(INFO)
    lines.phase("local", 1, "train")
    lines.client_done(0)
    lines.round_done("local", record(1, 0.5, 0.4))
    lines.round_done("local", RoundRecord(2, (), None))
    lines.round_done("knfu", record(1, 0.6, 0.35))
    lines.close()
    assert stream.getvalue().splitlines() == [
        "knfu against local: 2 clients, 12 rounds, mnist5k, dirichlet(alpha=0.1), lenet5",
        "local  round  1/12  own  50.0  balanced  40.0  0:00",
        "local  round  2/12  0:00",
        "knfu   round  1/12  own  60.0  balanced  35.0  gain +10.0  -5.0  0:00",
    ]


THREE = RunInfo(
    "knfu_adjusted", ("local", "local_adjusted", "knfu_adjusted"), 2, 12, "mnist5k", "iid", "mlp"
)
"""A run with both ways of training alone."""
GAINS = (record(1, 0.5, 0.4), record(1, 0.49, 0.6), record(1, 0.6, 0.7))


def test_lines_have_the_gain_over_each_control() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.start(THREE)
    for arm, made in zip(THREE.arms, GAINS, strict=True):
        lines.round_done(arm, made)
    head, *_, last = stream.getvalue().splitlines()
    assert head.startswith("knfu_adjusted against local and local_adjusted: 2 clients")
    assert "gain +10.0 +30.0  over local_adjusted +11.0 +10.0  0:00" in last


def test_the_panel_has_the_gain_over_each_control() -> None:
    shown, _ = panel()
    shown.start(THREE)
    for arm, made in zip(THREE.arms, GAINS, strict=True):
        shown.round_done(arm, made)
    rows = {line.split()[1]: line.split()[4:-1] for line in text(shown) if "1/12" in line}
    shown.close()
    assert rows["local"] == ["50.0", "40.0"]
    assert rows["local_adjusted"] == ["49.0", "-1.0", "60.0", "+20.0"]
    assert rows["knfu_adjusted"] == ["60.0", "+10.0", "+11.0", "70.0", "+30.0", "+10.0"]


def test_lines_of_a_single_arm_have_no_gain() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.start(RunInfo("local", ("local",), 2, 12, "mnist5k", "iid", "lenet5"))
    lines.round_done("local", record(1, 0.5, 0.4))
    assert "against" not in stream.getvalue()
    assert "gain" not in stream.getvalue()


def test_lines_name_who_is_silent() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.start(INFO)
    lines.phase("knfu", 2, "train")
    lines.waiting([3, 7], 65)
    assert stream.getvalue().endswith("knfu round 2, train: waiting for clients 3, 7 (1:05)\n")


def panel(width: int = 80) -> tuple[Panel, Console]:
    console = Console(
        file=io.StringIO(), width=width, height=24, force_terminal=True, record=True,
        color_system="standard", legacy_windows=False,
    )  # fmt: skip
    return Panel(console), console


def text(shown: Panel, width: int = 80) -> list[str]:
    plain = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    plain.print(shown._render())
    return plain.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 120])
def test_the_panel_tells_where_the_run_is(width: int, monkeypatch: Any) -> None:
    now = [100.0]
    monkeypatch.setattr("server.reporters.panel.monotonic", lambda: now[0])
    shown, _ = panel(width)
    shown.start(INFO)
    try:
        for round_ in range(1, 13):
            shown.phase("local", round_, "train")
            now[0] += 10
            shown.round_done("local", record(round_, 0.5, 0.4))
        shown.phase("knfu", 1, "train")
        now[0] += 10
        shown.round_done("knfu", record(1, 0.6, 0.35))
        shown.phase("knfu", 2, "distill")
        shown.client_done(1)
        now[0] += 4
        lines = text(shown, width)
    finally:
        shown.close()
    assert {len(line) for line in lines} == {min(width - 2, 100)}
    assert "fedfuse · knfu against local" in lines[0]
    assert "mnist5k · dirichlet(alpha=0.1) · 2 clients · lenet5" in lines[1]
    local, knfu = (line.split() for line in lines[3:5])
    assert (local[1], local[-4:-1]) == ("local", ["12/12", "50.0", "40.0"])
    assert (knfu[1], knfu[-6:-1]) == ("knfu", ["1/12", "60.0", "+10.0", "35.0", "-5.0"])
    # 13 of 24 rounds took 130 s; the other 11 take 110 s, of which 4 have passed.
    assert "knfu round 2 · distill · 1 of 2 clients · 2:14, about 1:46 left" in lines[5]


def test_the_panel_names_who_is_silent_until_they_answer(monkeypatch: Any) -> None:
    now = [100.0]
    monkeypatch.setattr("server.reporters.panel.monotonic", lambda: now[0])
    shown, _ = panel()
    shown.start(INFO)
    try:
        shown.phase("knfu", 2, "train")
        shown.waiting([0, 1], 12)
        now[0] += 3
        both = text(shown)
        shown.client_done(0)
        one = text(shown)
        shown.client_done(1)
        nobody = text(shown)
    finally:
        shown.close()
    assert "waiting for clients 0, 1 (0:15)" in both[-2]
    assert "waiting for client 1 (0:15)" in one[-2]
    assert "waiting" not in "".join(nobody)


def test_the_panel_leaves_no_trace() -> None:
    shown, console = panel()
    shown.start(INFO)
    shown.close()
    shown.close()
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert written.endswith("\x1b[2K"), "its lines are erased"
    assert "\x1b[?25h" in written, "the cursor is back"


def test_many_passes_every_call_on_and_closes_all() -> None:
    calls: list[tuple[str, Any]] = []

    class Spy:
        def __init__(self, name: str, *, fails: bool = False) -> None:
            self.name, self.fails = name, fails

        def __getattr__(self, method: str) -> Any:
            return lambda *args: calls.append((self.name, (method, *args)))

        def waiting(self, *args: Any) -> None:  # Python 3.12's protocols ask no __getattr__
            calls.append((self.name, ("waiting", *args)))

        def close(self) -> None:
            calls.append((self.name, ("close",)))
            if self.fails:
                raise OSError("disk full")

    many = Many([Spy("a"), Spy("b", fails=True)])  # type: ignore[list-item]
    many.start(INFO)
    many.phase("knfu", 1, "train")
    many.client_done(3)
    many.waiting([4], 10)
    many.round_done("knfu", record(1, 0.5, 0.5))
    with pytest.raises(OSError, match="disk full"):
        many.close()
    names = ["start", "phase", "client_done", "waiting", "round_done"]
    assert [(who, call[0]) for who, call in calls] == [
        *((who, name) for name in names for who in "ab"),
        ("b", "close"),
        ("a", "close"),
    ]


def test_a_long_client_shows_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("server.reporters.panel.monotonic", lambda: now)
    shown, _ = panel()
    shown.start(INFO)
    shown.phase("local", 1, "train")
    shown.step(12, 400)
    assert not any("step" in line for line in text(shown))
    now += 5
    assert any("step 12 of 400" in line for line in text(shown))
    shown.client_done(0)
    assert not any("step" in line for line in text(shown))
    shown.close()


def test_lines_tell_of_a_client_when_nothing_else_has_been_printed_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("server.reporters.lines.monotonic", lambda: now)
    stream = io.StringIO()
    lines = Lines(stream)
    lines.start(INFO)
    lines.phase("local", 1, "train")
    lines.step(12, 400)
    now += 61
    lines.step(300, 400)
    lines.step(301, 400)
    assert stream.getvalue().splitlines()[1:] == ["local round 1, train: step 300 of 400 (1:01)"]


def test_the_panel_shows_what_is_left_of_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("server.reporters.panel.monotonic", lambda: now)
    shown, console = panel()
    shown = Panel(console, lambda seconds: f" · sweep {seconds:.0f}")
    shown.start(INFO)
    shown.phase("local", 1, "train")
    now = 10.0
    shown.round_done("local", record(1, 0.5, 0.4))
    # 23 rounds of 10 s are left, and 10 s have passed.
    assert any("3:50 left · sweep 240" in line for line in text(shown))
    shown.close()
