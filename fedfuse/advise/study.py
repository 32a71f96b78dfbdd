"""Judge an advisor on what it has not seen: other data sets, or the seeds that were left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedfuse.advise.advisor import CLIENT, FEDERATION, TESTS, Advisor, Case, fit_advisor, several
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
    cases = [case for case, _ in judged]
    whole = {
        "validation": [bool(case.probe.federation()[VALIDATED] > 0) for case in cases],
        "fedcollab": [bool(case.in_company.mean() > 0.5) for case in cases],
    }
    for test in TESTS:
        pasts = [advisor.past[FEDERATION, test] for _, advisor in judged]
        scores[FEDERATION, test] = score(
            np.array([np.nanmean(case.gains[test]) for case in cases]),
            [advisor.federation(case.probe, test) for case, advisor in judged],
            pasts,
            {
                **whole,
                "threshold": [
                    bool(case.heterogeneity.mean() < past.threshold)
                    for case, past in zip(cases, pasts, strict=True)
                ],
            },
            [case.group for case in cases],
        )
        gains: list[float] = []
        forecasts: list[Forecast] = []
        groups: list[str] = []
        pasts = []
        others: dict[str, list[bool]] = {"validation": [], "fedcollab": [], "threshold": []}
        for case, advisor in judged:
            past = advisor.past[CLIENT, test]
            better = case.probe.clients()[:, VALIDATED] > 0
            small = case.heterogeneity < past.threshold
            for i, forecast in enumerate(advisor.clients(case.probe, test)):
                if forecast is not None and np.isfinite(case.gains[test][i]):
                    gains.append(float(case.gains[test][i]))
                    forecasts.append(forecast)
                    pasts.append(past)
                    groups.append(case.group)
                    for name, told in zip(others, (better, case.in_company, small), strict=True):
                        others[name].append(bool(told[i]))
        scores[CLIENT, test] = score(np.array(gains), forecasts, pasts, others, groups)
    return scores


def leave_one_out(cases: Sequence[Case], rounds: int, asked: str | None = None) -> Scores:
    """Score every case by an advisor that was fitted without its data set, or without its seed.

    Args:
        cases: All that there is to learn from.
        rounds: Rounds of the probes.
        asked: The data set whose cases are scored; None for all. Where the others are enough to
            learn from (:func:`~fedfuse.advise.advisor.several`) it is left out as a whole, else
            its seeds are, one after the other, and others take no part.

    Raises:
        FedfuseError: If there is one seed alone.
    """
    if asked is not None:
        rest = [case for case in cases if case.dataset != asked]
        cases = [case for case in cases if case.dataset == asked]
        if several(rest):
            return on_unseen(cases, fit_advisor(rest, rounds, {}))
    folds = sorted({case.fold for case in cases})
    if len(folds) < 2:
        raise FedfuseError(
            "Leaving out a seed leaves nothing to learn from",
            got=f"cases of the seed {folds[0]} alone",
            allowed="two seeds or more",
        )
    judged = []
    for fold in folds:
        advisor = fit_advisor([case for case in cases if case.fold != fold], rounds, {})
        judged += [(case, advisor) for case in cases if case.fold == fold]
    return judge(judged)


def on_unseen(cases: Sequence[Case], advisor: Advisor) -> Scores:
    """Score cases of which the advisor has seen nothing."""
    return judge([(case, advisor) for case in cases])
