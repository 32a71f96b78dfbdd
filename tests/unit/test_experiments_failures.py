"""The command that shows a client's failure again."""

from __future__ import annotations

import shlex
from pathlib import Path

from experiments.failures import rerun, told
from fedfuse.messages import Failure
from server.loop import ClientFailedError

ERROR = ClientFailedError(Failure(3, 2, "train", "boom", "Traceback ...\n", is_mistake=False))
LINES = ["engine=ray", "engine.num_nodes=2", "model._target_=mine.Net", "num_rounds=9"]


def command(said: str) -> list[str]:
    return shlex.split(said.splitlines()[-1].removeprefix("To see it in one process: "))


def test_a_failure_names_client_round_phase_and_its_own_traceback():
    said = told(ERROR, LINES)
    assert said.startswith("Traceback ...\nerror: client 3 failed in round 2, phase 'train': boom")


def test_without_a_checkpoint_the_same_run_is_repeated_in_one_process():
    # Fewer rounds would be another run: with warm-up rounds it may not even be allowed.
    assert command(told(ERROR, LINES)) == shlex.split(rerun(LINES))
    assert rerun(LINES) == "fedfuse model._target_=mine.Net num_rounds=9 engine=serial"


def test_with_a_checkpoint_only_what_came_after_it_is_repeated(tmp_path: Path):
    folder = tmp_path / "a run"
    assert command(told(ERROR, LINES, folder)) == [
        "fedfuse", f"resume={folder}", "model._target_=mine.Net", "engine=serial",
    ]  # fmt: skip
