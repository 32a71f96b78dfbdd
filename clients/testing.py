"""Play three rounds with an exchange in a federation of three clients, and say what is wrong.

Reached by its authors as :func:`fedfuse.testing.check_exchange`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from clients import handover
from clients.exchange.feature_predictions import FeaturePredictions
from clients.exchange.protocol import Exchange, kind_of_exchange
from clients.node import ClientPlan, Node
from fedfuse.declarations import declared, part_name
from fedfuse.distill.losses import KL
from fedfuse.errors import FedfuseError
from fedfuse.exchange.beside import AlsoFuseBeside
from fedfuse.exchange.kind import Combine, Kind
from fedfuse.exchange.peers import PEERS, AlsoPeers
from fedfuse.failure import Failure
from fedfuse.models.mlp import mlp
from fedfuse.models.plan import as_plan
from fedfuse.payload import Payload
from fedfuse.protocols import ModelPlan
from fedfuse.rng import Streams
from fedfuse.stateful import collect, give_back
from fedfuse.testing.failed import CheckFailed
from fedfuse.types import (
    ClientData,
    FederatedData,
    Fusion,
    KnowledgeBank,
    PublicSet,
    Samples,
    Space,
    Teachers,
)
from fedfuse.user_code import brief, kind_of
from fedfuse.wire.encode import decode, encode
from fedfuse.wire.messages import Header

ARM, PUBLIC, CLASSES = "check", 7, 4
SIZES = (8, 12, 16)
"""Private samples of the three clients; the last class is the last client's alone."""
ASKED = ((0, 1, 2), (0, 2), (0, 1, 2))
"""Who takes part in each round: in the second the one in the middle rests."""
LONG_REST = (*ASKED[:2], *ASKED[1:])
"""The same, where it rests for two."""


def check_exchange(exchange: Exchange, model: Callable[..., torch.nn.Module] | None = None) -> None:
    """Do what :func:`fedfuse.testing.check_exchange` says, which cannot import a client."""
    name = f"The exchange {part_name(exchange)}"
    params = getattr(type(exchange), "__dataclass_params__", None)
    if not is_dataclass(exchange) or params is None or not params.frozen:
        raise CheckFailed(
            f"{name} is not a frozen dataclass",
            expected="@dataclass(frozen=True); what a client remembers belongs into tools.memory",
        )
    trial = Trial(name, exchange, as_plan(model or partial(mlp, hidden=8, depth=1)))
    before = repr(exchange)
    first = trial.play([(0, 1, 2)], seed=1)
    if repr(exchange) != before:
        raise CheckFailed(
            f"{name} changes itself",
            got=repr(exchange)[:200],
            expected=f"{before[:200]}; what a client remembers belongs into tools.memory",
        )
    _compare(
        first,
        trial.play([(0, 1, 2)], seed=2),
        f"{name} is not deterministic: called again with the same, it does something else",
        "randomness from tools.streams.torch(...) alone, and nothing kept between calls",
    )
    _compare(
        first,
        trial.play([(0,), (1, 2)], seed=1, resumes=True),
        f"{name} does something else once clients share no process and the run is resumed",
        "each client by itself, and what it remembers in tools.memory",
    )
    if declared(exchange, "last_suffices", False):
        _compare(
            trial.play([(0, 1, 2)], seed=1, asked=LONG_REST),
            trial.play([(0, 1, 2)], seed=1, asked=LONG_REST, waits=True),
            f"{name} declares last_suffices, and a client that gets only the last download of two "
            "that it missed does something else",
            "last_suffices = False",
        )


