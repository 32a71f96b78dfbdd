"""The values that flow through fedfuse: data, knowledge going up, teachers coming down, metrics.

Sizes: K clients, P public samples, C classes. A container always holds several clients, stacked
in ascending order of ``client_id``; one client is the case K = 1. That is what lets one node host
many clients with one message, and what makes results independent of who answers first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from fedfuse.failure import Failure
from fedfuse.payload import COUNTS, LOGITS, NOT_NEGATIVE, SIMPLEX, ArrayField, Payload, TextField
from fedfuse.payload.fields import OR_NAN
from fedfuse.payload.payload import join_clients

IntArray = npt.NDArray[np.int64]
"""A one-dimensional array of sample indices."""

Transform = Callable[[Tensor], Tensor]
"""A deterministic map of raw inputs [N, channels, height, width], values 0 to 255, to the same."""


class Space(StrEnum):
    """What a teacher's numbers are."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"


class Phase(StrEnum):
    """When in a round a metric was taken."""

    LOCAL = "local"
    """After local training, before any knowledge came back."""
    FUSE = "fuse"
    """On the server, while fusing."""
    FUSED = "fused"
    """After the client has distilled its teacher (for a method without one: at the same moment)."""
    ASIDE = "aside"
    """As ``fused``, of clients or in rounds that means leave out (``evaluation.resting``)."""
    PROBED = "probed"
    """At the end of a round, in answer to ``evaluation.probes``."""
    SPENT = "spent"
    """In the whole round: what the client's training has cost."""


def is_text(inputs: npt.NDArray[Any]) -> bool:
    """Tell whether inputs are the numbers of texts' words, int32 [N, words]."""
    return bool(inputs.dtype == np.int32 and inputs.ndim == 2)


