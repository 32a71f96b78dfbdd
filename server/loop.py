"""The round: train, share, fuse, distil. One page, read it top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import torch

from fedfuse.errors import FedfuseError, KnowledgeError
from fedfuse.exchange.kind import Combine
from fedfuse.participation import Participants, Resting
from fedfuse.select import PublicRounds
from fedfuse.types import Fusion, RoundRecord
from fedfuse.wire.messages import ALL_SPENT, Header
from server.fusion.byte_budget import ByteBudget
from server.records.round_record import record
from server.reporters.protocol import Reporter
from server.transport.answer import Answer, ClientFailedError, Clients
from server.transport.channel import ServerChannel
from server.transport.replies import refusal


@dataclass(frozen=True, slots=True)
class ServerPlan:
    """What the server does.

    Args:
        num_clients: K.
        num_rounds: Rounds of each arm.
        warmup_rounds: Rounds of local training before the first fusion; early teachers are poor.
        equal_steps: Whether an arm without teachers takes the distillation's number of steps on
            private data instead, so that all arms spend the same optimiser steps.
        evaluate_every: Evaluate in every n-th round, and in the last.
        fail_fast: Whether one failing client stops the run.
        public: The public samples of each round.
        participants: Who takes part in each round.
        resting: Whether clients that rest are tested, and whom means are about.
        adversaries: Who attacks, as the simulation knows and the server does not.
        device: Where knowledge is fused.
        channel: How predictions are read and teachers written; remembers what its codec needs.
        byte_budget: Whether the budget of bytes, if there is one, pays for another exchange.
        when_needed: Whether clients that rest get what the server made when they next need it: the
            last alone of what they missed. If not, they get it at once.
        probe_every: Of the rounds that are tested, in every n-th models are asked the probes, and
            in the last; 0 for the last alone, None for never.
    """

    num_clients: int
    num_rounds: int
    warmup_rounds: int
    equal_steps: bool
    evaluate_every: int
    fail_fast: bool
    public: PublicRounds
    participants: Participants
    device: torch.device
    resting: Resting = Resting()  # noqa: RUF009 - frozen
    adversaries: tuple[int, ...] = ()
    channel: ServerChannel = field(default_factory=ServerChannel)
    byte_budget: ByteBudget = field(default_factory=ByteBudget)
    when_needed: bool = False
    probe_every: int | None = None

    def tests(self, round_: int) -> tuple[bool, bool]:
        """Return whether clients are tested in a round, and whether those that rest are too."""
        number, left = divmod(round_, self.evaluate_every)
        last = round_ == self.num_rounds
        return left == 0 or last, (left == 0 and number % self.resting.every == 0) or last

    def probes_in(self, round_: int) -> bool:
        """Tell whether models are asked the probes in a round."""
        if self.probe_every is None or round_ == self.num_rounds:
            return self.probe_every is not None
        number, left = divmod(round_, self.evaluate_every)
        return left == 0 and self.probe_every > 0 and number % self.probe_every == 0


def run_arm(
    arm: str,
    federation: Clients,
    combine: Combine | None,
    plan: ServerPlan,
    reporter: Reporter,
    done: int = 0,
    after: Callable[[str, RoundRecord], None] = lambda _, __: None,
) -> None:
    """Run all rounds of one arm: the method, or (with nothing to combine) local training.

    Args:
        arm: The arm's name.
        federation: The clients.
        combine: What clients sent to what they get back; None for an arm that learns alone.
        plan: What the server does.
        reporter: Who watches; takes each round's record.
        done: Rounds that are done already.
        after: Called with each round's record once it has been reported.
    """
    for round_ in range(done + 1, plan.num_rounds + 1):
        clock = Clock()
        fuses = round_ > plan.warmup_rounds
        evaluates, due = plan.tests(round_)
        exchanges = combine is not None
        shares = fuses and exchanges and plan.byte_budget.affords()
        last = round_ == plan.num_rounds
        header = Header(arm, round_, shares, evaluates, exchanges, answers=last)

        asked = plan.participants.ids(round_, alone=not exchanges)
        reporter.phase(arm, round_, "train")
        local = federation.train(header, asked)
        stop_on_failure(local, len(asked), plan)
        clock.lap("train")

        fusion = None
        if combine is not None and shares and local.knowledge is not None:
            reporter.phase(arm, round_, "fuse")
            fusion, local = fuse(combine, local, header, plan)
            clock.lap("fuse")

        # Without this phase the tests after training are those of the round; nothing is spent.
        as_trained = None if local.metrics is None else local.metrics.without(ALL_SPENT)
        fused = replace(local, metrics=as_trained, noted=(), num_bytes=0)
        fused = replace(fused, broadcast_bytes=0, asked_bytes=0, late_bytes=(0, 0))
        if fusion is not None or (fuses and plan.equal_steps):
            reporter.phase(arm, round_, "distill")
            # Whoever answered takes the steps of this phase, with a teacher or without. An average
            # is for others too, who take none, and are tested if those who rest are.
            taught = local.heard(asked)
            teachers = None if fusion is None else fusion.teachers
            told = taught if teachers is None else teachers.client_ids.tolist()
            header = replace(header, share=False, taught=None if told == taught else tuple(taught))
            others = set(told) - set(taught)
            now = {*taught, *plan.resting.among(others, due=due)}
            fused = federation.distil(header, told, teachers, now)
            stop_on_failure(fused, len(told), plan)
            clock.lap("distill")

        spent = local.num_bytes + local.asked_bytes + fused.num_bytes
        plan.byte_budget.book(spent + local.late_bytes[0] + fused.late_bytes[0])
        rest, idle = None, resting(header, local, fused, plan)
        if wanted := plan.resting.among(idle, due=due):
            rest = federation.test(replace(header, share=False), wanted)
            stop_on_failure(rest, len(wanted), plan)
            clock.lap("rest")
        judged, probed = plan.resting.judged(due=due, rested=bool(idle)), None
        if plan.probes_in(round_) and (wanted := those_tested(fused, rest, judged)):
            reporter.phase(arm, round_, "probe")
            probed = federation.test(
                replace(header, share=False, answers=False, probe=True), wanted
            )
            stop_on_failure(probed, len(wanted), plan)
            clock.lap("probes")
        made = record(
            round_,
            local,
            fusion,
            fused,
            rest,
            len(asked),
            clock.seconds,
            num_clients=plan.num_clients,
            adversaries=plan.adversaries,
            judged=judged,
            probed=probed,
        )
        reporter.round_done(arm, made)
        after(arm, made)


def resting(header: Header, local: Answer, fused: Answer, plan: ServerPlan) -> set[int]:
    """Return who did not end a round that is tested, and could be tested as it is."""
    if not header.evaluate:
        return set()
    done = set() if fused.metrics is None else set(fused.metrics.client_ids.tolist())
    failed = {failure.client_id for failure in (*local.failures, *fused.failures)}
    return set(range(plan.num_clients)) - done - failed


def those_tested(fused: Answer, rest: Answer | None, judged: Collection[int] | None) -> list[int]:
    """Return the clients that the figures of the round's end are about, ascending."""
    answers = [answer.metrics for answer in (fused, rest) if answer is not None]
    told = {i for metrics in answers if metrics is not None for i in metrics.client_ids.tolist()}
    return sorted(told if judged is None else told & set(judged))


