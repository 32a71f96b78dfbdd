"""What does not go with what clients say, beside predictions, of others' worth or their own."""

from __future__ import annotations

from functools import partial

from clients.exchange import LossRated, ScoredSources
from experiments.assembly.chosen import Chosen, Clash
from fedfuse.declarations import FEW_CLIENTS, declared
from fedfuse.user_code import is_foreign

TELLS: dict[str, type] = {"needs_scores": ScoredSources, "needs_efficiency": LossRated}
"""What a scorer may need, and the exchange in which clients tell it."""


def _tells(chosen: Chosen, what: str) -> bool:
    return isinstance(chosen.part("exchange"), TELLS[what])


def _computes(chosen: Chosen) -> bool:
    return _tells(chosen, "needs_scores")


def _reads(chosen: Chosen, what: str) -> bool:
    scorer = chosen.part("scorer")
    while scorer is not None:
        if declared(scorer, what, False):
            return True
        scorer = declared(scorer, "scorer", None)  # one may stand around another
    return False


def _unknown(chosen: Chosen, what: str) -> str | None:
    foreign = is_foreign(chosen.part("exchange"))
    missing = chosen.fuses and _reads(chosen, what) and not (_tells(chosen, what) or foreign)
    return chosen.named("scorer", "exchange") if missing else None


def _unread(chosen: Chosen, what: str) -> str | None:
    idle = not (chosen.fuses and (_reads(chosen, what) or is_foreign(chosen.part("scorer"))))
    return chosen.named("exchange", "scorer", "rule") if _tells(chosen, what) and idle else None


def _with(chosen: Chosen, slot: str, what: str = "needs_scores") -> str | None:
    chose = _tells(chosen, what) and chosen.cfg[slot]._target_ is not None
    return chosen.named(slot, "exchange") if chose else None


def _too_many(chosen: Chosen) -> str | None:
    many = _computes(chosen) and chosen.cfg.num_clients > FEW_CLIENTS
    return f"num_clients={chosen.cfg.num_clients}" if many else None


OF_SCORES = (
    Clash(
        "The scorer reads what clients make of each other, and here none of them tells",
        partial(_unknown, what="needs_scores"),
        "Set exchange=scored_sources, or another scorer such as scorer=gradient_agreement.",
    ),
    Clash(
        "Clients would judge each other, at K times the download, and nobody reads it",
        partial(_unread, what="needs_scores"),
        "Set scorer=uploaded rule=mean_probs, or exchange=predictions.",
    ),
    *(
        Clash(
            f"Clients judge each other by bare predictions of all samples, and {why}",
            partial(_with, slot=slot),
            f"Set {slot}=none, or scorer=gradient_agreement exchange=predictions.",
        )
        for slot, why in (
            ("familiarity", "familiarity says which of them to trust"),
            ("request", "a request asks for some of them"),
            ("answer", "clients choose which they give"),
            ("wish", "clients wish to be taught some"),
            ("cache", "a cache takes the place of some"),
            ("privacy", "what they find in their private data would leave unprotected"),
            ("codec", "a codec writes teachers and not what comes with them"),
        )
    ),
    Clash(
        "What every client said goes to every client, and there are too many",
        _too_many,
        "Set scorer=gradient_agreement exchange=predictions, which sends nothing more.",
        lambda _: f"at most {FEW_CLIENTS} clients",
    ),
    Clash(
        "The scorer reads how fast clients lower their private loss, and here none of them tells",
        partial(_unknown, what="needs_efficiency"),
        "Set exchange=loss_rated, or another scorer such as scorer=uniform.",
    ),
    Clash(
        "Clients would tell how fast they lower their private loss, and nobody reads it",
        partial(_unread, what="needs_efficiency"),
        "Set scorer=client_confidence rule=mean_probs, or exchange=predictions.",
    ),
    Clash(
        "A privacy mechanism protects predictions, and what clients tell of their private loss "
        "would leave bare",
        partial(_with, slot="privacy", what="needs_efficiency"),
        "Set privacy=none, or scorer=uniform exchange=predictions.",
    ),
)
"""Clashes of what clients say of worth."""
