"""Scores that know nothing: what a method's scores are worth shows beside them.

If shuffled or random weights do as well as a scorer, its choice of sources is not what helps.
Both draw from a hash of (seed, receiver id, source id): a client keeps its draw whoever else takes
part, in whatever order. The pipeline asks ``at_round`` for the scorer of each round, so every round
draws anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedfuse.declarations import declared
from fedfuse.errors import require
from fedfuse.fusion.around import of_round
from fedfuse.protocols import ClassScores, Scorer
from fedfuse.rng import Streams
from fedfuse.shapes import Float, Int
from fedfuse.types import KnowledgeBank
from fedfuse.validation import require_count

_GOLDEN = 0x9E3779B97F4A7C15


def pair_uniform(ids: Int[Tensor, " K"], seed: int) -> Float[Tensor, "K K"]:
    """Return independent uniform numbers in (0, 1), float64, one for each ordered pair of ids.

    The mixing function of SplitMix64 over seed, receiver and source.

    >>> both, swapped = pair_uniform(torch.tensor([3, 8]), 0), pair_uniform(torch.tensor([8, 3]), 0)
    >>> torch.equal(both, swapped.flip(0, 1))
    True
    """
    names = ids.cpu().numpy().astype(np.uint64)
    state = _mix(_mix(_mix(np.array([[seed]], np.uint64)) ^ names[:, None]) ^ names)
    draws = ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return torch.from_numpy(draws).to(ids.device)


def round_seed(seed: int, round: int) -> int:  # noqa: A002
    """Return the seed of a round's draw.

    >>> round_seed(0, 1) == round_seed(0, 2), round_seed(0, 1) == round_seed(0, 1)
    (False, True)
    """
    return Streams(seed).entropy("control", round)


def shuffle_sources(
    scores: Float[Tensor, "K K *C"], ids: Int[Tensor, " K"], seed: int
) -> Float[Tensor, "K K *C"]:
    """Return the scores with each row's entries off the diagonal in a random order of its own.

    Every receiver keeps its own score and the same scores for others, given to other sources: all
    classes of one to the same other.
    """
    # Two orders of a row's sources, its own first in both: by id, and by chance.
    by_id = ids.repeat(len(ids), 1).fill_diagonal_(-1).argsort(dim=1)
    by_chance = pair_uniform(ids, seed).fill_diagonal_(-1).argsort(dim=1)
    receivers = torch.arange(len(ids), device=ids.device).unsqueeze(1)
    return torch.empty_like(scores).index_put((receivers, by_id), scores[receivers, by_chance])


@dataclass(frozen=True, slots=True)
class Shuffled:
    """Give another scorer's scores to the wrong sources, row by row; a client's own stays.

    Args:
        scorer: Whose scores.
        seed: Of the permutations, one for each receiver.
    """

    scorer: Scorer
    seed: int = 0

    def __post_init__(self) -> None:
        require(callable(self.scorer), "Shuffled", "scorer", self.scorer, "a scorer")
        require_count("Shuffled", "seed", self.seed, at_least=0)

    @property
    def needs_labels(self) -> bool:
        """Whether the inner scorer reads public labels."""
        return declared(self.scorer, "needs_labels", False)

    @property
    def needs_class_distribution(self) -> bool:
        """Whether the inner scorer reads the clients' class shares."""
        return declared(self.scorer, "needs_class_distribution", False)

    @property
    def by_class(self) -> bool:
        """Whether the inner scorer's scores differ by class."""
        return declared(self.scorer, "by_class", False)

    def at_round(self, round: int) -> Shuffled:  # noqa: A002
        """Return the scorer of this round: other permutations, and the inner scorer's own draw."""
        return Shuffled(of_round(self.scorer, round), round_seed(self.seed, round))

    def __call__(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None
    ) -> Float[Tensor, "K K *C"]:
        """Return the inner scores, shuffled off the diagonal; those by class whole, [K, K, C]."""
        scores = self.scorer(bank, labels)
        if isinstance(scores, ClassScores):
            scores = scores.pair.unsqueeze(2) + scores.source
        return shuffle_sources(scores, bank.client_ids, self.seed)


@dataclass(frozen=True, slots=True)
class Random:
    """Draw each receiver's weights uniformly from all weights that sum to 1.

    Args:
        seed: Of the draw.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        require_count("Random", "seed", self.seed, at_least=0)

    def at_round(self, round: int) -> Random:  # noqa: A002
        """Return the scorer of this round."""
        return Random(round_seed(self.seed, round))

    def __call__(
        self,
        bank: KnowledgeBank,
        labels: Int[Tensor, " P"] | None,  # noqa: ARG002
    ) -> Float[Tensor, "K K"]:
        """Return logarithms of exponential variates, which normalise to Dirichlet(1, ..., 1)."""
        draws = pair_uniform(bank.client_ids, self.seed)
        return (-draws.log()).log().to(bank.logits.dtype)


def _mix(
    values: np.ndarray[tuple[int, ...], np.dtype[np.uint64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """Return 64 well-mixed bits for each value; unsigned arithmetic wraps around."""
    mixed = values + np.uint64(_GOLDEN)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
