"""What a request would leave out, left out of the lesson alone: the ablation of every request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fedfuse.declarations import declared
from fedfuse.errors import KnowledgeError, require
from fedfuse.fusion.around import AroundRule, fused_by, of_round, require_inner
from fedfuse.fusion.returned import checked_labels
from fedfuse.fusion.rules import answered
from fedfuse.protocols import Answering, Fused, Requester, Rule, Wishing
from fedfuse.rng import Streams
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space, Teachers
from fedfuse.validation import require_count, require_flag, require_number


@dataclass(slots=True, eq=False)
class LastTaught:
    """What each client was taught of each sample, as logits [P, C] by client id."""

    by_client: dict[int, Tensor] = field(default_factory=dict)

    def state(self) -> dict[str, Tensor]:
        """Return a copy."""
        return {str(i): rows.cpu().clone() for i, rows in self.by_client.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        self.by_client = {int(i): rows.clone() for i, rows in state.items()}


@dataclass(frozen=True, slots=True)
class OnlyAsked(AroundRule):
    """Let everybody answer every sample, and teach those that a request would have asked for.

    The weight of every other sample is 0. Nothing less goes up; beside ``request=``, ``answer=``
    and ``wish=`` with the same parts it shows what is lost by not knowing the rest: here they are
    told of all answers. The round's metric ``taught_share`` is the share of targets that are left.

    Args:
        inner: The rule that fuses.
        request: Which samples the server would ask for; None for all. A receiver is taught what any
            of its sources would have been asked for.
        answer: Which samples each client would answer, as :attr:`request`; of a confidence those
            above 0. It reads the clients' class shares.
        wish: What each receiver would wish to be taught; the same of the class shares.
        reads_labels: Whether a request that can do without public labels gets them.
        temperature: At which clients match what is fused.
        seed: Of what answers and wishes draw.
        round: Which round it is; the pipeline sets it.
        taught: What clients were taught last.
    """

    inner: Rule
    request: Requester | None = None
    answer: Answering | None = None
    wish: Wishing | None = None
    reads_labels: bool = False
    temperature: float = 1.0
    seed: int = 0
    round: int = 0
    taught: LastTaught = field(default_factory=LastTaught, repr=False)

    def __post_init__(self) -> None:
        require_inner("OnlyAsked", self.inner)
        for name in ("request", "answer", "wish"):
            part = getattr(self, name)
            ok = part is None or callable(part)
            require(ok, "OnlyAsked", name, part, f"None or what {name}= takes")
        require_flag("OnlyAsked", "reads_labels", self.reads_labels)
        require_number("OnlyAsked", "temperature", self.temperature, above=0)
        require_count("OnlyAsked", "seed", self.seed, at_least=0)
        require_count("OnlyAsked", "round", self.round, at_least=0)

    @property
    def needs_fixed_public_set(self) -> bool:
        """Whether samples must keep their places, by which they are remembered."""
        return True

    @property
    def needs_labels(self) -> bool:
        """Whether it reads the public labels, or the inner rule or the request does."""
        both = (self.inner, self.request)
        return self.reads_labels or any(declared(part, "needs_labels", False) for part in both)

    @property
    def needs_class_distribution(self) -> bool:
        """Whether it reads the clients' class shares, or the inner rule does."""
        asks = self.answer is not None or self.wish is not None
        return asks or declared(self.inner, "needs_class_distribution", False)

    @property
    def space(self) -> Space:
        """What the inner rule returns."""
        return Space(declared(self.inner, "space", Space.PROBABILITIES))

    def at_round(self, round: int) -> OnlyAsked:  # noqa: A002
        """Return the rule of this round."""
        return replace(self, round=round, inner=of_round(self.inner, round))

    def __call__(
        self, bank: KnowledgeBank, weights: Any, labels: Int[Tensor, " P"] | None = None
    ) -> Fused:
        """Return one target per receiver.

        Raises:
            KnowledgeError: If an answer or a wish is to be told the clients' class shares, and they
                sent none.
        """
        targets, counted, told = fused_by(self.inner, bank, weights, labels)
        made = Teachers(bank.client_ids, targets, self.space, counted)
        ids = bank.client_ids.tolist()
        index = torch.arange(bank.logits.shape[1])
        kept = torch.ones(bank.logits.shape[:2], dtype=torch.bool, device=bank.logits.device)
        if self.request is not None:
            # A receiver may be taught what its sources were asked for.
            asked = self.request(self.round, index, ids).to(kept.device)
            kept = answered(weights, asked.expand(kept.shape))
            shown = None
            if labels is not None and self._shows_labels():
                shown = checked_labels(bank, labels, "rule OnlyAsked")
            self.request.note(bank, made, shown, self.round, index)
        if self.answer is not None:
            kept = kept & answered(weights, self._by_client(self.answer, "answer", bank))
        if self.wish is not None:
            kept = kept & self._by_client(self.wish, "wish", bank)
        if self.answer is not None or self.wish is not None:
            self._remember(ids, made.as_logits(self.temperature), kept)
        counts = kept.float() if counted is None else counted * kept
        return Fused(targets, counts, {**told, "taught_share": float(kept.float().mean())})

    def _shows_labels(self) -> bool:
        """Tell whether the request is shown public labels, which the inner rule may have, too."""
        can_do_without = declared(self.request, "pseudo_labels", False)
        needs = declared(self.request, "needs_labels", False)
        return needs or (self.reads_labels and can_do_without)

    def _by_client(self, part: Any, name: str, bank: KnowledgeBank) -> Bool[Tensor, "K P"]:
        """Return what every client says of the samples, told what a client would be told."""
        if bank.class_distribution is None:
            raise KnowledgeError(
                f"The rule OnlyAsked tells rule.{name} how many samples of each class a client has",
                got="clients that do not say so",
                next_step="Set client.share_class_distribution=true.",
            )
        counts = bank.class_distribution * bank.num_examples.unsqueeze(1)
        streams, rows = Streams(self.seed), []
        for row, client_id in enumerate(bank.client_ids.tolist()):
            last = self.taught.by_client.get(client_id)
            own = bank.logits[row] / self.temperature
            draw = streams.torch("client", client_id, name, self.round)
            rows.append(
                part(own, None if last is None else last.to(own), counts[row].to(own), draw) > 0
            )
        return torch.stack(rows)

    def _remember(
        self, ids: list[int], logits: Float[Tensor, "K P C"], kept: Bool[Tensor, "K P"]
    ) -> None:
        """Keep what the clients are taught now."""
        for client_id, rows, told in zip(ids, logits, kept, strict=True):
            old = self.taught.by_client.get(client_id, torch.full_like(rows, torch.nan))
            self.taught.by_client[client_id] = torch.where(told[:, None], rows, old.to(rows))
