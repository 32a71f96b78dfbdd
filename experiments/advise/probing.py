"""Run the short probe that advice rests on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.terminal.console import say
from fedfuse.errors import ConfigError, FedfuseError


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
    from experiments.assembly.build_all import check_parts
    from experiments.config import compose
    from experiments.runs.reserve import claim

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
    _, (whole,) = compose.check(hydra, [*kept, f"num_rounds={rounds}"], multirun=False)
    check_parts(whole)
    _check(whole, rounds)
    cfg = compose.own_keys(whole)
    OmegaConf.resolve(cfg)
    asked = any(line.lstrip("+").startswith("hydra.run.dir=") for line in lines)
    with claim(Path(whole.hydra.run.dir), exact=asked) as path:
        return _run(cfg, path, lines, quiet=quiet), path


def _check(cfg: DictConfig, rounds: int) -> None:
    """Refuse at once what no advice can be given on."""
    exchange = str(cfg.exchange._target_)
    refused = {
        "num_clients=1": (cfg.num_clients < 2, "2 or more: one client has nobody to fuse with"),
        "method=local": (cfg.method.name == "local", "a method that fuses, such as method=knfu"),
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
    from experiments.config.paths import absolute
    from experiments.runs import launch
    from experiments.runs.environment import facts
    from experiments.runs.failures import told
    from experiments.runs.watchers import build_watchers
    from server.reporters.files import Files
    from server.reporters.folder import RunFolder
    from server.reporters.many import Many
    from server.transport.answer import ClientFailedError

    cfg, folder = absolute(cfg), RunFolder(path)
    folder.open(overrides=[*lines, "num_rounds=" + str(cfg.num_rounds)], seed=cfg.seed, **facts())
    folder.write_config(OmegaConf.to_yaml(cfg, resolve=True))
    screen: list[Any] = [] if quiet else [_screen()]
    reporter = Many([Files(folder), *build_watchers(cfg), *screen])
    try:
        try:
            summary = launch.run(cfg, folder, reporter)
        finally:
            reporter.close()
    except FedfuseError:
        if folder.rounds:
            folder.fail("stopped by an error")
        else:
            folder.discard()
        raise
    except ClientFailedError as error:
        folder.fail(str(error))
        say(told(error, folder.overrides(), serial=cfg.engine.name == "serial"))
        return 1
    except BaseException as error:
        folder.fail("interrupted" if isinstance(error, KeyboardInterrupt) else repr(error))
        raise
    folder.finish(summary.as_dict())
    return 0


def _screen() -> Any:
    from rich.console import Console

    from server.reporters.lines import Lines
    from server.reporters.panel import Panel

    console = Console(highlight=False)
    live = console.is_terminal and not console.is_dumb_terminal
    return Panel(console) if live else Lines()
