"""engine=ray: the same numbers as engine=serial, wherever nodes and clients' states are."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from queue import Empty
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from experiments.engines import ray_cluster
from experiments.engines.processes import descendants
from experiments.run import main

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not find_spec("ray"), reason="the extra 'sim' is not installed"),
]

QUICK = [
    "dataset=synthetic",
    "dataset.image_size=12",
    "num_clients=4",
    "num_rounds=2",
    "public.size=60",
    "evaluation.test_samples=100",
    "baseline=none",
    "evaluation.probes=[pgd,consistency]",
]

SEEN = ["model=lenet5", "private_augment=crop_flip"]
TRAINING = ["lr_schedule=cosine", "lr_schedule.per=step", "client.clip_norm=0.5"]

MECHANISMS = [  # a loss that wants facts, a chain with the clock, a rule with labels and rounds
    *("distill=taid", "+uptake@uptake.stages.clock=clock"),
    *("rule=mix_by_round", "+rule@rule.inner=own_or_fused", "rule.inner.by=label"),
]

MORTAL = '''
import os, pathlib
import torch

class Mortal(torch.nn.Module):
    """A model whose 25th step kills its process, or its machine if that is not the head."""

    def __init__(self, input_shape, num_classes):
        super().__init__()
        size = int(torch.tensor(input_shape).prod())
        self.net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size, num_classes))
        self.steps = 0

    def forward(self, inputs):
        self.steps += self.training
        fuse = pathlib.Path(__file__).with_name("fuse")
        try:
            victim = fuse.read_text() if self.steps == 25 else None
            if victim == "machine":
                import ray
                here = ray.get_runtime_context().get_node_id()
                resources = next(n["Resources"] for n in ray.nodes() if n["NodeID"] == here)
                if "node:__internal_head__" in resources:
                    return self.net(inputs)
            if victim is not None:
                fuse.rename(fuse.with_name("burnt"))  # of two workers, one is first
        except FileNotFoundError:
            return self.net(inputs)
        if victim is not None:
            machine = [os.getppid()] if victim == "machine" else []  # its raylet
            for pid in [*machine, os.getpid()]:
                os.kill(pid, 9)
        return self.net(inputs)
'''


def run(folder: Path, *overrides: str) -> dict[str, list[object]]:
    chosen = dict(line.split("=", 1) for line in (*QUICK, *overrides))
    lines = [f"{key}={value}" for key, value in chosen.items()]
    assert main([*lines, f"hydra.run.dir={folder}"]) == 0
    models = [file.read_bytes() for file in sorted((folder / "models").iterdir())]
    return {**pq.read_table(folder / "metrics.parquet").to_pydict(), "models": models}


def ray_processes() -> list[str]:
    names = [Path(f"/proc/{pid}/cmdline") for pid in descendants([os.getpid()])]
    lines = [name.read_bytes().replace(b"\0", b" ").decode() for name in names if name.exists()]
    return [line for line in lines if "ray" in line]


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    return run(tmp_path_factory.mktemp("serial") / "run", *SEEN)


@pytest.mark.parametrize("where", ["context", "disk"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_states_that_leave_the_process_change_no_number(tmp_path, where, optimizer):
    with_momentum = ["optimizer.momentum=0.9"] if optimizer == "sgd" else []
    chosen = ["model=lenet5", f"optimizer={optimizer}", *with_momentum]
    live = run(tmp_path / "live", *chosen)
    assert run(tmp_path / where, *chosen, f"client.state={where}", "engine.num_nodes=2") == live


def test_ray_gives_the_numbers_of_serial(tmp_path, serial):
    assert run(tmp_path / "run", *SEEN, "engine=ray") == serial
    assert ray_processes() == []


@pytest.fixture
def mortal(tmp_path, monkeypatch) -> Iterator[list[str]]:
    (tmp_path / "mortal_model.py").write_text(MORTAL)
    (tmp_path / "fuse").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield ["model=custom", "model._target_=mortal_model.Mortal"]
    sys.modules.pop("mortal_model", None)


def test_a_killed_worker_is_a_named_failure(mortal, tmp_path, capsys):
    assert main([*QUICK, "engine=ray", *mortal, f"hydra.run.dir={tmp_path / 'run'}"]) == 1
    said = capsys.readouterr().err
    assert "failed in round" in said
    assert "its worker process is gone" in said
    again = shlex.split(said[said.index("To see it in one process: fedfuse ") :].splitlines()[0])
    assert again[-1] == "engine=serial"
    assert ray_processes() == []


def test_ctrl_c_ends_every_process(interrupt):
    endless = [line for line in QUICK if "num_rounds" not in line]
    interrupt([*endless, "model=mlp", "engine=ray", "num_rounds=100000"], at="knfu  round")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["engine.cpus_per_node=4096"], "do not fit on any machine"),
        (["engine.gpus_per_node=64"], "do not fit on any machine"),
        (["engine.num_nodes=5"], "engine.num_nodes is not valid"),
        (["engine.cpus_per_node=1.5"], "a fraction up to 1, or a whole number"),
        (["engine.address=127.0.0.1:1"], "No Ray cluster answers"),
    ],
)
def test_what_ray_cannot_give_is_refused_before_training(tmp_path, capsys, overrides, message):
    folder = tmp_path / "run"
    assert main([*QUICK, "model=mlp", "engine=ray", *overrides, f"hydra.run.dir={folder}"]) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()
    assert ray_processes() == []


def test_a_ray_that_does_not_come_up_is_one_message(tmp_path, capsys, monkeypatch):
    def late(**_):
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.setattr("ray.init", late)
    assert main([*QUICK, "model=mlp", "engine=ray", f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert "Ray could not be started" in said
    assert "timed out during startup" in said
    assert "Traceback" not in said


def test_without_ray_the_command_that_installs_it_is_named(tmp_path, capsys, monkeypatch):
    from experiments.engines import ray as engine

    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda _: None)
    assert main([*QUICK, "model=mlp", "engine=ray", f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    assert "pip install -c constraints.txt -e '.[sim]'" in capsys.readouterr().err


# From here on a cluster runs beside the tests, so they no longer look for what is left behind.


@pytest.fixture(scope="module")
def machines():
    """A Ray cluster of two machines with one CPU each."""
    from ray.cluster_utils import Cluster

    with ray_cluster.lean():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        cluster.add_node(num_cpus=1)
    try:
        cluster.wait_for_nodes()
        yield ["engine=ray", f"engine.address={cluster.address}"]
    finally:
        cluster.shutdown()
    assert ray_processes() == []


@pytest.mark.thinned(keep=2)  # a Ray of its own has two nodes, and so has the run below
@pytest.mark.parametrize(
    "overrides",
    [
        ["engine.num_nodes=1", "client.state=disk"],
        ["engine.num_nodes=2"],
        ["engine.num_nodes=4"],
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_a_cluster_of_two_machines_gives_the_numbers_of_serial(
    tmp_path, serial, machines, overrides, capsys
):
    assert run(tmp_path / "run", *SEEN, *machines, *overrides) == serial
    assert "on 2 machines" in capsys.readouterr().out


def test_pre_training_confidences_codecs_priors_mechanisms_and_who_rests_are_the_same_on_ray(
    tmp_path, machines
):
    more = ("model=mlp", "method=uwa", "codec=uint8", "extract=adjusted", "pretrain=public")
    more = (*more, "uptake=chain", "local_loss=balanced_softmax", "evaluation.prior=add")
    more += ("+uptake@uptake.stages.clock=clock", "distill=taid")
    more += ("+uptake@uptake.stages.past=two_teachers", "exchange=kept_teacher")
    more += ("participation=uniform", "evaluation.resting=sample", "evaluation.resting_sample=2")
    more += ("warmup_rounds=0", "request=gap_by_domain", "request.per_client=true")
    more += ("wish=on_demand", "wish.share=0.3")
    more = (
        *more,
        "evaluation.probes=[]",
        "features=random",
        "guard=sequential",
        *MECHANISMS,
        *TRAINING,
        "+rule@rule.inner.inner=uploaded_confidence",
    )
    there = [*machines, "client.state=disk"]  # as a Ray of its own keeps them
    assert run(tmp_path / "ray", *there, *more) == run(tmp_path / "serial", *more)


@pytest.mark.parametrize("victim", ["worker", "machine"])
def test_a_round_goes_on_without_a_killed_worker_or_a_lost_machine(
    mortal, machines, tmp_path, capsys, victim
):
    (tmp_path / "fuse").write_text(victim)
    there = [*mortal, *machines, "server.fail_fast=false", "num_rounds=3"]
    metrics = run(tmp_path / "run", *there)
    absent = json.loads((tmp_path / "run" / "run.json").read_text())["failures"]
    assert {failure["client_id"] for failure in absent} in ({0, 1}, {2, 3})
    assert all("its worker process is gone" in failure["error"] for failure in absent)
    assert max(metrics["round"]) == 3
    last = {c for r, c in zip(metrics["round"], metrics["client_id"], strict=True) if r == 3}
    assert last == {-1, 0, 1, 2, 3}  # another worker has taken the place of the dead one
    said = capsys.readouterr()
    assert "clients that rounds went on without" in said.out
    assert "(raylet)" not in said.out + said.err


def test_what_workers_import_beforehand_is_there():
    assert all(find_spec(name) for name in ray_cluster.MODULES.split(","))


def test_a_node_that_is_slow_to_come_up_is_waited_for(monkeypatch):
    from ray._private import services
    from ray._private.node import Node

    calls = []

    def get_node(*of):
        calls.append(of)
        if len(calls) < 3:
            raise RuntimeError("not there yet")
        return {"labels": {}}

    monkeypatch.setattr(services, "get_node", get_node)
    started = Node.start_api_server
    with ray_cluster.lean():
        assert services.get_node("gcs", "id") == {"labels": {}}
        assert Node.start_api_server is not started
    assert calls == [("gcs", "id")] * 3
    assert (services.get_node, Node.start_api_server) == (get_node, started)


def test_ray_starts_without_the_agents_it_would_wait_for(monkeypatch, tmp_path):
    from ray._private import services
    from ray._private.node import Node

    commands = []
    agents = ["--runtime_env_agent_command=python main.py --a=1", "--dashboard_agent_command=b\nc"]
    monkeypatch.setattr(services, "start_ray_process", lambda words, kind: commands.append(words))
    monkeypatch.setattr(
        Node,
        "start_raylet",
        lambda _, plasma: services.start_ray_process(["raylet", plasma, *agents], "raylet"),
    )
    usual = Node.start_raylet
    node = SimpleNamespace(_session_dir=str(tmp_path), _node_id="ab" * 28)
    with ray_cluster.agentless():
        Node.start_raylet(node, "/dev/shm")
    [[*others, runtime, dashboard]] = commands
    assert others == ["raylet", "/dev/shm"]
    assert (runtime, dashboard) == ("--runtime_env_agent_command= ", "--dashboard_agent_command= ")
    assert {file.name.split("_ab")[0] for file in tmp_path.iterdir()} == set(ray_cluster.PORTS)
    assert {file.read_text() for file in tmp_path.iterdir()} == {"-1"}
    assert Node.start_raylet is usual


def test_what_another_version_does_not_have_is_not_replaced():
    owner = SimpleNamespace(known=1)
    with ray_cluster.swapped(owner, known=2, gone=3):
        assert vars(owner) == {"known": 2}
    assert vars(owner) == {"known": 1}


def test_the_readers_of_a_queue_hear_of_the_end_at_once():
    from experiments.engines.ray_backend import Notifier

    notifier = Notifier(2)
    queue = notifier.queue()
    queue.put("a reply")
    notifier.end()
    assert queue.get(timeout=3600) == "a reply"
    for _ in range(2):
        with pytest.raises(Empty):
            queue.get(timeout=3600)
    assert notifier.asked.get(timeout=3600) is None
