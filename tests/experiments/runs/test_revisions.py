"""Settings that mean something else than they did: runs begun before do not go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.config import compose
from experiments.run import main
from experiments.runs.environment import environment
from experiments.runs.revisions import check_meaning
from fedfuse.errors import ConfigError
from server import loop

OLD, NEW, FOLDER = {}, environment(), Path("a-run")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("method=ktpfl", "rho"),
        ("method=fedaux", "auxiliary"),
        ("method=selective_fd", "kulsif"),
        ("method=mean filter=ambiguity temperature=4", "filter"),
        ("method=fedmd sharpen=era distill=kl temperature=4", "sharpen"),
        ("method=mean student=mlp familiarity=kulsif familiarity.width=4", "student"),
        ("method=mean student=mlp server.student_teaches=true temperature=4", "student"),
        ("method=ktpfl scorer.variant=published", None),
        ("method=selective_fd familiarity.width=4", None),
        ("method=mean student=mlp server.student_teaches=true", None),
        ("method=dsfl filter=ambiguity", None),
        ("method=feddf", None),
    ],
)
def test_only_runs_that_would_be_mixed_are_refused(line: str, words: str | None) -> None:
    hydra = compose.open_hydra()
    _, [cfg] = compose.check(hydra, line.split(), multirun=False)
    check_meaning(cfg, NEW, FOLDER)
    if words is None:
        check_meaning(cfg, OLD, FOLDER)
        return
    with pytest.raises(ConfigError, match=rf"another version.*{words}.*Start it anew"):
        check_meaning(cfg, OLD, FOLDER)


def test_resuming_one_says_so(tmp_path, monkeypatch, capsys):
    real, rounds = loop.record, []

    def interrupt(*args, **named):
        rounds.append(args[0])
        if len(rounds) == 2:
            raise KeyboardInterrupt
        return real(*args, **named)

    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(loop, "record", interrupt)
        lines = ("dataset=synthetic", "num_clients=2", "num_rounds=2", "model=mlp", "method=ktpfl")
        assert main([*lines, f"hydra.run.dir={folder}"]) == 130
    record = json.loads((folder / "run.json").read_text())
    assert record.pop("revision") == 1
    (folder / "run.json").write_text(json.dumps(record))
    assert main([f"resume={folder}"]) == 2
    assert "whose rho weighed K times as much" in capsys.readouterr().err
