"""Check a scorer, neighbours, rule or sharpening of one's own.

Each check calls the part on small made-up federations (one client, two, many; two classes and a
hundred) and raises a :class:`CheckFailed` that says which promise of its protocol
is broken.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from fedfuse.declarations import declared, part_name
from fedfuse.fusion.around import fused_by, of_round
from fedfuse.fusion.class_weights import ClassWeights
from fedfuse.protocols import ClassScores, Neighbours, Rule, Scorer, Sharpen
from fedfuse.stateful import collect, give_back, stateful_parts
from fedfuse.testing.expect import (
    call_twice,
    expect,
    expect_close,
    expect_declared,
    expect_simplex,
    expect_tensor,
)
from fedfuse.types import KnowledgeBank, Space

SIZES = ((1, 3, 2), (2, 5, 2), (3, 4, 100), (6, 7, 10))
"""The federations that are tried: clients K, public samples P, classes C."""


def example_bank(num_clients: int, num_samples: int, num_classes: int) -> KnowledgeBank:
    """Return the made-up knowledge of a federation; clients lean toward different classes.

    >>> example_bank(2, 5, 3).logits.shape
    torch.Size([2, 5, 3])
    """
    generator = torch.Generator().manual_seed(num_clients)
    leaning = torch.randn(num_clients, 1, num_classes, generator=generator)
    noise = torch.randn(num_clients, num_samples, num_classes, generator=generator)
    return KnowledgeBank(
        client_ids=torch.arange(num_clients),
        logits=2 * leaning + noise,
        num_examples=torch.arange(1, num_clients + 1) * 10,
        class_distribution=(3 * leaning.squeeze(1)).softmax(dim=1),
    )


def check_scorer(scorer: Scorer) -> None:
    """Raise unless the scorer keeps the promises of :class:`fedfuse.protocols.Scorer`.

    Scores are floats [K, K] without NaN or +inf, the same on every call; relabelling the clients
    relabels rows and columns; predictions that a mask hides do not count. With ``by_class = True``
    they may also be [K, K, C], or :class:`fedfuse.protocols.ClassScores`.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The scorer {part_name(scorer)}"
    expect_declared(name, scorer, "scorer")

    def score(bank: KnowledgeBank, labels: Tensor | None) -> Tensor:
        made = scorer(bank, labels)
        if isinstance(made, ClassScores):
            expect_tensor(name, made.pair, (bank.num_clients, bank.num_clients))
            expect_tensor(name, made.source, (bank.num_clients, bank.num_classes))
            made = made.pair.unsqueeze(2) + made.source
        if isinstance(made, Tensor) and made.ndim == 3:
            said = declared(scorer, "by_class", False)
            expect(said, name, "scores every class by itself and does not declare by_class = True")
        return made

    for bank in _banks():
        num_clients, num_samples, num_classes = bank.logits.shape
        labels = None
        if declared(scorer, "needs_labels", False):
            labels = torch.arange(num_samples) % num_classes
        scores = call_twice(name, score, bank, labels)
        by_class = isinstance(scores, Tensor) and scores.ndim == 3
        expect_tensor(name, scores, (num_clients, num_clients, *[num_classes] * by_class))
        expect(not bool((scores.isnan() | (scores == torch.inf)).any()), name, "gave NaN or +inf")
        order = _shuffled(num_clients)
        moved = score(bank.rows(order), labels)
        expect_close(name, moved, scores[order][:, order], "depends on the order of the clients")
        if bank.mask is not None:
            other = score(_with_other_hidden_answers(bank), labels)
            expect_close(name, other, scores, "reads predictions that the mask hides")


