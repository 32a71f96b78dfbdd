"""What clients choose by their own predictions and by what they were told last."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from clients.sharing.own_choice import LAST, OwnChoice
from fedfuse.errors import FedfuseError
from fedfuse.rng import Streams
from fedfuse.sharing_context import SharingContext
from fedfuse.types import KnowledgeBank, Space, Teachers
from fedfuse.user_code import PartError

IDS, P, M, C = (3, 5), 6, 4, 2
INDEX = torch.tensor([0, 2, 3, 5])


def context(memory, round_=1):
    counts = torch.tensor([[1, 4], [0, 7]])
    return SharingContext("method", round_, INDEX, counts, memory, Streams(0))


def bank(**more):
    logits = torch.arange(2 * M * C).view(2, M, C).float()
    return KnowledgeBank(torch.tensor(IDS), logits, torch.ones(2).long(), **more)


def stage(answer=None, wish=None, temperature=1.0):
    return OwnChoice(answer, wish, temperature, lambda bank, _: bank, P)


def first(own, last, class_counts, generator, *, among=1):
    return torch.arange(len(own)) < among


def surely(own, last, class_counts, generator):
    return own[:, 0] * class_counts[1]


def test_a_part_gets_each_clients_own_and_answers_become_masks_wishes_or_confidences():
    seen = []

    def answer(own, last, class_counts, generator):
        seen.append((own, last, class_counts, torch.rand(1, generator=generator)))
        return first(own, last, class_counts, generator, among=len(seen))

    at = context({3: {}, 5: {}})
    made = stage(answer, partial(first, among=2), temperature=2.0)(bank(), at)
    assert made.mask.tolist() == [[True, False, False, False], [True, True, False, False]]
    assert made.wishes.tolist() == [[True, True, False, False]] * 2
    for row, client_id in enumerate(IDS):
        own, last, counts, number = seen[row]
        assert torch.equal(own, bank().logits[row] / 2)
        assert last is None
        assert torch.equal(counts, at.class_counts[row])
        assert torch.equal(number, torch.rand(1, generator=at.generator(client_id, "answer")))
    familiar = torch.tensor([[True, False, True, True], [False, True, True, False]])
    both = stage(partial(first, among=1))(bank(mask=familiar), at)
    assert both.mask.tolist() == [[True, False, False, False], familiar[1].tolist()]
    assert stage(surely)(bank(), at).confidence[0].tolist() == [0.0, 8.0, 16.0, 24.0]


@pytest.mark.parametrize("space", Space)
def test_the_last_teacher_is_kept_for_every_sample_that_was_taught(space):
    memory = {3: {}, 5: {}}
    probs = torch.tensor([0.25, 0.75]).expand(2, M, C)
    targets = probs if space is Space.PROBABILITIES else 2 * probs.log()
    weight = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    told = stage(first, temperature=2.0)
    told.note(Teachers(torch.tensor(IDS), targets, space, weight), context(memory))
    expected = torch.full((2, P, C), torch.nan)
    expected[0, [0, 3, 5]] = expected[1, [5]] = probs[0, 0].log()
    for row, client_id in enumerate(IDS):
        torch.testing.assert_close(memory[client_id][LAST], expected[row], equal_nan=True)
    kept = memory[3][LAST].clone()
    told.note(Teachers(torch.tensor(IDS), targets, space, torch.zeros(2, M)), context(memory, 2))
    torch.testing.assert_close(memory[3][LAST], kept, equal_nan=True)
    seen = []

    def look(own, last, class_counts, generator):
        seen.append(last)
        return first(own, last, class_counts, generator)

    stage(look)(bank(), context(memory, 3))
    torch.testing.assert_close(seen[0], expected[0, INDEX], equal_nan=True)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (lambda own, *_: torch.zeros(len(own), dtype=torch.bool), "chose no sample at all"),
        (
            lambda own, *_: torch.full((len(own),), torch.nan),
            "did not say .*got (NaN|a Tensor, torch.float32)",
        ),
        (lambda own, *_: torch.ones(2, dtype=torch.bool), "did not say which samples"),
        (lambda own, *_: [True] * len(own), "did not say which samples"),
    ],
)
def test_a_part_that_breaks_its_promise_is_named(chosen, words):
    at = context({3: {}, 5: {}})
    for made, slot in ((stage(chosen), "answer"), (stage(wish=chosen), "wish")):
        with pytest.raises(PartError, match=f"The {slot} <lambda> {words}"):
            made(bank(), at)
    with pytest.raises(PartError, match="The wish surely did not say"):
        stage(wish=surely)(bank(), at)


def test_predictions_that_are_no_numbers_are_their_clients():
    broken = bank()
    broken.logits[1, 2] = torch.inf
    with pytest.raises(FedfuseError, match="The predictions of client 5"):
        stage(first)(broken, context({3: {}, 5: {}}))
