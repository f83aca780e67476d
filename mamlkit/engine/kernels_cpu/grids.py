"""Small constant matrices on both sides of a grid of vectors, which stays in the processor's registers."""

__all__ = ["Matrix", "between", "turned"]

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mamlkit.engine.kernels_cpu.vectors import half_of

Matrix = Sequence[Sequence[float]]


def turned(matrix: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows become columns."""
    return [list(column) for column in zip(*matrix)]


def between(*factors: Matrix) -> Callable[..., Any]:
    """A function for loops that computes M d M', where M is the product of the factors.

    It takes an instruction for each number of a factor that is not zero, less one in each row that has a 1.
    Its arguments are five for d: an array, where in it the first half of a vector lies, how far apart the
    rows of d are and its columns, and what of d is there (bit k for row k, bit 8 + k for column k), the rest
    being zero; the same five for the result, of which only what is there is written; whether that is added to
    what stands there; and an array that begins with half a vector of zeros and one for what is written
    nowhere. Whether all lies within the arrays is not checked.
    """

    @intrinsic
    def function(
        _: Any,
        x: Any,
        start: Any,
        down: Any,
        right: Any,
        seen: Any,
        y: Any,
        place: Any,
        below: Any,
        beside: Any,
        written: Any,
        add: Any,
        aside: Any,
    ) -> tuple[Any, Callable[..., Any]]:
        vector, at = half_of(x), types.uintp

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer, align = context.get_value_type(vector).as_pointer(), vector.dtype.bitwidth // 8
            number = lambda value: context.get_constant(at, value)
            data = lambda k: context.make_array(signature.args[k])(context, builder, arguments[k]).data

            def addresses(which: int, side: int, other: int) -> list[list[Any]]:
                array, elsewhere = data(which), builder.gep(data(11), [number(other)])
                first, *steps, there = arguments[which + 1 : which + 5]
                is_there = lambda bit: builder.trunc(builder.lshr(there, number(bit)), ir.IntType(1))
                rows, columns = (
                    [(is_there(bit + k), builder.mul(step, number(k))) for k in range(side)]
                    for bit, step in zip((0, 8), steps)
                )

                def address(row: tuple[Any, Any], column: tuple[Any, Any]) -> Any:
                    own = builder.gep(array, [builder.add(first, builder.add(row[1], column[1]))])
                    own = builder.select(builder.and_(row[0], column[0]), own, elsewhere)
                    return builder.bitcast(own, pointer)

                return [[address(row, column) for column in columns] for row in rows]

            wide = len(factors[-1][0])
            grid = [[builder.load(each, align=align) for each in row] for row in addresses(0, wide, 0)]
            for _ in range(2):  # columns, then rows
                grid = turned(grid)
                for factor in reversed(factors):
                    grid = [[_sum(builder, row, values) for row in factor] for values in grid]
            for values, row in zip(grid, addresses(5, len(grid), vector.lanes)):
                for value, each in zip(values, row):
                    total = builder.fadd(value, builder.load(each, align=align))
                    builder.store(builder.select(arguments[10], total, value), each, align=align)
            return context.get_dummy_value()

        grid = at, at, at, at
        return types.void(x, *grid, y, *grid, types.boolean, aside), generate

    return function


def _sum(builder: Any, scales: Sequence[float], values: list[Any]) -> Any:
    """Of scaled vectors; it begins with one that needs no scale, if there is one."""
    total = None
    terms = [(scale, value) for scale, value in zip(scales, values) if scale]
    for scale, value in sorted(terms, key=lambda term: term[0] != 1):
        number = ir.Constant(value.type, [float(scale)] * value.type.count)
        scaled = value if scale == 1 else builder.fmul(number, value, flags=("contract",))
        total = scaled if total is None else builder.fadd(total, scaled, flags=("contract",))
    return total
