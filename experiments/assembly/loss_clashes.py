"""What goes with the loss of distillation: what it is told, and who can compute it."""

from __future__ import annotations

from clients.exchange import Predictions
from experiments.assembly.chosen import Chosen, Clash
from fedfuse.declarations import declared, part_name
from fedfuse.distill.targets import batchable
from fedfuse.train.facts import wants

_CLIENTS_OWN = frozenset({"prior", "clock"})
"""What a model on the server has not."""


def _wanted(chosen: Chosen) -> frozenset[str]:
    """Return what the loss wants to know; nothing where there is no distillation."""
    return wants(chosen.part("distill")) if chosen.fuses else frozenset()


def _loss(chosen: Chosen, does: str) -> str:
    return f"The distillation loss {part_name(chosen.part('distill'))} {does}"


def _one_model_each(chosen: Chosen) -> str | None:
    one = declared(chosen.part("exchange"), "batchable", False)
    return "trainer=batched" if chosen.cfg.trainer == "batched" and not one else None


def _client_by_client(chosen: Chosen) -> str | None:
    if not chosen.fuses or batchable(chosen.part("distill")):
        return None
    if chosen.cfg.trainer == "batched":
        return "trainer=batched"
    return "engine.pack=true" if chosen.cfg.engine.get("pack", False) else None


def _why_one_by_one(chosen: Chosen) -> str:
    relates = declared(chosen.part("distill"), "relational", False)
    does = "relates the samples of a client's batch" if relates else "is one client's"
    return _loss(chosen, f"{does}, which cannot be computed for many clients at once")


def _untold(chosen: Chosen) -> str | None:
    wanted = _wanted(chosen)
    if not wanted or isinstance(chosen.part("exchange"), Predictions):
        return None
    return f"wants = {', '.join(sorted(wanted))}, {chosen.named('exchange')}"


def _no_clock(chosen: Chosen) -> str | None:
    set_by_uptake = declared(chosen.part("uptake"), "sets_clock", False)
    missing = "clock" in _wanted(chosen) and not set_by_uptake
    return chosen.named("uptake") if missing else None


def _unread_clock(chosen: Chosen) -> str | None:
    ticks = chosen.fuses and declared(chosen.part("uptake"), "sets_clock", False)
    unread = ticks and "clock" not in _wanted(chosen)
    return chosen.named("uptake", "distill") if unread else None


def _server_lacks(chosen: Chosen) -> str | None:
    lacking = sorted(_wanted(chosen) & _CLIENTS_OWN)
    if not lacking or chosen.cfg.student._target_ is None:
        return None
    return f"wants = {', '.join(lacking)}, {chosen.named('student')}"


def _learns_nothing(chosen: Chosen) -> str | None:
    if not (chosen.fuses and chosen.needs("distill", "needs_validation")):
        return None
    if chosen.cfg.val_fraction == 0 and chosen.cfg.sites._target_ is None:
        return "val_fraction=0"
    clients = () if chosen.data is None else chosen.data.clients
    without = [c.client_id for c in clients if len(c.train) and not len(c.val)]
    return f"no validation samples of the clients {without[:10]}" if without else None


def _server_learns_nothing(chosen: Chosen) -> str | None:
    learns = chosen.fuses and chosen.needs("distill", "needs_validation")
    return chosen.named("student") if learns and chosen.cfg.student._target_ is not None else None


def _few_classes(chosen: Chosen) -> str | None:
    assert chosen.data is not None
    count, least = chosen.data.num_classes, _least(chosen)
    return f"{count} classes" if chosen.fuses and count < least else None


def _least(chosen: Chosen) -> int:
    return int(declared(chosen.part("distill"), "min_classes", 2))


def _why_one_model_each(chosen: Chosen) -> str:
    relates = chosen.needs("exchange", "relational")
    does = "relates the samples of a client's batch" if relates else _MORE_MODELS
    name = part_name(chosen.part("exchange"))
    return f"{name} {does}, which cannot be done for many clients at once"


_MORE_MODELS = "trains more than the clients' own models"


OF_TRAINERS = (
    Clash(
        _why_one_model_each,
        _one_model_each,
        "Set trainer=auto or trainer=loop.",
    ),
    Clash(
        _why_one_by_one,
        _client_by_client,
        lambda chosen: (
            "Set trainer=auto or trainer=loop."
            if chosen.cfg.trainer == "batched"
            else "Leave out engine.pack, or choose distill=kl."
        ),
    ),
)

OF_LOSSES = (
    Clash(
        lambda chosen: _loss(chosen, "wants to know what only exchange=predictions tells it"),
        _untold,
        "Choose distill=kl, or exchange=predictions.",
    ),
    Clash(
        lambda chosen: _loss(chosen, "wants to know each client's clock, and nothing sets it"),
        _no_clock,
        "Set uptake=clock, or choose distill=kl.",
        lambda _: "an uptake that declares sets_clock = True",
    ),
    Clash(
        lambda chosen: _loss(chosen, "does not ask for the clock that the uptake sets"),
        _unread_clock,
        "Set distill=taid, or take the clock out of the uptake (uptake=none).",
        lambda _: "a loss that wants to know the clock",
    ),
    Clash(
        lambda chosen: _loss(
            chosen, "wants to know of a client what the server's own model does not have"
        ),
        _server_lacks,
        "Set student=none, or choose distill=kl.",
        lambda _: "a loss that wants to know labels and own logits at most",
    ),
    Clash(
        lambda chosen: _loss(chosen, "learns by validation samples, and clients hold none back"),
        _learns_nothing,
        "Set val_fraction=0.1, or choose distill=kl.",
    ),
    Clash(
        lambda chosen: _loss(
            chosen, "learns by a client's validation samples, and the server has none"
        ),
        _server_learns_nothing,
        "Set student=none, or choose distill=kl.",
    ),
    Clash(
        lambda chosen: _loss(chosen, "makes no sense for so few classes"),
        _few_classes,
        lambda chosen: (
            f"Set distill.k={chosen.data.num_classes} or less, or choose distill=kl."  # type: ignore[union-attr]
            if "k" in chosen.cfg.distill
            else "Choose distill=kl, or data with more classes."
        ),
        lambda chosen: f"{_least(chosen)} classes or more",
        from_data=True,
    ),
)
