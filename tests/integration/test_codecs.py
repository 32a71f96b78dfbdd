"""Runs whose predictions travel through a codec, from the command line."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments.run import main

QUICK = ["dataset=synthetic", "model=mlp", "baseline=none", "num_clients=3", "num_rounds=3"]


def rows(folder: Path, *overrides: str) -> list[dict[str, object]]:
    """Run fedfuse and return its metrics."""
    assert main([*QUICK, *overrides, f"hydra.run.dir={folder}"]) == 0
    return pq.read_table(folder / "metrics.parquet").to_pylist()


def values(table: list[dict[str, object]], metric: str) -> list[object]:
    return [row["value"] for row in table if row["metric"] == metric]


def test_a_lossless_codec_changes_bytes_and_nothing_else(tmp_path: Path) -> None:
    plain = rows(tmp_path / "plain")
    coded = rows(tmp_path / "coded", "codec=delta", "client.state=disk")
    assert values(plain, "accuracy_global") == values(coded, "accuracy_global")
    assert values(plain, "loss_own") == values(coded, "loss_own")
    # 500 public samples of 10 classes, and the number of examples, for each of three clients
    assert values(plain, "bytes_up") == [0, 3 * (500 * 40 + 8), 3 * (500 * 40 + 8)]
    assert values(coded, "bytes_up")[1] == 3 * (500 * 40 + 8 + 4)


def test_a_cross_product_that_no_paper_has(tmp_path: Path) -> None:
    table = rows(tmp_path / "cross", "method=knfu", "sharpen=power", "codec=cfd", "codec.bits=1")
    # Less than half a byte for each of 500 labels, three clients
    assert 0 < values(table, "bytes_up")[1] < 3 * (500 / 2 + 16)
    assert 0 < values(table, "bytes_up")[2] < values(table, "bytes_up")[1]


def test_a_delta_over_changing_samples_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*QUICK, "codec=cfd", "select=random", f"hydra.run.dir={tmp_path / 'no'}"]
    assert main(arguments) == 2
    assert "codec.delta=false" in capsys.readouterr().err


def test_scarlet_asks_only_for_what_no_target_serves(tmp_path: Path) -> None:
    table = rows(tmp_path / "run", "method=scarlet", "select=all", "cache.duration=2")
    answered = values(table, "samples_answered")
    assert answered == [500] * 3 + [0] * 3  # fused in round 2, all of it still serves in round 3
    assert values(table, "samples_left_out") == [0] * 6
    # the request (a bit a sample), the signals (a byte) and which rows come (a bit), three clients
    assert values(table, "bytes_down")[2] == 3 * (63 + 500 + 63)
    assert values(table, "bytes_up")[2] == 3 * (63 + 8)


def test_a_cache_for_personal_targets_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*QUICK, "method=knfu", "cache=rounds", f"hydra.run.dir={tmp_path / 'no'}"]
    assert main(arguments) == 2
    assert "one target for all clients" in capsys.readouterr().err
