"""What is said, before anything is trained, of steps that cannot be taken as they are asked for."""

from __future__ import annotations

import pytest
import torch

from experiments.assembly import capabilities
from experiments.assembly.parts import build_data
from fedfuse.errors import ConfigError, FedfuseError
from tests.experiments.assembly.test_capabilities import configured


class NoRate(torch.optim.Optimizer):
    """An optimiser without a learning rate."""

    def __init__(self, parameters):
        super().__init__(parameters, {})


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("optimizer.weight_decay=-1", "optimizer.weight_decay is not valid: got -1, .*at least 0"),
        ("optimizer.weight_decay=.inf", "optimizer.weight_decay is not valid: got inf"),
        ("optimizer.lr=.nan", "optimizer.lr is not valid: got nan"),
        ("optimizer.lr=fast", "optimizer.lr is not valid: got 'fast'"),
        ("lr_schedule.warmup=1", "as long as the run.*warmup=1 with num_rounds=1.*num_rounds=2"),
        ("lr_schedule.warmup=2.5", "as long as the run.*Set num_rounds=3"),
        ("lr_schedule.warmup=-1", "'warmup' parameter of Constant .*got -1"),
        ("lr_schedule.per=epoch", "'per' parameter of Constant .*got 'epoch'"),
        ("lr_schedule=cosine lr_schedule.final=2", "'final' parameter of Cosine .*got 2"),
        ("lr_schedule=step lr_schedule.at=[0.7,0.5]", "'at' parameter of Step .*in order"),
        ("lr_schedule=step lr_schedule.at=[]", "'at' parameter of Step .*in order"),
        ("lr_schedule=step lr_schedule.at=[1]", "'at' parameter of Step .*got 1, .*below 1"),
        ("lr_schedule=step lr_schedule.factor=0", "'factor' parameter of Step .*got 0"),
    ],
)
def test_one_message_each(keys, told):
    with pytest.raises(FedfuseError, match=told):
        capabilities.check(configured("mean", *keys.split()))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            "padding=8",
            "beside the image.*got .*padding=8 with 8 x 8, allowed: 0 to 7",
        ),
        ("padding=-1", "'padding' parameter of CropFlip .*got -1"),
        ("flip=1.5", "'flip' parameter of CropFlip .*got 1.5"),
    ],
)
def test_a_crop_lies_in_its_image(keys, told):
    cfg = configured("mean", "private_augment=crop_flip", f"private_augment.{keys}")
    with pytest.raises(FedfuseError, match=told):
        capabilities.check(cfg, build_data(cfg))


@pytest.mark.parametrize("dataset", ["docstrings", "breast_cancer"])
def test_only_images_are_cropped(dataset):
    cfg = configured("mean", f"dataset={dataset}", "private_augment=crop_flip")
    with pytest.raises(ConfigError, match=r"clients hold none: got .*Set private_augment=none"):
        capabilities.check(cfg, build_data(cfg))


def test_a_schedule_needs_a_rate_to_change():
    cfg = configured("mean", "num_rounds=2")
    cfg.optimizer = {"_target_": f"{__name__}.NoRate"}
    capabilities.check(cfg)
    cfg.lr_schedule.warmup = 1
    with pytest.raises(ConfigError, match=r"this optimizer has none: got .*norate"):
        capabilities.check(cfg)
