"""The command that shows a client's failure again."""

from __future__ import annotations

import importlib
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from clients.failure_isolation import Attempt
from experiments.config.untrusted import own_code
from experiments.runs.failures import format_failure, how_to_repeat, rerun
from experiments.runs.lifecycle import Run, again, last_word
from fedfuse.errors import FedfuseError
from fedfuse.failure import Failure
from fedfuse.wire.messages import dump_failures, load_failures
from server.loop import ClientFailedError, stop_on_failure
from server.reporters.folder import RunFolder
from server.transport.answer import Answer

FAILURE = Failure(3, 2, "train", "boom", "Traceback ...\n", is_mistake=False)
LINES = ["engine=ray", "engine.num_nodes=2", "model._target_=mine.Net", "num_rounds=9"]


def command(said: list[str]) -> list[str]:
    return shlex.split(said[-1].removeprefix("To see it in one process: "))


def formatted(failure: Failure, *notes: str) -> str:
    error = ClientFailedError(failure)
    for note in notes:
        error.add_note(note)
    return format_failure(error)


def test_a_failure_names_client_round_phase_and_its_own_traceback():
    said = formatted(FAILURE, *how_to_repeat(FAILURE, LINES))
    assert said.startswith("Traceback ...\nerror: client 3 failed in round 2, phase 'train': boom")
    assert said.splitlines()[-1].startswith("To see it in one process: fedfuse ")


def test_without_a_checkpoint_the_same_run_is_repeated_in_one_process():
    # Fewer rounds would be another run: with warm-up rounds it may not even be allowed.
    assert command(how_to_repeat(FAILURE, LINES)) == shlex.split(rerun(LINES))
    assert rerun(LINES) == "fedfuse model._target_=mine.Net num_rounds=9 engine=serial"


def test_with_a_checkpoint_only_what_came_after_it_is_repeated(tmp_path: Path):
    folder = tmp_path / "a run"
    assert command(how_to_repeat(FAILURE, LINES, folder)) == [
        "fedfuse", f"resume={folder}", "model._target_=mine.Net", "engine=serial",
    ]  # fmt: skip


def test_what_was_in_one_process_is_not_sent_there(tmp_path: Path):
    assert how_to_repeat(FAILURE, ["num_rounds=9"], serial=True) == []
    [said] = how_to_repeat(FAILURE, LINES[2:], tmp_path, serial=True)
    assert said.endswith(f"go on with: fedfuse resume={tmp_path} model._target_=mine.Net")


OWN = """\
class Odd(Exception):
    pass

def step(cohort):
    raise Odd("client", cohort)

def mistaken(cohort):
    from fedfuse.user_code import blamed
    with blamed("The model own.Net"):
        step(cohort)
"""


def failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Failure:
    """Let a step of the user's own fail, and return the failure as the server hears of it."""
    (tmp_path / "ff_failing.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ff_failing", raising=False)
    step = getattr(importlib.import_module("ff_failing"), name)
    attempt = Attempt(2, "train", torch.get_num_threads(), torch.device("cpu"))
    [failure] = load_failures(dump_failures(attempt([3], step, None)))
    return failure


def test_a_part_of_the_users_shows_its_own_lines_from_wherever_it_ran(tmp_path, monkeypatch):
    failure = failed(tmp_path, monkeypatch, "step")
    said = formatted(failure, *how_to_repeat(failure, LINES)).splitlines()
    assert said[0] == ("error: client 3 failed in round 2, phase 'train': Odd: ('client', [3])")
    assert said[1].endswith('ff_failing.py", line 5, in step')
    assert said[2] == '    raise Odd("client", cohort)'
    assert said[3] == "--traceback shows the rest of the traceback."
    assert len(said) == 5


def test_a_mistake_keeps_its_lines_on_its_way_to_the_server(tmp_path, monkeypatch):
    failure = failed(tmp_path, monkeypatch, "mistaken")
    plan: Any = SimpleNamespace(fail_fast=True)
    with pytest.raises(FedfuseError) as caught:
        stop_on_failure(Answer(None, None, (failure,), 0), 1, plan)
    assert str(caught.value).startswith("The model own.Net raised Odd: ('client', [3]).\n  File ")
    assert '    raise Odd("client", cohort)' in str(caught.value)
    assert caught.value.whole.startswith("Traceback")


def test_the_command_that_goes_on_names_the_users_own_code(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "scorer: {_target_: mine.score}\nrule: {_target_: fedfuse.fusion.MeanLogits}\n"
    )
    assert own_code(tmp_path) == ["scorer._target_=mine.score"]
    assert again(tmp_path) == f"fedfuse resume={tmp_path} scorer._target_=mine.score"
    (tmp_path / "config.yaml").write_text("[not, a, mapping]")
    assert again(tmp_path) == f"fedfuse resume={tmp_path}"


def test_a_log_that_an_error_names_outlives_a_run_that_measured_nothing(tmp_path):
    for number, logged in enumerate((True, False)):
        folder = RunFolder(tmp_path / str(number))
        folder.open(overrides=[])
        if logged:
            (folder.path / "engine.log").write_text("why")
        with pytest.raises(FedfuseError) as caught, last_word(Run(None, folder)):
            raise FedfuseError("SuperNode 0 ended", next_step=f"See {folder.path}/engine.log.")
        assert folder.path.exists() == logged
        assert getattr(caught.value, "__notes__", []) == (
            [f"the log is {folder.path}/engine.log"] if logged else []
        )
