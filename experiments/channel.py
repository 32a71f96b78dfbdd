"""What clients send and how it travels: the codec, and whether it holds what the rule needs."""

from __future__ import annotations

from functools import partial

from omegaconf import DictConfig

from experiments.instantiate import instantiate
from fedfuse.codec import Channel
from fedfuse.declarations import declared
from fedfuse.density import KuLSIFSelector
from fedfuse.errors import ConfigError
from fedfuse.fusion.pipeline import Pipeline
from fedfuse.select import All


def check_confidence(cfg: DictConfig, pipeline: Pipeline) -> None:
    """Refuse a rule that weighs by what clients do not send."""
    measure = instantiate(cfg.familiarity, "familiarity")
    wanted = declared(pipeline.rule, "needs_confidence", False)
    if wanted and (measure is None or isinstance(measure, KuLSIFSelector)):
        raise ConfigError(
            "The rule weighs answers by the confidence that clients send with them, and they send "
            "none",
            got=f"familiarity={'none' if measure is None else 'kulsif, which is a mask'}",
            next_step="Set familiarity=gaussian or familiarity=auxiliary.",
        )


def build_channel(cfg: DictConfig) -> Channel:
    """Return how predictions travel: an option of ours, or a codec of the user's, both ways.

    Raises:
        ConfigError: If the codec cannot work with the choice of public samples.
    """
    part = instantiate(cfg.codec, "codec")
    if part is None:
        return Channel()
    made = part() if isinstance(part, partial) else part
    channel = made if isinstance(made, Channel) else Channel(made, made)
    if channel.needs_fixed_public_set and not isinstance(instantiate(cfg.select, "select"), All):
        raise ConfigError(
            "The codec sends what has changed since the last round, and the public samples differ "
            "from round to round",
            got=f"select={str(cfg.select._target_).rsplit('.', 1)[-1]}",
            next_step="Set codec.delta=false, or select=all.",
        )
    return channel
