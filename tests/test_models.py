"""The networks against slow twins written from the definitions, and the authors' initialisers."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mamlkit import models


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def same_convolution(image, kernel, bias, stride):
    """TensorFlow's SAME convolution of an image by windows: ceil(size / stride) outputs, odd pads after."""
    channels, size, _ = image.shape
    out = math.ceil(size / stride)
    total = max((out - 1) * stride + 3 - size, 0)
    padded = torch.zeros(channels, size + total, size + total, dtype=image.dtype)
    padded[:, total // 2 : total // 2 + size, total // 2 : total // 2 + size] = image
    result = torch.zeros(len(kernel), out, out, dtype=image.dtype)
    for i in range(out):
        for j in range(out):
            window = padded[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
            result[:, i, j] = (kernel * window).sum((1, 2, 3)) + bias
    return result


def slow_conv4(params, images, stride):
    x = images
    for block in range(4):
        x = torch.stack(
            [same_convolution(image, params[f"conv{block}"], params[f"bias{block}"], stride) for image in x]
        )
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        x = (x - mean) / (variance + 1e-3).sqrt() + params[f"shift{block}"][None, :, None, None]
        x = x.clamp(min=0)
        if stride == 1:
            half = x.shape[-1] // 2
            x = x[:, :, : 2 * half, : 2 * half].reshape(*x.shape[:2], half, 2, half, 2).amax((3, 5))
    x = x.mean((2, 3)) if stride == 2 else x.reshape(len(x), -1)
    return x @ params["head"].T + params["head_bias"]


@pytest.mark.parametrize(
    ("pooling", "size", "channels"), [("stride", 28, 1), ("stride", 9, 2), ("max", 20, 3)]
)
def test_conv4_equals_its_slow_twin(pooling, size, channels):
    model = models.conv4(3, filters=4, size=size, channels=channels, pooling=pooling)
    params = {
        k: (v + 0.1 * torch.randn(v.shape, generator=generator(1))).double()
        for k, v in model.init(generator()).items()
    }
    images = torch.rand(5, channels, size, size, generator=generator(2), dtype=torch.float64)
    wanted = slow_conv4(params, images, 2 if pooling == "stride" else 1)
    assert torch.allclose(model.apply(params, images), wanted, rtol=1e-9, atol=1e-9)


def test_symmetric_padding_would_be_another_network():
    image, kernel = torch.rand(1, 8, 8, generator=generator()), torch.rand(2, 1, 3, 3, generator=generator(1))
    symmetric = torch.nn.functional.conv2d(image[None], kernel, stride=2, padding=1)[0]
    assert (same_convolution(image, kernel, torch.zeros(2), 2) - symmetric).abs().max() > 0.1


@pytest.mark.parametrize("size", [28, 9])
def test_symmetric_padding_is_pytorchs_padding_of_one(size):
    model = models.conv4(3, filters=4, size=size, channels=2, padding="symmetric")
    params = {k: v.double() for k, v in model.init(generator()).items()}
    x = images = torch.rand(5, 2, size, size, generator=generator(1), dtype=torch.float64)
    for block in range(4):
        x = F.conv2d(x, params[f"conv{block}"], params[f"bias{block}"], stride=2, padding=1)
        x = models.batch_norm(x, params[f"shift{block}"]).relu()
    wanted = F.linear(x.mean((2, 3)), params["head"], params["head_bias"])
    assert torch.allclose(model.apply(params, images), wanted, rtol=1e-10)
    assert not model.layers  # the engine's passes know the other padding only


def test_without_a_stride_both_paddings_are_one():
    one, other = (
        models.conv4(3, filters=2, size=16, pooling="max", padding=p) for p in ("same", "symmetric")
    )
    params, images = one.init(generator()), torch.rand(4, 1, 16, 16, generator=generator(1))
    assert torch.allclose(one.apply(params, images), other.apply(params, images), rtol=1e-5, atol=1e-6)


def test_the_head_begins_as_it_is_told():
    bound = math.sqrt(6 / (64 + 5))
    for pooling, usual in (("stride", "normal"), ("max", "xavier")):
        made = {
            head: models.conv4(5, pooling=pooling, head=head).init(generator())
            for head in (None, "normal", "xavier")
        }
        assert all(torch.equal(made[None][name], made[usual][name]) for name in made[None])
        assert torch.equal(made["normal"]["conv3"], made["xavier"]["conv3"])
        assert abs(made["normal"]["head"].std() - 1) < 0.2
        assert bound * 0.9 < made["xavier"]["head"].abs().max() <= bound


def test_shifts_are_adapted_if_they_are_told_to():
    assert models.conv4(5).frozen == {f"shift{block}" for block in range(4)}
    assert models.conv4(5, adapt_shifts=True).frozen == frozenset()


@given(size=st.integers(1, 100), stride=st.sampled_from([1, 2]))
def test_same_padding_gives_tensorflows_size(size, stride):
    before, after = models.same_padding(size, stride)
    assert after - before in (0, 1)
    assert (size + before + after - 3) // stride + 1 == math.ceil(size / stride)


def test_parameter_counts_are_the_authors():
    count = lambda model: sum(v.numel() for v in model.init(generator()).values())
    assert count(models.conv4(5)) == 112_005
    assert count(models.conv4(5, filters=32, size=84, channels=3, pooling="max")) == 32_773
    assert count(models.mlp(1, (40, 40), 1)) == 80 + 1640 + 41


def test_batch_norm_uses_the_batch_at_hand_and_the_biased_variance():
    x = torch.randn(6, 3, generator=generator(), dtype=torch.float64) * 2 + 1
    shift = torch.tensor([0.5, -1.0, 0.0], dtype=torch.float64)
    wanted = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-3).sqrt() + shift
    assert torch.allclose(models.batch_norm(x, shift), wanted, rtol=1e-12)


def test_initialisers_are_the_authors():
    stride = models.conv4(5, filters=64).init(generator())
    bound = math.sqrt(6 / (9 * 64 + 9 * 64))
    assert bound * 0.99 < stride["conv1"].abs().max() <= bound
    assert abs(stride["head"].std() - 1) < 0.2  # 320 normal values: five standard errors
    pooled = models.conv4(5, filters=32, size=84, channels=3, pooling="max").init(generator())
    assert pooled["head"].abs().max() <= math.sqrt(6 / (800 + 5))
    linear = models.mlp(1, (40, 40), 1).init(generator())
    # Cut at two standard deviations, the standard deviation is 0.8796 of the nominal; 1,600 values, five
    # standard errors.
    assert linear["weight1"].abs().max() <= 0.02 and abs(linear["weight1"].std() / 0.01 - 0.8796) < 0.08
    zeros = [
        v
        for p in (stride, pooled, linear)
        for k, v in p.items()
        if k.startswith(("bias", "shift", "head_bias"))
    ]
    assert all(v.abs().max() == 0 for v in zeros)


def test_the_generator_decides_the_parameters():
    one, same, other = (models.conv4(5).init(generator(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one[k], same[k]) for k in one) and not torch.equal(one["head"], other["head"])


def test_the_non_convolutional_net_normalises_hidden_layers_only():
    model = models.mlp(4, (3, 2), 2, batch_norm_shifts=True)
    params = {k: v.double() for k, v in model.init(generator()).items()}
    assert model.frozen == {"shift0", "shift1"}
    x = torch.rand(5, 1, 2, 2, generator=generator(), dtype=torch.float64)
    h = x.flatten(1)
    for layer in range(2):
        h = models.batch_norm(
            h @ params[f"weight{layer}"].T + params[f"bias{layer}"], params[f"shift{layer}"]
        ).clamp(min=0)
    assert torch.allclose(model.apply(params, x), h @ params["weight2"].T + params["bias2"], rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: models.conv4(5, pooling="average"), "'stride' .* 'max'"),
        (lambda: models.conv4(5, padding="valid"), "padding='valid', but .* 'same' .* 'symmetric'"),
        (lambda: models.conv4(5, head="zeros"), "head='zeros', but .* 'normal', 'xavier'"),
        (lambda: models.conv4(5, size=8, pooling="max"), "at least 16 pixels"),
        (
            lambda: models.conv4(5).apply(models.conv4(5).init(generator()), torch.zeros(2, 1, 32, 32)),
            r"\(1, 32, 32\)",
        ),
        (
            lambda: models.mlp(1, (4,), 1).apply(models.mlp(1, (4,), 1).init(generator()), torch.zeros(2, 3)),
            "3 features",
        ),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("made", ["mlp", "stride", "max"])
def test_statistics_of_the_first_points(made):
    if made == "mlp":
        model, images = models.mlp(4, (5, 3), 2, batch_norm_shifts=True, std=0.5), torch.rand(9, 4)
    else:
        model = models.conv4(2, filters=3, size=16, pooling=made)
        images = torch.rand(9, 1, 16, 16, generator=generator(1))
    images = images.double()
    params = {k: v.double() + 0.1 for k, v in model.init(generator()).items()}
    own = model.apply(params, images[:6])
    both = model.apply(params, images, reference=6)
    assert torch.allclose(both[:6], own, rtol=1e-10)  # of themselves
    alone = model.apply(params, images[[0, 1, 2, 3, 4, 5, 8]], reference=6)
    assert torch.allclose(both[8], alone[6], rtol=1e-10)  # whoever else is there
    assert not torch.allclose(both[6:], model.apply(params, images)[6:])


def test_a_network_without_its_head():
    model = models.conv4(3, filters=4, size=8)
    params = model.init(generator())
    images = torch.rand(5, 1, 8, 8, generator=generator(1))
    body = models.without_head(model)
    assert body.init(generator()).keys() == params.keys() - {"head", "head_bias"}
    assert models.ways_of(model) == 3
    for reference in ({}, {"reference": 2}):
        features = body.apply(params, images, **reference)
        outputs = features @ params["head"].T + params["head_bias"]
        assert torch.allclose(outputs, model.apply(params, images, **reference), atol=1e-6)
    with pytest.raises(ValueError, match="no layers"):
        models.without_head(body)
