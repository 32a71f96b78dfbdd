"""An exchange with payloads of one's own, in one file outside of fedfuse, is one like ours."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from experiments.run import main
from server import loop
from tests.tiny import TINY

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_exchange.py"
OWN = [
    *TINY,
    "num_clients=3",
    "num_rounds=2",
    "baseline=none",
    "exchange=custom",
    "exchange._target_=my_exchange.SoftLabels",
    "method.name=soft_labels",
]
Run = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the example from a folder of its author's; return the run's folder."""
    shutil.copy(EXAMPLE, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_exchange", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    def one(name: str, *lines: str, code: int = 0) -> Path:
        chosen = dict(line.split("=", 1) for line in (*OWN, *lines))
        given = [f"{key}={value}" for key, value in chosen.items()]
        assert main([*given, f"hydra.run.dir={tmp_path / name}"]) == code
        return tmp_path / name

    return one


def metrics(folder: Path) -> bytes:
    return (folder / "metrics.parquet").read_bytes()


def values(folder: Path, name: str) -> list[float]:
    table = pq.read_table(folder / "metrics.parquet").to_pylist()
    return [row["value"] for row in table if row["metric"] == name]


def test_it_runs_and_its_bytes_are_those_of_its_fields(run):
    folder = run("run")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["method"] == "soft_labels"
    c = 10
    up = c * c * 4 + c * 8  # probabilities and counts
    assert values(folder, "bytes_up") == [0, 3 * up]  # the first round is a warm-up
    assert values(folder, "bytes_down") == [0, 3 * c * c * 4]
    assert values(folder, "bytes_down_broadcast") == [0, c * c * 4]  # all get the same


def test_clients_may_be_spread_over_nodes(run):
    assert metrics(run("spread", "engine.num_nodes=3")) == metrics(run("one"))


@pytest.mark.ray
def test_ray_gives_the_same(run):
    pytest.importorskip("ray", reason="the extra 'sim' is not installed")
    there = run("ray", "engine=ray", "engine.num_nodes=1")  # each node is a process that starts
    assert metrics(there) == metrics(run("serial"))


# In a deployment it runs in tests/integration/test_own_data.py.


# Two uploads of the third round arrive in the fourth.
LATE = ["faults=stragglers", "faults.rate=0.5", "faults.max_age=2", "num_rounds=5", "seed=4"]


def test_late_uploads_survive_a_resume(run, tmp_path, monkeypatch, capsys):
    whole = run("whole", *LATE)
    assert values(whole, "late_used") == [2]
    real = loop.record

    def interrupt(round_: int, *args: object, **named: object):
        if round_ == 4:
            raise KeyboardInterrupt
        return real(round_, *args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "record", interrupt)
        folder = run("broken", *LATE, code=130)
    saved = [name for file in folder.rglob("*.safetensors") for name in names(file)]
    assert [name for name in saved if name.endswith("/probs")], "an upload was on its way"
    # Code of one's own runs when it is named again.
    again = "exchange._target_=my_exchange.SoftLabels"
    assert main([f"resume={folder}", again]) == 0
    assert metrics(folder) == metrics(whole)


def names(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as stored:
        return list(stored.keys())


def test_a_budget_of_bytes_and_participation_hold_for_it(run):
    once = 3 * (10 * 10 * 8 + 10 * 8)
    folder = run("budget", "budget=bytes", f"budget_bytes={once}", "num_rounds=3")
    assert values(folder, "bytes_up") == [0, 3 * (400 + 80), 0]
    some = run("some", "participation=uniform", "participation.fraction=0.67")
    assert values(some, "bytes_up") == [0, 2 * (400 + 80)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("codec=fp16", "A codec writes predictions, and this method exchanges something else"),
        ("privacy=gaussian", "A privacy mechanism protects predictions, and this method"),
        ("extract=probabilities", "What is extracted is of predictions, and this method"),
        ("attack=label_flip", "forges predictions, and this method"),
        ("client.guard=validation", "A guard weighs what was distilled, and this method"),
    ],
)
def test_what_understands_predictions_alone_refuses_it_before_training(run, capsys, line, says):
    folder = run("refused", line, code=2)
    said = capsys.readouterr().err
    assert says in " ".join(said.split())
    assert said.count("error:") == 1
    assert not (folder / "metrics.parquet").exists()


MISTAKES = {
    ("return Kind(ClassMeans, Mixtures)",): (
        "return None",
        2,
        "The exchange SoftLabels does not say what travels: got None, allowed: a fedfuse.exchange",
    ),
    # What is written in its place; code and words of the message.
    ('bounds=SIMPLEX)]\n    counts: Annotated[Tensor, ArrayField("K C", torch.int64, COUNTS)]',): (
        "bounds=SIMPLEX)]\n    counts: Tensor",
        2,
        "The field 'counts' of payload ClassMeans does not declare what it holds",
    ),
    ('probs: Annotated[Tensor, ArrayField("K C C"',): (
        'probs: Annotated[Tensor, ArrayField("K C Z"',
        2,
        "Nobody says how large the dimension Z of 'probs' of payload ClassMeans is",
    ),
    ("return ClassMeans(ids, torch.stack(probs)",): (
        "return ClassMeans(ids, 2 * torch.stack(probs)",
        1,
        "'probs' of client 0 holds impossible values: got 10 of 10 rows with another sum",
    ),
    ("return ClassMeans(ids,",): (
        "return ClassMeans(ids + 1,",
        2,
        "The exchange SoftLabels shared knowledge of other clients than were asked",
    ),
    ("return Fusion(Mixtures(up.client_ids, labels.repeat(up.num_clients, 1, 1)), None)",): (
        "return Fusion(up, None)",
        2,
        "is another payload than the exchange's kind declares: got ClassMeans, allowed: Mixtures",
    ),
}


@pytest.mark.parametrize("old", MISTAKES)
def test_a_mistake_in_it_costs_one_message(run, tmp_path, capsys, old):
    new, code, says = MISTAKES[old]
    file = tmp_path / "my_exchange.py"
    text = file.read_text()
    assert text.count(old[0]) == 1
    file.write_text(text.replace(old[0], new))
    run("mistaken", code=code)
    said = " ".join(capsys.readouterr().err.split())
    assert says in said
    assert "Traceback" not in said


def test_the_guide_shows_the_file_that_is_tested():
    guide = EXAMPLE.parents[1] / "docs" / "guides" / "exchange.md"
    assert EXAMPLE.read_text(encoding="utf-8") in guide.read_text(encoding="utf-8")
