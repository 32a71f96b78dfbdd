"""One table of the parts around the fusion, each held to its contract, and what the checks find."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedfuse.extract import ExtractStage, Logits, Probabilities
from fedfuse.familiarity import AuxiliaryScore, GaussianDensity, KuLSIFSelector
from fedfuse.fusion.filters import AmbiguityFilter
from fedfuse.local_loss import BalancedSoftmax, CrossEntropy, cross_entropy
from fedfuse.select import All, ClassBalanced, RandomSubset
from fedfuse.testing import (
    CheckFailed,
    check_extract,
    check_familiarity,
    check_filter,
    check_local_loss,
    check_select,
    check_sharing_stage,
)
from fedfuse.types import Space


def mirror(bank, context):
    """A stage: every client lies."""
    return replace(bank, logits=-bank.logits)


def noisy(bank, context):
    """A stage that draws as it should."""
    rows = [
        row + torch.randn(row.shape, generator=context.generator(i, "noise"))
        for row, i in zip(bank.logits, bank.client_ids.tolist(), strict=True)
    ]
    return replace(bank, logits=torch.stack(rows))


def careless(bank, context):
    return replace(bank, logits=bank.logits + torch.randn(bank.logits.shape))


def sociable(bank, context):
    return replace(bank, logits=bank.logits - bank.logits.mean(dim=0))


def dizzy(round_, num_public, labels, generator):
    return torch.randperm(num_public, generator=generator)[:5]


def endless(private, labels, public, generator):
    return torch.full((len(public),), torch.inf)


def relative(probs):
    best = probs.amax(dim=-1)
    return best / best.amax()


class Halves:
    """An extraction whose reader is not the inverse of its writer."""

    __name__ = "halves"
    space = Space.LOGITS

    def shared(self, logits):
        return logits / 2

    def read(self, shared):
        return shared


class Curious:
    """A loss that wants to know what clients are not told about private samples."""

    __name__ = "curious"

    wants = frozenset({"own"})

    def __call__(self, logits, labels, facts):
        return cross_entropy(logits, labels)


def shared_scale(logits, labels):
    return cross_entropy(logits, labels) * logits.abs().mean()


def contrary(logits, labels):
    return -cross_entropy(logits, labels)


def unsafe(logits, labels):
    return -logits.softmax(dim=1)[torch.arange(len(labels)), labels].log()


KEPT = [
    *[(check_select, part) for part in (All(), RandomSubset(7), ClassBalanced(11))],
    (check_familiarity, KuLSIFSelector()),
    (check_familiarity, KuLSIFSelector(width=2.0, quantile=0.9)),
    (check_familiarity, GaussianDensity()),
    (check_familiarity, GaussianDensity("rank", shrinkage=1.0)),
    (check_familiarity, AuxiliaryScore()),
    (check_filter, AmbiguityFilter(0.7)),
    *[(check_extract, part) for part in (Logits(), Probabilities(), Probabilities(3.0))],
    (check_sharing_stage, ExtractStage(Probabilities(2.0))),
    *[(check_local_loss, part) for part in (CrossEntropy(), BalancedSoftmax(), cross_entropy)],
    (check_sharing_stage, mirror),
    (check_sharing_stage, noisy),
]
BROKEN = [
    (check_local_loss, Curious(), "nobody tells it: own"),
    (check_local_loss, shared_scale, "mixes the samples"),
    (check_local_loss, contrary, "names other classes"),
    (check_local_loss, unsafe, "not finite"),
    (check_select, dizzy, "ascending"),
    (check_familiarity, endless, "not finite"),
    (check_filter, relative, "mixes the targets"),
    (check_extract, Halves(), "once more|of what was read"),
    (check_sharing_stage, careless, "global random generator"),
    (check_sharing_stage, sociable, "rest of the cohort"),
]


def name(value: object) -> str:
    """Return a test's id, the same in every process: without addresses."""
    return getattr(value, "__name__", repr(value))[:60]


@pytest.mark.parametrize(("check", "part"), KEPT, ids=name)
def test_parts_keep_their_promises(check, part):
    check(part)


@pytest.mark.parametrize(("check", "part", "says"), BROKEN, ids=name)
def test_checks_find_what_is_broken(check, part, says):
    with pytest.raises(CheckFailed, match=says):
        check(part)
