"""Damage and forge checkpoints, and read them back.

A checkpoint whose bytes changed is found out by its hashes, and the one before it counts. One that
was forged, hashes and all, has to end in a :class:`fedfuse.errors.FedfuseError` or in states that
fit their clients.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from clients.state.state import ClientState
from experiments.benchmarks.mutations import INTEGERS, TEXTS, Rng, bend_bytes
from fedfuse.errors import FedfuseError
from fedfuse.types import MetricRow, RoundRecord
from server.records.checkpoint import ROUNDS, STATES, Checkpoints
from server.records.manifest import MANIFEST, SERVER, digest

IDENTITY = {"seed": "0"}
ROUNDS_DONE = 3
optimiser = partial(torch.optim.Adam, lr=0.1, fused=True)


def checkpoint_case(folder: Path) -> Any:
    """Return a case for :func:`experiments.benchmarks.fuzz.fuzz`.

    Args:
        folder: Where checkpoints are written; emptied for each case.
    """
    honest = Checkpoints(folder / "honest", every=1, keep=2, identity=IDENTITY)
    client = _client()
    for round_ in range(1, ROUNDS_DONE + 1):
        _step(client)
        honest.note("knfu", _record(round_))
        known = honest.difference("knfu", {0}, {0, 1})
        states = [_states(client), *([_states(client, 1)] if round_ == 1 else [])]
        memory = {"plan.link/n": torch.tensor([round_])}
        honest.save("knfu", round_, states, memory, known.carried)
    saved = {round_: _read(honest, folder, round_) for round_ in (ROUNDS_DONE - 1, ROUNDS_DONE)}

    def case(rng: Rng) -> str:
        place = folder / "mutated"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(honest.folder, place)
        forged = bool(rng.integers(2))
        if forged:
            _forge(place, rng)
        else:
            for _ in range(int(rng.integers(1, 3))):
                files = sorted(path for path in place.rglob("*") if path.is_file())
                victim = files[int(rng.integers(len(files)))]
                if rng.integers(6):
                    victim.write_bytes(bend_bytes(victim.read_bytes(), rng))
                else:
                    victim.unlink()
        try:
            found = replace(honest, folder=place).latest()
            states = _restored(found)
        except FedfuseError as error:
            return "refused" if len(str(error)) < 2000 else "refused at length"
        assert found is not None, "checkpoints were there, and none was found"
        if not forged:
            assert _same(states, saved[found.round]), "a damaged checkpoint was believed"
            return "read whole" if found.round == ROUNDS_DONE else "the one before counts"
        return "read"

    return case


def _forge(place: Path, rng: Rng) -> None:
    """Change the last checkpoint and give it hashes that are right."""
    last = max(path for path in place.iterdir() if path.name.isdigit())
    manifest = json.loads((last / MANIFEST).read_bytes())
    way = rng.integers(5)
    if way == 0:
        _bend_json(manifest, rng)
    elif way == 1:
        name = ("../../x", "/dev/zero", "..", SERVER + "/x", "clients-9.safetensors")
        key = ("files", "rounds", "states")[int(rng.integers(3))]
        manifest[key][name[int(rng.integers(len(name)))]] = "0" * 32
    elif way == 2:
        name = sorted(manifest["states"])[-1]
        manifest["states"][name][0] = _rewrite(place / STATES / name, _strange_states(rng))
    else:
        target = last / sorted(manifest["files"])[int(rng.integers(len(manifest["files"])))]
        if way == 4:
            target = place / ROUNDS / sorted(manifest["rounds"])[0]
        found = _rewrite(target, bend_bytes(target.read_bytes(), rng))
        manifest["rounds" if way == 4 else "files"][target.name] = found
    manifest.pop("digest", None)
    manifest["digest"] = digest(json.dumps(manifest, sort_keys=True).encode())
    (last / MANIFEST).write_bytes(json.dumps(manifest).encode())


def _rewrite(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return digest(content)


def _bend_json(manifest: dict[str, Any], rng: Rng) -> None:
    key = sorted(manifest)[int(rng.integers(len(manifest)))]
    if rng.integers(3) == 0:
        del manifest[key]
    else:
        pool: tuple[Any, ...] = (*TEXTS[:6], *INTEGERS, None, [], {}, {"x": 1}, True, 0.5)
        manifest[key] = pool[int(rng.integers(len(pool)))]


def _strange_states(rng: Rng) -> bytes:
    """Return client states with names or shapes that no client has."""
    tensors = {name: value.clone() for name, value in _flat(_client(steps=1)).items()}
    name = sorted(tensors)[int(rng.integers(len(tensors)))]
    value = tensors.pop(name)
    way = rng.integers(5)
    if way == 0:
        others = (
            "model/x",
            "x",
            "optimizer/main/99/exp_avg",
            "optimizer/main/x/step",
            "optimizer/main/0",
        )
        tensors[others[int(rng.integers(len(others)))]] = value
    elif way == 1:
        tensors[name] = torch.zeros(3, 1)
    elif way == 2:
        tensors[name] = torch.full_like(value, float("nan"))
    elif way == 3:
        tensors[name] = value.to(torch.int8)
    prefix = ("0/", "x/", "", "-1/", "9" * 5000 + "/")[int(rng.integers(5)) if way == 4 else 0]
    return save({prefix + key: tensor.contiguous() for key, tensor in tensors.items()})


def _client(steps: int = 0) -> ClientState:
    torch.manual_seed(0)
    state = ClientState(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    for _ in range(steps):
        _step(state)
    return state


def _step(state: ClientState) -> None:
    """Take one optimiser step; of a state that fits, it neither fails nor reads what is not its."""
    step = state.optimizer("main", optimiser)
    step.zero_grad()
    state.model(torch.ones(2, 3)).sum().backward()
    step.step()


def _flat(state: ClientState) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in state.tensors().items()}


def _states(state: ClientState, owner: int = 0) -> bytes:
    flat = {name: value.contiguous().clone() for name, value in _flat(state).items()}
    return save({f"{owner}/{name}": value for name, value in flat.items()})


def _restored(found: Any) -> dict[str, Tensor]:
    """Return the state of client 0 as it takes it up, after one more step."""
    state = _client()
    if found is not None and 0 in found.clients:
        state.restore(found.clients[0], optimiser)
        _step(state)
    return {name: value.clone() for name, value in _flat(state).items()}


def _read(honest: Checkpoints, folder: Path, round_: int) -> dict[str, Tensor]:
    """Return what the honest checkpoint of a round restores."""
    place = folder / f"until{round_}"
    shutil.copytree(honest.folder, place)
    for path in place.iterdir():
        if path.name.isdigit() and int(path.name) > round_:
            shutil.rmtree(path)
    found = replace(honest, folder=place).latest()
    assert found is not None
    assert found.round == round_
    return _restored(found)


def _record(round_: int) -> RoundRecord:
    rows = (MetricRow(round_, 0, "local", "accuracy_own", 0.5),)
    return RoundRecord(round_, rows, torch.eye(2), {"train": 0.1})


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