@dataclass(frozen=True, slots=True)
class Trial:
    """A small federation for one exchange.

    Args:
        name: The exchange, for messages.
        exchange: The exchange.
        models: The clients' models.
        data: Their data.
    """

    name: str
    exchange: Exchange
    models: ModelPlan
    data: FederatedData = field(default_factory=lambda: _data())

    def play(
        self,
        hosts: Sequence[tuple[int, ...]],
        *,
        seed: int,
        resumes: bool = False,
        asked: Sequence[tuple[int, ...]] = ASKED,
        waits: bool = False,
    ) -> list[dict[str, Any]]:
        """Return all arrays that travel in a few rounds, in turn.

        Args:
            hosts: The clients of each process.
            seed: Of the global random numbers, on which nothing may depend.
            resumes: Whether every round is played by new objects that know what was saved.
            asked: Who takes part in each round.
            waits: Whether who rests gets the last download alone, before it takes part again.
        """
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - what an author may draw from
        exchange = copy.deepcopy(self.exchange) if resumes else self.exchange
        nodes, kind, combine = self._begin(exchange, hosts)
        seen: list[dict[str, Any]] = []
        owed: dict[int, Payload] = {}
        for round_, present in enumerate(asked, start=1):
            header = Header(ARM, round_, share=True, evaluate=False)
            present = present if not kind.pooled else ASKED[0]
            if resumes and round_ > 1:
                saved = [handover.save(node, header, node.client_ids) for node in nodes]
                memory = collect({"combine": combine})
                nodes, kind, combine = self._begin(copy.deepcopy(self.exchange), hosts)
                give_back({"combine": combine}, memory)
                for node, content in zip(nodes, saved, strict=True):
                    handover.load(node, header, node.client_ids, content)
            parts = []
            for node in nodes:
                ids = tuple(i for i in present if i in node.client_ids)
                for i in filter(owed.__contains__, ids):
                    _, failures = node.distil(replace(header, taught=()), (i,), owed.pop(i))
                    self._check_failures(failures)
                shared, _, failures = node.train(header, ids)
                self._check_failures(failures)
                parts.append(self._sent(shared, kind.upload, kind, ids, "shared"))
            together = kind.upload.stack(parts)
            seen.append(dict(encode(together)))
            if combine is not None:
                down = self._combined(combine, together, round_, kind)
                seen.append(dict(encode(down)))
                told = {i: torch.tensor([row]) for row, i in enumerate(down.client_ids.tolist())}
                if waits:
                    late = [i for i in told if i not in present]
                    owed |= {i: down.rows(told.pop(i)) for i in late}
                for node in nodes:
                    if ids := tuple(i for i in told if i in node.client_ids):
                        rows = torch.cat([told[i] for i in ids])
                        taught = replace(header, taught=present)
                        _, failures = node.distil(taught, ids, down.rows(rows))
                        self._check_failures(failures)
        return seen

    def _begin(
        self, exchange: Exchange, hosts: Sequence[tuple[int, ...]]
    ) -> tuple[list[Node], Kind, Combine | None]:
        """Return new clients, and the server's half."""
        try:
            kind = kind_of_exchange(exchange, self.models, self.data)
            combine = exchange.combine(self.models, self.data)
            if combine is None and isinstance(exchange, FeaturePredictions):
                combine = AlsoFuseBeside(_mean_probabilities, exchange.beside())
            if combine is None and kind.down >= PEERS:
                combine = AlsoFuseBeside(_mean_probabilities, AlsoPeers(self.data.num_clients))
            nodes = [self._node(exchange, client_ids) for client_ids in hosts]
        except FedfuseError as error:
            raise CheckFailed(f"{self.name}: {error}") from error
        return nodes, kind, combine

    def _combined(self, combine: Combine, shared: Payload, round_: int, kind: Kind) -> Payload:
        """Return what the server makes of an upload, checked as clients check it."""
        try:
            fusion = combine(shared, round_)
        except Exception as error:
            raise CheckFailed(
                f"{self.name}: what combine returned cannot be called with an upload and a round",
                got=brief(error),
                given=f"the upload of the clients {shared.client_ids.tolist()}, round {round_}",
            ) from error
        if not isinstance(fusion, Fusion):
            raise CheckFailed(
                f"{self.name}: its server's half returned no Fusion",
                got=kind_of(fusion),
                expected=f"Fusion({kind.download.__name__}(...), None)",
            )
        down = fusion.teachers
        ids = getattr(down, "client_ids", torch.tensor([])).tolist()
        if strange := sorted(set(ids) - set(range(len(SIZES)))):
            raise CheckFailed(
                f"{self.name}: its server's half answers clients that there are not",
                got=f"client ids {strange}",
                expected=f"ids from 0 to {len(SIZES) - 1}",
            )
        return self._sent(down, kind.download, kind, tuple(ids), "combined")

    def _sent(
        self, sent: object, cls: type[Payload], kind: Kind, client_ids: tuple[int, ...], what: str
    ) -> Payload:
        """Return what arrives of a payload at the other end."""
        if not isinstance(sent, cls):
            raise CheckFailed(
                f"{self.name} {what} another payload than its kind declares",
                got=kind_of(sent),
                expected=cls.__name__,
            )
        try:
            arrays = {name: array.copy() for name, array in encode(sent).items()}
            down = cls is kind.download and what == "combined"
            return decode(cls, arrays, kind.expect(client_ids, PUBLIC, CLASSES, down=down))
        except FedfuseError as error:
            raise CheckFailed(
                f"What {self.name[0].lower()}{self.name[1:]} {what} is refused: {error}"
            ) from error

    def _check_failures(self, failures: Sequence[Failure]) -> None:
        if failures:
            first = failures[0]
            raise CheckFailed(
                f"{self.name} fails: {first.error}",
                given=f"client {first.client_id}, round {first.round}, phase {first.phase}",
            )

    def _node(self, exchange: Exchange, client_ids: tuple[int, ...]) -> Node:
        return Node(
            client_ids=client_ids,
            data=self.data,
            models=self.models,
            make_optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
            loss=KL(),
            plan=ClientPlan(
                batch_size=4,
                local_epochs=1,
                distill_epochs=1,
                distill_batch_size=4,
                private_weight=0.0,
                init="shared",
                optimizer_state="keep",
                threads=1,
                share_class_distribution=False,
                budget="optimiser_steps",
                eval_batch_size=16,
            ),
            streams=Streams(0),
            exchange=exchange,
        )


