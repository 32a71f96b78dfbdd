"""Check the parts around the fusion: which samples, how familiar, and what is sent of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import Tensor

from fedfuse.arrival import Arrival
from fedfuse.declarations import part_name
from fedfuse.familiarity import Familiarity, Scored
from fedfuse.protocols import Extract, SharingStage, TargetFilter, Uptake
from fedfuse.rng import Streams
from fedfuse.select import Select
from fedfuse.sharing_context import SharingContext
from fedfuse.testing.expect import (
    call_twice,
    expect,
    expect_close,
    expect_declared,
    expect_simplex,
    expect_tensor,
)
from fedfuse.testing.failed import CheckFailed
from fedfuse.testing.fusion import SIZES, example_bank
from fedfuse.testing.randomness import global_randomness_untouched
from fedfuse.types import KnowledgeBank, Space, Teachers
from fedfuse.uptake import take_up
from fedfuse.user_code import PartError, kind_of


def check_select(select: Select, num_public: int = 2000) -> None:
    """Raise unless the selection keeps the promises of :class:`fedfuse.select.Select`.

    Ascending different indices within the public set, at least one; the same for the same
    generator, in whatever process; no global randomness.

    Args:
        select: The selection.
        num_public: P of the set that it is tried on, with ten balanced classes.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The selection {part_name(select)}"
    expect_declared(name, select, "select")
    labels = torch.arange(num_public) % 10
    for round_ in (1, 2, 7):
        with global_randomness_untouched(name, f"round {round_}"):
            index, again = (
                select(round_, num_public, labels, torch.Generator().manual_seed(round_))
                for _ in range(2)
            )
        expect_tensor(name, index, (index.numel(),), torch.int64)
        expect(len(index) > 0, name, "chose no sample")
        expect(bool((index.diff() > 0).all()), name, "did not return ascending indices")
        inside = int(index[0]) >= 0 and int(index[-1]) < num_public
        expect(inside, name, "chose samples that there are not")
        expect(torch.equal(index, again), name, "draws from something else than its generator")


def check_familiarity(measure: Familiarity) -> None:
    """Raise unless the measure keeps the promises of :class:`fedfuse.familiarity.Familiarity`.

    A bool mask or a finite float32 confidence [P], or both, also for few private samples and for
    constant features; the same for the same generator; inputs stay as they are.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The familiarity {part_name(measure)}"
    expect_declared(name, measure, "familiarity")
    draw = torch.Generator().manual_seed(0)
    for num_private, num_public, width in ((60, 40, 5), (8, 3, 12), (2, 1, 1)):
        private = torch.randn(num_private, width, generator=draw)
        private[:, 0] = 1.0
        public = torch.randn(num_public, width, generator=draw)
        labels = torch.arange(num_private) % 3

        def ask(private: Tensor, labels: Tensor, public: Tensor) -> Tensor:
            given = measure(private, labels, public, torch.Generator().manual_seed(1))
            if not isinstance(given, Scored):
                return given
            expect_tensor(name, given.mask, (len(public),), torch.bool)
            expect_tensor(name, given.confidence, (len(public),), torch.float32)
            return torch.where(given.mask, given.confidence, 0)

        with global_randomness_untouched(name, f"{num_private} private samples"):
            answer = call_twice(name, ask, private, labels, public)
        dtype = torch.bool if answer.dtype == torch.bool else torch.float32
        expect_tensor(name, answer, (num_public,), dtype)
        expect(bool(answer.isfinite().all()), name, "gave a confidence that is not finite")


def check_filter(filter: TargetFilter) -> None:  # noqa: A002
    """Raise unless the filter keeps the promises of :class:`fedfuse.protocols.TargetFilter`.

    Finite weights [K, P] from 0 upwards, each target by itself, the same on every call.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The filter {part_name(filter)}"
    for size in SIZES:
        probs = (5 * example_bank(*size).logits).softmax(dim=-1)
        probs[0, 0] = torch.eye(size[2])[0]
        probs[-1, -1] = 1 / size[2]
        weights = call_twice(name, filter, probs)
        expect_tensor(name, weights, size[:2])
        sound = weights.isfinite() & (weights >= 0)
        expect(bool(sound.all()), name, "gave weights that are negative or not finite")
        alone = torch.stack([filter(one.unsqueeze(0))[0] for one in probs])
        expect_close(name, alone, weights, "mixes the targets of different clients")


