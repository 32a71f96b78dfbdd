"""Advice as a person reads it, and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.results import TESTS, Run
from experiments.terminal.literal import literal
from experiments.terminal.tables import new_table
from fedfuse.advise.advisor import Advisor
from fedfuse.advise.forecast import DIFFERENCE, LEVEL, OUTCOMES, Advice, Forecast
from fedfuse.advise.probe import FEATURES, Probe
from fedfuse.compare import ADJUSTED, CONTROLS, ENOUGH, signed, unsigned

STYLES = {Advice.HELP: "bold green", Advice.HARM: "bold red", Advice.NONE: "bold"}
NAMED = 3
"""So many reasons are told."""


DECIDE = ("advice", "always", "never", "validation")
"""Of the rules that decide on the same cases those whose regret is told here."""
NEW = {"data set": " (new)", "left-out data set": "", "seeds": " (seeds)"}
"""What is written beside the name of a data set: how advice had not seen it."""


def render(run: Run, probe: Probe, advisor: Advisor) -> None:
    """Print the advice on a probe."""
    console = Console(highlight=False)
    where = f"{run.summary.get('dataset') or _dataset(run)} · {probe.num_clients} clients"
    which = f"round 1 to {probe.rounds}" if probe.rounds > 1 else "the first round"
    console.print(literal(f"{probe.method} or training alone? {where} · probe: {which}", "bold"))
    few = _too_few(probe)
    for test, name in TESTS.items():
        found = advisor.federation(probe, test)
        console.print()
        if few is not None:
            console.print(Text.assemble((f"{name}: ", "bold"), f"no advice can be given: {few}."))
            continue
        sentence = _sentence(found, _rounds(advisor))
        console.print(Text.assemble((f"{name}: ", "bold"), sentence), soft_wrap=False)
        if not found.strange:
            console.print(_because(advisor, probe, test))
    console.print()
    if few is None:
        console.print(_clients(advisor, probe))
        console.print(
            f"help / harm: probability in % of more than {100 * DIFFERENCE:g} point either way"
        )
        console.print(
            f"gain: expected, in points; its {LEVEL:.0%} interval is ± the second number\n"
        )
    for line in limits(run, probe, advisor):
        console.print(literal(textwrap.fill(line, 80, subsequent_indent="  ")))
    if advisor.evaluated:
        for test, name in TESTS.items():
            console.print(f"\n{name}: how good it was on what it had not seen")
            console.print(_worth(advisor, test))
        for line in EXPLAINED:
            console.print(textwrap.fill(line, 80, subsequent_indent="  "))


def _too_few(probe: Probe) -> str | None:
    """Return why the probe's validation says nothing; None if there is enough of it."""
    held_back = int(probe.val_samples.sum())
    if held_back >= ENOUGH:
        return None
    return f"the clients validate on {held_back} samples in all, fewer than {ENOUGH}"


def _rounds(advisor: Advisor) -> str:
    """Return after how many rounds the forecast gain is one."""
    *others, last = advisor.fitted["num_rounds"]
    return f"{', '.join(map(str, others))} or {last} rounds" if others else f"{last} rounds"


def _sentence(found: Forecast, rounds: str) -> Text:
    """Return the advice in one or two sentences."""
    if found.strange:
        names = ", ".join(FEATURES[name] for name in found.strange if name in FEATURES)
        return Text(
            f"no advice can be given. The probe is unlike all that was learned from in: {names}."
        )
    helps, none, harms = (_percent(p) for p in found.probabilities)
    low, high = found.interval
    numbers = (
        f" Probability: helps {helps}%, no difference {none}%, harms {harms}%. Expected gain "
        f"after {rounds} {signed(found.expected)} points [{signed(low)}, {signed(high)}]."
    )
    if found.advice is Advice.UNSURE:
        return Text("the probe does not say; no outcome is likely." + numbers)
    words = f"fusing is likely to {found.advice}."
    return Text.assemble((words, STYLES[found.advice]), numbers)


def _percent(probability: float) -> str:
    """Return a probability in percent; none is ever certain."""
    points = round(100 * probability)
    return "<1" if points == 0 else ">99" if points == 100 else str(points)


def _because(advisor: Advisor, probe: Probe, test: str) -> str:
    told = [
        f"{FEATURES[name]} {value:.3g} ({signed(share)})"
        for name, value, share in advisor.reasons(probe, test)[:NAMED]
    ]
    return textwrap.fill("What counts most, in points: " + "; ".join(told) + ".", 80)


