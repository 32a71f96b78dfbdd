"""``fedfuse partition`` deals what a run deals, and leaves nothing behind."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from experiments.run import main

SMALL = [
    "dataset=synthetic",
    "dataset.num_train=600",
    "dataset.num_test=200",
    "public.size=40",
    "num_clients=4",
    "model=mlp",
    "partitioner.alpha=0.3",
    "client.batch_size=8",
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDFUSE_CACHE", str(tmp_path.parent / "cache"))


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["partition", *words]) == 0
    return capsys.readouterr().out


def test_it_is_the_partition_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = json.loads(asked(capsys, *SMALL, "--json"))
    rows = list(csv.DictReader(io.StringIO(asked(capsys, *SMALL, "--csv"))))
    table = asked(capsys, *SMALL)
    assert list(tmp_path.iterdir()) == []
    assert (
        main([*SMALL, "num_rounds=1", "warmup_rounds=0", "method=local", "hydra.run.dir=run"]) == 0
    )
    found = pq.read_table("run/partition.parquet").to_pydict()
    run = json.loads(Path("run/run.json").read_text())
    counts = Counter(zip(found["client_id"], found["split"], found["label"], strict=True))
    told = {(int(r["client_id"]), r["split"], int(r["label"])): int(r["samples"]) for r in rows}
    assert len(told) == 4 * 3 * 10
    assert {key: n for key, n in told.items() if n} == counts
    assert given["data_fingerprint"] == run["data_fingerprint"]
    for client in given["clients"]:
        for split in ("train", "val", "test"):
            held = [counts[client["client_id"], split, label] for label in range(10)]
            assert client["labels"][split] == held
            assert client[split] == sum(held)
    # The preview is the run's own, its last line apart, which the summary says in more words.
    assert "\n".join(Path("run/partition.txt").read_text().splitlines()[:-1]) in table
    assert max(map(len, table.splitlines())) <= 80


def test_a_picture_and_numbers_as_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "a.svg", "new/a.json"):
        assert main(["partition", *SMALL, "-o", name]) == 0
        assert capsys.readouterr().err == f"written: {name}\n"
    with Image.open("a.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 5
    svg = Path("a.svg").read_text()
    assert "dirichlet(alpha=0.3, min_samples=40), seed 0" in svg
    assert "synthetic-image: who holds which classes" in svg
    assert len(json.loads(Path("new/a.json").read_text())["clients"]) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "new"]


def test_a_partitioner_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("halves_of_mine.py").write_text(
        "import numpy as np\n\n"
        "def halves(labels, num_clients, rng):\n"
        "    return np.array_split(np.argsort(labels, kind='stable'), num_clients)\n"
    )
    words = [word for word in SMALL if not word.startswith(("partitioner", "num_clients"))]
    target = "partitioner._target_=halves_of_mine.halves"
    told = json.loads(asked(capsys, *words, target, "num_clients=2", "--json"))
    first, second = (client["labels"]["train"] for client in told["clients"])
    assert not any(first[6:])
    assert not any(second[:4])


def test_many_clients_and_classes(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset=synthetic", "dataset.num_train=4000", "dataset.num_classes=40"]
    words += ["public.size=40", "num_clients=25", "model=mlp", "partitioner=iid"]
    text = asked(capsys, *words)
    assert text.count("(5 more clients)") == 2  # in the table and in the preview
    assert max(map(len, text.splitlines())) <= 80
    rows = asked(capsys, *words, "--csv").splitlines()
    assert len(rows) == 1 + 25 * 3 * 40


def test_an_experiment_is_dealt_as_its_first_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["partition", "experiment=k3", "--json", *SMALL[:4], "model=mlp"]) == 0
    out, err = capsys.readouterr()
    assert "the first run of the sweep: partitioner.leak=0.0" in err
    assert json.loads(out)["partitioner"].startswith("labelgroups(")


def test_transforms_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for word in SMALL if not word.startswith("partitioner")]
    assert "transform of its own" in asked(capsys, *words, "partitioner=feature_noise")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("-o a.gif", "got 'a.gif', allowed: .png, .svg, .pdf, .csv, .json"),
        ("-o a.pgn", "Did you mean '.png'?"),
        ("-o folder", "got 'folder'"),
        ("--csv --json", "Keep one."),
        ("seed=0,1", "'seed=0,1' names several values"),
        ("partitioner.alhpa=1", "Did you mean 'alpha'?"),
        ("num_clients=500", "cannot give each of 500 clients"),
        ("partitioner.min_samples=400", "min_samples"),
        ("resume=x", "no key or group 'resume'"),
        ("-m", "-m"),
        ("sites=own", "sites.paths"),
    ],
)
def test_a_mistake_is_one_message(
    words: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words.split()
    keys = {word.split("=")[0] for word in given}
    words_of_run = [word for word in SMALL if word.split("=")[0] not in keys]
    assert main(["partition", *words_of_run, *given]) == 2
    out, err = capsys.readouterr()
    assert told in err
    assert (out, err.count("\n")) == ("", 1)
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_refuses_is_refused_in_the_same_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*SMALL[:4], "num_clients=4", "model=mlp", "partitioner.min_samples=400"]
    assert main(["partition", *words]) == 2
    ours = capsys.readouterr().err
    assert main([*words, "hydra.run.dir=run"]) == 2
    assert capsys.readouterr().err == ours


def test_a_place_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    for name in ("file/a.png", "file/a.csv"):
        assert main(["partition", *SMALL, "-o", name]) == 2
        err = capsys.readouterr().err
        assert "cannot be" in err
        assert err.count("\n") == 1
