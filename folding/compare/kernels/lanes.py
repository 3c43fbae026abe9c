"""Vectors of integers for intrinsics of numba: one lane for each of several sequences.

Loops over lanes of few bytes are not vectorised by the compiler, so inter-sequence kernels write LLVM vectors: the same
source becomes AVX-512, AVX2 or NEON. Arithmetic saturates, and zero of a score is the least integer of the type, so
that scores do not fall below zero without an instruction for it.
"""

from typing import Any, Final

from numba.core import types
from numba.core.cgutils import alloca_once

VECTOR_BYTES: Final = 64


def least(bits: int) -> int:
    """Return the least signed integer of so many bits."""
    return -(1 << (bits - 1))


class Lanes:
    """Instructions on vectors of VECTOR_BYTES, of signed integers of `bits` bits, appended by `builder`."""

    def __init__(self, builder: Any, bits: int):
        from llvmlite import ir

        self.builder, self.bits, self.lanes = builder, bits, VECTOR_BYTES * 8 // bits
        self.vector = ir.VectorType(ir.IntType(bits), self.lanes)
        self.bytes = ir.VectorType(ir.IntType(8), self.lanes)
        self.index = ir.IntType(64)
        self._ir = ir

    def _call(self, name: str, a: Any, b: Any) -> Any:
        name = f"llvm.{name}.v{self.lanes}i{self.bits}"
        signature = self._ir.FunctionType(self.vector, [self.vector, self.vector])
        module = self.builder.module
        function = module.globals.get(name) or self._ir.Function(module, signature, name)
        return self.builder.call(function, [a, b])

    def add(self, a: Any, b: Any) -> Any:
        return self._call("sadd.sat", a, b)

    def subtract(self, a: Any, b: Any) -> Any:
        return self._call("ssub.sat", a, b)

    def larger(self, a: Any, b: Any) -> Any:
        return self._call("smax", a, b)

    def splat(self, value: int) -> Any:
        return self._ir.Constant(self.vector, [value] * self.lanes)

    def variable(self, value: Any) -> Any:
        """Return room for a vector that changes in a loop, with its first value."""
        room = alloca_once(self.builder, self.vector)  # type: ignore[no-untyped-call]
        self.builder.store(value, room)
        return room

    def at(self, start: Any, number: Any) -> Any:
        """Return the place of vector `number` of an array of the lanes' type that begins at `start`."""
        offset = self.builder.mul(number, self.index(self.lanes))
        return self.builder.bitcast(self.builder.gep(start, [offset]), self.vector.as_pointer())

    def load(self, place: Any) -> Any:
        return self.builder.load(place, align=1)

    def store(self, value: Any, place: Any) -> None:
        self.builder.store(value, place, align=1)


def starts_of(context: Any, builder: Any, kinds: Any, values: Any) -> list[Any]:
    """Return where the data of those arguments that are arrays begin."""
    return [
        context.make_array(kind)(context, builder, value).data
        for kind, value in zip(kinds, values, strict=True)
        if isinstance(kind, types.Array)
    ]


def length_of(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return the length of an array of one axis."""
    return builder.extract_value(context.make_array(kind)(context, builder, value).shape, 0)
