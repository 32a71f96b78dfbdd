"""What goes with clients that add up the changes of all rounds: nobody may miss one."""

from __future__ import annotations

from collections.abc import Callable

from experiments.assembly.chosen import Chosen, Clash

NEVER = (
    "Clients add up the changes of all rounds, and one that misses a change stays off by it for "
    "the rest of the run"
)


def _misses(what: Callable[[Chosen], str | None]) -> Callable[[Chosen], str | None]:
    """Return what tells of something by which clients miss changes, where changes travel."""

    def got(chosen: Chosen) -> str | None:
        wrong = what(chosen) if chosen.needs("exchange", "adds_up_changes") else None
        return wrong and f"{wrong}, {chosen.named('exchange')}"

    return got


def _faulty(chosen: Chosen) -> str | None:
    return chosen.named("faults") if chosen.cfg.faults._target_ is not None else None


def _goes_on(chosen: Chosen) -> str | None:
    return None if chosen.cfg.server.fail_fast else "server.fail_fast=false"


OF_CHANGES = (
    Clash(
        NEVER,
        _misses(_faulty),
        "Set faults=none, or exchange whole models, as exchange.low_rank=0 does.",
    ),
    Clash(
        NEVER,
        _misses(_goes_on),
        "Set server.fail_fast=true, or exchange whole models, as exchange.low_rank=0 does.",
    ),
)
