"""The first rounds of a run as a probe, and apart from it what came of the run in the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.results import Arm, Run
from fedfuse.advise.advisor import TESTS, Case
from fedfuse.advise.probe import Probe
from fedfuse.advise.rivals import distances
from fedfuse.compare import CONTROLS, ENOUGH
from fedfuse.errors import ConfigError

Array = npt.NDArray[Any]

SHOWN = (
    "epd_classes",
    "epd_distance",
    "entropy",
    "teacher_entropy",
    "disagreement",
    "self_weight",
)
"""What the server knows of each client after a fusion."""


def read_probe(run: Run, rounds: int) -> Probe:
    """Return what the first rounds of a run showed.

    Nothing is read here that a real federation would not have: validation results, sizes, and
    what the server saw of the shared predictions. No number of a test set, no later round.

    Raises:
        ConfigError: If the run cannot be advised on, naming why.
    """
    name = run.path.name
    if run.method in CONTROLS:
        raise ConfigError(
            f"the run '{name}' is local training itself, so it shows nothing of fusing.",
            next_step="Probe a method, such as fedfuse-advise method=knfu.",
        )
    if run.baseline is None:
        raise ConfigError(
            f"the run '{name}' has no baseline",
            got="baseline=none",
            allowed="baseline=local: the probe compares fused clients with twins that learn alone",
        )
    if not (run.path / "metrics.parquet").is_file():
        raise _too_short(run, 0, rounds)
    arm, alone = run.arm, run.baseline
    done = min(_rounds_done(arm), _rounds_done(alone))
    if done < rounds:
        raise _too_short(run, done, rounds)
    train, val, num_classes = _sizes(run)
    num_clients = len(train)
    if num_clients < 2:
        raise ConfigError(
            f"the federation of '{name}' is one client, which has nobody to fuse with.",
        )
    shown = {key: _at(arm, key, rounds, "fuse", num_clients) for key in SHOWN}
    if not np.isfinite(shown["epd_classes"]).any():
        raise _nothing_shared(run, rounds)
    missing = [key for key, values in shown.items() if not np.isfinite(values).any()]
    if missing:
        raise ConfigError(
            f"no advice can be given on method={run.method}",
            got=f"a round without {', '.join(missing)}",
            allowed="methods whose teachers are a weighted mean of clients",
        )
    measured = {
        f"{key}_{who}": _at(which, key, rounds, "fused", num_clients)
        for key in ("accuracy_val", "loss_val")
        for who, which in (("fused", arm), ("alone", alone))
    }
    if not all(np.isfinite(values).any() for values in measured.values()):
        raise ConfigError(
            f"the clients of '{name}' were not validated in round {rounds}",
            got=f"val_fraction={run.config.get('val_fraction')}, "
            f"evaluation.every={run.config.get('evaluation', {}).get('every')}",
            allowed="val_fraction above 0, evaluation.every=1",
        )
    return Probe(
        method=run.method,
        num_classes=num_classes,
        rounds=rounds,
        samples=train,
        label_classes=_effective(_halves(run, num_clients).sum(axis=0)),
        val_samples=val,
        val_accuracy=measured["accuracy_val_fused"],
        val_loss=measured["loss_val_fused"],
        alone_accuracy=measured["accuracy_val_alone"],
        alone_loss=measured["loss_val_alone"],
        shown=shown,
    )


def read_case(run: Run, rounds: int) -> Case:
    """Return a finished run's probe and its gains on the test sets in its last round.

    Raises:
        ConfigError: If the run has no probe, or ended with it.
    """
    probe = read_probe(run, rounds)
    last = int(run.config["num_rounds"])
    if last <= rounds:
        raise ConfigError(
            f"the run '{run.path.name}' ended with the probe, so there is nothing to learn from",
            got=f"num_rounds={last}",
            allowed=f"more than {rounds}",
        )
    assert run.baseline is not None
    gains = {}
    for test in TESTS:
        ours = _at(run.arm, test, last, "fused", probe.num_clients)
        gains[test] = ours - _at(run.baseline, test, last, "fused", probe.num_clients)
        sizes = run.test_sizes(test)
        if sizes is not None:  # what came of a client is not known from a handful of samples
            gains[test][sizes < ENOUGH] = np.nan
        if not np.isfinite(gains[test]).any():
            raise ConfigError(
                f"the run '{run.path.name}' was not tested in its last round, or on fewer than "
                f"{ENOUGH} samples a client.",
            )
    apart = distances(_halves(run, probe.num_clients))
    return Case(probe, gains, f"{run.fingerprint}", run.seed, str(run.summary["dataset"]), apart)


def _effective(counts: Array) -> Array:
    """Return of how many classes samples are by their counts [K, C], [K]; NaN of none."""
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)
    logs = np.log(np.where(shares > 0, shares, 1.0))
    return np.asarray(np.exp(-(shares * logs).sum(axis=1)))


def _rounds_done(arm: Arm) -> int:
    """Return how many rounds from the first on are there without a gap."""
    there = set(arm.rounds.tolist())
    return next(n for n in range(len(there) + 1) if n + 1 not in there)


def _at(arm: Arm, metric: str, round_: int, phase: str, num_clients: int) -> Array:
    values = arm.values(metric, round_, phase)
    whole = np.full(num_clients, np.nan)
    if values is not None:
        whole[: len(values)] = values
    return whole


def _sizes(run: Run) -> tuple[Array, Array, int]:
    """Return training and validation samples per client, [K] each, and the number of classes."""
    table = run.partition("client_id", "split", "label")
    if table is None:
        raise ConfigError(
            f"the run '{run.path.name}' does not say how many samples its clients hold",
            got="no partition.parquet",
            next_step="Sites that keep their data to themselves cannot be advised on.",
        )
    ids, split = table["client_id"].to_numpy(), np.asarray(table["split"])
    num_clients = int(ids.max()) + 1
    train, val = (
        np.bincount(ids[split == part], minlength=num_clients) for part in ("train", "val")
    )
    return train, val, int(table["label"].to_numpy().max()) + 1


def _halves(run: Run, num_clients: int) -> Array:
    """Return training labels by client and class, in two halves that are drawn, [2, K, C]."""
    table = run.partition("client_id", "split", "label")
    assert table is not None  # the probe has read it
    train = np.asarray(table["split"]) == "train"
    ids, labels = table["client_id"].to_numpy()[train], table["label"].to_numpy()[train]
    halves = np.zeros((2, num_clients, int(labels.max()) + 1))
    for client in range(num_clients):
        own = np.random.default_rng(client).permutation(labels[ids == client])
        for half in (0, 1):
            halves[half, client] = np.bincount(own[half::2], minlength=halves.shape[2])
    return halves


def _too_short(run: Run, done: int, rounds: int) -> ConfigError:
    status = run.record.get("status", "unknown")
    return ConfigError(
        f"the run '{run.path.name}' is shorter than the probe",
        got=f"{done} round{'' if done == 1 else 's'} of both arms, status {status}",
        allowed=f"at least {rounds}",
        next_step="Let it run on: fedfuse resume=FOLDER." if status != "finished" else None,
    )


def _nothing_shared(run: Run, rounds: int) -> ConfigError:
    """Return why there are no numbers on shared predictions in the probe's last round."""
    name, warmup = run.path.name, int(run.config.get("warmup_rounds", 0))
    if warmup >= rounds:
        return ConfigError(
            f"nothing was shared in the first {rounds} rounds of '{name}'",
            got=f"warmup_rounds={warmup}",
            allowed=f"at most {rounds - 1}",
        )
    kind = run.config.get("exchange", {}).get("_target_") or "predictions"
    if run.arm.at("self_weight", "fuse") is not None and "redictions" in str(kind):
        return ConfigError(
            f"the run '{name}' does not say what its predictions showed.",
            next_step="An older fedfuse made it; run it again.",
        )
    return ConfigError(
        f"no advice can be given on method={run.method}: its clients share no predictions",
        got=f"exchange {str(kind).rsplit('.', 1)[-1]}",
        next_step="Choose a method that does, such as method=knfu.",
    )
