"""What goes with a round's public samples: how many a scorer takes, who else learns of them."""

from __future__ import annotations

from clients.exchange import Predictions
from experiments.assembly.chosen import Chosen, Clash
from fedfuse.fusion.nearest_neighbour_probe import LEAST_SAMPLES, NearestNeighbourProbe
from fedfuse.rng import Streams
from fedfuse.select import PublicRounds


def _too_few(chosen: Chosen) -> str | None:
    data, scorer = chosen.data, chosen.part("scorer")
    if not chosen.fuses or data is None or not isinstance(scorer, NearestNeighbourProbe):
        return None
    rounds = PublicRounds(chosen.part("select"), data.public, Streams(chosen.cfg.seed))
    size = rounds.size(chosen.cfg.warmup_rounds + 1)
    return f"{size} public samples a round" if size < LEAST_SAMPLES else None


def _keeps(chosen: Chosen) -> bool:
    exchange = chosen.part("exchange")
    return isinstance(exchange, Predictions) and exchange.kept_teacher is not None


def _keeps_nothing(chosen: Chosen) -> str | None:
    return f"method={chosen.cfg.method.name}" if _keeps(chosen) and not chosen.fuses else None


def _keeps_beyond(chosen: Chosen) -> str | None:
    beyond = _keeps(chosen) and chosen.cfg.budget == "samples"
    return "exchange.kept_teacher with budget=samples" if beyond else None


def _shows_nobody(chosen: Chosen) -> str | None:
    exchange = chosen.part("exchange")
    shows = isinstance(exchange, Predictions) and exchange.shown is not None
    return f"method={chosen.cfg.method.name}" if shows and not chosen.fuses else None


OF_PUBLIC_SAMPLES = (
    Clash(
        "The scorer NearestNeighbourProbe parts the public samples in two",
        _too_few,
        "Set a larger public.size or select.size, or another scorer.",
        lambda _: f"{LEAST_SAMPLES} or more",
        from_data=True,
    ),
    Clash(
        "A kept teacher is one that was fused of predictions, and this method has none",
        _keeps_nothing,
        "Set exchange=predictions, or choose a method that fuses predictions.",
    ),
    Clash(
        "What a model shows of itself is for a server that fuses predictions, and this method has "
        "none",
        _shows_nobody,
        "Set exchange=predictions, or choose a method that fuses predictions.",
    ),
    Clash(
        "A kept teacher adds public samples to every step of local training, which is to see no "
        "more samples than the baseline's",
        _keeps_beyond,
        "Set budget=optimiser_steps.",
    ),
)