def stop_on_failure(answer: Answer, num_asked: int, plan: ServerPlan) -> None:
    """Stop the run at the first failed client, unless the user wants to go on without it.

    If nobody that was asked could answer, something is wrong with all. That some who were asked
    answered rubbish says nothing of those who were not, and must not be a way to end a run.
    """
    lies = any(failure.quarantined for failure in answer.failures)
    nobody = len(answer.failures) == num_asked and not (lies and num_asked < plan.num_clients)
    if answer.failures and (plan.fail_fast or nobody):
        failure = answer.failures[0]
        if failure.is_mistake:
            error = FedfuseError(failure.error)
            error.frames, error.whole = failure.own, failure.traceback
            raise error
        raise ClientFailedError(failure)


def fuse(
    combine: Combine, local: Answer, header: Header, plan: ServerPlan
) -> tuple[Fusion | None, Answer]:
    """Return what the server makes of what clients sent, and the answer that is left.

    What single clients sent may be impossible in a way that shows only now; then the round goes on
    without a fusion, unless the user wants it to stop.
    """
    assert local.knowledge is not None
    try:
        return combine(local.knowledge, header.round), local
    except KnowledgeError as error:
        if plan.fail_fast or not error.client_ids:
            raise
        refused = [refusal(i, header.round, "fuse", str(error)) for i in error.client_ids]
        return None, replace(local, knowledge=None, failures=(*local.failures, *refused))


class Clock:
    """Wall time by phase.

    Args:
        now: Seconds, from any origin.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._last = now()
        self.seconds: dict[str, float] = {}

    def lap(self, phase: str) -> None:
        """Book the time since the last lap under ``phase``."""
        now = self._now()
        self.seconds[phase] = now - self._last
        self._last = now
