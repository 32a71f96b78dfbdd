"""An intruder called 'server' is named before anything starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from experiments.cli.package_guard import check_packages
from fedfuse.errors import ConfigError


def test_our_own_packages_pass():
    check_packages()


def test_a_package_from_elsewhere_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'fedfuse' is not fedfuse's own.*own environment"):
        check_packages(tmp_path)


def test_an_intruder_before_us_on_the_path_costs_one_line(tmp_path):
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__init__.py").touch()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from experiments.run import main; sys.exit(main(['--version']))",
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: The package 'server' is not fedfuse's own")
    assert done.stderr.count("\n") == 1
