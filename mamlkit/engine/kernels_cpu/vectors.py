"""The processor's vectors in Numba: a type, and operations that each become one or two instructions.

A loop that keeps a dozen sums in registers, which Numba would not find by itself, can so be written in
Python. Vectors of numbers are added, subtracted, multiplied and compared by Python's signs; comparisons give
vectors of booleans, for ``choose``.
"""

__all__ = [
    "BYTES",
    "LANES",
    "SQUARE",
    "add_scaled",
    "bytes_like",
    "choose",
    "fetch",
    "half_of",
    "load",
    "load_bytes",
    "load_half",
    "load_some",
    "same",
    "store",
    "store_some",
    "sums_of",
    "turn_square",
    "zero",
    "zero_half",
]

import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, lower_builtin, register_model, type_callable

# of a vector: two registers of AVX2 or of AVX-512, four of NEON
BYTES = 128 if llvm.get_host_cpu_features().get("avx512f") else 64
SQUARE = 32  # bytes of a row of a square that is turned in registers: no more than half a vector
# numbers in a vector
LANES = {np.dtype(name): BYTES // np.dtype(name).itemsize for name in ("float32", "float64")}


class Vector(types.Type):
    """So many numbers, bytes or booleans."""

    def __init__(self, dtype: types.Type, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(f"Vector({dtype}, {lanes})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is what LLVM calls one."""

    def __init__(self, manager: Any, vector: Vector) -> None:
        one_bit = vector.dtype == types.boolean
        number = ir.IntType(1) if one_bit else manager.lookup(vector.dtype).get_value_type()
        super().__init__(manager, vector, ir.VectorType(number, vector.lanes))


def _of(array: types.Array) -> Vector:
    """The vector of as many of an array's numbers as the processor takes at once."""
    return Vector(array.dtype, 8 * BYTES // array.dtype.bitwidth)


def _everywhere(builder: Any, number: Any, lanes: int) -> Any:
    """A vector of one number."""
    nothing = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    one = builder.insert_element(nothing, number, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(one, nothing, zeros)


def _address(context: Any, builder: Any, signature: Any, arguments: Any, vector: Vector) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    start = builder.gep(array.data, [arguments[1]])
    return builder.bitcast(start, context.get_value_type(vector).as_pointer())


def half_of(array: types.Array) -> Vector:
    """One of half as many numbers, for the end of a row."""
    return Vector(array.dtype, _of(array).lanes // 2)


def _zero(vector: Vector) -> Callable[..., Any]:
    return lambda context, *_: ir.Constant(context.get_value_type(vector), None)


def _load(vector: Vector) -> Callable[..., Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments, vector)
        return builder.load(address, align=vector.dtype.bitwidth // 8)

    return generate


@intrinsic
def zero(_: Any, like: types.Array) -> tuple[Any, Callable[..., Any]]:
    """A vector of zeros of the type of an array."""
    return _of(like)(like), _zero(_of(like))


@intrinsic
def zero_half(_: Any, like: types.Array) -> tuple[Any, Callable[..., Any]]:
    """Half a vector of zeros."""
    return half_of(like)(like), _zero(half_of(like))


@intrinsic
def load(_: Any, array: types.Array, start: types.Integer) -> tuple[Any, Callable[..., Any]]:
    """The vector at ``array[start:]`` of a contiguous array; whether it is long enough is not checked."""
    return _of(array)(array, types.uintp), _load(_of(array))


@intrinsic
def load_half(_: Any, array: types.Array, start: types.Integer) -> tuple[Any, Callable[..., Any]]:
    """Half a vector, as :func:`load` reads a whole one."""
    return half_of(array)(array, types.uintp), _load(half_of(array))


def _masked(context: Any, builder: Any, what: str, vector: Vector, count: Any, *given: Any) -> Any:
    """LLVM's load or store of the first ``count`` numbers of a vector; the others are not touched."""
    kind, lanes, number = context.get_value_type(vector), vector.lanes, ir.IntType(32)
    places = ir.Constant(ir.VectorType(number, lanes), list(range(lanes)))
    some = builder.icmp_unsigned("<", places, _everywhere(builder, builder.trunc(count, number), lanes))
    *value, address = given
    arguments = [*value, address, number(vector.dtype.bitwidth // 8), some]
    if not value:
        arguments.append(ir.Constant(kind, None))
    returned = ir.VoidType() if value else kind
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(returned, [argument.type for argument in arguments]),
        f"llvm.masked.{what}.v{lanes}f{vector.dtype.bitwidth}.p0",
    )
    return builder.call(function, arguments)


@intrinsic
def load_some(_: Any, array: types.Array, start: types.Integer, count: types.Integer) -> Any:
    """Half a vector of ``count`` numbers at ``array[start:]``, and of zeros behind them."""
    half = half_of(array)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments, half)
        return _masked(context, builder, "load", half, arguments[2], address)

    return half(array, types.uintp, types.uintp), generate


@intrinsic
def store_some(_: Any, array: types.Array, start: types.Integer, count: types.Integer, vector: Vector) -> Any:
    """Put the first ``count`` numbers of a vector at ``array[start:]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments, vector)
        _masked(context, builder, "store", vector, arguments[2], arguments[3], address)
        return context.get_dummy_value()

    return types.void(array, types.uintp, types.uintp, vector), generate


@intrinsic
def store(_: Any, array: types.Array, start: types.Integer, vector: Vector) -> tuple[Any, Callable[..., Any]]:
    """Put a vector at ``array[start:]``, as :func:`load` reads it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments, vector)
        builder.store(arguments[2], address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.uintp, vector), generate


@intrinsic
def fetch(_: Any, array: types.Array, start: types.Integer) -> tuple[Any, Callable[..., Any]]:
    """Send for the line of the cache at ``array[start]``, wherever that is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        builder.call(prefetch, [place, number(0), number(2), number(1)])  # to read, into the second cache
        return context.get_dummy_value()

    return types.void(array, types.uintp), generate


@intrinsic
def add_scaled(_: Any, y: Vector, a: types.Float, x: Vector) -> tuple[Any, Callable[..., Any]]:
    """y + a x, in one instruction per register where the processor has it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a = _everywhere(builder, arguments[1], x.lanes)
        product = builder.fmul(a, arguments[2], flags=("contract",))
        return builder.fadd(arguments[0], product, flags=("contract",))

    return y(y, y.dtype, x), generate


@intrinsic
def sums_of(_: Any, a: Vector, b: Vector, c: Vector, d: Vector) -> tuple[Any, Callable[..., Any]]:
    """A vector of the sums of four vectors' numbers.

    Neighbours are added, of two vectors at once as long as there is more than one.
    """
    four = Vector(a.dtype, 4)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def pairs(x: Any, y: Any, lanes: int) -> Any:
            every = [
                ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(range(first, 2 * lanes, 2)))
                for first in (0, 1)
            ]
            return builder.fadd(*(builder.shuffle_vector(x, y, places) for places in every))

        a, b, c, d = arguments
        lanes = signature.args[0].lanes
        sums = pairs(pairs(a, b, lanes), pairs(c, d, lanes), lanes)
        while lanes > 4:
            lanes //= 2
            sums = pairs(sums, sums, lanes)
        return sums

    return four(a, a, a, a), generate


@intrinsic
def load_bytes(_: Any, array: types.Array, start: types.Integer, like: Vector) -> Any:
    """As many bytes at ``array[start:]`` as ``like`` has numbers."""
    vector = Vector(array.dtype, like.lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(context, builder, signature, arguments, vector), align=1)

    return vector(array, types.uintp, like), generate


@intrinsic
def bytes_like(_: Any, k: types.Integer, like: Vector) -> tuple[Any, Callable[..., Any]]:
    """A vector of as many bytes k as ``like`` has numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _everywhere(builder, builder.trunc(arguments[0], ir.IntType(8)), like.lanes)

    return Vector(types.uint8, like.lanes)(types.intp, like), generate


@intrinsic
def same(_: Any, x: Vector, k: types.Integer) -> tuple[Any, Callable[..., Any]]:
    """Which bytes are k."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        k = builder.trunc(arguments[1], ir.IntType(8))
        return builder.icmp_unsigned("==", arguments[0], _everywhere(builder, k, x.lanes))

    return Vector(types.boolean, x.lanes)(x, types.intp), generate


@intrinsic
def choose(_: Any, which: Vector, x: Vector, y: Vector) -> tuple[Any, Callable[..., Any]]:
    """x where ``which`` holds, else y; both numbers or bytes."""
    return x(which, x, x), lambda context, builder, signature, arguments: builder.select(*arguments)


@intrinsic
def turn_square(
    _: Any, source: types.Array, start: types.Integer, target: types.Array, place: types.Integer
) -> tuple[Any, Callable[..., Any]]:
    """A square of one contiguous matrix becomes one of another, with columns for rows.

    It is SQUARE bytes wide. Its first number is the matrix's ``start``-th, and ``place``-th of the other;
    whether it lies within is not checked. In each round two rows, whose indices differ in one bit, exchange
    the numbers whose columns differ in the same bit.
    """
    side = 8 * SQUARE // source.dtype.bitwidth

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = Vector(source.dtype, side)
        pointer, align = context.get_value_type(vector).as_pointer(), source.dtype.bitwidth // 8
        size = context.get_constant(types.intp, align)

        def rows(which: int) -> list[Any]:
            array = context.make_array(signature.args[which])(context, builder, arguments[which])
            first = builder.gep(array.data, [arguments[which + 1]])
            wide = builder.udiv(builder.extract_value(array.strides, 0), size)
            starts = [builder.mul(wide, context.get_constant(types.intp, row)) for row in range(side)]
            return [builder.bitcast(builder.gep(first, [start]), pointer) for start in starts]

        values = [builder.load(address, align=align) for address in rows(0)]
        bit = 1
        while bit < side:
            low = [c if not c & bit else side + c - bit for c in range(side)]
            high = [c + bit if not c & bit else side + c for c in range(side)]
            for row in range(side):
                if not row & bit:
                    pair = values[row], values[row + bit]
                    for at, columns in ((row, low), (row + bit, high)):
                        mask = ir.Constant(ir.VectorType(ir.IntType(32), side), columns)
                        values[at] = builder.shuffle_vector(*pair, mask)
            bit *= 2
        for value, address in zip(values, rows(2)):
            builder.store(value, address, align=align)
        return context.get_dummy_value()

    return types.void(source, types.uintp, target, types.uintp), generate


def _sign(sign: Callable[..., Any], gives: Callable[[Vector], Vector], generate: Callable[..., Any]) -> None:
    """Let one of Python's signs stand between two vectors."""

    @type_callable(sign)
    def typed(context: Any) -> Callable[..., Any]:
        return lambda x, y: gives(x) if isinstance(x, Vector) and x == y else None

    @lower_builtin(sign, Vector, Vector)
    def lowered(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return generate(builder, *arguments)


_itself, _boolean = lambda x: x, lambda x: Vector(types.boolean, x.lanes)
_sign(operator.add, _itself, lambda builder, x, y: builder.fadd(x, y, flags=("contract",)))
_sign(operator.sub, _itself, lambda builder, x, y: builder.fsub(x, y, flags=("contract",)))
_sign(operator.mul, _itself, lambda builder, x, y: builder.fmul(x, y, flags=("contract",)))
_sign(operator.gt, _boolean, lambda builder, x, y: builder.fcmp_ordered(">", x, y))
_sign(operator.le, _boolean, lambda builder, x, y: builder.fcmp_ordered("<=", x, y))
