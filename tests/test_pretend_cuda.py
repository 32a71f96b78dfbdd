"""A GPU that is none refuses what a GPU refuses, and whatever runs there keeps to one device."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.func import functional_call, vmap

import fedfuse
from tests.pretend_cuda import pretend_cuda

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.cat([x, torch.ones(1, 3)]),
        lambda x: torch.ones(3, 3)[x.long()],
        lambda x: x.numpy(),
        lambda x: x.normal_(generator=torch.Generator()),
        lambda x: torch.rand(2, device=x.device, generator=torch.Generator()),
        lambda x: torch.nn.Linear(3, 2)(x),
    ],
)
def test_what_mixes_devices_is_refused(wrong) -> None:
    with pretend_cuda():
        x = torch.zeros(3, 3, device="cuda")
        with pytest.raises((RuntimeError, TypeError), match=r"device|cuda"):
            wrong(x)


def test_what_comes_of_a_tensor_lies_where_it_lies() -> None:
    with pretend_cuda():
        x = torch.zeros(4, 3).to("cuda")
        net = torch.nn.Linear(3, 2).to("cuda")
        net(x).sum().backward()
        stacked = {name: torch.stack([p, p]) for name, p in net.named_parameters()}
        many = vmap(lambda p, given: functional_call(net, p, (given,)), in_dims=(0, None))
        for found in (x.T, x[0], x * 2.0, x + torch.tensor(1.0), torch.zeros_like(x)):
            assert found.is_cuda
        assert net.weight.grad.device == many(stacked, x).device == torch.device("cuda:0")
        assert not x.cpu().is_cuda
        assert not torch.zeros(2).is_cuda
        assert x.cpu().numpy().shape == (4, 3)


def test_a_step_that_waits_cannot_be_recorded() -> None:
    with pretend_cuda() as mode:
        x = torch.ones(3, device="cuda")
        with pytest.raises(RuntimeError, match="capturing"):
            mode.recorded(lambda: x.sum().item())()
        mode.recorded(lambda: x.mul_(2))()
        assert x.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["knfu", pytest.param("all", marks=pytest.mark.thinned(keep=0))])
def test_no_method_mixes_devices(method: str, tmp_path: Path, monkeypatch) -> None:
    """Clients and server on the device, two rounds."""
    monkeypatch.chdir(tmp_path)
    known = sorted(p.stem for p in (ROOT / "experiments/conf/method").glob("*.yaml"))
    for name in known if method == "all" else [method]:
        model = "vit" if name == "token_graph" else "mlp"  # it needs cells
        with warnings.catch_warnings(), pretend_cuda() as mode:
            warnings.simplefilter("ignore")
            fedfuse.simulate(
                f"method={name}", "dataset=synthetic", "dataset.num_train=700", f"model={model}",
                "num_clients=3", "num_rounds=2", "warmup_rounds=0", "public.size=260",
                "evaluation.test_samples=60", "client.device=cuda", "server.device=cuda",
            )  # fmt: skip
        assert mode.operations.waits > 100


@pytest.mark.slow
@pytest.mark.thinned(keep=0)
def test_what_shall_run_on_a_gpu_keeps_to_it() -> None:
    words = ["-q", "-m", "cuda", "tests/cuda", "--confcutdir=tests/cuda", "-p", "no:cacheprovider"]
    env = {**os.environ, "FEDFUSE_TEST_DEVICE": "pretend"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=ROOT,
        env=env,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()[-3000:]
