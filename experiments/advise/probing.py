"""Run the short probe that advice rests on."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from experiments.terminal.console import say
from fedfuse.compare.controls import CONTROLS
from fedfuse.errors import ConfigError


def probe(
    lines: list[str], rounds: int, config_dir: Path | None, *, quiet: bool
) -> tuple[int, Path]:
    """Run the first rounds of what overrides describe; return an exit code and the run folder.

    Args:
        lines: Overrides, as for ``fedfuse``.
        rounds: How many rounds; the same that the advisor was fitted on.
        config_dir: The user's own options.
        quiet: Whether nothing may be written to standard output.

    Raises:
        FedfuseError: If the configuration cannot work, or advice on it is impossible; nothing has
            been trained then.
    """
    from experiments.config import compose
    from experiments.runs.prepare import prepare
    from experiments.runs.reserve import reserve_for

    given = {line.partition("=")[0]: line.partition("=")[2] for line in lines}
    if given.get("num_rounds", str(rounds)) != str(rounds):
        raise ConfigError(
            "the advisor was fitted on probes of another length",
            got=f"num_rounds={given['num_rounds']}",
            allowed=f"num_rounds={rounds}, which is the default here",
            next_step="Leave num_rounds out; or fit another: fedfuse-advise fit --rounds N.",
        )
    hydra = compose.open_hydra(config_dir)
    kept = [line for line in lines if not line.startswith("num_rounds=")]
    lines, (cfg,) = prepare(hydra, [*kept, f"num_rounds={rounds}"])
    _check(cfg, rounds)
    with reserve_for(cfg, lines) as path:
        return _run(compose.own_keys(cfg), path, list(cfg.hydra.overrides.task), quiet=quiet), path


def _check(cfg: DictConfig, rounds: int) -> None:
    """Refuse at once what no advice can be given on."""
    exchange = str(cfg.exchange._target_)
    refused = {
        "num_clients=1": (cfg.num_clients < 2, "2 or more: one client has nobody to fuse with"),
        f"method={cfg.method.name}": (
            cfg.method.name in CONTROLS,
            "a method that fuses, such as method=knfu",
        ),
        "baseline=none": (cfg.baseline == "none", "baseline=local: the probe compares with it"),
        f"exchange {exchange}": (
            exchange.startswith("clients.exchange.") and not exchange.endswith(".Predictions"),
            "an exchange of predictions, such as that of method=knfu",
        ),
        "val_fraction=0": (cfg.val_fraction == 0, "above 0: the probe looks at validation data"),
        f"evaluation.every={cfg.evaluation.every}": (
            rounds % cfg.evaluation.every != 0,
            f"a divisor of {rounds}",
        ),
    }
    for got, (wrong, allowed) in refused.items():
        if wrong:
            raise ConfigError("no advice can be given on this", got=got, allowed=allowed)


def _run(cfg: DictConfig, path: Path, lines: list[str], *, quiet: bool) -> int:
    from experiments.runs.display import Terminal
    from experiments.runs.failures import format_failure
    from experiments.runs.lifecycle import open_run, perform
    from server.transport.answer import ClientFailedError

    try:
        perform(open_run(cfg, path, lines), [] if quiet else Terminal().reporters())
    except ClientFailedError as error:
        say(format_failure(error))
        return 1
    return 0
