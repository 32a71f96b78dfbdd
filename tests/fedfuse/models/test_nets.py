"""The networks: shapes, sizes worked out by hand, refusals, and training by vmap."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

from fedfuse.errors import ModelError, ParameterError
from fedfuse.models.cells import map_size
from fedfuse.models.cnn import cnn2, cnn4
from fedfuse.models.layers import norm_layer
from fedfuse.models.lenet import lenet5
from fedfuse.models.mlp import mlp
from fedfuse.models.mobilenet import InvertedResidual, mobilenet_v2
from fedfuse.models.resnet import ResidualBlock, resnet8, resnet18, resnet20
from fedfuse.models.vit import vit

CONVOLUTIONAL = {"lenet5": lenet5, "cnn2": cnn2, "cnn4": cnn4, "resnet8": resnet8}
CONVOLUTIONAL["resnet20"] = resnet20
CONVOLUTIONAL["resnet18"] = partial(resnet18, width=8)
CONVOLUTIONAL["mobilenet_v2"] = partial(mobilenet_v2, width=0.25)
ANY_SIZE = {"mlp": mlp, **CONVOLUTIONAL}
ALL = {**ANY_SIZE, "vit": partial(vit, patch=7, blocks=2, width=16, heads=2)}
SMALLEST = {"lenet5": 12, "cnn2": 4, "cnn4": 4, "resnet8": 4, "resnet20": 4}
SMALLEST |= {"resnet18": 8, "mobilenet_v2": 8}
NORMED = ["cnn2", "cnn4", "resnet8", "resnet20", "resnet18", "mobilenet_v2"]


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 17, 23), (3, 64, 64)])
@pytest.mark.parametrize("name", ANY_SIZE)
def test_returns_float32_logits(name, shape):
    logits = ANY_SIZE[name](shape, 7)(torch.rand(2, *shape))
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


def test_published_parameter_counts():
    """A GroupNorm has as many parameters as the BatchNorm whose place it takes."""
    # Of torchvision's 11,689,512, 990 classes and 40 weights of 192 (a stem of 7x7) are left out.
    whole = 11_689_512 - 990 * 513 - (49 - 9) * 3 * 64
    assert size(resnet18((3, 32, 32), 10)) == whole == 11_173_962
    # torchvision's MobileNetV2, and the 1.97 and 6.11 million of 0.5 and 1.4 times the channels.
    assert size(mobilenet_v2((3, 32, 32), 1000)) == 3_504_872
    assert size(mobilenet_v2((3, 32, 32), 1000, width=0.5)) == 1_968_680
    assert round(size(mobilenet_v2((3, 32, 32), 1000, width=1.4)) / 1e6, 2) == 6.11
    # DeiT-Ti, whose body is the ViT's.
    deit = vit((3, 224, 224), 1000, patch=16, blocks=12, width=192, heads=3)
    assert size(deit) == 5_717_416


def test_maps_are_halved_three_times_from_32_pixels():
    for model, channels in ((resnet18, 512), (mobilenet_v2, 1280)):
        assert map_size(model((3, 32, 32), 10), (3, 32, 32), 4) == channels
        with pytest.raises(ModelError, match="4 x 4 places"):
            map_size(model((3, 32, 32), 10), (3, 32, 32), 5)


def test_projections_are_shortcuts_where_a_stage_begins_and_nowhere_else():
    blocks = [b for b in resnet18((3, 32, 32), 10, width=8) if isinstance(b, ResidualBlock)]
    places = [number for number, block in enumerate(blocks) if block.shortcut is not None]
    assert (len(blocks), places) == (8, [2, 4, 6])
    block = ResidualBlock(1, 2, stride=2, norm="none", projected=True)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    block.shortcut[0].weight.data[:, 0, 0, 0] = torch.tensor([1.0, 2.0])
    made = block(torch.arange(1.0, 17.0).reshape(1, 1, 4, 4))
    assert made.tolist() == [[[[1.0, 3.0], [9.0, 11.0]], [[2.0, 6.0], [18.0, 22.0]]]]


def test_narrow_ends_are_added_where_nothing_changes_size():
    blocks = [b for b in mobilenet_v2((3, 32, 32), 10) if isinstance(b, InvertedResidual)]
    assert [block.added for block in blocks].count(True) == 10  # 17 blocks, one a stage is not
    block = InvertedResidual(8, 8, 6, 1, "none")
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(block(x), x)
    apart = next(c for c in block.modules() if isinstance(c, nn.Conv2d) and c.kernel_size == (3, 3))
    assert apart.groups == 48


def test_patches_are_told_apart_by_their_places():
    torch.manual_seed(0)
    model = vit((1, 8, 8), 3, patch=4, width=16, blocks=2, heads=2)
    image = torch.randn(1, 1, 8, 8)
    swapped = image.roll(4, dims=3)  # the same patches elsewhere
    assert not torch.allclose(model(image), model(swapped), atol=1e-5)
    nn.init.zeros_(model.places)
    torch.testing.assert_close(model(image), model(swapped))


@pytest.mark.parametrize(
    ("shape", "parameters", "told"),
    [
        ((3, 32, 32), {"patch": 5}, "do not divide.*got patch=5, images of 32x32.*model.patch=4"),
        ((1, 28, 20), {"patch": 8}, "allowed: a divisor of 4. Set model.patch=4"),
        ((1, 7, 5), {}, "Set model.patch=1"),
        ((3, 32, 32), {"patch": 64}, "Set model.patch=32"),
        ((3, 32, 32), {"width": 100, "heads": 3}, "Heads of model 'vit'.*Set model.width=99"),
        ((12,), {}, r"needs images.*\[12\].*model=mlp"),
    ],
)
def test_what_a_vit_cannot_be_cut_into(shape, parameters, told):
    with pytest.raises(ModelError, match=told):
        vit(shape, 10, **parameters)


@pytest.mark.parametrize("name", NORMED)
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
        ("resnet18", {"width": 0}),
        ("mobilenet_v2", {"width": 0.0}),
        ("mobilenet_v2", {"norm": "layer"}),
        ("vit", {"patch": 0}),
        ("vit", {"blocks": 1.5}),
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
