"""What goes with how steps are taken: the optimiser's numbers, schedules of its rate."""

from __future__ import annotations

import math

import torch

from experiments.assembly.chosen import Chosen, Clash
from fedfuse.declarations import declared
from fedfuse.train.learning_rate import is_flat

IMAGES = "needs_images"

NUMBERS = ("lr", "weight_decay", "momentum", "eps")
"""Keys of torch's optimisers that are numbers; torch takes infinite ones, which train nothing."""


def _odd(chosen: Chosen) -> str | None:
    """Return the first key of the optimiser that is no number it can work with."""
    keys = chosen.cfg.optimizer
    if not str(keys._target_).startswith("torch.optim."):
        return None
    for name, value in ((name, keys.get(name)) for name in NUMBERS):
        real = isinstance(value, int | float) and not isinstance(value, bool)
        if name in keys and not (real and 0 <= value < math.inf):
            return name
    return None


def _odd_number(chosen: Chosen) -> str | None:
    name = _odd(chosen)
    return None if name is None else repr(chosen.cfg.optimizer[name])


def _never_climbs(chosen: Chosen) -> str | None:
    warmup = declared(chosen.part("lr_schedule"), "warmup", 0.0)
    late = isinstance(warmup, int | float) and warmup >= chosen.cfg.num_rounds
    return (
        f"lr_schedule.warmup={warmup:g} with num_rounds={chosen.cfg.num_rounds}" if late else None
    )


def _no_rate(chosen: Chosen) -> str | None:
    if is_flat(chosen.part("lr_schedule")):
        return None
    try:
        made = chosen.part("optimizer")([torch.nn.Parameter(torch.zeros(1))])
        known = all("lr" in group for group in made.param_groups)
    except Exception:  # it is told what is wrong with it where a model is tried
        return None
    return None if known else chosen.named("lr_schedule", "optimizer")


def _images(chosen: Chosen) -> bool:
    return chosen.data is not None and chosen.data.is_image and len(chosen.data.input_shape) == 3


def _no_images(chosen: Chosen) -> str | None:
    if chosen.data is None or _images(chosen) or not chosen.needs("private_augment", IMAGES):
        return None
    kind = "texts" if chosen.data.is_text else f"inputs of shape {list(chosen.data.input_shape)}"
    return f"{chosen.named('private_augment')} with {kind}"


def _cropped_away(chosen: Chosen) -> str | None:
    padding = getattr(chosen.part("private_augment"), "padding", 0)
    if chosen.data is None or not _images(chosen) or not isinstance(padding, int):
        return None
    height, width = chosen.data.input_shape[1:]
    apart = padding >= min(height, width)
    return f"private_augment.padding={padding} with {height} x {width}" if apart else None


def _widest(chosen: Chosen) -> int:
    assert chosen.data is not None
    return min(chosen.data.input_shape[1:]) - 1


OF_TRAINING = (
    Clash(
        lambda chosen: f"optimizer.{_odd(chosen)} is not valid",
        _odd_number,
        "Look at the keys of optimizer: fedfuse --cfg job --package optimizer.",
        lambda _: "a finite number of at least 0",
    ),
    Clash(
        "The warm-up of the learning rate is as long as the run, which never trains at full rate",
        _never_climbs,
        lambda chosen: (
            f"Set num_rounds={int(chosen.part('lr_schedule').warmup) + 1} or more, or a shorter "
            "lr_schedule.warmup."
        ),
        lambda chosen: f"a number of rounds below {chosen.cfg.num_rounds}",
    ),
    Clash(
        "A schedule changes the optimizer's learning rate, and this optimizer has none",
        _no_rate,
        "Set lr_schedule=constant, or an optimizer whose parameter groups have an lr.",
    ),
    Clash(
        "Crops and mirror images are of images, and the clients hold none",
        _no_images,
        "Set private_augment=none.",
        from_data=True,
    ),
    Clash(
        "A crop may lie beside the image, in nothing but padding",
        _cropped_away,
        lambda chosen: f"Set private_augment.padding={min(4, _widest(chosen))}.",
        lambda chosen: f"0 to {_widest(chosen)}, less than the image's shorter side",
        from_data=True,
    ),
)
