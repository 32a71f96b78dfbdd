"""The Flower ServerApp: meet the nodes, then run the arms one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.exchange.kind import Combine, Kind
from fedfuse.exchange.predictions import PREDICTIONS
from fedfuse.faults import Faults
from fedfuse.stateful import collect, give_back
from fedfuse.types import FederatedData, RoundRecord
from fedfuse.wire.messages import Header
from server.faults import Faulty
from server.loop import ServerPlan, run_arm, stop_on_failure
from server.pooled import Pool, Shadow
from server.records.background_writer import BackgroundWriter
from server.records.checkpoint import Checkpoints, Saved
from server.reporters.protocol import Reporter, RunInfo, TakesModels, WatchesSilence
from server.transport.answer import ClientFailedError, Clients
from server.transport.federation import Federation
from server.transport.owed import Owing
from server.transport.reply_timeout import ReplyTimeout


@dataclass(frozen=True, slots=True)
class ServerSetup:
    """Everything the server needs.

    Args:
        info: What is known before the first round; names the arms.
        combines: What each arm makes of its clients' knowledge; None if they learn alone.
        plan: What the server does.
        data: The federation's data, of which the server looks at the public set only.
        reporter: Who watches.
        kind: What clients send and receive.
        num_nodes: How many nodes there will be; None waits until every client has one.
        reply_timeout: How long to wait for them.
        counts_clients: Whether the server tells the reporter which clients are done, because
            the nodes are too far away to do so.
        faults: What goes wrong; None for nothing.
        checkpoints: Where the run is saved after its rounds; None if it is not.
        known: Arms whose rounds are known already; they are reported and not run again.
        states: Folder in which clients' states wait as files, if the server reaches it.
        secrets: Whether clients make up secrets, which no resumed run may make up anew.
        models: What is written beside the clients' models, which the reporter gets when the method
            has ended; None leaves them where they are.
    """

    info: RunInfo
    combines: Mapping[str, Combine | None]
    plan: ServerPlan
    data: FederatedData
    reporter: Reporter
    kind: Kind = PREDICTIONS
    num_nodes: int | None = 1
    reply_timeout: ReplyTimeout = ReplyTimeout()  # noqa: RUF009 - frozen
    counts_clients: bool = False
    faults: Faults | None = None
    checkpoints: Checkpoints | None = None
    known: Mapping[str, Sequence[RoundRecord]] = field(default_factory=dict)
    states: Path | None = None
    secrets: bool = False
    models: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Checkpointer:
    """Save an arm after its rounds, and bring it back to where it was saved.

    Args:
        setup: The run.
        federation: The clients.
        clients: The same, or what faults make of them.
        owing: The clients, and what they have yet to get.
        arm: The arm.
        writer: Who writes a checkpoint while the next round begins, where that may be.
    """

    setup: ServerSetup
    federation: Federation
    clients: Clients
    owing: Owing
    arm: str
    writer: BackgroundWriter

    def begin(self) -> None:
        """Save the clients' secrets before anything is shared that is drawn from them.

        A run that is broken off before its first checkpoint would otherwise begin anew with other
        secrets, and give every answer a second time with other noise. Who never takes part never
        shares: of 20,000 clients 50 a round do.
        """
        checkpoints, exchanges = self.setup.checkpoints, self.setup.combines[self.arm] is not None
        if checkpoints is None or not (self.setup.secrets and exchanges):
            return
        plan = self.setup.plan
        rounds = range(1, plan.num_rounds + 1)
        sharing = {i for round_ in rounds for i in plan.participants.ids(round_)}
        self.federation.states.prepare(self._header(0), sharing)
        clients, write = self._saving(checkpoints, 0, collect(self._roots()))
        write(clients)

    def keep(self, arm: str, record: RoundRecord) -> None:
        """Save the arm, if it is time; the end of the last one needs no saving."""
        checkpoints, last = self.setup.checkpoints, self.setup.plan.num_rounds
        if checkpoints is None:
            return
        self.writer.wait()  # the checkpoint before names the rounds before
        checkpoints.note(arm, record)
        ended = record.round == last
        if (ended and arm == self.setup.info.arms[-1]) or not checkpoints.due(record.round, last):
            return
        if ended:  # the next arm begins with clients that remember nothing
            checkpoints.save(arm, record.round, (), {})
            return
        memory = {name: value.clone() for name, value in collect(self._roots()).items()}
        clients, write = self._saving(checkpoints, record.round, memory)
        if self.federation.states.apart:
            self.writer.start(lambda: write(clients))
        else:  # what clients remember is read before they go on, and written while they do
            self.writer.feed(clients, write)

    def _saving(
        self, checkpoints: Checkpoints, round_: int, memory: Mapping[str, Tensor]
    ) -> tuple[Iterator[bytes], Callable[[Iterator[bytes]], None]]:
        """Return what clients remember, and what writes a checkpoint of it.

        Args:
            checkpoints: Where.
            round_: The round.
            memory: What the server's parts remember.
        """
        states = self.federation.states
        states.work.enter(self.arm)
        found = checkpoints.difference(self.arm, states.work.changed, states.work.known)

        def write(clients: Iterator[bytes]) -> None:
            checkpoints.save(self.arm, round_, clients, memory, found.carried)

        return states.save(self._header(round_), found.wanted), write

    def restore(self, saved: Saved) -> None:
        """Bring clients and server back to where they were saved."""
        self.federation.states.load(self._header(saved.round), saved.clients)
        give_back(self._roots(), saved.memory)
        everyone = range(self.setup.plan.num_clients)
        self.federation.forgotten([i for i in everyone if i not in saved.clients])

    def hand_over(self) -> None:
        """Pass the clients' models to the reporter: the run has ended, and its numbers are there.

        What cannot be handed over is told there too; it takes nothing from the run.
        """
        about, reporter = self.setup.models, self.setup.reporter
        if about is None or not isinstance(reporter, TakesModels):
            return
        header = self._header(self.setup.plan.num_rounds)
        try:
            stop_on_failure(
                self.owing.hand_down(header, range(self.setup.plan.num_clients)), 0, self.setup.plan
            )
            for content in self.federation.states.models(header):
                reporter.client_models(about, content)
        except (FedfuseError, ClientFailedError) as error:
            reporter.client_models({**about, "missing": str(error)}, b"")

    def _header(self, round_: int) -> Header:
        exchanges = self.setup.combines[self.arm] is not None
        return Header(self.arm, max(round_, 1), share=False, evaluate=False, exchange=exchanges)

    def _roots(self) -> dict[str, object]:
        return {
            "combine": self.setup.combines[self.arm],
            "plan": self.setup.plan,
            "clients": None if self.clients is self.owing else self.clients,
            "owed": self.owing,
        }


def with_faults(setup: ServerSetup, clients: Owing, arm: str) -> Clients:
    """Return the clients of one arm, with the faults that happen to them."""
    if setup.kind.pooled and setup.combines[arm] is not None:
        shadow = Shadow()
        happens = _faulty(setup, cast("Owing", shadow))
        return Pool(clients, shadow, happens, setup.plan.num_clients)
    return _faulty(setup, clients)


def _faulty(setup: ServerSetup, clients: Owing) -> Clients:
    if setup.faults is None:
        return clients
    plan = setup.plan

    return Faulty(
        clients,
        setup.faults,
        num_clients=plan.num_clients,
        num_rounds=plan.num_rounds,
        warmup_rounds=plan.warmup_rounds,
        streams=plan.participants.streams,
        kind=setup.kind,
        same_samples=plan.public.alike,
    )


def run_arms(
    setup: ServerSetup, federation: Federation, saved: Saved | None, writer: BackgroundWriter
) -> None:
    """Run the arms one after the other, each from where it was saved."""
    for arm in setup.info.arms:
        known = setup.known.get(arm) or (saved.records.get(arm, []) if saved else [])
        for record in known:
            setup.reporter.round_done(arm, record)
        if len(known) == setup.plan.num_rounds:
            continue
        owing = Owing(federation, when_needed=setup.plan.when_needed)
        clients = with_faults(setup, owing, arm)
        checkpointer = Checkpointer(setup, federation, clients, owing, arm, writer)
        if saved is not None and saved.arm == arm:
            checkpointer.restore(saved)
        else:
            checkpointer.begin()
        run_arm(
            arm,
            clients,
            setup.combines[arm],
            setup.plan,
            setup.reporter,
            done=len(known),
            after=checkpointer.keep,
        )
        if arm == setup.info.arms[-1]:
            checkpointer.hand_over()


def make_server_app(build: Callable[[Context], ServerSetup]) -> ServerApp:
    """Return a ServerApp that runs the arms of the setup that ``build`` makes."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        setup = build(context)

        def on_answer(client_ids: Sequence[int]) -> None:
            for client_id in client_ids if setup.counts_clients else ():
                setup.reporter.client_done(client_id)

        def on_silence(client_ids: Sequence[int], seconds: float) -> None:
            if isinstance(setup.reporter, WatchesSilence):
                setup.reporter.waiting(client_ids, seconds)

        federation = Federation(
            grid,
            num_clients=setup.plan.num_clients,
            num_public=setup.plan.public.size,
            num_classes=setup.data.num_classes,
            public_fingerprint=setup.data.public.fingerprint(),
            common_fingerprint=setup.data.common_hash,
            kind=setup.kind,
            channel=setup.plan.channel,
            num_nodes=setup.num_nodes,
            reply_timeout=setup.reply_timeout,
            fail_fast=setup.plan.fail_fast,
            on_answer=on_answer,
            on_silence=on_silence,
            states=setup.states,
            num_tests=len(setup.data.test),
        )
        saved = None if setup.checkpoints is None else setup.checkpoints.latest()
        setup.reporter.start(setup.info)
        with BackgroundWriter() as writer:
            run_arms(setup, federation, saved, writer)

    return app
