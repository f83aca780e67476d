"""The engine's inner loops on a CPU, compiled by Numba: each reads memory once and does all it can there.

Same functions as :mod:`mamlkit.engine.kernels_torch`, and the whole recursion for networks of plain layers.
"""

__all__ = [
    "add_product",
    "input_gradient",
    "memory",
    "normalise",
    "normalise_backward",
    "normalise_tangent",
    "normalise_tangent_backward",
    "one_step",
    "plans",
    "product",
    "records",
    "recursion",
    "updates",
    "weight_gradient",
]

from mamlkit.engine.kernels_cpu import memory, one_step, plans, records, recursion, updates
from mamlkit.engine.kernels_cpu.convolution import input_gradient, product, weight_gradient
from mamlkit.engine.kernels_cpu.normalisation import (
    normalise,
    normalise_backward,
    normalise_tangent,
    normalise_tangent_backward,
)
from mamlkit.engine.kernels_cpu.products import add_product
