"""The closing table as a person sees it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
from rich.console import Console

from experiments.summary.table import render, summarise
from fedfuse.types import MetricRow
from server.reporters.protocol import RunInfo


def shown(
    num_clients: int = 10, *, baseline: bool = True, color: bool = False, no_color: bool = False,
    own_tests: Sequence[int] = (), held_back: int | None = None, method: str = "knfu",
) -> str:  # fmt: skip
    info = RunInfo(
        method, ("local", method), num_clients, 10, "mnist5k", "dirichlet(alpha=0.1)", "lenet5"
    )
    after, before = [], []
    for client in range(num_clients):
        for metric in ("accuracy_own", "accuracy_global", "accuracy_val"):
            after.append(MetricRow(10, client, "fused", metric, 0.6 + 0.01 * client))
            before.append(MetricRow(10, client, "fused", metric, 0.65))
        after.append(MetricRow(10, client, "fuse", "self_weight", 0.25))
        after.append(MetricRow(10, client, "fuse", "effective_neighbours", 4.0))
    sizes = np.full(num_clients, 5000)
    sizes[: len(own_tests)] = own_tests
    counts = np.arange(10)[None, :].repeat(num_clients, axis=0)
    stream = io.StringIO()
    console = Console(
        file=stream, width=80, force_terminal=color, no_color=no_color, highlight=False,
        color_system="standard" if color else None, legacy_windows=False,
    )  # fmt: skip
    summary = summarise(
        after, before if baseline else None, info, class_counts=counts, seconds={"train": 3.0},
        test_sizes={"accuracy_own": sizes},
        val_sizes=None if held_back is None else np.full(num_clients, held_back),
    )  # fmt: skip
    from pathlib import Path

    render(summary, console, Path("outputs/2026-01-01/a-very-long-folder-name") / ("x" * 60))
    return stream.getvalue()


def test_the_columns_are_explained() -> None:
    text = shown()
    for word in ("own:", "balanced:", "worst (lowest)", "std", "helped/harmed:"):
        assert word in text


def test_names_of_strangers_are_text_and_nothing_else() -> None:
    """Markup would colour or link (or crash the table); an escape would reach the terminal."""
    name = "[red]x[/] [link=http://h]y\x1b[2J\u202e"
    info = RunInfo(name, ("[/b]", name), 1, 1, name, name, name)
    rows = [MetricRow(1, 0, "fused", "accuracy_own", 0.5)]
    stream = io.StringIO()
    console = Console(file=stream, width=200, force_terminal=True, color_system="standard")
    render(summarise(rows, rows, info), console)
    text = stream.getvalue()
    assert "[red]x[/] [link=http://h]y\\x1b[2J\\u202e" in text
    assert "\x1b]8" not in text
    assert "\x1b[2J" not in text
    assert "\u202e" not in text
    assert "\x1b[31m" not in text


def lines_with(text: str, word: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if word in line]


@pytest.mark.parametrize(("method", "clients"), [("knfu", 10), ("fedprox", 10), ("fedprox", 2000)])
def test_it_fits_80_columns_and_cuts_nothing(method: str, clients: int) -> None:
    text = shown(clients, method=method)
    body = text.splitlines()[:-1]
    assert max(len(line.rstrip()) for line in body) <= 80
    assert "…" not in text
    assert text.splitlines()[-1].endswith("x" * 60), "a path is never wrapped"


def test_the_numbers_are_there() -> None:
    text = shown()
    # Clients 0.60 ... 0.69 against 0.65: mean 64.5, worst 60, std 2.87; on 5000 tests
    # 0.019 is certain: 3 above (0.67 to 0.69) and 4 below (0.60 to 0.63).
    [row, best] = lines_with(text, "own distribution")
    assert row == [
        "own",
        "distribution",
        "5000",
        "10",
        "65.0",
        "64.5",
        "60.0",
        "2.9",
        "-0.5",
        "3/4",
    ]
    assert best == row
    assert "best validation" in text
    assert "self-weight 0.25, effective neighbours 4.0 of 10" in text
    assert "3.0 s (train 3.0)" in text


def test_tests_too_small_for_a_verdict_are_named_and_decide_nothing() -> None:
    # Clients 0 and 9, far below and far above, no longer count: 3/4 becomes 2/3.
    text = shown(own_tests=[2, *[5000] * 8, 49])
    [row, _] = lines_with(text, "own distribution ")
    assert (row[2], row[-1]) == ("2-5000", "2/3")
    assert "own distribution: clients 0, 9 tested on 2 to 49 samples, below 50: no verdict" in text
    text = shown(own_tests=[6] * 10)
    [row, _] = lines_with(text, "own distribution ")
    assert (row[2], row[-1]) == ("6", "-")
    assert "own distribution: all clients tested on 6 samples, below 50: no verdict" in text
    assert "no verdict" not in shown(own_tests=[50] * 10)
    coloured = shown(color=True, own_tests=[6] * 10)
    assert "\x1b[1;3" not in coloured.split("balanced")[0].split("own distribution")[1]


def test_a_handful_of_validation_samples_chooses_no_round() -> None:
    text = shown(held_back=4)
    assert "no best validation round: all clients hold back 40 samples (below 50)" in text
    assert "best validation\n" not in text
    assert "best validation" in shown(held_back=5)


def test_each_client_has_its_line() -> None:
    [row] = [words for words in lines_with(shown(), "+2.0") if words[0] == "7"]
    assert row[-8:] == ["45", "9", "65.0", "67.0", "+2.0", "65.0", "67.0", "+2.0"]


def test_many_clients_are_not_listed() -> None:
    assert "clients  " in shown(20)
    assert "labels" in shown(20)
    assert "labels" not in shown(21)


def test_without_a_baseline_there_is_no_gain_column() -> None:
    text = shown(baseline=False)
    assert "gain" not in text
    assert "helped" not in text
    assert "knfu: test accuracy" in text


@pytest.mark.parametrize("no_color", [False, True])
def test_colour_only_repeats_what_the_sign_says(no_color: bool) -> None:
    text = shown(color=True, no_color=no_color)
    assert ("\x1b[1;31m" in text) == (not no_color)
    assert "-0.5" in text
    assert "+2.0" in text


def test_a_pipe_gets_no_escape_codes() -> None:
    assert "\x1b" not in shown()


def test_a_client_is_coloured_only_where_its_test_can_tell() -> None:
    """0.66 against 0.65 is noise on 5000 tests, 0.69 is not; on 60 tests neither is anything."""
    large, small = (shown(color=True, own_tests=[size] * 10) for size in (5000, 60))
    bold = "\x1b[1;32m"
    assert f"{bold} +4.0" in large
    assert f"{bold} +1.0" not in large
    assert f"{bold} +4.0" not in small
