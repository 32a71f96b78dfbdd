"""The networks: shapes, sizes worked out by hand, refusals, and training by vmap."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

from fedfuse.errors import ModelError, ParameterError
from fedfuse.models.cnn import cnn2, cnn4
from fedfuse.models.layers import norm_layer
from fedfuse.models.lenet import lenet5
from fedfuse.models.mlp import mlp
from fedfuse.models.resnet import ResidualBlock, resnet8, resnet20

CONVOLUTIONAL = {"lenet5": lenet5, "cnn2": cnn2, "cnn4": cnn4, "resnet8": resnet8}
CONVOLUTIONAL["resnet20"] = resnet20
ALL = {"mlp": mlp, **CONVOLUTIONAL}
SMALLEST = {"lenet5": 12, "cnn2": 4, "cnn4": 4, "resnet8": 4, "resnet20": 4}


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 17, 23), (3, 64, 64)])
@pytest.mark.parametrize("name", ALL)
def test_returns_float32_logits(name, shape):
    logits = ALL[name](shape, 7)(torch.rand(2, *shape))
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_works_down_to_the_smallest_size_and_says_so_below(name):
    side = SMALLEST[name]
    model = CONVOLUTIONAL[name]((1, side, side), 3)
    model.train()
    output = model(torch.randn(2, 1, side, side))
    assert output.shape == (2, 3)
    assert torch.isfinite(output).all()
    with pytest.raises(ModelError, match=f"at least {side} pixels.*model=mlp"):
        CONVOLUTIONAL[name]((1, side, side - 1), 3)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_images_only(name):
    with pytest.raises(ModelError, match=r"needs images.*\[12\].*model=mlp"):
        CONVOLUTIONAL[name]((12,), 3)


def test_mlp_takes_flat_features_and_may_be_linear():
    assert mlp((13,), 4)(torch.rand(2, 13)).shape == (2, 4)
    assert size(mlp((13,), 4, depth=0)) == 13 * 4 + 4
    with pytest.raises(ModelError, match="without elements"):
        mlp((3, 0), 4)


def test_parameter_counts_by_hand():
    # conv1 6*(25c+1), conv2 16*(150+1), fc 400*120+120, 120*84+84, 84*10+10
    assert size(lenet5((3, 32, 32), 10)) == 456 + 2416 + 48120 + 10164 + 850
    # 3x3 convolutions without bias, two numbers per channel of GroupNorm, then the head.
    convs = 9 * (3 * 16 + 16 * 32)
    assert size(cnn2((3, 32, 32), 10)) == convs + 2 * 48 + (2048 * 128 + 128) + 1290
    convs = 9 * (3 * 16 + 16 * 16 + 16 * 32 + 32 * 32)
    assert size(cnn4((3, 32, 32), 10)) == convs + 2 * 96 + (2048 * 128 + 128) + 1290
    # He et al. 2016, table 6: 0.27 million for ResNet-20 with parameter-free shortcuts.
    assert size(resnet20((3, 32, 32), 10)) == 269_722


@pytest.mark.parametrize("name", ["cnn2", "cnn4", "resnet8", "resnet20"])
def test_norm_decides_the_layers(name):
    kinds = {
        norm: {type(layer) for layer in ALL[name]((1, 28, 28), 10, norm=norm).modules()}
        for norm in ("group", "batch", "none")
    }
    assert nn.GroupNorm in kinds["group"]
    assert nn.BatchNorm2d in kinds["batch"]
    assert not kinds["none"] & {nn.GroupNorm, nn.BatchNorm2d}
    default = {type(layer) for layer in ALL[name]((1, 28, 28), 10).modules()}
    assert default == kinds["group"]


@pytest.mark.parametrize("name", ALL)
def test_a_prediction_does_not_depend_on_its_batch_or_on_the_mode(name):
    torch.manual_seed(0)
    model = ALL[name]((1, 28, 28), 5)
    inputs = torch.randn(6, 1, 28, 28)
    together = model.train()(inputs)
    alone = model.eval()(inputs[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_vmap_over_clients_equals_one_after_the_other(name):
    torch.manual_seed(0)
    shape = (1, 14, 14)
    models = [ALL[name](shape, 5) for _ in range(3)]
    inputs, labels = torch.randn(3, 4, *shape), torch.randint(5, (3, 4))
    skeleton = copy.deepcopy(models[0]).to("meta")

    def loss(parameters, buffers, x, y):
        return F.cross_entropy(functional_call(skeleton, (parameters, buffers), (x,)), y)

    together = vmap(grad(loss))(*stack_module_state(models), inputs, labels)
    for k, model in enumerate(models):
        F.cross_entropy(model(inputs[k]), labels[k]).backward()
        for key, parameter in model.named_parameters():
            torch.testing.assert_close(together[key][k], parameter.grad, rtol=1e-3, atol=1e-5)


def test_shortcut_takes_every_second_pixel_and_pads_channels_with_zeros():
    block = ResidualBlock(2, 4, stride=2, norm="none")
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.arange(1.0, 33.0).reshape(1, 2, 4, 4)
    expected = torch.zeros(1, 4, 2, 2)
    expected[0, 0] = torch.tensor([[1.0, 3.0], [9.0, 11.0]])
    expected[0, 1] = torch.tensor([[17.0, 19.0], [25.0, 27.0]])
    assert torch.equal(block(x), expected)


@pytest.mark.parametrize(("channels", "groups"), [(16, 4), (6, 2), (3, 1), (1, 1)])
def test_groups_divide_the_channels(channels, groups):
    assert norm_layer("group", channels).num_groups == groups


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mlp", {"hidden": 0}),
        ("mlp", {"hidden": True}),
        ("mlp", {"hidden": float("nan")}),
        ("mlp", {"depth": -1}),
        ("cnn2", {"width": 0}),
        ("cnn2", {"kernel_size": 4}),
        ("cnn4", {"hidden": 1.5}),
        ("cnn4", {"norm": "layer"}),
        ("resnet8", {"norm": None}),
        ("resnet20", {"width": "16"}),
    ],
)
def test_hyperparameters_are_checked(name, parameters):
    (key,) = parameters
    with pytest.raises(ParameterError, match=f"'{key}' parameter of {name}"):
        ALL[name]((1, 28, 28), 10, **parameters)


@pytest.mark.parametrize("name", ALL)
def test_number_of_classes_is_checked(name):
    with pytest.raises(ParameterError, match="num_classes"):
        ALL[name]((1, 28, 28), 0)
