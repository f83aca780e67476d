"""Arrays in the memory of others, which somebody else keeps for as long as they are in use.

Numba counts who uses an array, so that it is freed with its last user. For a small matrix that takes longer
than the work; for what is made here nothing is counted. The memory must come from the caller in Python, who
keeps it.
"""

__all__ = ["line", "matrix", "uncounted"]

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

Made = tuple[Any, Callable[..., Any]]


def _made(context: Any, builder: Any, kind: types.Array, start: Any, shape: list[Any]) -> Any:
    size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides = [size]
    for length in shape[:0:-1]:
        strides.insert(0, builder.mul(strides[0], length))
    array = context.make_array(kind)(context, builder)
    populate_array(array, start, shape, strides, size, meminfo=None)
    return array._getvalue()


def _contiguous(array: types.Array, axes: int) -> types.Array:
    if array.layout != "C":
        raise TypeError(f"an array of layout {array.layout}, but it must be contiguous")
    return types.Array(array.dtype, axes, "C")


@intrinsic
def uncounted(_: Any, array: types.Array) -> Made:
    """The same array, for which nothing is counted."""
    kind = _contiguous(array, array.ndim)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = context.make_array(signature.args[0])(context, builder, arguments[0])
        shape = [builder.extract_value(given.shape, axis) for axis in range(kind.ndim)]
        return _made(context, builder, kind, given.data, shape)

    return kind(array), generate


@intrinsic
def line(_: Any, array: types.Array) -> Made:
    """An array as one row."""
    kind = _contiguous(array, 1)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = context.make_array(signature.args[0])(context, builder, arguments[0])
        return _made(context, builder, kind, given.data, [given.nitems])

    return kind(array), generate


@intrinsic
def matrix(_: Any, memory: types.Array, start: Any, rows: Any, columns: Any) -> Made:
    """``[rows, columns]`` at ``memory[start:]`` of one row; whether it is long enough is not checked."""
    kind = _contiguous(memory, 2)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given = context.make_array(signature.args[0])(context, builder, arguments[0])
        return _made(context, builder, kind, builder.gep(given.data, [arguments[1]]), list(arguments[2:]))

    return kind(memory, *[types.intp] * 3), generate