def _compare(
    first: list[dict[str, Any]], other: list[dict[str, Any]], what: str, expected: str
) -> None:
    """Raise at the first array that differs."""
    for number, (one, two) in enumerate(zip(first, other, strict=True)):
        for name in sorted({*one, *two}):
            same = name in one and name in two and one[name].shape == two[name].shape
            if not (same and one[name].tobytes() == two[name].tobytes()):
                where = (
                    f"round {number // 2 + 1}" if len(first) > len(ASKED) else f"round {number + 1}"
                )
                raise CheckFailed(what, given=where, got=f"another '{name}'", expected=expected)


def _mean_probabilities(knowledge: KnowledgeBank, round_: int) -> Fusion:  # noqa: ARG001
    """Return the plain mean of the predictions as the teacher of each."""
    mean = knowledge.logits.softmax(dim=2).mean(dim=0)
    targets = mean.expand(knowledge.num_clients, *mean.shape).contiguous()
    return Fusion(Teachers(knowledge.client_ids, targets, Space.PROBABILITIES), None)


def _data() -> FederatedData:
    """Return three clients' samples: 1x4x4 images whose brightness tells their class."""
    draw = np.random.default_rng(0)

    def samples(labels: np.ndarray) -> Samples:
        noise = draw.integers(0, 60, (len(labels), 1, 4, 4))
        return Samples((noise + 60 * labels[:, None, None, None]).astype(np.uint8), labels)

    ends = np.cumsum((0, *SIZES))
    labels = np.concatenate(
        [np.arange(size) % (CLASSES - (size != SIZES[-1])) for size in SIZES]
    ).astype(np.int64)
    test = samples(np.arange(8) % CLASSES)
    clients = tuple(
        ClientData(i, np.arange(a, b), np.arange(0), np.arange(8))
        for i, (a, b) in enumerate(pairwise(ends))
    )
    public = samples(np.arange(PUBLIC) % CLASSES)
    return FederatedData(
        name="check",
        train=samples(labels),
        test=test,
        public=PublicSet(public.inputs, public.labels, "check"),
        clients=clients,
        num_classes=CLASSES,
        mean=(0.5,),
        std=(0.25,),
        fingerprint="check",
    )
