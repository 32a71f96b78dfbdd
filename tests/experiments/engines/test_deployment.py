"""engine=deployment: SuperLink and SuperNodes with TLS and node keys, as processes on loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments.engines import credentials, deployment
from experiments.engines.processes import Processes, descendants, free_port, listens
from experiments.run import main

pytestmark = pytest.mark.deployment
ROOT = Path(__file__).parents[3]
PATIENCE = 600
"""Seconds: a test that works never waits for them, however busy the machine is."""

LATE = ("Failed to start local SuperLink", "timed out during startup")
"""What Flower and Ray say where their own processes did not come up in time."""

QUICK = [
    "dataset=synthetic",
    "num_clients=4",
    "num_rounds=1",
    "warmup_rounds=0",
    "public.size=60",
    "evaluation.test_samples=100",
    "baseline=none",
    "model=mlp",
]

MECHANISMS = [  # a loss that wants facts, a chain with the clock, a rule with labels and rounds
    *("distill=taid", "uptake=chain", "+uptake@uptake.stages.clock=clock"),
    *("rule=mix_by_round", "+rule@rule.inner=better_sources", "rule.inner.by=label"),
    *("lr_schedule=step", "lr_schedule.at=[0.01]", "lr_schedule.per=step", "client.clip_norm=0.5"),
]


def metrics(folder: Path) -> dict[str, list[object]]:
    return pq.read_table(folder / "metrics.parquet").to_pydict()


def flower_processes() -> list[str]:
    files = [Path(f"/proc/{pid}/cmdline") for pid in descendants([os.getpid()])]
    lines = [file.read_bytes().replace(b"\0", b" ").decode() for file in files if file.exists()]
    return [line for line in lines if "flower-" in line or "flwr-" in line]


def test_supernodes_give_the_numbers_of_serial_and_leave_nothing_behind(tmp_path, capsys):
    guarded = [*QUICK, "guard=sequential", "guard.public_fold=0.2", "features=random", *MECHANISMS]
    assert main([*guarded, f"hydra.run.dir={tmp_path / 'serial'}"]) == 0
    there = tmp_path / "deployment"
    deployed = [*guarded, "engine=deployment", "engine.num_nodes=2"]
    assert main([*deployed, f"hydra.run.dir={there}"]) == 0
    assert metrics(there) == metrics(tmp_path / "serial")
    models = [
        f"{client_id}{whose}.safetensors" for client_id in range(4) for whose in ("", ".local")
    ]
    for name in ("models.json", *models):
        ours, theirs = (folder / "models" / name for folder in (there, tmp_path / "serial"))
        assert ours.read_bytes() == theirs.read_bytes()
    said = capsys.readouterr().out
    assert "4 clients on 2 SuperNodes" in said
    port = re.search(r"SuperLink on 127\.0\.0\.1:(\d+)", said)
    assert port is not None
    assert not listens(int(port[1]))
    assert flower_processes() == []


@pytest.fixture
def superlink(tmp_path, monkeypatch):
    """A SuperLink on loopback and its port, without any registered node."""
    keys, home, port = tmp_path / "keys", tmp_path / "home", free_port()
    credentials.issue(keys, ["127.0.0.1"], 1)
    home.mkdir()
    env = {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    processes = Processes(tmp_path / "log", env)
    try:
        processes.start("SuperLink", deployment.superlink(port, keys))
        deployment.wait(processes, lambda: listens(port), "no SuperLink")
        yield port, keys, processes
    finally:
        processes.stop()
    assert not listens(port)
    assert flower_processes() == []


def test_a_supernode_without_a_registered_key_is_refused(superlink):
    port, keys, processes = superlink
    processes.start("stranger", deployment.supernode(port, keys, 0, 1))
    deadline = time.monotonic() + PATIENCE
    while processes.exit_code("stranger") is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes.exit_code("stranger") not in (None, 0)
    log = processes.log.read_text()
    assert "No SuperNode found with the given public key" in log


def test_ctrl_c_ends_every_process(interrupt):
    line = interrupt([*QUICK, "engine=deployment"], at="SuperNodes")
    assert not listens(int(re.search(r":(\d+) ", line)[1]))  # type: ignore[index]


def refused(capsys, folder: Path, *overrides: str) -> str:
    assert main([*QUICK, "engine=deployment", *overrides, f"hydra.run.dir={folder}"]) == 2
    assert not folder.exists()
    assert flower_processes() == []
    return capsys.readouterr().err


def test_a_port_in_use_is_refused(tmp_path, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused(capsys, tmp_path / "run", f"engine.port={port}")
    assert f"Port {port} is in use" in said


def test_credentials_that_do_not_fit_are_refused(tmp_path, capsys):
    good, old, other = (tmp_path / name for name in ("good", "old", "other"))
    credentials.issue(good, ["127.0.0.1"], 3)
    credentials.issue(old, ["127.0.0.1"], 3, days=-1)
    credentials.issue(other, ["192.0.2.1"], 3)
    mixed = Path(shutil.copytree(good, tmp_path / "mixed"))
    shutil.copy(other / "ca.crt", mixed / "ca.crt")
    credentials.check(good, "127.0.0.1", 3)
    for folder, message in (
        (old, "is not valid today"),
        (mixed, "was not issued by"),
        (other, "is for another host"),
        (tmp_path / "nothing", "lacks files"),
    ):
        said = refused(capsys, tmp_path / "run", f"engine.credentials={folder}")
        assert message in said


def test_flwr_run_on_the_project_runs_the_default_experiment(tmp_path):
    ports = [free_port(), free_port()]
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(
        '[superlink]\ndefault = "local"\n[superlink.local]\naddress = ":local-in-memory:"\n'
    )
    env = {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(ports[0]),
        "FLWR_LOCAL_CONTROL_API_PORT": str(ports[1]),
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        # The dependencies are installed; a test must not need an index for finding that out.
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        # Else Flower's Ray joins whatever cluster `ray start` has up, such as another test's.
        "RAY_ADDRESS": "local",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    small = "warmup_rounds=0 baseline=none public.size=60 evaluation.test_samples=100"
    wanted = f'num-rounds="1" overrides="{small}" output='
    try:
        for attempt in range(10):
            out = tmp_path / f"out-{attempt}"
            done = subprocess.run(
                [deployment.program("flwr"), "run", ".", "--stream", "-c", f'{wanted}"{out}"'],
                cwd=ROOT,
                env=env,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            # On a busy machine it does not come up within the 15 s that Flower gives it, nor
            # Ray within its own 30 s.
            if not any(late in done.stdout + done.stderr for late in LATE):
                break
    finally:
        # The local SuperLink outlives `flwr run`; it is a child of nobody, but its port is ours.
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = file.read_bytes().decode()
            except OSError:
                continue
            if "flower-superlink" in line and f"--port\0{ports[0]}\0" in line:
                pid = int(file.parent.name)
                for each in {pid, *descendants([pid])}:
                    os.kill(each, signal.SIGTERM)
    assert "run folder:" in done.stdout, done.stdout + done.stderr
    (record,) = out.glob("*/*/run.json")
    assert json.loads(record.read_text())["status"] == "finished"