def check_neighbours(neighbours: Neighbours) -> None:
    """Raise unless the selector keeps the promises of :class:`fedfuse.protocols.Neighbours`.

    A choice is bool [K, K] with a True in every row, the same on every call, also for scores that
    tie or are minus infinity; relabelling the clients relabels rows and columns.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The neighbours {part_name(neighbours)}"
    for num_clients, _, _ in SIZES:
        generator = torch.Generator().manual_seed(num_clients)
        distinct = torch.randn(num_clients, num_clients, generator=generator)
        hopeless = distinct.masked_fill(distinct < 0, -torch.inf)
        for scores in (distinct, torch.zeros_like(distinct), 1e6 * distinct, hopeless):
            near = call_twice(name, neighbours, scores)
            expect_tensor(name, near, (num_clients, num_clients), torch.bool)
            expect(bool(near.any(dim=1).all()), name, "left a row without any neighbour")
        order = _shuffled(num_clients)
        near, moved = neighbours(distinct), neighbours(distinct[order][:, order])
        same = torch.equal(moved, near[order][:, order])
        expect(same, name, "depends on the order of the clients")


def check_rule(rule: Rule) -> None:
    """Raise unless the rule keeps the promises of :class:`fedfuse.protocols.Rule`.

    Targets are finite floats [K, P, C], on the simplex if its space is probabilities, the same on
    every call; relabelling the clients relabels the targets; predictions that a mask hides do not
    count. With ``by_class = True`` all this holds of weights by class too, and those that are the
    same for every class fuse as weights of pairs do. With ``needs_labels = True`` it is handed
    labels [P], and of one with ``at_round`` the rule of round 1 is checked. A rule that remembers
    (:class:`~fedfuse.protocols.Stateful`) is asked as it was given, and must go on from its state
    as it would have gone on itself.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The rule {part_name(rule)}"
    expect_declared(name, rule, "rule")
    space = declared(rule, "space", Space.PROBABILITIES)
    remembers = bool(stateful_parts({"rule": rule}))

    def fuse(
        bank: KnowledgeBank, weights: Tensor | ClassWeights, asked: Rule | None = None
    ) -> Tensor:
        if asked is None:
            asked = copy.deepcopy(rule) if remembers else rule
        labels = torch.arange(bank.logits.shape[1]) % bank.num_classes
        made = fused_by(of_round(asked, 1), bank, weights, labels)
        if made.sample_weight is None:
            return made.targets
        expect_tensor(name, made.sample_weight, tuple(bank.logits.shape[:2]))
        expect(bool((made.sample_weight >= 0).all()), name, "gave negative sample weights")
        return made.targets

    expect(space in list(Space), name, f"has no known space: got {space!r}")
    for bank in _banks():
        if remembers:
            _expect_remembered(name, rule, fuse, bank)
        order, generator = _shuffled(bank.num_clients), torch.Generator().manual_seed(0)
        mixed = torch.rand(bank.num_clients, bank.num_clients, generator=generator).square()
        mixed = mixed / mixed.sum(dim=1, keepdim=True)
        tried: list[tuple[Tensor | ClassWeights, Tensor | ClassWeights]] = [
            (weights, weights[order][:, order]) for weights in (mixed, torch.eye(bank.num_clients))
        ]
        if declared(rule, "by_class", False):
            tried += _weights_by_class(bank, order, generator)
            same = _class_weights(ClassScores(mixed.log(), torch.zeros_like(bank.logits[:, 0])))
            what = "fuses weights that are the same for every class as others than those of pairs"
            expect_close(name, fuse(bank, same), fuse(bank, mixed), what)
        for weights, moved_weights in tried:
            targets = call_twice(name, fuse, bank, weights)
            expect_tensor(name, targets, tuple(bank.logits.shape))
            expect(bool(targets.isfinite().all()), name, "gave NaN or infinite targets")
            if space == Space.PROBABILITIES:
                expect_simplex(name, targets)
            moved = fuse(bank.rows(order), moved_weights)
            expect_close(name, moved, targets[order], "depends on the order of the clients")
            if bank.mask is not None:
                other = fuse(_with_other_hidden_answers(bank), weights)
                expect_close(name, other, targets, "reads predictions that the mask hides")


def _expect_remembered(
    name: str, rule: Rule, fuse: Callable[..., Tensor], bank: KnowledgeBank
) -> None:
    """Raise unless a rule that got its state back goes on as it would have without a break."""
    weights = torch.full((bank.num_clients,) * 2, 1 / bank.num_clients)
    whole, resumed = copy.deepcopy(rule), copy.deepcopy(rule)
    fuse(bank, weights, whole)
    give_back({"rule": resumed}, collect({"rule": whole}))
    moved = replace(bank, logits=bank.logits.roll(1, dims=0) * 1.5)
    same = torch.equal(fuse(moved, weights, whole), fuse(moved, weights, resumed))
    expect(same, name, "goes on otherwise once it was given its state back")


def check_sharpen(sharpen: Sharpen) -> None:
    """Raise unless the sharpening keeps the promises of :class:`fedfuse.protocols.Sharpen`.

    Probabilities [..., C] stay on the simplex, also one-hot and uniform ones, each sample by
    itself and the same on every call.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The sharpening {part_name(sharpen)}"
    for size in SIZES:
        probs = (5 * example_bank(*size).logits).softmax(dim=-1)
        probs[0, 0] = torch.eye(size[2])[0]
        probs[-1, -1] = 1 / size[2]
        sharp = call_twice(name, sharpen, probs)
        expect_tensor(name, sharp, size)
        expect_simplex(name, sharp)
        alone = torch.stack([sharpen(one) for one in probs])
        expect_close(name, alone, sharp, "mixes the targets of different clients")


def _banks() -> Iterator[KnowledgeBank]:
    """Yield a bank of every size, without a mask and with one."""
    for size in SIZES:
        bank = example_bank(*size)
        yield bank
        mask = torch.rand(size[:2], generator=torch.Generator().manual_seed(7)) < 0.6
        mask[0] = True
        mask[-1, 0] = False
        yield replace(bank, mask=mask)


def _weights_by_class(
    bank: KnowledgeBank, order: Tensor, generator: torch.Generator
) -> Iterator[tuple[ClassWeights, ClassWeights]]:
    """Yield weights by class, and the same for clients in another order."""
    num_clients, _, num_classes = bank.logits.shape
    pair = torch.randn(num_clients, num_clients, generator=generator)
    source = torch.randn(num_clients, num_classes, generator=generator)
    whole = torch.randn(num_clients, num_clients, num_classes, generator=generator)
    moved = ClassScores(pair[order][:, order], source[order])
    yield _class_weights(ClassScores(pair, source)), _class_weights(moved)
    yield _class_weights(whole), _class_weights(whole[order][:, order])


def _class_weights(scores: ClassScores | Tensor) -> ClassWeights:
    pair = scores.pair if isinstance(scores, ClassScores) else scores[..., 0]
    return ClassWeights(scores, torch.ones_like(pair, dtype=torch.bool))


def _with_other_hidden_answers(bank: KnowledgeBank) -> KnowledgeBank:
    """Return the bank with other predictions where the mask says that there is none."""
    assert bank.mask is not None
    other = torch.where(bank.mask.unsqueeze(-1), bank.logits, -3 * bank.logits + 1)
    return replace(bank, logits=other)


def _shuffled(num_clients: int) -> Tensor:
    """Return an order of the clients that is not their own (if there are two)."""
    return torch.arange(num_clients).roll(1)
