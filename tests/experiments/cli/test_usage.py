"""The help is short, true, 80 columns wide and instant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.config import compose
from experiments.config.overrides import groups
from experiments.run import main

HEAVY = "{'torch', 'flwr', 'ray', 'pyarrow', 'rich'}"


def test_help_fits_and_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    loader = compose.open_hydra().config_loader
    shown = text.split("options (*")[1].split("\n\n")[0]
    for group in groups(loader):
        for option in loader.get_group_options(group):
            assert f" {option}" in shown, f"{group}={option} is missing"
    assert "knfu*" in shown


def test_help_lists_a_users_own_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "partitioner").mkdir()
    (tmp_path / "partitioner" / "by_city.yaml").write_text("_target_: mine.by_city\n")
    assert main(["--help", "--config-dir", str(tmp_path)]) == 0
    assert "by_city" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--help"], "{'torch', 'flwr', 'hydra', 'omegaconf'}"),
        (["--version"], "{'torch', 'flwr', 'hydra', 'omegaconf'}"),
        (["--cfg", "job", "method=mean"], HEAVY),
        (["partitioner=dirichelt"], HEAVY),
    ],
)
def test_nothing_heavy_is_imported(arguments: list[str], forbidden: str, tmp_path: Path) -> None:
    code = (
        "import sys; from experiments.run import main; "
        f"main({arguments!r}); print('heavy:', {forbidden} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.endswith("heavy: set()\n")


def test_the_installed_command(tmp_path: Path) -> None:
    """The entry point passes the exit code on."""
    command = Path(sys.executable).with_name("fedfuse")
    done = subprocess.run([command, "seed=x"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: seed must be an integer, got 'x'.\n"


def test_cfg_prints_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cfg", "job", "--resolve", "method=fedmd", "temperature=2"]) == 0
    text = capsys.readouterr().out
    assert "temperature: 2.0" in text
    assert "name: fedmd" in text
    assert "hydra" not in text