def _clients(advisor: Advisor, probe: Probe) -> Table:
    table = new_table()
    table.add_column("client", justify="right")
    table.add_column("samples", justify="right")
    for name in ("own distribution", "help/harm", "balanced", "help/harm"):
        table.add_column(name, justify="right", no_wrap=True)
    columns = [advisor.clients(probe, test) for test in TESTS]
    for client, found in enumerate(zip(*columns, strict=True)):
        cells: list[Text | str] = []
        for forecast in found:
            cells += _cells(forecast)
        table.add_row(str(client), str(int(probe.samples[client])), *cells)
    return table


def _cells(found: Forecast | None) -> tuple[Text | str, Text | str]:
    if found is None or found.strange:
        return "no advice", ""
    helps, _, harms = (_percent(p) for p in found.probabilities)
    reach = found.interval[1] - found.expected
    style = STYLES.get(found.advice, "")
    return (
        Text(f"{signed(found.expected)} ±{unsigned(reach)}", style),
        Text(f"{helps}/{harms}", style),
    )


def limits(run: Run, probe: Probe, advisor: Advisor) -> Iterator[str]:
    """Yield what advice was learned from, and what of this run it was not."""
    fitted = advisor.fitted
    yield (
        f"Learned from {fitted['runs']} runs of {fitted['federations']} federations "
        f"({', '.join(fitted['datasets'])}; {', '.join(fitted['methods'])}; "
        f"{_rounds(advisor)})."
    )
    if run.fingerprint in fitted.get("fingerprints", ()):
        yield "This federation is one of them, so the advice above has seen what came of it."
    if probe.method not in fitted["methods"]:
        yield f"{probe.method} is not among these methods, so this is an extrapolation."
    own = int(run.config["num_rounds"])
    if own not in (probe.rounds, *fitted["num_rounds"]):
        yield f"This run has {own} rounds: its own end may differ from what is forecast."
    if ADJUSTED in run.controls:
        yield (
            "The advice is on plain local training. Of a gain over it a part may be the label "
            f"prior's, which {CONTROLS[ADJUSTED]} has too: the run's own table says how much."
        )
    if not advisor.evaluated:
        yield "It has not been evaluated: fedfuse-advise evaluate MAP... -o FILE does it."


EXPLAINED = (
    "named: for how many federations an outcome was named, in %; right: of these, by advice / by "
    "the most frequent outcome; (new): never fitted on, (seeds): fitted on its other seeds, the "
    "rest were left out",
    "advice ... validation: regret, the points lost against the better of both in hindsight, by "
    "advice, by always and by never fusing, by validation alone; * surely more than advice (95%)",
)


def _worth(advisor: Advisor, test: str) -> Table:
    """Return what advice has been worth on whole federations of each data set."""
    table = new_table(narrow=True)
    table.add_column("data set")
    for name in ("federations", "named", "right", *DECIDE):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in advisor.evaluated:
        score = entry["scores"][f"federation/{test}"]
        right, usual = (score["right"][who]["mean"] for who in ("advice", "majority"))
        lost = {who: f"{100 * score['regret'][who]['mean']:.2f}" for who in DECIDE}
        lost |= {who: f"{lost[who]}*" for who in DECIDE[1:] if score["better"][who]["low"] > 0}
        table.add_row(
            literal(entry["dataset"] + NEW[entry["unseen"]]),
            str(entry["federations"]),
            f"{100 * score['answered']:.0f}",
            "-" if right is None else f"{100 * right:.0f}/{100 * usual:.0f}",
            *lost.values(),
        )
    return table


def as_json(run: Run, probe: Probe, advisor: Advisor) -> str:
    """Return the advice as JSON: gains as shares, probabilities in the order help, none, harm."""
    few = _too_few(probe)
    content: dict[str, Any] = {
        "run": str(run.path),
        "method": probe.method,
        "rounds": probe.rounds,
        "num_clients": probe.num_clients,
        "features": dict(zip(FEATURES, probe.federation().tolist(), strict=True)),
        "tests": {
            test: {
                "federation": None if few else _plain(advisor.federation(probe, test)),
                "clients": [None if few else f and _plain(f) for f in advisor.clients(probe, test)],
            }
            for test in TESTS
        },
        "no_advice": few,
        "fitted": {k: v for k, v in advisor.fitted.items() if k != "fingerprints"},
        "evaluated": list(advisor.evaluated),
    }
    return json.dumps(content, indent=2) + "\n"


def _plain(found: Forecast) -> dict[str, Any]:
    names = [outcome.name.lower() for outcome in OUTCOMES]
    return {
        "advice": found.advice.name.lower(),
        "expected": found.expected,
        "interval": list(found.interval),
        "probabilities": dict(zip(names, found.probabilities, strict=True)),
        "strange": list(found.strange),
    }


def _dataset(run: Run) -> str:
    target = str(run.config.get("dataset", {}).get("_target_", "")).rsplit(".", 1)[-1]
    name = run.config.get("dataset", {}).get("name")
    return str(name or target)
