"""Learn an advisor from maps, and judge one on maps."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.advise.reading import read_case
from experiments.results import Run, load
from experiments.terminal.console import say, tell
from fedfuse import __version__
from fedfuse.advise.advisor import Advisor, Case, fit_advisor, save_advisor, several
from fedfuse.advise.study import leave_one_out, on_unseen
from fedfuse.compare.controls import CONTROLS
from fedfuse.errors import ConfigError

Found = Sequence[tuple[Run, Case]]


def read_maps(maps: Sequence[Path], rounds: int) -> Found:
    """Return every finished run of a method in some maps, with its probe and what came of it.

    Raises:
        ConfigError: If there is none, or one cannot be learned from.
    """
    found: list[tuple[Run, Case]] = []
    for folder in maps:
        results = load(folder)
        for note in results.notes():
            say(note)
        found += [(r, read_case(r, rounds)) for r in results.runs if r.method not in CONTROLS]
    if not found:
        raise ConfigError(
            "there is no run of a method to learn from",
            got=", ".join(map(str, maps)),
            next_step="Make a map with fedfuse-map map.methods=[mean,knfu].",
        )
    return found


def fit(maps: Sequence[Path], rounds: int, output: Path) -> None:
    """Fit an advisor on maps, and write it.

    Raises:
        ConfigError: If there is too little to learn from.
    """
    if rounds < 1:
        raise ConfigError("--rounds is not valid", got=rounds, allowed="an integer of at least 1")
    found = read_maps(maps, rounds)
    advisor = fit_advisor([case for _, case in found], rounds, _provenance(found, maps, output))
    save_advisor(advisor, output)
    tell(f"{output}: fitted on {_format_study(advisor.fitted)}")


def evaluate(maps: Sequence[Path], advisor: Advisor, output: Path | None) -> None:
    """Judge an advisor on each data set of some maps, and print it.

    Runs that it was fitted on are forecast by advisors fitted without their data set; where too few
    would be left, without their seed.
    """
    from experiments.advise.scoreboard import render

    found = read_maps(maps, advisor.rounds)
    seen = set(advisor.fitted.get("fingerprints", ()))
    parts: dict[tuple[str, bool], list[tuple[Run, Case]]] = {}
    for run, case in found:
        parts.setdefault((_dataset(run), case.group in seen), []).append((run, case))
    entries = []
    learned = [case for _, case in found if case.group in seen]
    for (dataset, known), part in parts.items():
        cases = [case for _, case in part]
        if known:
            scores = leave_one_out(learned, advisor.rounds, dataset)
        else:
            scores = on_unseen(cases, advisor)
        left = several([case for case in learned if case.dataset != dataset])
        entry = {
            "dataset": dataset,
            "unseen": "data set" if not known else "left-out data set" if left else "seeds",
            **_axes(part),
            "scores": {"/".join(key): value.as_dict() for key, value in scores.items()},
        }
        entries.append(entry)
        render(entry, scores)
    if output is not None:
        save_advisor(replace(advisor, evaluated=tuple(entries)), output)
        tell(str(output))


def _provenance(found: Found, maps: Sequence[Path], output: Path) -> dict[str, Any]:
    names = [folder.name for folder in maps]
    return {
        "command": shlex.join(["fedfuse-advise", "fit", *names, "-o", output.name]),
        "version": __version__,
        "datasets": sorted({_dataset(run) for run, _ in found}),
        **_axes(found),
        "fingerprints": sorted({case.group for _, case in found}),
    }


def _axes(found: Found) -> dict[str, Any]:
    """Return what the runs span."""
    runs = [run for run, _ in found]
    return {
        "runs": len(runs),
        "federations": len({case.group for _, case in found}),
        "methods": sorted({run.method for run in runs}),
        "models": sorted({str(run.summary["model"]) for run in runs}),
        "clients": sorted({int(run.summary["num_clients"]) for run in runs}),
        "num_rounds": sorted({int(run.config["num_rounds"]) for run in runs}),
        "seeds": sorted({run.seed for run in runs}),
        "partitioners": sorted({_partitioner(run) for run in runs}),
    }


def _dataset(run: Run) -> str:
    return str(run.summary["dataset"])


def _partitioner(run: Run) -> str:
    """Return what a map's cells differ in."""
    chosen = run.config["partitioner"]
    name = str(chosen.get("_target_")).rsplit(".", 1)[-1]
    told = [f"{key}={chosen[key]}" for key in ("alpha", "sizes") if chosen.get(key) is not None]
    return f"{name}({', '.join(told)})"


def _format_study(fitted: Any) -> str:
    return (
        f"{fitted['runs']} runs of {fitted['federations']} federations: "
        f"{', '.join(fitted['datasets'])}; {', '.join(fitted['methods'])}; "
        f"{', '.join(fitted['models'])}; {fitted['num_rounds']} rounds; seeds {fitted['seeds']}"
    )
