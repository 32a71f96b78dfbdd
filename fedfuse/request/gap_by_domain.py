"""More of the domains in which the clients trail what is fused: DDK (arXiv 2407.16154).

Read in the paper's full text. There a domain is a corpus and a student's gap its perplexity over
its teacher's, taken anew every 1,000 steps; here a domain is a class of the public samples, and the
gap is taken with every fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.request.knowledge import best, budget, cross_entropy, lesson_of, require_budget
from fedfuse.request.remembering import Remembering
from fedfuse.rng import Streams
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Teachers
from fedfuse.validation import require_count, require_flag, require_number

MOST = 50.0
"""Largest ratio of perplexities that counts as one."""
WORST = 80.0
"""Largest mean loss whose exponential is taken: float32 ends at 88."""


def perplexities(
    losses: Float[Tensor, " n"], domains: Int[Tensor, " n"], num_domains: int
) -> Float[Tensor, " D"]:
    """Return ``exp(mean loss)`` of each domain, NaN where it has no sample.

    >>> perplexities(torch.tensor([4.0, 2.0]).log(), torch.tensor([0, 2]), 3)
    tensor([4., nan, 2.])
    """
    count = torch.bincount(domains, minlength=num_domains)
    total = torch.zeros(num_domains).index_add_(0, domains, losses.float())
    return (total / count).clamp_max(WORST).exp()


def shares(
    ratios: Float[Tensor, " D"], before: Float[Tensor, " D"] | None, alpha: float
) -> Float[Tensor, " D"]:
    """Return how much of what is asked for goes to each domain; they sum to 1.

    First ``r ~ exp(ratio)``; from then on ``psi = r exp(ratio)`` and ``r <- alpha psi / sum psi +
    (1 - alpha) / D``.

    Args:
        ratios: Perplexity of the students over that of the teacher, NaN in an empty domain, which
            gets nothing.
        before: What this returned last; None the first time.
        alpha: How much of the gap counts, from 0 (none: all alike from the first time on, which is
            ours) to 1.

    >>> first = shares(torch.tensor([2.0, 1.0]), None, 0.5)
    >>> first, shares(torch.tensor([2.0, 1.0]), first, 0.5)
    (tensor([0.7311, 0.2689]), tensor([0.6904, 0.3096]))
    """
    there = ratios.isfinite()
    capped = ratios.clamp_max(MOST)
    gap = torch.where(there, (capped - capped[there].max()).exp(), 0)
    if before is None and alpha > 0:
        return gap / gap.sum()
    before = there.float() if before is None else before
    psi = gap * before
    if not bool(psi.sum() > 0):  # all that counted before is empty now
        psi = gap
    share = alpha * psi / psi.sum() + (1 - alpha) / len(ratios)
    share = torch.where(there, share, 0)
    return share / share.sum()


def draw(
    share: Float[Tensor, " D"],
    domains: Int[Tensor, " m"],
    size: int,
    generator: torch.Generator,
) -> Bool[Tensor, " m"]:
    """Return ``size`` samples, drawn without replacement by their domain's share over its size.

    Samples of domains with no share come when there are no others.
    """
    each = (share / torch.bincount(domains, minlength=len(share)))[domains]
    # The largest of log(u) / weight: exponential races, one draw a sample.
    noise = torch.rand(len(domains), generator=generator, dtype=torch.float64).clamp_min(1e-300)
    return best(torch.where(each > 0, noise.log() / each, -torch.inf), size)


@dataclass(frozen=True, slots=True)
class GapByDomain(Remembering):
    """Ask for samples of each domain in proportion to the clients' gap to the teacher in it.

    The clients' loss is the mean of theirs, not that of their mean prediction: under the plain mean
    that one is the fused target itself, and there would be no gap.

    A sample's domain is its public label where anybody knows it, and else the class that the fused
    target calls likeliest; one that nobody has answered yet has a domain of its own, which counts
    as the mean of the others. The first exchange asks for all.

    Args:
        size: Samples to ask each client for; None takes ``share``.
        share: Samples to ask for, of the round's.
        alpha: How much of the gap counts; 0 asks for all domains alike, for ever.
        per_client: Whether each client is asked by its own gap, and for other samples.
        labels: Whether public labels are read; False takes the target's classes.
        seed: Of the draws.
    """

    size: int | None = None
    share: float = 0.5
    alpha: float = 0.5
    per_client: bool = False
    labels: bool = True
    seed: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    remembers_samples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_budget("GapByDomain", self.share, self.size)
        require_number("GapByDomain", "alpha", self.alpha, at_least=0, at_most=1)
        require_flag("GapByDomain", "per_client", self.per_client)
        require_flag("GapByDomain", "labels", self.labels)
        require_count("GapByDomain", "seed", self.seed, at_least=0)

    @property
    def pseudo_labels(self) -> bool:
        """Whether it reads public labels, and does without where there are none."""
        return self.labels

    def __call__(
        self,
        round: int,  # noqa: A002
        index: Tensor,
        client_ids: Sequence[int],
    ) -> Tensor:
        """Return what is asked for: bool [m], or [k, m] where each client is asked by its gap."""
        known = self.known("domain", index)
        if known is None:
            return torch.ones(len(index), dtype=torch.bool)
        common = self.memory["shares"]
        domains = known.nan_to_num(nan=len(common)).long()
        count, streams = budget(self.size, self.share, len(index)), Streams(self.seed)
        if not self.per_client:
            generator = streams.torch("public", "request", round)
            return draw(_with_unknown(common), domains, count, generator)
        rows = self.known("client_shares", torch.tensor(list(client_ids), dtype=torch.int64))
        assert rows is not None
        rows = torch.where(rows.isnan(), common, rows)
        return torch.stack(
            [
                draw(
                    _with_unknown(row), domains, count, streams.torch("client", i, "request", round)
                )
                for row, i in zip(rows, client_ids, strict=True)
            ]
        )

    def note(
        self,
        bank: KnowledgeBank,
        teachers: Teachers,
        labels: Tensor | None,
        round: int,  # noqa: A002, ARG002
        index: Tensor,
    ) -> None:
        """Take each domain's gap anew, as far as somebody answered for it."""
        lesson = lesson_of(bank, teachers, labels)
        if not len(lesson.rows):
            return
        num_domains, domains = bank.num_classes, lesson.labels
        self.remember("domain", index[lesson.rows], domains.float())
        least = perplexities(cross_entropy(lesson.teacher, domains), domains, num_domains)
        now = perplexities(lesson.losses, domains, num_domains) / least
        self._set("shares", "ratios", None, now)
        if not self.per_client:
            return
        logs = bank.logits[:, lesson.rows].float().log_softmax(dim=-1)
        own = -logs.gather(2, domains.expand(len(logs), -1).unsqueeze(2)).squeeze(2)
        for row, client_id in enumerate(bank.client_ids.tolist()):
            there = torch.ones(len(domains), dtype=torch.bool)
            if bank.mask is not None:
                there = bank.mask[row, lesson.rows]
            ratios = perplexities(own[row, there], domains[there], num_domains) / least
            self._set("client_shares", "client_ratios", client_id, ratios)

    def _set(self, shares_name: str, ratios_name: str, row: int | None, now: Tensor) -> None:
        """Set shares by the ratios of this fusion, and by the last ones where there are none."""
        at = torch.tensor([0 if row is None else row])
        before, last = (
            self.memory.get(name) if row is None else self._row(name, at)
            for name in (shares_name, ratios_name)
        )
        ratios = now if last is None else torch.where(now.isfinite(), now, last)
        if not bool(ratios.isfinite().any()):
            return
        made = shares(ratios, before, self.alpha)
        if row is None:
            self.memory[shares_name], self.memory[ratios_name] = made, ratios
        else:
            self.remember(shares_name, at, made.unsqueeze(0))
            self.remember(ratios_name, at, ratios.unsqueeze(0))

    def _row(self, name: str, at: Tensor) -> Tensor | None:
        """Return a client's row of what is kept, if there is one."""
        known = self.known(name, at)
        return None if known is None or bool(known.isnan().all()) else known[0]


def _with_unknown(share: Float[Tensor, " D"]) -> Float[Tensor, " E"]:
    """Return shares with one more domain, of samples without one: the mean of the others."""
    return torch.cat([share, share[share > 0].mean().view(1)])
