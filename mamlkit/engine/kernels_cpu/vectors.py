"""The processor's vectors in Numba: a type, and four operations that each become one or two instructions.

A loop that keeps a dozen sums in registers, which Numba would not find by itself, can so be written in
Python.
"""

__all__ = ["LANES", "add_scaled", "load", "store", "zero"]

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

# of a vector: two registers of AVX2 or of AVX-512, four of NEON
BYTES = 128 if llvm.get_host_cpu_features().get("avx512f") else 64
# numbers in a vector
LANES = {np.dtype(name): BYTES // np.dtype(name).itemsize for name in ("float32", "float64")}


class Vector(types.Type):
    """So many numbers of one type."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(f"Vector({dtype})")

    @property
    def lanes(self) -> int:
        return 8 * BYTES // self.dtype.bitwidth


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is what LLVM calls one."""

    def __init__(self, manager: Any, vector: Vector) -> None:
        number = manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(number, vector.lanes))


def _address(context: Any, builder: Any, signature: Any, arguments: Any, vector: Vector) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    start = builder.gep(array.data, [arguments[1]])
    return builder.bitcast(start, context.get_value_type(vector).as_pointer())


@intrinsic
def zero(_: Any, like: types.Array) -> tuple[Any, Callable[..., Any]]:
    """A vector of zeros of the type of an array."""
    vector = Vector(like.dtype)
    return vector(like), lambda context, *_: ir.Constant(context.get_value_type(vector), None)


@intrinsic
def load(_: Any, array: types.Array, start: types.Integer) -> tuple[Any, Callable[..., Any]]:
    """The vector at ``array[start:]`` of a contiguous array; whether it is long enough is not checked."""
    vector = Vector(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments, vector)
        return builder.load(address, align=array.dtype.bitwidth // 8)

    return vector(array, types.uintp), generate


@intrinsic
def store(_: Any, array: types.Array, start: types.Integer, vector: Vector) -> tuple[Any, Callable[..., Any]]:
    """Put a vector at ``array[start:]``, as :func:`load` reads it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments, vector)
        builder.store(arguments[2], address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.uintp, vector), generate


@intrinsic
def add_scaled(_: Any, y: Vector, a: types.Float, x: Vector) -> tuple[Any, Callable[..., Any]]:
    """y + a x, in one instruction per register where the processor has it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(x)
        nothing, lanes = ir.Constant(vector, ir.Undefined), ir.VectorType(ir.IntType(32), x.lanes)
        one = builder.insert_element(nothing, arguments[1], ir.IntType(32)(0))
        everywhere = builder.shuffle_vector(one, nothing, ir.Constant(lanes, [0] * x.lanes))
        product = builder.fmul(everywhere, arguments[2], flags=("contract",))
        return builder.fadd(arguments[0], product, flags=("contract",))

    return y(y, y.dtype, x), generate
