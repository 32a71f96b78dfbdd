"""The ways of training alone of one run: against each other, and the method against each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from experiments.summary.arm_rows import ArmRows
from experiments.summary.moments import Figures, Moment, Sizes, figures_of, moment_of
from fedfuse.compare import POST_HOC_METRIC


@dataclass(frozen=True, slots=True)
class Control:
    """A way of training alone, where there are several.

    Args:
        name: Its arm.
        last: Its last evaluated round; gains are over the baseline, which has none.
        best_validation: Its round of the highest mean validation accuracy.
        against_last: The method's last round; gains are over this control.
        against_best: The same at the rounds that each arm would choose by validation.
        against_unguarded: The method's last round as it were without its guard; None without one.
    """

    name: str
    last: Moment | None
    best_validation: Moment | None
    against_last: Moment | None
    against_best: Moment | None
    against_unguarded: Moment | None


def controls_of(
    arm: ArmRows, alone: Mapping[str, ArmRows], sizes: Mapping[str, Sizes], *, chooses: bool
) -> tuple[Control, ...]:
    """Return each control against the first one, and the method against each.

    Args:
        arm: The method's.
        alone: The controls, the baseline first.
        sizes: Test samples of each client.
        chooses: Whether validation data choose a round.
    """
    plain = next(iter(alone.values()))

    def last(ours: ArmRows, theirs: ArmRows | None) -> Moment | None:
        at = None if theirs is None else theirs.last_round()
        return moment_of(ours, ours.last_round(), theirs, at, sizes)

    def best(ours: ArmRows, theirs: ArmRows | None) -> Moment | None:
        at = None if theirs is None else theirs.best_round()
        return moment_of(ours, ours.best_round() if chooses else None, theirs, at, sizes)

    guards = bool(arm.at("accuracy_own_unguarded", arm.last_round()))
    return tuple(
        Control(
            name,
            last=last(own, None if own is plain else plain),
            best_validation=best(own, None if own is plain else plain),
            against_last=last(arm, own),
            against_best=best(arm, own),
            against_unguarded=last(arm.unguarded(), own) if guards else None,
        )
        for name, own in alone.items()
    )


def post_hoc_of(plain: ArmRows, sizes: Mapping[str, Sizes]) -> Figures | None:
    """Return the baseline corrected when it is tested, against itself; None if nobody measured."""
    last = plain.last_round()
    values = plain.at(POST_HOC_METRIC, last)
    balanced = "accuracy_global"
    return figures_of(values, plain.at(balanced, last), sizes.get(balanced)) if values else None
