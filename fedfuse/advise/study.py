"""Judge an advisor on what it has not seen: other data sets, or the seeds that were left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedfuse.advise.advisor import CLIENT, FEDERATION, TESTS, Advisor, Case, fit_advisor
from fedfuse.advise.forecast import Forecast
from fedfuse.advise.probe import FEATURES
from fedfuse.advise.score import Score, score
from fedfuse.errors import FedfuseError

VALIDATED = list(FEATURES).index("val_gain")

Scores = Mapping[tuple[str, str], Score]
"""By level (federation, client) and test protocol."""


def judge(judged: Sequence[tuple[Case, Advisor]]) -> Scores:
    """Score cases, each by an advisor that has not seen it."""
    scores = {}
    for test in TESTS:
        means = np.array([np.nanmean(case.gains[test]) for case, _ in judged])
        scores[FEDERATION, test] = score(
            means,
            [advisor.federation(case.probe, test) for case, advisor in judged],
            [advisor.past[FEDERATION, test] for _, advisor in judged],
            [bool(case.probe.federation()[VALIDATED] > 0) for case, _ in judged],
            [case.group for case, _ in judged],
        )
        gains: list[float] = []
        forecasts: list[Forecast] = []
        pasts, validated, groups = [], [], []
        for case, advisor in judged:
            each = zip(
                advisor.clients(case.probe, test),
                case.gains[test].tolist(),
                case.probe.clients()[:, VALIDATED].tolist(),
                strict=True,
            )
            for forecast, gain, better in each:
                if forecast is not None and np.isfinite(gain):
                    gains.append(gain)
                    forecasts.append(forecast)
                    pasts.append(advisor.past[CLIENT, test])
                    validated.append(better > 0)
                    groups.append(case.group)
        scores[CLIENT, test] = score(np.array(gains), forecasts, pasts, validated, groups)
    return scores


def leave_one_out(cases: Sequence[Case], rounds: int) -> Scores:
    """Score every case by an advisor that was fitted without its seed.

    Raises:
        FedfuseError: If there is one seed alone.
    """
    folds = sorted({case.fold for case in cases})
    if len(folds) < 2:
        raise FedfuseError(
            "Leaving out a seed leaves nothing to learn from",
            got=f"cases of the seed {folds[0]} alone",
            allowed="two seeds or more",
        )
    judged = []
    for fold in folds:
        rest = [case for case in cases if case.fold != fold]
        advisor = fit_advisor(rest, rounds, {})
        judged += [(case, advisor) for case in cases if case.fold == fold]
    return judge(judged)


def on_unseen(cases: Sequence[Case], advisor: Advisor) -> Scores:
    """Score cases of which the advisor has seen nothing."""
    return judge([(case, advisor) for case in cases])
