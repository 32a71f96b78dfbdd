"""What a tuning leaves of a method: the trials as a table, and the winner as files a run takes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiments.config.comparison_keys import is_fusion_only
from experiments.config.study import plain_key
from experiments.config.texts import loader_of_texts
from experiments.tune.ranking import Score
from experiments.tune.study import CHEAPER, Study, Tuned
from fedfuse.files import confined


def write(study: Study, tuned: Tuned, order: Sequence[Score], path: Path) -> None:
    """Write ``METHOD.csv``, ``METHOD.yaml`` and ``method/METHOD_tuned.yaml`` into a folder.

    Args:
        study: What was asked for.
        tuned: The method.
        order: Its trials, best first.
        path: The folder.
    """
    common = dict(word.split("=", 1) for word in study.words)
    plain = {key: plain_key(key) for key in common}
    common = {
        key: value
        for key, value in common.items()
        if plain[key] not in CHEAPER and not plain[key].startswith("hydra.")
    }
    best = dict(tuned.trials[order[0].trial])
    about = (
        f"# {tuned.method} with the settings that won {len(tuned.trials)} trials "
        f"({study.search} search, {tuned.rounds[-1]} rounds)\n"
        f"# by mean validation accuracy: {order[0].accuracy:.4f}; seed "
        f"{', '.join(map(str, study.seeds))}; no test data were looked at.\n"
    )
    asked = {"method": tuned.method, **{key: _value(v) for key, v in {**common, **best}.items()}}
    _write(path / f"{tuned.method}.yaml", about + _yaml(asked))
    own = {plain[key]: value for key, value in common.items() if is_fusion_only(plain[key])}
    own |= best
    bundle = f"# @package _global_\n{about}{_yaml(_bundle(tuned.method, own))}"
    (path / "method").mkdir(exist_ok=True)
    _write(path / "method" / f"{tuned.method}_tuned.yaml", bundle)
    keys = list(tuned.ranges)
    with confined.replacing(path / f"{tuned.method}.csv") as new, new.open("w", newline="") as file:
        table = csv.writer(file)
        head = "rank trial rung rounds status accuracy_val loss_val over_default standard_error"
        table.writerow([*head.split(), *keys])
        for rank, score in enumerate(order, 1):
            numbers = (score.accuracy, score.loss, score.over_default, score.error)
            table.writerow(
                [
                    rank,
                    score.trial,
                    score.rung,
                    tuned.rounds[score.rung],
                    "failed" if score.failed else "finished",
                    *("" if number != number else repr(number) for number in numbers),
                    *(tuned.trials[score.trial][key] for key in keys),
                ]
            )


def _bundle(method: str, own: Mapping[str, str]) -> dict[str, Any]:
    """Return a method's file that begins with a method and sets keys of it."""
    from experiments.config.pages import groups

    chosen = [{f"override /{key}": value} for key, value in own.items() if key in groups()]
    tree: dict[str, Any] = {"defaults": [method, *chosen, "_self_"]}
    keys = {key: _value(value) for key, value in own.items() if key not in groups()}
    for key, value in {**keys, "method.name": f"{method}_tuned"}.items():
        *owners, name = key.split(".")
        node = tree
        for owner in owners:
            node = node.setdefault(owner, {})
        node[name] = value
    return tree


def _value(word: str) -> Any:
    """Return a value as our YAML has it, where 1e-5 is a number."""
    return yaml.load(word, loader_of_texts())  # noqa: S506 - a safe one


def _yaml(tree: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True))


def _write(file: Path, text: str) -> None:
    with confined.replacing(file) as new:
        new.write_text(text, encoding="utf-8")
