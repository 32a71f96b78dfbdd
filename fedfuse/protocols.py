"""Every place where a user's own part plugs in, one Protocol each.

A plain function or a frozen dataclass with ``__call__`` satisfies each of them; the configuration
names it by ``_target_``. There is no registry and no base class. ``fedfuse.testing`` has a check
for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedfuse.arrival import Arrival
from fedfuse.sharing_context import SharingContext
from fedfuse.train.facts import Facts
from fedfuse.types import IntArray, KnowledgeBank, Space, Teachers, Transform


class Partitioner(Protocol):
    """Deal the private training samples out to the clients.

    Returns ``num_clients`` arrays of indices into ``labels``: disjoint, none empty. Samples that
    appear in no array stay unused. ``labels`` are of the samples that test and public set leave
    over; of a partitioner that declares ``deals_rows = True`` they are of the whole training file,
    and so are the indices.
    """

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> Sequence[npt.NDArray[np.integer]]: ...


@runtime_checkable
class ShiftsFeatures(Protocol):
    """A partitioner that also gives each client its own look on the world (feature shift)."""

    def transform(self, client_id: int, num_clients: int, seed: int) -> Transform | None:
        """Return the client's deterministic input transform, or None for no shift."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A part with a memory that outlives a round: what a checkpoint saves and a resume restores.

    Any part of the server that can be reached through the fields of dataclasses is found and
    saved, named by the path of fields that leads to it (``fedfuse.stateful``). A client's memory
    is another matter: it belongs into ``SharingContext.memory``.
    """

    def state(self) -> dict[str, Tensor]:
        """Return a copy of what is remembered, by name."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned.

        Raises:
            FedfuseError: If it is something else.
        """
        ...


class Participation(Protocol):
    """Choose the clients that take part in a round: ascending ids, int64 [k], 1 <= k <= K.

    ``sizes`` [K] are the numbers of the clients' private training samples. What is random is
    drawn from ``generator``, which is the round's own.
    """

    def __call__(
        self,
        round: int,  # noqa: A002
        sizes: Tensor,
        generator: torch.Generator,
    ) -> Tensor: ...


class ModelFactory(Protocol):
    """Build a client's model: inputs float32 [B, *input_shape] to logits [B, num_classes]."""

    def __call__(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module: ...


class ModelPlan(Protocol):
    """Say which architecture each client runs."""

    def name(self, client_id: int) -> str:
        """Return the architecture's name; equal names mean equal architectures."""
        ...

    def build(self, client_id: int, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Build the client's model with freshly drawn weights (global torch RNG)."""
        ...


@runtime_checkable
class PlansAtShape(Protocol):
    """Say which architecture each client runs once the data's shapes are known."""

    def at_shape(self, input_shape: tuple[int, ...], num_classes: int) -> ModelPlan:
        """Return the plan, the same one in every process."""
        ...


class Extract(Protocol):
    """Say what of its predictions a client shares, before privacy and codec.

    ``shared`` makes of raw logits [..., C] what is shared, float32 of the same shape: numbers of
    the ``space``, probabilities on the simplex. ``read`` makes logits of it again, for whoever
    gets it. What was read and is shared once more is the same; each sample stands by itself.
    """

    @property
    def space(self) -> Space: ...

    def shared(self, logits: Tensor) -> Tensor:
        """Return what is shared."""
        ...

    def read(self, shared: Tensor) -> Tensor:
        """Return logits that mean what was shared."""
        ...


class SharingStage(Protocol):
    """Change what a cohort of clients sends, on the clients' side: an attack, a privacy mechanism.

    Gets the bank of k clients (logits [k, m, C] and what goes with them) and the context, and
    returns the bank that goes on to the next stage: the same clients and samples, float32, finite.
    A client's part depends on its own part alone, and what is random is drawn from
    ``context.generator(client_id, purpose)``. What it must remember belongs into
    ``context.memory[client_id]``.
    """

    def __call__(self, bank: KnowledgeBank, context: SharingContext) -> KnowledgeBank: ...


class Uptake(Protocol):
    """Change what teachers mean to a cohort of clients, on their side, before they learn.

    Gets the teachers of k clients and what is known beside them, and returns teachers of the same
    clients and samples. It may change the targets (which stay on the simplex, or finite logits),
    turn logits into probabilities but not back, and multiply the weight of a sample: what nobody
    answered stays at 0. A client's part depends on its own part alone, and what is random is drawn
    from ``at.streams``. What it must remember of a client belongs into ``at.memory[client_id]``. A
    stage that reads the public labels declares ``needs_labels = True``; one that writes there how
    far a client is, ``clock/t`` from 0 to 1, for losses that want ``clock``, ``sets_clock = True``.
    One that leaves a client no sample with a weight above 0 leaves it the steps on its private
    data (``client.private_weight``); the metric ``taught_share`` says so.
    """

    def __call__(self, teachers: Teachers, at: Arrival) -> Teachers: ...


class Requester(Protocol):
    """Say on the server which of a round's public samples clients are asked for.

    Returns bool [m], alike for all clients, or [k, m], a row for each, with a True in every row.
    The same question gets the same answer, and a client's row does not depend on who else is
    asked. As long as nothing has been noted, it asks for all. What is random is drawn from a
    stream of a seed of its own (``seed: ${seed}`` in its option), named by round and client.

    :meth:`note` is told of every fusion: what clients sent (its ``mask`` says what of it is an
    answer), the teachers that were made of it (a weight of 0 says that no answer stands there),
    and which round and samples it was about. ``labels`` are the public ones [m]. They are None
    where nobody knows them, and for a part that declares neither ``needs_labels = True`` (it is
    refused where there are none) nor ``pseudo_labels = True`` (it takes what the target calls
    likeliest then). What it remembers makes it :class:`Stateful`; one that remembers samples by
    their number declares ``remembers_samples = True``.
    """

    def __call__(
        self,
        round: int,  # noqa: A002
        index: Tensor,
        client_ids: Sequence[int],
    ) -> Tensor:
        """Return what is asked for of the round's samples ``index`` [m]."""
        ...

    def note(
        self,
        bank: KnowledgeBank,
        teachers: Teachers,
        labels: Tensor | None,
        round: int,  # noqa: A002
        index: Tensor,
    ) -> None:
        """Learn from a fusion what to ask for next."""
        ...


class Answering(Protocol):
    """Say on a client which of the round's samples it answers for, or how surely.

    Gets its own logits [m, C], those of the last teacher that it got for each of the samples (the
    logarithm of probabilities; NaN where it never got one; None before the first), both at the
    run's temperature and in the space of what is shared, its private samples of each class [C] and
    a generator of its own. Returns bool [m], a mask with at least one True, or float32 [m], a
    finite confidence.
    """

    def __call__(
        self,
        own: Tensor,
        last: Tensor | None,
        class_counts: Tensor,
        generator: torch.Generator,
    ) -> Tensor: ...


class Wishing(Answering, Protocol):
    """Say on a client which of the round's targets it wants: bool [m], at least one True.

    It is asked as :class:`Answering` is. What nobody wishes for does not travel, and a client
    learns nothing of what it did not wish for.
    """


@runtime_checkable
class Relabels(Protocol):
    """An attack that also changes the labels which its clients learn from."""

    def relabel(self, client_id: int, labels: Tensor) -> Tensor:
        """Return the labels [N] that the client learns from."""
        ...


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores by class as a sum, ``score_ijc = pair_ij + source_jc``: no [K, K, C] need be held.

    Args:
        pair: [K, K], what a receiver and a source have to do with each other.
        source: [K, C], how effective each source's knowledge of each class is for everybody.
    """

    pair: Tensor
    source: Tensor


class Scorer(Protocol):
    """Say how effective each client's knowledge is for each other client.

    Returns float32 [K, K] scores, row = receiver, column = source. A score is the logarithm of an
    unnormalised fusion weight: ``softmax(scores, dim=1)`` over the neighbours gives the weights,
    so equal scores mean a plain mean and a difference of ``log 2`` means twice the weight; minus
    infinity is no weight. ``labels`` are the public labels [P] or None; a scorer that cannot do
    without them, or without ``bank.class_distribution``, says so with a class attribute
    ``needs_labels = True`` or ``needs_class_distribution = True``.

    A scorer that declares ``by_class = True`` may score every class by itself: it returns
    :class:`ClassScores`, or float [K, K, C], and the softmax over the sources is taken for each
    class. Neighbours are chosen by the logarithm of the mean of ``exp(scores)`` over the classes.
    """

    def __call__(self, bank: KnowledgeBank, labels: Tensor | None) -> Tensor | ClassScores: ...


class Neighbours(Protocol):
    """Choose, for each receiver, whose knowledge is fused: bool [K, K], no row all False."""

    def __call__(self, scores: Tensor) -> Tensor: ...


class Fused(NamedTuple):
    """What a rule returns that also says which samples its targets are worth learning from.

    Args:
        targets: [K, P, C].
        sample_weight: float32 [K, P], from 0 (left out of distillation) upwards; None for 1.
        metrics: What the rule measured, by name, for the round's record.
    """

    targets: Tensor
    sample_weight: Tensor | None = None
    metrics: Mapping[str, float] = MappingProxyType({})


class Rule(Protocol):
    """Fuse the bank into one target per receiver.

    Args (of the call): the bank and row-stochastic weights [K, K]. Returns targets [K, P, C] in
    the rule's ``space``, alone or as :class:`Fused` with the weight of each sample. A sample that
    none of a receiver's sources answered is left out whatever the rule says.

    A rule that cannot do without the public labels [P] declares ``needs_labels = True`` and gets
    them as third argument, ``(bank, weights, labels)``. One that is another rule in every round
    has :meth:`DrawsAnew.at_round`; what it remembers from round to round, :class:`Stateful`. One
    around another rule takes this and the like over from it by ``fedfuse.fusion.around``.

    A rule that declares ``by_class = True`` is also given weights that differ by class, as a
    ``fedfuse.fusion.ClassWeights``: ``fedfuse.fusion.weighted_mean(values, weights, bank.mask)``
    takes both, and ``weights.rows(receivers)`` are those of some receivers, [r, K, C].
    """

    @property
    def space(self) -> Space: ...

    def __call__(self, bank: KnowledgeBank, weights: Tensor) -> Tensor | Fused: ...


class TargetFilter(Protocol):
    """Say which fused targets are worth learning from: probabilities [K, P, C] to weights [K, P].

    Asked before sharpening, about probabilities at temperature 1 whatever that of the distillation;
    0 leaves a sample out of that receiver's distillation.
    """

    def __call__(self, probs: Tensor) -> Tensor: ...


@runtime_checkable
class DrawsAnew(Protocol):
    """A scorer or rule that is another one in every round, by random numbers or by a schedule."""

    def at_round(self, round: int) -> Any:  # noqa: A002
        """Return the scorer or rule of this round, from 1."""
        ...


class Sharpen(Protocol):
    """Change how peaked fused probabilities [..., C] are; rows stay on the simplex."""

    def __call__(self, probs: Tensor) -> Tensor: ...


class PlainLoss(Protocol):
    """Map a batch's logits [B, C] and labels int64 [B] to one loss per sample, [B]."""

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor: ...


class WantsFacts(Protocol):
    """The same with what the loss wants to know beside it: ``wants = frozenset({"prior"})``."""

    wants: ClassVar[frozenset[str]]

    def __call__(self, logits: Tensor, labels: Tensor, facts: Facts) -> Tensor: ...


LocalLoss = PlainLoss | WantsFacts
"""What a client minimises on its private data; the trainer weights and averages the losses.

A loss that wants the client's prior (:class:`~fedfuse.train.facts.Facts`) may also have a ``tau``,
how much of it the loss keeps out of the logits (1 if it has none), and a ``floor``, the samples
that an absent class counts for.
"""


class PlainDistillLoss(Protocol):
    """Compare a student's logits [B, C] with its teacher's targets [B, C]."""

    @property
    def space(self) -> Space: ...

    def __call__(self, student_logits: Tensor, targets: Tensor) -> Tensor: ...


class DistillLossWantsFacts(Protocol):
    """The same with what the loss wants to know beside it: ``wants = frozenset({"labels"})``."""

    @property
    def space(self) -> Space: ...

    @property
    def wants(self) -> frozenset[str]: ...

    def __call__(self, student_logits: Tensor, targets: Tensor, facts: Facts) -> Tensor: ...


DistillLoss = PlainDistillLoss | DistillLossWantsFacts
"""What a student minimises against its teacher.

Returns one loss per sample, [B]; the trainer weights and averages them. ``space`` says what the
loss wants: a loss on probabilities accepts logits too (they are turned by a softmax at its
temperature), a loss on logits refuses probabilities.

It may want to know any of :class:`~fedfuse.train.facts.Facts`: the public labels; the client's own
logits before the lesson; its prior (with a ``floor`` as above); its clock, which an uptake with
``sets_clock = True`` sets. Where nobody knows the public labels, a loss with
``pseudo_labels = True`` is told what the target calls likeliest, and any other is refused.

Samples do not mix, unless the loss declares ``relational = True``: then it compares how samples of
a batch lie to each other, each row's share of it in [B], 0 for a batch of one. Neither such a loss
nor one that declares ``batchable = False`` is computed for many clients at once. ``min_classes`` is
the least number of classes that the loss makes sense for (2 if it has none).
"""
