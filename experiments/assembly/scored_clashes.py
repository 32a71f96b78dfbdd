"""What does not go with scores that clients compute of each other (``exchange=scored_sources``)."""

from __future__ import annotations

from functools import partial

from clients.exchange import ScoredSources
from experiments.assembly.chosen import Chosen, Clash
from fedfuse.declarations import FEW_CLIENTS, declared
from fedfuse.user_code import is_foreign


def _computes(chosen: Chosen) -> bool:
    return isinstance(chosen.part("exchange"), ScoredSources)


def _reads(chosen: Chosen) -> bool:
    scorer = chosen.part("scorer")
    while scorer is not None:
        if declared(scorer, "needs_scores", False):
            return True
        scorer = declared(scorer, "scorer", None)  # one may stand around another
    return False


def _unknown(chosen: Chosen) -> str | None:
    foreign = is_foreign(chosen.part("exchange"))
    missing = chosen.fuses and _reads(chosen) and not (_computes(chosen) or foreign)
    return chosen.named("scorer", "exchange") if missing else None


def _unread(chosen: Chosen) -> str | None:
    idle = not (chosen.fuses and (_reads(chosen) or is_foreign(chosen.part("scorer"))))
    return chosen.named("exchange", "scorer", "rule") if _computes(chosen) and idle else None


def _with(chosen: Chosen, slot: str) -> str | None:
    chose = _computes(chosen) and chosen.cfg[slot]._target_ is not None
    return chosen.named(slot, "exchange") if chose else None


def _too_many(chosen: Chosen) -> str | None:
    many = _computes(chosen) and chosen.cfg.num_clients > FEW_CLIENTS
    return f"num_clients={chosen.cfg.num_clients}" if many else None


OF_SCORES = (
    Clash(
        "The scorer reads what clients make of each other, and here none of them tells",
        _unknown,
        "Set exchange=scored_sources, or another scorer such as scorer=gradient_agreement.",
    ),
    Clash(
        "Clients would judge each other, at K times the download, and nobody reads it",
        _unread,
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
)
"""Clashes of scores that clients compute."""
