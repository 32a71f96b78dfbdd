"""fedfuse from Python is the command, to the bit, and leaves the process as it was."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import fedfuse
from experiments.run import main
from fedfuse.data.arrays import from_arrays
from fedfuse.errors import ConfigError, DataError, FedfuseError
from fedfuse.fusion.scorers import KnFu
from tests.experiments.three_arms import write

SMALL = {
    "dataset": "synthetic",
    "dataset.num_train": 800,
    "dataset.num_test": 200,
    "public.size": 100,
    "model": "mlp",
    "num_clients": 3,
    "num_rounds": 2,
    "progress": False,
}
WORDS = [f"{key}={value}" for key, value in SMALL.items() if key != "progress"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def run(folder):
    return fedfuse.simulate("method=knfu", out=folder / "run", **SMALL)


def by_halves(labels, num_clients, rng):
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order] >= np.median(labels), kind="stable")]
    return np.array_split(order, num_clients)


class Net(torch.nn.Module):
    def __init__(self, input_shape, num_classes, width=8):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(int(np.prod(input_shape)), width),
            torch.nn.ReLU(),
            torch.nn.Linear(width, num_classes),
        )

    def forward(self, x):
        return self.layers(x)


def arrays(samples=600, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % classes
    x = (rng.normal(size=(samples, 6)) + 3 * np.eye(6)[y]).astype(np.float32)
    return x, y


def metrics_of(folder: Path) -> bytes:
    return (folder / "metrics.parquet").read_bytes() + (folder / "baseline.parquet").read_bytes()


def test_the_command_gives_bitwise_the_same(run, folder, capsys):
    assert main(["method=knfu", *WORDS, f"hydra.run.dir={folder / 'command'}"]) == 0
    assert metrics_of(run.folder) == metrics_of(folder / "command")
    lines = (run.folder / "config.yaml").read_text(), (folder / "command/config.yaml").read_text()
    assert lines[0] == lines[1]


def test_a_fresh_interpreter_gives_bitwise_the_same_and_imports_lazily(run, folder):
    code = (
        "import sys, fedfuse\n"
        "assert not {'torch', 'numpy', 'hydra', 'pandas'} & set(sys.modules)\n"
        f"fedfuse.simulate('method=knfu', *{WORDS!r}, out={str(folder / 'fresh')!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "num_rounds=7"],  # sys.argv says nothing to it
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    assert "knfu   round 2/2" in done.stdout
    assert metrics_of(run.folder) == metrics_of(folder / "fresh")


def test_what_a_run_left(run):
    assert run.finished
    assert run.method == "knfu"
    assert list(run.metrics.columns) == ["arm", "round", "client_id", "phase", "metric", "value"]
    assert set(run.metrics["arm"]) == {"knfu", "local"}
    assert run.metrics["round"].max() == 2
    gain = run.gain()
    last = run.metrics.query("round == 2 and phase == 'fused' and metric == 'accuracy_global'")
    by_arm = last.groupby("arm")["value"].mean()
    assert gain.loc["accuracy_global", "gain"] == pytest.approx(by_arm["knfu"] - by_arm["local"])
    assert np.isnan(gain.loc["accuracy_global", "low"])  # one seed has no interval
    assert run.weights.shape == (1, 3, 3)
    assert run.weights.sum(axis=2) == pytest.approx(np.ones((1, 3)), abs=1e-6)
    assert run.fused_rounds.tolist() == [2]
    ids, matrix = run.round_weights(2)
    assert ids.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(matrix, run.weights[0])
    with pytest.raises(ConfigError, match="nobody was fused in round 1"):
        run.round_weights(1)
    assert run.class_counts.shape == (3, 10)
    assert set(run.partition.columns) == {"client_id", "split", "index", "label"}
    assert "knfu" in run._repr_html_()


def test_figures_and_report(run, folder):
    (curves,) = run.plot("curves")
    assert curves._repr_svg_().lstrip().startswith(("<svg", "<?xml"))
    assert "<svg" in run.plot("curves")._repr_html_()
    assert run.report(folder / "page.html").read_text().startswith("<!")


def test_everything_around_is_left_as_it_was(folder):
    def draw(seed=3):
        """Seed what everybody shares twice, and tell what comes next; None: what comes next."""
        numbers = None
        for _ in range(1 if seed is None else 2):
            if seed is not None:
                torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)  # noqa: NPY002
            if seed is None or numbers is None:
                numbers = torch.rand(2).tolist(), np.random.rand(), random.random()  # noqa: NPY002
        return numbers

    HydraConfig.instance().cfg = mine = object()
    hydra, threads = GlobalHydra.instance().hydra, torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = draw()
        fedfuse.simulate(out=folder / "around", **SMALL | {"num_rounds": 1, "warmup_rounds": 0})
        assert draw(seed=None) == before
        assert torch.get_num_threads() == 2
        assert GlobalHydra.instance().hydra is hydra
        assert HydraConfig.instance().cfg is mine
    finally:
        HydraConfig.instance().cfg = None
        torch.set_num_threads(threads)


def test_objects_of_this_process(folder, capsys):
    x, y = arrays()
    small = {key: value for key, value in SMALL.items() if "dataset" not in key}
    run = fedfuse.simulate(
        dataset=(x, y, *arrays(60, seed=1)),
        partitioner=lambda labels, num_clients, rng: by_halves(labels, num_clients, rng),
        scorer=KnFu(beta=5.0),
        out=folder / "objects",
        **{**small, "model": Net, "client": {"batch_size": 16}, "progress": True},
    )
    assert "arrays" in capsys.readouterr().out
    assert run.config["client"]["batch_size"] == 16
    assert run.config["scorer"]["beta"] == 5.0
    assert run.config["scorer"]["_target_"] == "fedfuse.fusion.scorers.KnFu"
    assert ".process_objects." in run.config["dataset"]["_target_"]
    assert ".process_objects." in run.config["partitioner"]["_target_"]
    inputs = torch.from_numpy(x[:5])
    model = run.model(2)
    assert model(inputs).shape == (5, 3)
    assert isinstance(model.model, Net)
    # Another process has the folder alone, and says what it lacks.
    with pytest.raises(ConfigError, match="trust"):
        fedfuse.load_run(run.folder).model(2)
    assert torch.equal(fedfuse.load_run(run.folder).model(2, model=Net)(inputs), model(inputs))
    with pytest.raises(ConfigError, match="those of another model"):
        run.model(2, model=lambda input_shape, num_classes: Net(input_shape, num_classes, 9))
    metrics = fedfuse.load_run(run.folder).metrics
    assert len(metrics) == len(run.metrics)


def test_a_finished_model_is_where_every_client_starts(folder):
    x, y = arrays()
    mine = Net((6,), 3)
    run = fedfuse.simulate(
        dataset=(x, y),
        model=mine,
        out=folder / "mine",
        **{k: v for k, v in SMALL.items() if "dataset" not in k and k != "model"}
        | {"optimizer": "sgd", "optimizer.lr": 1e-12},
    )
    alone = fedfuse.load_run(run.folder)
    with pytest.raises(ConfigError, match=r"model=Net"):
        alone.model(0)
    assert alone.model(0, model=lambda: Net((6,), 3)) is not None
    for client_id in range(3):
        weights = run.model(client_id).model.state_dict()
        for name, value in mine.state_dict().items():
            assert torch.allclose(weights[name], value, atol=1e-6)


def test_a_models_predictions_are_those_of_the_run(run, folder):
    from experiments.assembly.parts import build_data
    from experiments.config.compose import configure

    data = build_data(configure(["method=knfu", *WORDS]))
    told = run.metrics.query(
        "arm == 'knfu' and round == 2 and phase == 'fused' and metric == 'accuracy_global'"
    )
    for client_id, value in zip(told["client_id"], told["value"], strict=True):
        logits = run.model(client_id)(np.array(data.test.inputs))
        right = (logits.argmax(1).numpy() == data.test.labels).mean()
        assert right == pytest.approx(value)


def test_ctrl_c_leaves_a_folder_that_goes_on(run, folder):
    class Stops:
        def start(self, info): ...
        def phase(self, arm, round_, phase):
            if (arm, round_) == ("knfu", 2):
                raise KeyboardInterrupt

        def client_done(self, client_id): ...
        def round_done(self, arm, record): ...
        def close(self): ...

    small = {key: value for key, value in SMALL.items() if key != "progress"}
    with pytest.raises(KeyboardInterrupt) as stopped:
        fedfuse.simulate(out=folder / "stopped", progress=Stops(), **small)
    assert any("fedfuse.simulate(resume=" in note for note in stopped.value.__notes__)
    broken = fedfuse.load_run(folder / "stopped")
    assert not broken.finished
    with pytest.raises(ConfigError, match="has not finished"):
        broken.gain()
    done = fedfuse.simulate(resume=folder / "stopped", progress=False)
    assert metrics_of(done.folder) == metrics_of(run.folder)
    with pytest.raises(ConfigError, match="nothing to resume"):
        fedfuse.simulate(resume=folder / "stopped")


def test_resume_wants_the_same_object(folder):
    def halves(labels, num_clients, rng):
        return by_halves(labels, num_clients, rng)

    def others(labels, num_clients, rng):
        return np.array_split(rng.permutation(len(labels)), num_clients)

    class Stops:
        def start(self, info): ...
        def phase(self, arm, round_, phase):
            if (arm, round_) == ("local", 2):
                raise KeyboardInterrupt

        def client_done(self, client_id): ...
        def round_done(self, arm, record): ...
        def close(self): ...

    small = {key: value for key, value in SMALL.items() if key != "progress"}
    with pytest.raises(KeyboardInterrupt):
        fedfuse.simulate(partitioner=halves, out=folder / "mine-1", progress=Stops(), **small)
    with pytest.raises(ConfigError, match=r"resume=FOLDER, partitioner=\.\.\."):
        fedfuse.simulate(resume=folder / "mine-1")
    with pytest.raises(ConfigError, match="keeps its configuration"):
        fedfuse.simulate(resume=folder / "mine-1", partitioner=others)
    assert main([f"resume={folder / 'mine-1'}"]) == 2
    done = fedfuse.simulate(resume=folder / "mine-1", partitioner=halves, progress=False)
    whole = fedfuse.simulate(partitioner=halves, out=folder / "mine-2", **SMALL)
    assert metrics_of(done.folder) == metrics_of(whole.folder)


@pytest.mark.parametrize(
    ("words", "keys", "told"),
    [
        ([], {"method": "knfuu"}, "no 'knfuu' in group 'method'.*Did you mean 'knfu'"),
        ([{"seed": 1}], {"seed": 2}, "'seed' is given twice: seed=1 and seed=2"),
        ([], {"metod": "knfu"}, "no key or group 'metod'.*Did you mean 'method'"),
        ([1], {}, "takes overrides as text, mappings.*got 1"),
        (["knfu"], {}, "takes overrides as text, mappings.*got 'knfu'"),
        (["seed=1"], {"seed": 2}, "'seed' is given twice: seed=1 and seed=2"),
        ([], {"seed": [0, 1]}, "seed must be an integer"),
        ([], {"num_clients": "3"}, None),
        ([], {"models": "lenet5"}, "models is not valid.*auto or save or none"),
        ([], {"dataset": np.zeros((3, 2))}, "dataset is no data set.*got one array"),
    ],
)
def test_a_mistake_is_one_message(words, keys, told, folder):
    if told is None:
        assert fedfuse.load_config(*words, **keys).num_clients == 3
        return
    with pytest.raises(ConfigError, match=told):
        fedfuse.simulate(*words, out=folder / "wrong", **keys)
    assert not (folder / "wrong").exists()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ((np.zeros((9, 2)), np.zeros(8, int)), "different lengths.*9 inputs and 8 labels"),
        ((np.zeros((4, 2)), np.array([0.0, 1.0, 0.0, 1.0])), "integer class ids.*float64"),
        ((np.full((4, 2), np.nan), np.array([0, 1, 0, 1])), "not finite.*nan in row 0"),
        ((np.zeros((4, 2)), np.array([0, 1, -1, 1])), "labels outside its 2 classes"),
        ((np.zeros((4, 2)), np.array([0, 1, 0, 10**7])), "too large to be the number of a class"),
        ((np.zeros((0, 2)), np.zeros(0, int)), "x is empty"),
        ((np.zeros((4, 2)), [0, 1, 0, 1], None, [0]), "y_test alone"),
        ((np.zeros((4, 2)), [0, 1, 0, 1], np.zeros((2, 3)), [0, 1]), "different layouts"),
    ],
)
def test_arrays_that_are_no_data_set(data, told, folder):
    with pytest.raises(DataError, match=told):
        fedfuse.simulate(dataset=data, out=folder / "wrong")


@pytest.mark.parametrize("engine", ["ray", "deployment"])
def test_other_processes_cannot_import_an_object_of_this_one(engine):
    with pytest.raises(ConfigError, match=f"engine={engine} starts other processes.*'partitioner'"):
        fedfuse.load_config(engine=engine, partitioner=lambda labels, k, rng: [])
    # What has a name that can be imported is passed by it.
    cfg = fedfuse.load_config(engine=engine, scorer=KnFu(beta=2.0))
    assert cfg.scorer.beta == 2.0


def test_load_run_of_something_else(folder):
    (folder / "empty").mkdir(exist_ok=True)
    for what, told in ((folder / "empty", "no run in"), (folder / "nowhere", "not a folder")):
        with pytest.raises(ConfigError, match=told):
            fedfuse.load_run(what)
    with pytest.raises(ConfigError, match="takes a folder"):
        fedfuse.load_run(3)


def test_models_that_are_not_there(run, folder):
    for wrong in (99, -1, "0"):
        with pytest.raises(ConfigError, match=r"no such client.*0 to 2"):
            run.model(wrong)
    none = fedfuse.simulate(
        "method=local", out=folder / "none", models="none", **SMALL | {"num_rounds": 1}
    )
    with pytest.raises(ConfigError, match=r"left no models.*models=save"):
        none.model(0)
    with pytest.raises(ConfigError, match="has no weights"):
        _ = none.weights
    with pytest.raises(ConfigError, match="no local training to compare with"):
        none.gain()


def test_gains_are_over_the_control_that_is_asked_for(folder):
    run = fedfuse.load_run(write(folder / "three"))
    assert run.controls == ("local", "local_adjusted")
    assert list(run.gain().index) == ["accuracy_own", "accuracy_global"]
    assert run.gain().loc["accuracy_global", "gain"] == pytest.approx(0.25)
    lead = run.gain(over="local_adjusted")
    assert lead.loc["accuracy_global", "gain"] == pytest.approx(0.13)
    assert lead.loc["accuracy_global", "baseline"] == pytest.approx(0.62)
    assert set(run.metrics["arm"]) == {"local", "local_adjusted", "knfu_adjusted"}
    assert run._repr_html_().count("<table") == 2
    assert "gain over prior-corrected local training" in run._repr_html_()


def test_a_control_that_is_not_there_is_one_message(run, folder):
    with pytest.raises(ConfigError, match=r"over='local_adjusted', allowed: 'local'\. .*knfu_adju"):
        run.gain(over="local_adjusted")
    assert run.controls == ("local",)
    assert run._repr_html_().count("<table") == 1
    with pytest.raises(ConfigError, match="nothing here is compared with 'mean'"):
        run.gain(over="mean")
    sweep = fedfuse.load_run(write(folder / "sweep" / "three").parent)
    found = sweep.compare(over="local_adjusted").set_index(["method", "test"])
    assert list(found.index) == [("knfu_adjusted", t) for t in ("accuracy_own", "accuracy_global")]
    assert "local_adjusted" in set(sweep.compare()["method"])


def test_what_is_no_path_or_no_reporter_is_told_before_anything(folder):
    for wrong in (5, True, "", "a\0b"):
        with pytest.raises(FedfuseError, match="A path is none: got"):
            fedfuse.simulate("method=mean", **{**SMALL, "out": wrong})
        with pytest.raises(FedfuseError, match="A path is none: got"):
            fedfuse.load_config(config_dir=wrong)
    for start in (fedfuse.simulate, fedfuse.rounds):
        with pytest.raises(ConfigError, match="progress is not valid: got 'no', allowed: True"):
            start("method=mean", **{**SMALL, "out": folder / "never", "progress": "no"})
    assert not (folder / "never").exists()


def test_a_folder_is_called_as_it_is_written(folder):
    place = folder / "a=1, 'q' ${x} %s {y} ü"
    run = fedfuse.simulate("method=mean", baseline="none", out=place, **SMALL)
    assert run.folder == place
    with pytest.raises(ConfigError, match=r"hydra.run.dir cannot be read: Interpolation key 'x'"):
        fedfuse.simulate("method=mean", "hydra.run.dir=${x}", **SMALL)


def test_numbers_of_numpy_are_numbers():
    cfg = fedfuse.load_config(
        {"optimizer": {"option": "sgd", "lr": np.float64(0.25)}, "temperature": np.float32(2)},
        lr_schedule={"option": "step", "at": np.array([0.25, 0.5])},
        seed=torch.tensor(3),
    )
    assert (cfg.optimizer.lr, cfg.temperature, cfg.seed) == (0.25, 2.0, 3)
    assert list(cfg.lr_schedule.at) == [0.25, 0.5]


def test_tensors_of_any_kind_are_arrays_or_refused():
    x, y = torch.rand(40, 3, requires_grad=True), torch.arange(40) % 2
    given = from_arrays(x.to(torch.bfloat16), y)
    assert given.train.inputs.dtype == np.float32
    with pytest.raises(DataError, match="x is no array: got can't convert Sparse"):
        from_arrays(x.detach().to_sparse(), y)
    with pytest.raises(DataError, match="x has masked values"):
        from_arrays(np.ma.array(np.ones((4, 2)), mask=np.eye(4, 2)), [0, 1, 0, 1])
    pairs = torch.utils.data.TensorDataset(x, y)
    with pytest.raises(ConfigError, match=r"got TensorDataset.*Stack its samples: x, y = zip"):
        fedfuse.load_config(dataset=pairs)