@dataclass(frozen=True, slots=True)
class Samples:
    """Labelled inputs that every process maps and none copies.

    Args:
        inputs: uint8 images [N, channels, height, width], float32 features [N, ...], or the numbers
            of texts' words, int32 [N, words], 0 for none (:mod:`fedfuse.data.words`).
        labels: int64 class ids [N].
    """

    inputs: npt.NDArray[Any]
    labels: IntArray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class PublicSet:
    """The samples on which clients share predictions.

    Args:
        inputs: Same layout as the private inputs, [P, ...].
        labels: int64 [P], or None where nobody knows them. Only parts that declare that they
            need labels may read them.
        source: Where the samples came from, in words, for the run's record.
    """

    inputs: npt.NDArray[Any]
    labels: IntArray | None
    source: str

    def __len__(self) -> int:
        return len(self.inputs)

    def fingerprint(self) -> str:
        """Return a hash of the inputs, by which hosts check that they share the same samples."""
        inputs = np.ascontiguousarray(self.inputs)
        head = f"{inputs.dtype.str}{inputs.shape}".encode()
        return hashlib.blake2b(head + inputs.tobytes(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class ClientData:
    """What one client owns, as indices into the shared arrays.

    Args:
        client_id: 0 to K-1.
        train: Indices into the training pool that it learns from.
        val: Indices into the training pool that it holds back, disjoint from ``train``.
        test: Indices into ``FederatedData.own_pool``, drawn with the client's own class
            distribution.
        transform: Feature shift of this client's domain, applied to its train, val and own test
            inputs; None for no shift.
    """

    client_id: int
    train: IntArray
    val: IntArray
    test: IntArray
    transform: Transform | None = None


@dataclass(frozen=True, slots=True)
class FederatedData:
    """Everything a simulation knows about its data.

    Args:
        name: The data set's name.
        train: The training pool; private samples of all clients are rows of it.
        test: The balanced global test set.
        public: The public set, disjoint from both.
        clients: One entry per client, in order of ``client_id``.
        num_classes: C.
        mean: Per-channel mean of the training pool on the scale 0 to 1; of a table that of each
            feature (features that are used as they are: empty).
        std: The standard deviation likewise.
        fingerprint: Hash of the data and of the split; equal for runs that may be compared.
        repaired: Samples that the partitioner moved to fill up clients that were too small.
        own_test: The pool that ``ClientData.test`` points into: the test pool that ``test`` was cut
            from, or samples that only a client's own site has; None if it is ``test``.
        kept: Rows of ``own_test`` that ``test`` was cut from, in its order; None if it was not.
        train_rows: Row of the training file of each row of ``train``; None if they are the same.
        own_test_rows: Row of the test file of each row of ``own_pool``, or of the training file
            where the data set has no test split; None if they are the same.
        common: Hash of what every host must share, where sites bring their own data; empty where
            all of it is shared.
        class_names: C names in the order of the class ids; empty where nobody gave any.
        domains: The domain of each client, [K], where the data is put together from several; else
            empty.
    """

    name: str
    train: Samples
    test: Samples
    public: PublicSet
    clients: tuple[ClientData, ...]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    repaired: int = 0
    own_test: Samples | None = None
    kept: IntArray | None = None
    train_rows: IntArray | None = None
    own_test_rows: IntArray | None = None
    common: str = ""
    class_names: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()

    @property
    def num_clients(self) -> int:
        """Return K."""
        return len(self.clients)

    @property
    def common_hash(self) -> str:
        """Return the hash of what every host must share."""
        return self.common or self.fingerprint

    @property
    def own_pool(self) -> Samples:
        """Return the pool that the clients' own test rows point into."""
        return self.test if self.own_test is None else self.own_test

    @property
    def is_image(self) -> bool:
        """Whether inputs are uint8 images (else float32 features, or texts)."""
        return bool(self.train.inputs.dtype == np.uint8)

    @property
    def is_text(self) -> bool:
        """Whether inputs are the numbers of texts' words."""
        return is_text(self.train.inputs)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        return tuple(self.train.inputs.shape[1:])

    def class_counts(self) -> npt.NDArray[np.int64]:
        """Return the number of training samples per client and class, [K, C]."""
        return np.stack(
            [
                np.bincount(self.train.labels[client.train], minlength=self.num_classes)
                for client in self.clients
            ]
        )


@dataclass(frozen=True, slots=True)
class KnowledgeBank(Payload):
    """What clients send up: their predictions on the public set, and what goes with them.

    Args:
        client_ids: int64 [K], ascending.
        logits: float32 [K, P, C], raw, from a model in eval mode without augmentation.
        num_examples: int64 [K], private training samples.
        class_distribution: float32 [K, C], share of each class in the private data; None unless
            the method asked for it and the user allows it to leave the client.
        mask: bool [K, P], True where the client answers for the sample; None means everywhere.
        confidence: float32 [K, P], how much the client trusts its own answer; None if not sent.
        features: float32 [K, P, D], what goes into the models' last layer, or a projection of it
            on D numbers; None unless the exchange asks for it.
        prototypes: float32 [K, C, D], a vector for each class, zero where there is none; likewise.
        present: bool [K, C], which of them there are; likewise.
        estimate: float32 [K, C], the client's mean prediction, where it shows another model than
            its own; likewise.
        wishes: bool [K, P], True where the client wants to be taught; None for all samples.
        scores: float32 [K, S], what the client makes of each client of the federation as a source,
            as only it can tell; NaN of those that it does not know; None unless the exchange asks
            for it.
        efficiency: float32 [K], by how much of what is left local training has lowered the client's
            private loss since it last shared; NaN if it never did; likewise.
    """

    logits: Annotated[Tensor, ArrayField("K P C", bounds=LOGITS)]
    num_examples: Annotated[Tensor, ArrayField("K", torch.int64, COUNTS)]
    class_distribution: Annotated[Tensor | None, ArrayField("K C", bounds=SIMPLEX)] = None
    mask: Annotated[Tensor | None, ArrayField("K P", torch.bool)] = None
    confidence: Annotated[Tensor | None, ArrayField("K P")] = None
    features: Annotated[Tensor | None, ArrayField("K P D", bounds=LOGITS, asked=True)] = None
    prototypes: Annotated[Tensor | None, ArrayField("K C D", bounds=LOGITS, asked=True)] = None
    present: Annotated[Tensor | None, ArrayField("K C", torch.bool, asked=True)] = None
    estimate: Annotated[Tensor | None, ArrayField("K C", bounds=SIMPLEX, asked=True)] = None
    wishes: Annotated[Tensor | None, ArrayField("K P", torch.bool)] = None
    scores: Annotated[Tensor | None, ArrayField("K S", bounds=OR_NAN, asked=True)] = None
    efficiency: Annotated[Tensor | None, ArrayField("K", bounds=OR_NAN, asked=True)] = None

    @property
    def num_classes(self) -> int:
        """Return C."""
        return int(self.logits.shape[2])


@dataclass(frozen=True, slots=True)
class Teachers(Payload):
    """What comes down: one fused target per receiving client.

    Args:
        client_ids: int64 [K], ascending.
        targets: float32 [K, P, C], logits or probabilities.
        space: Which of the two.
        sample_weight: float32 [K, P], how much each public sample counts in distillation
            (0 leaves it out); None means 1 everywhere.
        features: float32 [K, P, D], what was fused of the clients' features; None unless the
            exchange asks for it.
        prototypes: float32 [K, C, D], what was fused of their prototypes, zero where there are
            none; likewise.
        present: bool [K, C], of which classes there is one; likewise.
        peers: float32 [K, S, P, C], what each client of the federation said, as logits, zero where
            it said nothing; likewise.
        heard: bool [K, S], which of them said something; likewise.
    """

    targets: Annotated[
        Tensor,
        ArrayField("K P C", bounds=SIMPLEX, only_if=("space", Space.PROBABILITIES)),
    ]
    space: Annotated[Space, TextField()]
    sample_weight: Annotated[Tensor | None, ArrayField("K P", bounds=NOT_NEGATIVE)] = None
    features: Annotated[Tensor | None, ArrayField("K P D", bounds=LOGITS, asked=True)] = None
    prototypes: Annotated[Tensor | None, ArrayField("K C D", bounds=LOGITS, asked=True)] = None
    present: Annotated[Tensor | None, ArrayField("K C", torch.bool, asked=True)] = None
    peers: Annotated[Tensor | None, ArrayField("K S P C", bounds=LOGITS, asked=True)] = None
    heard: Annotated[Tensor | None, ArrayField("K S", torch.bool, asked=True)] = None

    def as_logits(self, temperature: float) -> Tensor:
        """Return the targets as logits at a temperature, which that of probabilities is already."""
        if self.space is Space.LOGITS:
            return self.targets / temperature
        return self.targets.clamp_min(torch.finfo(self.targets.dtype).tiny).log()


@dataclass(frozen=True, slots=True)
class ClassShares:
    """What a record keeps of weights ``w_ijc`` that differ by class, beside their mean over them.

    Args:
        shares: float32 [K, C], how much each source's knowledge counts for each class, the mean
            over the receivers; columns sum to 1.
        effective_neighbours: float32 [K], how many equally weighted sources each receiver amounts
            to, the mean over the classes.
    """

    shares: Tensor
    effective_neighbours: Tensor


@dataclass(frozen=True, slots=True)
class Fusion:
    """What the server made of one round's knowledge.

    Args:
        teachers: The targets to send down.
        weights: float32 [K, K], row = receiver, column = source, rows sum to 1; a sparse (COO)
            tensor where K is too large to hold every pair; the mean over the classes of weights
            that differ by class; None where a way to exchange has no weights of pairs.
        metrics: What the server measured of itself, by name.
        model: The weights of the server's own model, by name; None if it has none.
        by_class: What else is kept of weights that differ by class; None if they do not.
    """

    teachers: Payload
    weights: Tensor | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    model: Mapping[str, Tensor] | None = None
    by_class: ClassShares | None = None


MOST_BITS = 2**20
"""The most bytes that say which tests are right: a bit each of 8 million."""


@dataclass(frozen=True, slots=True)
class ClientMetrics(Payload):
    """Metrics of several clients at one moment, as a dense table.

    Args:
        client_ids: int64 [K], ascending.
        names: M metric names.
        values: float64 [K, M].
        right_own: uint8 [K, bytes], which samples of its own test set each client gets right, a
            bit each in their order, zeros behind the last; None unless they were asked for.
        right_global: The same of the balanced test set.
    """

    names: Annotated[tuple[str, ...], TextField(dim="M")]
    values: Annotated[Tensor, ArrayField("K M", torch.float64, OR_NAN)]
    right_own: Annotated[Tensor | None, ArrayField("K O", torch.uint8, most=MOST_BITS)] = None
    right_global: Annotated[Tensor | None, ArrayField("K G", torch.uint8, most=MOST_BITS)] = None

    @classmethod
    def stack(cls, parts: Sequence[ClientMetrics]) -> ClientMetrics:
        """Join the metrics of several nodes into one table, ordered by ``client_id``.

        A metric that all clients of one node lack is NaN for them. Bits are kept if every node
        sent them, the shorter rows with zeros behind.
        """
        names = tuple(sorted({name for part in parts for name in part.names}))
        aligned = [part.aligned(names) for part in parts]
        own = _as_wide([part.right_own for part in parts])
        both = _as_wide([part.right_global for part in parts])
        aligned = [
            replace(part, right_own=mine, right_global=whole)
            for part, mine, whole in zip(aligned, own, both, strict=True)
        ]
        return join_clients(cls, aligned)

    def without(self, names: Collection[str]) -> ClientMetrics | None:
        """Return the table without some columns; None if nothing is left."""
        kept = tuple(name for name in self.names if name not in names)
        return self.aligned(kept) if kept else None

    def aligned(self, names: tuple[str, ...]) -> ClientMetrics:
        """Return the table with the columns ``names``; those it has no values for are NaN."""
        if names == self.names:
            return self
        values = torch.full((len(self.client_ids), len(names)), torch.nan, dtype=torch.float64)
        for column, name in enumerate(names):
            if name in self.names:
                values[:, column] = self.values[:, self.names.index(name)]
        return replace(self, names=names, values=values)


def _as_wide(bits: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return rows of bits with zeros behind, all as wide as the widest; None if any is missing."""
    there = [item for item in bits if item is not None]
    if len(there) < len(bits):
        return [None] * len(bits)
    width = max(item.shape[1] for item in there)
    return [functional.pad(item, (0, width - item.shape[1])) for item in there]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One tidy row of ``metrics.parquet``; ``client_id`` is -1 for the federation as a whole."""

    round: int
    client_id: int
    phase: str
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """Everything one round left behind.

    ``metrics`` are reproducible to the bit; ``seconds`` (phase name to wall time) are not and are
    kept apart for that reason. ``failures`` names the clients the round went on without;
    ``model`` holds the weights of the server's own model, if it has one. ``right`` holds, after the
    last round, which test samples every client gets right: per test metric (``accuracy_own``,
    ``accuracy_global``) uint8 [K, bytes], a bit a sample; zeros for clients that were not tested.
    ``weights`` [k, k] are those of the k clients that were fused, ``weight_clients`` int64 [k] who
    they are, ascending; None for all of them, k = K. Where weights differ by class they are the
    mean over the classes, and ``class_shares`` [k, C] says how much each source counted for each
    class, the mean over the receivers.
    """

    round: int
    metrics: tuple[MetricRow, ...]
    weights: Tensor | None
    seconds: dict[str, float] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    model: Mapping[str, Tensor] | None = None
    right: Mapping[str, Tensor] | None = None
    weight_clients: Tensor | None = None
    class_shares: Tensor | None = None
