"""Check what is asked for, answered and wished, for authors of such parts."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import torch
from torch import Tensor

from fedfuse.declarations import part_name
from fedfuse.protocols import Answering, Requester, Stateful, Wishing
from fedfuse.request import asked, rows_of
from fedfuse.testing.expect import expect, expect_declared
from fedfuse.testing.failed import CheckFailed
from fedfuse.testing.fusion import example_bank
from fedfuse.testing.randomness import global_randomness_untouched
from fedfuse.types import KnowledgeBank, Space, Teachers
from fedfuse.user_code import PartError

NUM_CLIENTS, NUM_PUBLIC, NUM_CLASSES, ROUNDS = 4, 40, 3, 4


def check_requester(requester: Requester) -> None:
    """Raise unless the part keeps the promises of :class:`fedfuse.protocols.Requester`.

    Bool, a row for all or for each client, no row without a sample; all of them before anything
    is noted; the same answer to the same question, whoever else is asked; what it is told stays as
    it is; no randomness but its own streams; all that it remembers in its state. Tried over some
    rounds, of all samples and of others in each, with labels and without, as far as it can do
    without.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The requester {part_name(requester)}"
    expect_declared(name, requester, "request")
    unlabelled = () if getattr(requester, "needs_labels", False) else (False,)
    for space in Space:
        for moving in (False, True):
            for labelled in (True, *unlabelled):
                part = copy.deepcopy(requester)
                with global_randomness_untouched(name, "some rounds"):
                    _rounds(name, part, space, moving=moving, labelled=labelled)


def _rounds(name: str, part: Requester, space: Space, *, moving: bool, labelled: bool) -> None:
    fresh = copy.deepcopy(part)
    ids = list(range(NUM_CLIENTS))
    for round_ in range(1, ROUNDS + 1):
        index = torch.arange(NUM_PUBLIC)[round_ % 3 :: 2] if moving else torch.arange(NUM_PUBLIC)
        wanted = _asked(part, round_, index, ids)
        if round_ == 1:
            expect(bool(wanted.all()), name, "does not ask for all before it knows anything")
        others = _asked(part, round_, index, ids[1:3])
        expect(torch.equal(others, wanted[1:3]), name, "asks a client by who else is asked")
        again = _asked(part, round_, index, ids)
        expect(torch.equal(again, wanted), name, "asks for something else when asked again")
        bank, teachers = _fusion(round_, index, wanted, space)
        labels = index % NUM_CLASSES if labelled else None
        told = copy.deepcopy((bank, teachers, labels, index))
        part.note(bank, teachers, labels, round_, index)
        for before, after in zip(told, (bank, teachers, labels, index), strict=True):
            expect(_equal(before, after), name, "changes what it is told")
        if isinstance(part, Stateful):
            assert isinstance(fresh, Stateful)
            state = part.state()
            fresh.restore(state)
            for value in state.values():
                value.zero_()
        ahead = (round_ + 1, torch.arange(NUM_PUBLIC), ids)
        same = torch.equal(_asked(part, *ahead), _asked(fresh, *ahead))
        expect(same, name, "remembers what its state does not hold, or hands out itself")


def _equal(one: object, other: object) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, KnowledgeBank | Teachers):
        pairs = ((getattr(one, each.name), getattr(other, each.name)) for each in fields(one))
        return all(_equal(before, after) for before, after in pairs)
    return one == other


def _asked(part: Requester, round_: int, index: Tensor, client_ids: list[int]) -> Tensor:
    try:
        return rows_of(asked(part, round_, index, client_ids), len(client_ids))
    except PartError as error:
        raise CheckFailed(str(error)) from error


def _fusion(
    round_: int, index: Tensor, wanted: Tensor, space: Space
) -> tuple[KnowledgeBank, Teachers]:
    """Return answers to what was asked, and teachers of it; another one in each round."""
    bank = example_bank(NUM_CLIENTS, NUM_PUBLIC, NUM_CLASSES)
    logits = (round_ * bank.logits).roll(round_, dims=1)[:, index]
    bank = replace(bank, logits=logits, mask=None if bool(wanted.all()) else wanted.clone())
    targets = logits.roll(1, dims=0)
    targets = targets if space is Space.LOGITS else targets.softmax(dim=-1)
    weight = None if bank.mask is None else bank.mask.any(dim=0).float().expand(len(wanted), -1)
    return bank, Teachers(bank.client_ids, targets, space, weight)


def check_answering(part: Answering) -> None:
    """Raise unless the part keeps the promises of :class:`fedfuse.protocols.Answering`.

    Bool with at least one True, or finite float32, for each sample; the same for the same
    generator; what it is told stays as it is; no randomness but the generator's. Before a first
    teacher, with one for some samples, and for a client that lacks classes.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    _choosing(f"The answer {part_name(part)}", "answer", part, (torch.bool, torch.float32))


def check_wishing(part: Wishing) -> None:
    """Raise unless the part keeps the promises of :class:`fedfuse.protocols.Wishing`.

    As :func:`check_answering`, bool only.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    _choosing(f"The wish {part_name(part)}", "wish", part, (torch.bool,))


def _choosing(
    name: str, slot: str, part: Answering | Wishing, types: tuple[torch.dtype, ...]
) -> None:
    expect_declared(name, part, slot)
    own = example_bank(2, NUM_PUBLIC, NUM_CLASSES).logits[0]
    gaps = own.flip(0)
    gaps[::3] = torch.nan
    for counts in (torch.tensor([5, 1, 3]), torch.tensor([0, 7, 0])):
        for last in (None, gaps, own.flip(0), torch.full_like(own, torch.nan)):
            for rows in (NUM_PUBLIC, 1):
                mine, then = own[:rows], None if last is None else last[:rows]
                given = [mine.clone(), None if then is None else then.clone(), counts.clone()]
                with global_randomness_untouched(name, "a choice"):
                    made, again = (
                        part(mine, then, counts, torch.Generator().manual_seed(1)) for _ in range(2)
                    )
                right = isinstance(made, Tensor) and made.dtype in types
                expect(right and made.shape == (rows,), name, "does not choose among the samples")
                sound = made.any() if made.dtype == torch.bool else made.isfinite().all()
                expect(bool(sound), name, "chose nothing, or by no finite numbers")
                expect(
                    torch.equal(made, again), name, "draws from something else than its generator"
                )
                for before, after in zip(given, (mine, then, counts), strict=True):
                    same = before is None or torch.allclose(before, after, equal_nan=True)  # type: ignore[arg-type]
                    expect(same, name, "changes what it is told")
