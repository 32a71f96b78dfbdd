"""The grid of a map, the order of its cells, its estimate, its picture."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from experiments.config import compose
from experiments.map.grid import Axes, Cell, configure, parse
from experiments.map.progress import Estimate, work
from experiments.runs.pool import Event
from fedfuse.errors import ConfigError

CFG = OmegaConf.create(
    {
        "num_clients": 2,
        "num_rounds": 4,
        "public": {"size": 100},
        "evaluation": {"test_samples": 200},
        "client": {
            "local_epochs": 1,
            "distill_epochs": 1,
            "distill_batch_size": 50,
            "batch_size": 10,
            "private_weight": 1.0,
        },
    }
)


def test_the_axes_and_the_rest():
    axes, rest = parse(
        ["map.samples=[200,50]", "map.alpha=1,0.1", "map.methods=[knfu]", "num_rounds=3"]
    )
    assert axes.samples == (50, 200)
    assert axes.alpha == (0.1, 1.0)
    assert axes.methods == ("local", "knfu")  # the baseline is always there
    assert rest == ["num_rounds=3"]
    cells = axes.cells()
    assert len(set(cells)) == 2 * 2 * 2 * 2
    assert cells[0].name == "s50-a0.1-local-seed0"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["map.sample=[50]"], "Did you mean 'map.samples'"),
        (["map.samples=[50.5]"], "integers of at least 2"),
        (["map.samples=[]"], "not a list"),
        (["map.samples=[50,50]"], "twice"),
        (["map.alpha=[0]"], "above 0"),
        (["map.alpha=[.nan]"], "above 0"),
        (["map.seeds=[-1]"], "from 0"),
        (["map.methods=[local]"], "no method besides"),
        (["map.workers=0"], "auto or an integer"),
        (["map.dir="], "names no folder"),
        (["map.seeds=[0]", "map.seeds=[1]"], "given twice"),
        (["seed=1"], "Use map.seeds"),
        (["method=knfu"], "Use map.methods"),
        (["partitioner.alpha=2"], "Use map.samples and map.alpha"),
        (["baseline=none"], "always local"),
        (["engine=ray"], "map.workers"),
    ],
)
def test_mistakes_are_told(lines, said):
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        parse(lines)


def test_of_the_engine_a_map_takes_only_whether_its_cells_train_together():
    assert parse(["engine.pack=true"])[1] == ["engine.pack=true"]
    with pytest.raises(ConfigError, match=r"map\.workers"):
        parse(["engine.num_nodes=2"])


def test_the_estimate_knows_nothing_at_first_and_the_truth_at_last():
    cells = [Cell(50, 0.1, "local", 0), Cell(50, 0.1, "local", 1)]
    left = Estimate(dict.fromkeys(cells, CFG), workers=1)
    assert left.left(0.0) is None
    left.take(Event(cells[0], "start"), 10.0)
    assert left.left(12.0) is None  # nothing of it is done yet
    left.take(Event(cells[0], "round"), 15.0)
    assert left.left(15.0) == pytest.approx(5 * (3 + 4))  # 5 s a round
    left.take(Event(cells[0], "done"), 30.0)
    assert left.left(30.0) == pytest.approx(20)
    left.take(Event(cells[1], "start"), 30.0)
    left.take(Event(cells[1], "done"), 50.0)
    assert left.left(50.0) == 0


def test_work_grows_with_the_samples_and_counts_the_mixed_batches():
    few, many = Cell(50, 0.1, "knfu", 0), Cell(100, 0.1, "knfu", 0)
    assert work(many, CFG) - work(few, CFG) == 2 * 4 * 3 * 50
    alone = OmegaConf.merge(CFG, {"client": {"private_weight": 0.0}})
    assert work(few, CFG) - work(few, alone) == 2 * 4 * 3 * 2 * 10  # two steps of ten samples


def test_parts_that_draw_take_the_seed_of_their_cell():
    axes = Axes(samples=(50,), alpha=(1.0,), methods=("local", "random"), seeds=(3, 4))
    cells = configure(compose.open_hydra(), axes, ["dataset=synthetic"])
    drawn = {cell.seed: cfg.scorer.seed for cell, cfg in cells.items() if cell.method == "random"}
    assert drawn == {3: 3, 4: 4}
