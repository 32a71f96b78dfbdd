"""The client's half of a way to exchange knowledge.

A node trains, shares and learns alike in every method; what is sent after training and what is
done with what comes back is the exchange's to say. It writes down optimiser steps and takes none:
that is the trainer's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from clients.sharing.chain import Sharing
from clients.sharing.familiarity import FamiliarityStage
from clients.sharing.own_choice import OwnChoice
from clients.training.samples import ModelInputs
from clients.training.settings import ClientPlan
from clients.training.work_plan import WorkPlan
from fedfuse.exchange.kind import Combine, Kind
from fedfuse.payload import Payload
from fedfuse.protocols import ModelPlan, Uptake
from fedfuse.rng import Streams
from fedfuse.train.trainer import Student, Trainer
from fedfuse.train.work import Work
from fedfuse.types import FederatedData, Phase
from fedfuse.user_code import PartError, kind_of

Task = tuple[Student, Work]
"""Whose model takes which steps."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What an exchange may use of the node it works in.

    Args:
        arm: The federation that its clients play in.
        inputs: The clients' samples.
        models: Which client runs which architecture.
        work_plan: Writes down the steps of a phase.
        trainer: Who asks models.
        plan: How clients train.
        streams: The run's random streams.
        familiarity_stage: Which public samples a client answers for, or how surely; None for all
            alike.
        sharing: What happens to predictions before they leave.
        memory: Client id to what it remembers from round to round, tensors by name; may be
            changed.
        pretrains: Whether clients of this arm begin with pre-training.
        taught: Whether a client is taught in this round and takes distillation's steps in it, or
            those in their place. Steps of clients that are not are left out, whatever an exchange
            writes down.
        present: The clients that train in this round; None for all.
        uptake: What clients make of teachers that arrive; None for what they are.
        own_choice: What clients answer for and wish for by their own predictions; None for all.
        found: Client id to metrics that go with its tests after the phase; may be added to.
        width: D, the numbers per class or sample that the exchange's kind has beside predictions;
            0 for none.
    """

    arm: str
    inputs: ModelInputs
    models: ModelPlan
    work_plan: WorkPlan
    trainer: Trainer
    plan: ClientPlan
    streams: Streams
    familiarity_stage: FamiliarityStage | None
    sharing: Sharing
    memory: Callable[[int], dict[str, Tensor]]
    pretrains: bool = False
    taught: Callable[[int], bool] = lambda _: True
    present: tuple[int, ...] | None = None
    uptake: Uptake | None = None
    own_choice: OwnChoice | None = None
    found: dict[int, dict[str, float]] = field(default_factory=dict)
    width: int = 0

    def ahead(self, client_ids: Sequence[int], round_: int, budget: str) -> list[int]:
        """Return what distillation costs those who are taught, to be spent before sharing.

        An exchange without distillation may spend it there; each client remembers that it did,
        so that :meth:`due` is what is left. A client whose upload comes late is taught in a round
        in which it has not trained.
        """
        costs = []
        for client_id, cost in zip(
            client_ids, self.work_plan.spare(client_ids, round_), strict=True
        ):
            early = budget != "rounds" and self.taught(client_id)
            if early:
                self.memory(client_id)["exchange/ahead"] = torch.tensor(round_)
            costs.append(cost if early else 0)
        return costs

    def due(self, client_ids: Sequence[int], round_: int, budget: str) -> list[int]:
        """Return what is left to spend of :meth:`ahead` once the answer has come."""
        costs = self.work_plan.spare(client_ids, round_)
        return [
            0 if budget == "rounds" or self.is_ahead(client_id, round_) else cost
            for client_id, cost in zip(client_ids, costs, strict=True)
        ]

    def is_ahead(self, client_id: int, round_: int) -> bool:
        """Tell whether a client has spent in training what distillation costs in the round."""
        return int(self.memory(client_id).get("exchange/ahead", 0)) == round_


class Exchange(Protocol):
    """What clients send after training and how they use what comes back.

    A frozen dataclass that inherits this takes over what most do alike: a client is its model,
    trains on its own data before it shares, and is tested as it is. Whatever a client must remember
    from round to round belongs into ``tools.memory``, which checkpoints save.
    """

    batchable: ClassVar[bool] = True
    """Whether many clients may be trained at once: all steps are on the clients' own models."""
    last_suffices: ClassVar[bool] = False
    """Whether a client that rests may be given the last download alone, when it next needs it:
    taking it over, without steps, leaves the client as taking over all that it missed would."""

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return what travels.

        Raises:
            FedfuseError: If clients with these models cannot exchange it.
        """
        ...

    def combine(self, models: ModelPlan, data: FederatedData) -> Combine | None:
        """Return the server's half: what clients sent in a round to what they get back.

        None leaves it to the slots of the configuration (scorer, neighbours, rule, sharpen).
        """
        ...

    def hold(self, client_id: int, model: nn.Module, tools: Tools) -> nn.Module:  # noqa: ARG002
        """Return the module that is the client's memory: its model, and what goes with it."""
        return model

    def train(
        self,
        held: Sequence[Student],
        tools: Tools,
        round_: int,
        *,
        exchanging: bool,  # noqa: ARG002
    ) -> list[Task]:
        """Return the steps before sharing; ``exchanging`` is False in warm-up rounds."""
        works = tools.work_plan.local([student.client_id for student in held], round_)
        return list(zip(held, works, strict=True))

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> Any:
        """Return what the clients send, of the kind's ``upload`` type."""
        ...

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: Any
    ) -> list[Task]:
        """Take in what came back (the kind's ``download`` type); return the steps that follow."""
        ...

    def evaluation_models(
        self,
        held: Sequence[Student],
        tools: Tools,  # noqa: ARG002
        phase: Phase,  # noqa: ARG002
    ) -> list[Student]:
        """Return the models whose accuracy counts after a phase."""
        return list(held)


def kind_of_exchange(exchange: Exchange, models: ModelPlan, data: FederatedData) -> Kind:
    """Return what an exchange says that travels.

    Raises:
        PartError: If it says something else.
    """
    kind = exchange.kind(models, data)
    if not isinstance(kind, Kind):
        raise PartError(
            f"The exchange {type(exchange).__name__} does not say what travels",
            got=kind_of(kind),
            allowed="a fedfuse.exchange.kind.Kind",
        )
    return kind


def check_shared(
    shared: object, exchange: Exchange, kind: Kind, client_ids: Sequence[int]
) -> Payload:
    """Return what an exchange shared for these clients, if it is what it declares.

    Raises:
        PartError: If it is another payload, or knowledge of other clients.
    """
    name = f"The exchange {type(exchange).__name__}"
    if not isinstance(shared, kind.upload):
        raise PartError(
            f"{name} shared another payload than its kind declares",
            got=kind_of(shared),
            allowed=kind.upload.__name__,
        )
    if shared.client_ids.tolist() != list(client_ids):
        raise PartError(
            f"{name} shared knowledge of other clients than were asked",
            got=f"client ids {shared.client_ids.tolist()[:20]}",
            allowed=f"client ids {list(client_ids)[:20]}",
        )
    return shared
