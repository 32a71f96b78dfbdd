"""What a node's clients remember, handed to the server for a checkpoint and taken back from it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from clients.failure_isolation import Attempt
from clients.node import Node
from clients.state.serialisation import packed, unpacked
from fedfuse.errors import FedfuseError
from fedfuse.types import Phase
from fedfuse.wire.messages import Header


def prepare(node: Node, header: Header, client_ids: Sequence[int]) -> None:
    """Let clients begin, secrets included, so that they can be saved before they share.

    Who cannot begin says so when it is asked to train.
    """
    arm = node.in_arm(header)

    def step(cohort: Sequence[int]) -> None:
        for client_id in cohort:
            arm.student(client_id)
            node.sharing.begin(node.states.memory(client_id))

    attempt = Attempt(header.round, "train", node.plan.threads, node.device)
    for client_id in client_ids:
        if not attempt((client_id,), step, None):
            node.states.save(client_id)


def save(node: Node, header: Header, client_ids: Sequence[int]) -> bytes:
    """Return all that clients remember, as safetensors under ``ID/NAME``.

    A client that has not done anything yet has nothing to remember.

    Raises:
        FedfuseError: If it is nobody else's business.
    """
    _check(node)
    return packed({i: node.states.saved(header.arm, i) for i in client_ids})


def models(node: Node, header: Header, client_ids: Sequence[int]) -> bytes:
    """Return the clients' models as they are judged, as safetensors under ``ID/model/NAME``.

    Where a guard decides what is deployed, that is the fused model, and the local twin's follows
    under ``ID/twin/model/NAME``: a mixture needs both. Nothing else that a client remembers is in
    it: no optimiser, no secret.

    Raises:
        FedfuseError: If it is nobody else's business, or what a client holds is not its model.
    """
    _check(node)
    arm = node.in_arm(header)
    names: dict[str, set[str]] = {}
    found: dict[int, dict[str, Tensor]] = {}
    for client_id in client_ids:
        held = arm.student(client_id)
        known = names.setdefault(held.architecture, set())
        if not known:
            known |= set(node.beginning.model(client_id).state_dict())
        # A way to exchange may hold more than one model, or judge by a head of its own.
        judged = arm.way.evaluation_models([held], arm.tools, Phase.FUSED)
        states = [student.model.state_dict() for student in (*judged, held)]
        own = next((state for state in states if set(state) == known), None)
        if own is None:
            raise FedfuseError(
                f"What client {client_id} is judged by is not the model that it began with",
                next_step="Set models=none.",
            )
        found[client_id] = {f"model/{name}": value for name, value in own.items()}
        if arm.twins is not None:
            (twin,) = arm.twins.of([held])
            theirs = twin.model.state_dict()
            found[client_id] |= {f"twin/model/{name}": value for name, value in theirs.items()}
    return packed(found)


def load(node: Node, header: Header, client_ids: Sequence[int], content: bytes) -> None:
    """Let clients remember what :func:`save` returned, also if it was another node's.

    Raises:
        FedfuseError: If it does not hold what these clients can remember, or nobody else may say
            what that is.
    """
    _check(node)
    arm = node.in_arm(header)
    for client_id, tensors in unpacked(content, client_ids).items():
        arm.student(client_id, begins=False)
        node.states.restore(client_id, tensors, node.make_optimizer)


def _check(node: Node) -> None:
    if not node.hands_over:
        raise FedfuseError(
            "This node's clients keep their models and their secrets to themselves",
            next_step="Set checkpoint.every=0; or, where server and node have one owner, start "
            "the SuperNode with hands-over=true in its --node-config.",
        )
