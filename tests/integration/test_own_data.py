"""sites=own: every site keeps its data, wherever it runs; no engine changes a number."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from flwr.app import Context, RecordDict

from experiments.flower import node
from experiments.run import main
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_exchange.py"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three sites with different classes and sizes, one with a test split, and a shared set."""
    folder = tmp_path_factory.mktemp("own data")  # with a space, as people's folders have
    raw = synthetic(num_train=1000, num_test=200)
    x, y = raw.train.inputs, raw.train.labels
    low, high = (np.flatnonzero(part)[10:] for part in (y < 5, y >= 4))
    np.savez(
        folder / "shared.npz",
        x_train=x[:60], y_train=y[:60], x_test=raw.test.inputs, y_test=raw.test.labels,
    )  # fmt: skip
    np.savez(folder / "a.npz", x=x[low[20:300]], y=y[low[20:300]])
    np.savez(
        folder / "b.npz",
        x_train=x[high[40:240]], y_train=y[high[40:240]],
        x_test=x[high[240:300]], y_test=y[high[240:300]],
    )  # fmt: skip
    np.savez(folder / "c.npz", x=x[600:], y=y[600:])
    paths = ",".join(f"'{folder / name}.npz'" for name in "abc")
    return [
        "dataset=npz", f"dataset.path='{folder / 'shared.npz'}'", "public=whole", "sites=own",
        f"sites.paths=[{paths}]", "num_clients=4", "num_rounds=1", "warmup_rounds=0",
        "model=mlp", "baseline=none",
    ]  # fmt: skip


def run(folder: Path, *lines: str) -> dict[str, list[object]]:
    assert main([*lines, f"hydra.run.dir={folder}"]) == 0
    return pq.read_table(folder / "metrics.parquet").to_pydict()


@pytest.fixture(scope="module")
def serial(lines, tmp_path_factory) -> dict[str, list[object]]:
    folder = tmp_path_factory.mktemp("serial") / "run"
    metrics = run(folder, *lines)
    assert "client" in (folder / "partition.txt").read_text()
    return metrics


def test_nodes_and_sites_need_not_be_the_same(lines, serial, tmp_path):
    assert run(tmp_path / "run", *lines, "engine.num_nodes=2") == serial


@pytest.mark.deployment
def test_supernodes_that_hold_only_their_own_give_the_numbers_of_serial_in_an_own_exchange(
    lines, tmp_path, monkeypatch
):
    # Two sites and one round: each message to a SuperNode is a process that starts Python anew.
    shutil.copy(EXAMPLE, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_exchange", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    paths = next(line for line in lines if line.startswith("sites.paths")).split(",")[:2]
    chosen = [line for line in lines if not line.startswith("sites.paths")]
    chosen += [f"{','.join(paths)}]", "exchange=custom", "method.name=soft_labels"]
    chosen += ["exchange._target_=my_exchange.SoftLabels"]
    serial = run(tmp_path / "serial", *chosen)
    there = tmp_path / "there"
    assert run(there, *chosen, "engine=deployment", "engine.num_nodes=2") == serial
    assert not (there / "partition.txt").exists(), "the server does not see who holds what"
    tested = json.loads((there / "summary.json").read_text())["last"]["tests"]["accuracy_own"]
    rows = zip(serial["metric"], serial["value"], strict=True)
    told = [value for name, value in rows if name == "test_samples_own"]
    assert (tested["smallest_test"], tested["largest_test"]) == (min(told), max(told))
    assert min(told) < max(told)


def context(lines: list[str], **config: str | int) -> Context:
    kept = [line for line in lines if not line.startswith("sites.paths")]
    overrides = " ".join(f'"{line}"' for line in kept)
    where = {"partition-id": 1, "num-partitions": 3, **config}
    return Context(1, 1, where, RecordDict(), {"overrides": overrides})


def test_a_supernode_reads_no_data_but_its_own(lines):
    own = next(line for line in lines if line.startswith("sites.paths")).split("'")[3]
    mine = node(context(lines, **{"data-path": own}))
    assert mine.client_ids == (1,)
    assert len(mine.data.train) == 260
    assert [len(c.train) > 0 for c in mine.data.clients] == [False, True, False, False]


def test_a_supernode_without_data_says_what_it_lacks(lines):
    with pytest.raises(ConfigError, match="data-path"):
        node(context(lines))
    with pytest.raises(ConfigError, match=r"SuperNode's data-path holds a '\$\{'"):
        node(context(lines, **{"data-path": "a${x}b"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["sites.paths=null"], "needs to know where each site's data is"),
        (["engine=deployment", "engine.num_nodes=2"], "one SuperNode per site"),
        (["num_clients=2"], "more sites than clients"),
        (["sites.paths=[/nowhere.npz]", "num_clients=1"], "There is no data at /nowhere.npz"),
    ],
)
def test_mistakes_cost_one_message_and_leave_nothing(lines, changes, message, tmp_path, capsys):
    chosen = {line.split("=")[0]: line for line in [*lines, *changes]}
    assert main([*chosen.values(), f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
