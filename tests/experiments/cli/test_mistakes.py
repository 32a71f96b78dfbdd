"""Every mistake on the command line costs one message, exit code 2, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.run import main

PARTITIONER = """\
CONSTANT = 3

def by_halves(labels, num_clients, rng, ratio=0.5):
    return []

class Picky:
    def __init__(self, share):
        if share > 1:
            raise ValueError("share is above 1")
"""

MISTAKES = {
    # command line -> what the message must say
    "partitioner=dirichelt": [
        "no 'dirichelt' in group 'partitioner'",
        "Did you mean 'dirichlet'?",
        "Options: by_column, custom, dirichlet,",
    ],
    "method=fedmb": ["no 'fedmb' in group 'method'", "Did you mean 'fedmd'"],
    "partitioner=null": ["no 'null' in group 'partitioner'", "Options:"],
    "partitoner=iid": ["no key or group 'partitoner'", "Did you mean 'partitioner'?"],
    "foo/bar=x": ["no key or group 'foo/bar'"],
    "partitioner.alhpa=1": ["partitioner=dirichlet has no parameter 'alhpa'", "mean 'alpha'?"],
    "alpha=0.1": ["no key or group 'alpha'", "fedfuse --cfg job"],
    "beta=3": ["no key or group 'beta'", "Did you mean 'scorer.beta'?"],
    "client.batchsize=4": ["client has no parameter 'batchsize'", "Did you mean 'batch_size'?"],
    "hydra.run.dri=x": ["hydra.run has no parameter 'dri'", "Did you mean 'dir'?"],
    "+num_cleints=3": ["no key or group 'num_cleints'", "Did you mean 'num_clients'?"],
    "~num_cleints": ["no key or group 'num_cleints'", "Did you mean 'num_clients'?"],
    "+partitioner.alhpa=1": ["partitioner has no parameter 'alhpa'", "Did you mean 'alpha'?"],
    "+client.lr_decay=0.9": ["client has no parameter 'lr_decay'"],
    "++client.batch_sise=9": ["client has no parameter 'batch_sise'", "Did you mean 'batch_size'?"],
    "+client={lr_decay:0.9}": ["client has no parameter 'lr_decay'"],
    "+evaluation.confusion=true": ["evaluation has no parameter 'confusion'"],
    "+server.momentum=0.9": ["server has no parameter 'momentum'"],
    "+checkpoint.path=x": ["checkpoint has no parameter 'path'"],
    "+engine.num_node=1": ["engine=serial has no parameter", "Did you mean 'num_nodes'?"],
    "+method.beta=5": ["method has no parameter 'beta'"],
    "+privacy.epsilon=1": ["privacy=none has no parameter 'epsilon'"],
    "+student.width=1": ["student=none has no parameter 'width'"],
    "+dataset.nois=1 dataset=synthetic": ["dataset has no parameter", "Did you mean 'noise'?"],
    "+scorer.betta=1": ["scorer has no parameter 'betta'", "Did you mean 'beta'?"],
    "+hydra.job.nam=x": ["hydra.job has no parameter 'nam'", "Did you mean 'name'?"],
    "-m +client.lr_decay=0.1,0.2": ["client has no parameter 'lr_decay'"],
    "-m privacy=none,gaussian +privacy.clip=1": ["privacy=none has no parameter 'clip'"],
    "engine.name=threads": ["no 'threads' in group 'engine'"],
    "~engine.num_nodes": ["engine.num_nodes has no value"],
    "~client": ["client has no value"],
    "num_clients=ten": ["num_clients must be an integer, got 'ten'"],
    "num_clients=2.5": ["num_clients must be an integer, got 2.5"],
    "num_clients=null": ["num_clients must be an integer, got null"],
    "temperature=hot": ["temperature must be a number, got 'hot'"],
    "client.share_class_distribution=perhaps": [
        "client.share_class_distribution must be true or false, got 'perhaps'"
    ],
    "client=3": ["client holds several keys"],
    "num_clients=0": ["num_clients is not valid: got 0, allowed: an integer of at least 1"],
    "client.batch_size=0": ["client.batch_size is not valid: got 0"],
    "val_fraction=1": ["val_fraction is not valid: got 1.0, allowed: a number from 0 (included)"],
    "val_fraction=nan": ["val_fraction is not valid: got nan"],
    "temperature=inf": ["temperature is not valid: got inf"],
    "baseline=locale": ["baseline is not valid: got 'locale', allowed: local or none"],
    "server.device=gpu": ["server.device is not valid: got 'gpu'"],
    "num_rounds=1": ["warmup_rounds leaves no round for fusion", "num_rounds=2"],
    "report": ["there is no command 'report'", "Did you mean 'fedfuse-report'?"],
    "tunee": ["there is no command 'tunee'", "Did you mean 'fedfuse tune'?"],
    "num_clients": ["cannot read 'num_clients'", "KEY=VALUE"],
    "seed=[1": ["cannot read 'seed=[1'", "Quote"],
    "num_clients=3 num_clients=4": [
        "'num_clients' is given twice: num_clients=3 and num_clients=4"
    ],
    "method=mean method=knfu": ["'method' is given twice"],
    "seed=1,2": ["'seed=1,2' names several values", "-m"],
    "-m seed=0,one": ["seed must be an integer, got 'one'"],
    "-m method=mean,fedmb": ["no 'fedmb' in group 'method'", ": fedfuse list method"],
    "-m partitioner=dirichlet,iid partitioner.alpha=1": [
        "partitioner=iid has no parameter 'alpha'"
    ],
    "-m scorer.beta=1,-1": ["'beta' parameter", "got -1"],
    "partitioner=custom": ["partitioner._target_ has no value"],
    "dataset=npz": ["dataset.path has no value", "dataset.path=..."],
    "partitioner._target_=no_such_module.f": ["there is no module 'no_such_module'"],
    "partitioner._target_=my_partitoner.by_halves": [
        "there is no module 'my_partitoner'",
        "Did you mean 'my_partitioner'?",
    ],
    "partitioner._target_=my_partitioner.by_halfs": [
        "my_partitioner has no 'by_halfs'",
        "Did you mean 'by_halves'?",
    ],
    "partitioner._target_=my_partitioner.CONSTANT": ["must name a class or a function"],
    "partitioner._target_=needs.more": ["importing 'needs' failed: No module named 'not_there'"],
    "partitioner._target_=3": ["partitioner._target_ is not valid: got 3"],
    "partitioner._target_=my_partitioner.by_halves partitioner.ration=1": [
        "partitioner has no parameter 'ration'",
        "Did you mean 'ratio'?",
    ],
    "partitioner._target_=my_partitioner.Picky": ["partitioner needs a value for 'share'"],
    "partitioner._target_=my_partitioner.Picky partitioner.share=2": [
        "partitioner: Picky refused its parameters: share is above 1"
    ],
    "partitioner.alpha=0": ["'alpha' parameter of dirichlet", "got 0"],
    "scorer.beta=lots": ["'beta' parameter of KnFu", "got 'lots'"],
    "temperature=${temprature}": ["temprature"],
    "hydra.run.dir=my_partitioner.py": ["'my_partitioner.py' is a file"],
    "hydra.run.dir=my_partitioner.py/run": ["cannot be made", "hydra.run.dir=FOLDER"],
    "hydra.run.dir=full": ["'full' is not empty", "no run is ever overwritten"],
    "-m hydra.sweep.dir=full seed=0,1": ["'full' is not empty"],
    "-m hydra.run.dir=mine seed=0,1": ["would not be read", "hydra.sweep.dir=FOLDER"],
    "hydra.sweep.dir=mine": ["this is one run", "hydra.run.dir=FOLDER, or add -m"],
    "hydra.sweep.subdir=mine": ["hydra.sweep.subdir would not be read", "add -m"],
    "engine.pack=true": ["trains the runs of a sweep together", "fedfuse -m engine.pack=true"],
    "-m engine.pack=true,false": ["engine.pack differs between the runs", "Start two sweeps"],
    "-m engine.pack=maybe seed=0,1": ["engine.pack is not valid: got 'maybe'"],
    "-m engine.pack=true engine=ray seed=0,1": ["got engine=ray", "Set engine=serial"],
    "-m engine.pack=true trainer=loop seed=0,1": ["got trainer=loop", "trainer=batched (or auto)"],
    "-m engine.pack=true client.threads=1,2": ["have one client.threads", "got", "1,2"],
    "--multirn seed=0": ["unrecognized arguments: --multirn", "Did you mean '--multirun'?"],
    "--config-dir nowhere": ["--config-dir is not a folder: got nowhere"],
    "--cfg jobs": ["invalid choice: 'jobs'"],
    "--cfg job -m": ["--cfg", "cannot be combined with -m"],
    "--resolve": ["--resolve", "--cfg job"],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_partitioner.py").write_text(PARTITIONER)
    (tmp_path / "needs.py").write_text("import not_there\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "run.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def tree(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_costs_one_message(
    command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(here)
    assert main(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    for words in MISTAKES[command]:
        assert words in err
    assert "Traceback" not in err
    assert "append to your config" not in err, "Hydra's misleading advice"
    assert tree(here) == before


def test_the_message_comes_without_hydras_own(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing below Python's sys.stderr (warnings, loggers) may join in."""
    assert main(["partitioner.alhpa=1"]) == 2
    assert capfd.readouterr().err.count("\n") == 1
