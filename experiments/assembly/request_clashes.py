"""What goes with asking for some of a round's public samples, answering for some, wanting some."""

from __future__ import annotations

from functools import partial

from experiments.assembly.chosen import Chosen, Clash, not_fused
from fedfuse.declarations import declared
from fedfuse.rng import Streams
from fedfuse.select import PublicRounds

SLOTS = ("request", "answer", "wish")


def _both(chosen: Chosen, one: str, other: str) -> str | None:
    there = all(chosen.cfg[slot]._target_ is not None for slot in (one, other))
    return chosen.named(one, other) if there else None


def _smallest_round(chosen: Chosen) -> int:
    assert chosen.data is not None
    rounds = PublicRounds(chosen.part("select"), chosen.data.public, Streams(chosen.cfg.seed))
    return rounds.size(chosen.cfg.warmup_rounds + 1)


def _more_than_there_are(chosen: Chosen, slot: str) -> str | None:
    size = declared(chosen.part(slot), "size", None)
    if not isinstance(size, int) or size <= (there := _smallest_round(chosen)):
        return None
    return f"{slot}.size={size} of {there} public samples a round"


OF_REQUESTS = (
    *(
        Clash(
            f"{does}, and this method fuses none",
            partial(not_fused, slot=slot),
            f"Set {slot}=none, or choose a method that fuses predictions.",
        )
        for slot, does in (
            ("request", "A request asks for some of the predictions that are fused"),
            ("answer", "An answer is of predictions that are fused"),
            ("wish", "A wish is for fused predictions"),
        )
    ),
    Clash(
        "A cache decides which samples are asked for, and so would the request",
        partial(_both, one="request", other="cache"),
        "Set cache=none, or request=none.",
    ),
    Clash(
        "A cache sends a target for all clients once, and wishes are each client's own",
        partial(_both, one="wish", other="cache"),
        "Set cache=none, or wish=none.",
    ),
    Clash(
        "The server's request and the client's answer would each leave samples out, and nothing "
        "might be left",
        partial(_both, one="request", other="answer"),
        "Set answer=none, or request=none.",
    ),
    *(
        Clash(
            "More samples are to be chosen than a round has",
            partial(_more_than_there_are, slot=slot),
            f"Set a smaller {slot}.size, or a larger public.size or select.size.",
            lambda chosen: f"1 to {_smallest_round(chosen)}",
            from_data=True,
        )
        for slot in SLOTS
    ),
)
"""Combinations of what is asked for, answered and wished that cannot work."""
