"""How predictions travel: the codec that the configuration names."""

from __future__ import annotations

from functools import partial

from omegaconf import DictConfig

from experiments.instantiate import instantiate
from fedfuse.codec import Channel
from fedfuse.errors import ConfigError
from fedfuse.select import All


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