def check_extract(extract: Extract) -> None:
    """Raise unless the part keeps the promises of :class:`fedfuse.protocols.Extract`.

    Finite float32 of the same shape, probabilities on the simplex if that is its space, also for
    logits that are far apart; what was read is shared the same once more; each sample by itself,
    the same on every call; the most probable class stays it.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The extraction {part_name(extract)}"
    expect_declared(name, extract, "extract")
    expect(extract.space in list(Space), name, f"has no known space: got {extract.space!r}")
    for size in SIZES:
        logits = example_bank(*size).logits
        logits[0, 0] = 1e4 * torch.eye(size[2])[0]
        shared = call_twice(name, extract.shared, logits)
        expect_tensor(name, shared, size, torch.float32)
        if extract.space is Space.PROBABILITIES:
            expect_simplex(name, shared)
        read = call_twice(name, extract.read, shared)
        expect_tensor(name, read, size, torch.float32)
        expect(bool(read.isfinite().all()), name, "was read as logits that are not finite")
        again = extract.shared(read)
        expect_close(name, again, shared, "shares something else of what was read of it")
        alone = torch.stack([extract.shared(one) for one in logits])
        expect_close(name, alone, shared, "mixes what different clients share")
        same = torch.equal(read.argmax(dim=-1), logits.argmax(dim=-1))
        expect(same, name, "made another class the most probable one")


def check_sharing_stage(stage: SharingStage) -> None:
    """Raise unless the stage keeps the promises of :class:`fedfuse.protocols.SharingStage`.

    The same clients and samples, float32 and finite; a client's part does not depend on who else
    is in its cohort; no randomness but the context's.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The stage {part_name(stage)}"
    for size in SIZES:
        bank = example_bank(*size)
        with global_randomness_untouched(name, f"{size[0]} clients"):
            made = stage(bank, _context(bank.client_ids, size))
        expect_tensor(name, made.logits, size, torch.float32)
        expect(bool(made.logits.isfinite().all()), name, "gave predictions that are not finite")
        expect(torch.equal(made.client_ids, bank.client_ids), name, "answers for other clients")
        for row in range(size[0]):
            one = torch.tensor([row])
            single = stage(bank.rows(one), _context(bank.client_ids[one], (1, *size[1:])))
            expect_close(name, single.logits, made.logits[one], "depends on the rest of the cohort")


def check_uptake(uptake: Uptake) -> None:
    """Raise unless the stage keeps the promises of :class:`fedfuse.protocols.Uptake`.

    The same clients and samples; targets on the simplex, or finite logits; weights that are only
    multiplied; a client's part does not depend on who else is in its cohort; the same on every
    call, its inputs left as they are; no randomness but the arrival's. All of it in a client's
    first lesson and in one that finds what it remembers of it: tensors, by names with a slash.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The uptake {part_name(uptake)}"
    expect_declared(name, uptake, "uptake")
    for size, space in product(SIZES, Space):
        bank = example_bank(*size)
        targets = bank.logits.flip(1)
        targets = targets if space is Space.LOGITS else targets.softmax(dim=-1)
        weight = (torch.arange(size[1]) % 3 > 0).float().expand(size[:2])
        try:
            with global_randomness_untouched(name, f"{size[0]} clients"):
                made = call_twice(name, partial(_taken_up, uptake, space), bank, targets, weight)
        except PartError as error:
            raise CheckFailed(str(error)) from error
        for row in torch.arange(size[0]).view(-1, 1):
            alone = _taken_up(uptake, space, bank.rows(row), targets[row], weight[row])
            expect_close(name, alone, made[row], "depends on the rest of the cohort")


def _taken_up(
    uptake: Uptake, space: Space, bank: KnowledgeBank, targets: Tensor, weight: Tensor
) -> Tensor:
    """Return what some clients make of targets in two lessons, [k, 2, m, C + weight]."""
    lessons, memory = [], {i: dict[str, Tensor]() for i in bank.client_ids.tolist()}
    for round_ in (1, 2):
        at = _arrival(replace(bank, logits=round_ * bank.logits), memory, round_)
        made = take_up(uptake, Teachers(bank.client_ids, targets, space, weight), at)
        assert made.sample_weight is not None
        lessons.append(torch.cat([made.targets, made.sample_weight.unsqueeze(-1)], dim=-1))
        for name, value in (entry for kept in memory.values() for entry in kept.items()):
            if not (isinstance(value, Tensor) and "/" in name):
                raise PartError(
                    f"The uptake {part_name(uptake)} remembers what no state of a client holds",
                    got=f"{kind_of(value)} as '{name}'",
                    allowed="tensors by names such as 'my_stage/seen'",
                )
    return torch.stack(lessons, dim=1)


def _arrival(bank: KnowledgeBank, memory: dict[int, dict[str, Tensor]], round_: int) -> Arrival:
    """Return the arrival for some clients, the same for each whoever else is there."""
    num_samples, num_classes = bank.logits.shape[1:]
    counts = (torch.arange(num_classes) + bank.client_ids.view(-1, 1)) % 4
    return Arrival(
        "method",
        round_,
        torch.arange(num_samples),
        counts,
        memory,
        Streams(0),
        labels=torch.arange(num_samples) % num_classes,
        inputs=torch.ones(num_samples, 1, 3, 3),
        ask=lambda inputs: bank.logits + (inputs.mean(dim=(1, 2, 3)) - 1).view(1, -1, 1),
    )


def _context(client_ids: Tensor, size: tuple[int, int, int]) -> SharingContext:
    counts = torch.ones(size[0], size[2], dtype=torch.int64)
    memory: dict[int, dict[str, Tensor]] = {i: {} for i in client_ids.tolist()}
    return SharingContext("method", 1, torch.arange(size[1]), counts, memory, Streams(0))
