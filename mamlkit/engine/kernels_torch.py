"""The engine's inner loops as PyTorch operations, for a GPU.

They are the same functions as in :mod:`mamlkit.engine.kernels_cpu`. Every task of a chunk at once; what form
a convolution has, :mod:`mamlkit.engine.convolutions` says.
"""

__all__ = [
    "add_product",
    "input_gradient",
    "normalise",
    "normalise_backward",
    "normalise_tangent",
    "normalise_tangent_backward",
    "product",
    "weight_gradient",
]

import torch
import torch.nn.functional as F
from torch import Tensor

from mamlkit.engine.convolutions import input_gradient, product, weight_gradient
from mamlkit.models import BATCH_NORM_EPS

PIXELS = (1, 2, 3)  # axes that batch normalisation averages over


def add_product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """See :func:`mamlkit.engine.kernels_cpu.add_product`."""
    return a @ b if out is None else out.baddbmm_(a, b.expand(len(a), *b.shape[-2:]))


def _windows(x: Tensor, pool: int) -> Tensor:
    """Pixels of each window: ``[tasks, points, height / pool, width / pool, channels, pool * pool]``."""
    height, width = (size // pool * pool for size in x.shape[2:4])
    x = x[:, :, :height, :width].unflatten(3, (-1, pool)).unflatten(2, (-1, pool))
    return x.permute(0, 1, 2, 4, 6, 3, 5).flatten(-2)


def _spread(d: Tensor, where: Tensor, pool: int, like: Tensor) -> Tensor:
    """Adjoint of picking the maximum: d at its pixel if the unit is active, zero elsewhere."""
    k = torch.arange(pool * pool, device=d.device)
    parts = d[..., None].masked_fill(where[..., None] != k, 0).unflatten(-1, (pool, pool))
    image = parts.permute(0, 1, 2, 5, 3, 6, 4).flatten(4, 5).flatten(2, 3)
    return F.pad(image, (0, 0, 0, like.shape[3] - image.shape[3], 0, like.shape[2] - image.shape[2]))


def _pick(x: Tensor, where: Tensor, pool: int) -> Tensor:
    """x where the maximum was if the unit is active, else zero."""
    k = torch.arange(pool * pool, device=x.device)
    return _windows(x, pool).masked_fill(where[..., None] != k, 0).sum(-1)


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _project(a: Tensor, n: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """The derivative of normalisation, which is symmetric: r (a - mean a - n mean(n a)), and mean(n a)."""
    along = (n * a).mean(PIXELS)
    return _wide(r) * (a - _wide(a.mean(PIXELS)) - n * _wide(along)), along


def normalise(
    z: Tensor, shift: Tensor, pool: int, first: int | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See :func:`mamlkit.engine.kernels_cpu.normalise`; here n and r are kept for z and what is known."""
    variance, mean = torch.var_mean(z[:, :first], PIXELS, correction=0)
    r = torch.rsqrt(variance + BATCH_NORM_EPS)
    n = (z - _wide(mean)) * _wide(r)
    largest, where = _windows(n, pool).max(-1)
    y = largest + shift
    return F.relu(y), n, r, where.masked_fill(y <= 0, 255).to(torch.uint8)


def normalise_backward(
    d: Tensor, y: Tensor, n: Tensor, r: Tensor, where: Tensor, shift: Tensor, pool: int, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`mamlkit.engine.kernels_cpu.normalise_backward`."""
    d = _spread(d, where, pool, n)
    dz, mean_nd = _project(d, n, r)
    return dz, d.sum(PIXELS), mean_nd * n[0, ..., 0].numel()


def normalise_tangent(
    z_dot: Tensor, dz: Tensor, y: Tensor, n: Tensor, r: Tensor, where: Tensor, shift: Tensor, pool: int
) -> tuple[Tensor, ...]:
    """See :func:`mamlkit.engine.kernels_cpu.normalise_tangent`, with n_dot for z_dot."""
    n_dot, mean_nz = _project(z_dot, n, r)
    return _pick(n_dot, where, pool), n_dot, mean_nz, (dz * z_dot).sum(PIXELS)


def normalise_tangent_backward(
    d_dot: Tensor,
    y: Tensor,
    n: Tensor,
    n_dot: Tensor,
    dz: Tensor,
    r: Tensor,
    sum_nd: Tensor,
    mean_nz: Tensor,
    sum_dzz: Tensor,
    where: Tensor,
    shift: Tensor,
    pool: int,
) -> tuple[Tensor, Tensor]:
    """See :func:`mamlkit.engine.kernels_cpu.normalise_tangent_backward`."""
    pixels = n[0, ..., 0].numel()
    d_dot = _spread(d_dot, where, pool, n)
    main, _ = _project(d_dot, n, r)
    turned = n_dot * _wide(sum_nd / pixels) + n * _wide(sum_dzz / pixels)
    return main - _wide(r) * turned - _wide(r * mean_nz) * dz, d_dot.sum(PIXELS)
