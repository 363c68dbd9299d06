"""Bounds of a FlatBuffer: every table, vector and string is checked before it is used.

The generated accessors of the schema trust the file: an offset may point anywhere, a vector may claim any length, and
two vectors may share bytes so that a small file unfolds into a huge one. `Reader` walks with them and refuses all of
that with `Malformed`; time and memory stay proportional to the file. The rules are those of FlatBuffers' own verifier
(https://flatbuffers.dev, "Binary format").
"""

from __future__ import annotations

import functools
import math
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from firmware_tools.mapped import Bytes, Malformed, Mapped

MAX_PARTS = 500_000  # tables and numbers outside buffers in one file; the largest known models have some 50,000
READ_ERRORS = (struct.error, ValueError, IndexError, TypeError, OverflowError, MemoryError, AssertionError)

Value: TypeAlias = "bool | int | float | str | bytes | None | tuple[int | float, ...]"


class Reader:
    """Reads one FlatBuffer through generated accessor objects, counting what it reads."""

    def __init__(self, data: bytes | Mapped) -> None:
        self.data: Bytes | Mapped = data if isinstance(data, Bytes | Mapped) else Bytes(data)
        self._left = min(MAX_PARTS, 4096 + 2 * len(data))  # honest files share tables, but few of them
        self._sound: set[int] = set()  # where tables begin that have been checked

    def spend(self, parts: int) -> None:
        """Accounts for parts about to be read; Malformed once the file has unfolded into too many."""
        self._left -= parts
        if self._left < 0:
            raise Malformed("it unfolds into far more parts than its size allows")

    def table(self, table: Any) -> Any:
        """The same accessor object, its table and vtable checked to lie within the file."""
        position, size = table._tab.Pos, len(self.data)
        if position in self._sound:
            return table
        self.spend(1)
        if position % 4 or not 4 <= position <= size - 4:
            raise Malformed("a table lies outside the file")
        vtable = position - struct.unpack_from("<i", self.data, position)[0]
        if vtable % 2 or not 4 <= vtable <= size - 4:
            raise Malformed("a vtable lies outside the file")
        vtable_size, table_size = struct.unpack_from("<HH", self.data, vtable)
        if vtable_size < 4 or vtable_size % 2 or vtable + vtable_size > size:
            raise Malformed("a vtable reaches past the end of the file")
        if table_size < 4 or position + table_size > size:
            raise Malformed("a table reaches past the end of the file")
        for offset in struct.unpack_from(f"<{vtable_size // 2 - 2}H", self.data, vtable + 4):
            if offset and not 4 <= offset < table_size:
                raise Malformed("a field lies outside its table")
        self._sound.add(position)
        return table

    def tables(self, owner: Any, name: str) -> Iterator[Any]:
        """The tables of the vector that owner's accessor `name` gives; none where the vector is absent."""
        length = getattr(owner, f"{name}Length")()
        if length * 4 > len(self.data):
            raise Malformed(f"the vector {name} is longer than the file")
        self.spend(length)
        item = getattr(owner, name)
        for index in range(length):
            yield self.table(item(index))

    def numbers(self, owner: Any, name: str) -> NDArray[Any] | None:
        """A vector of numbers as a view into the file; None where it is absent. Its bytes are not accounted for."""
        vector = getattr(owner, f"{name}AsNumpy")()
        return vector if isinstance(vector, np.ndarray) else None

    def integers(self, owner: Any, name: str) -> tuple[int, ...]:
        """A short vector of integers; empty where it is absent."""
        vector = self.numbers(owner, name)
        if vector is None:
            return ()
        self.spend(vector.size)
        return tuple(vector.tolist())

    def text(self, raw: bytes | None, what: str) -> str:
        """A string of the file, which must be UTF-8; "" where it is absent."""
        if raw is None:
            return ""
        self.spend(len(raw) // 16)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise Malformed(f"{what} is not UTF-8") from None

    def fields(self, table: Any) -> dict[str, Value]:
        """Every field of a table without nested tables, by its name in the schema; absent ones have their default."""
        self.table(table)
        accessor: Any = type(table)
        return {name: self._field(table, name, method, vector) for name, method, vector in _fields(accessor)}

    def union(self, names: Mapping[int, str], kind: int, union: Any, what: str) -> dict[str, Value]:
        """The fields of the table that a union holds, by the schema's names of its kinds; {} for none."""
        if kind not in names:
            raise Malformed(f"{what} of the unknown kind {kind}")
        if names[kind] == "NONE" or union is None:
            return {}
        accessor = getattr(schema, names[kind])()
        accessor.Init(union.Bytes, union.Pos)
        return self.fields(accessor)

    def _field(self, table: Any, name: str, method: str, vector: bool) -> Value:
        if vector:
            numbers = self.numbers(table, method)
            if numbers is None:
                return None
            self.spend(numbers.size)
            if not bool(np.isfinite(numbers).all()):
                raise Malformed(f"the option {name} is not finite")
            return tuple(numbers.tolist())
        value = getattr(table, method)()
        if value is None or isinstance(value, bytes):
            return self.text(value, f"the option {name}")
        if isinstance(value, float) and not math.isfinite(value):
            raise Malformed(f"the option {name} is not finite")
        if not isinstance(value, bool | int | float):
            raise Malformed(f"the option {name} is of a kind that is not read")
        return value


def names_of(enum: Any) -> dict[int, str]:
    """The names of an enumeration of the schema, by their values."""
    return {value: name for name, value in vars(enum).items() if not name.startswith("_")}


@functools.cache
def _fields(accessor: Any) -> tuple[tuple[str, str, bool], ...]:
    """(schema name, accessor method, is a vector) of every field of a generated class."""
    names = [name for name in vars(accessor) if not name.startswith("_") and name != "Init" and "GetRootAs" not in name]
    names = [name for name in names if not re.search(r"(BufferHasIdentifier|AsNumpy|Length|IsNone)$", name)]
    return tuple((_snake(name), name, f"{name}AsNumpy" in vars(accessor)) for name in names)


def _snake(name: str) -> str:
    """KeepNumDims -> keep_num_dims, DilationWFactor -> dilation_w_factor."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def check_indices(indices: Iterable[int], count: int, what: str) -> None:
    """Malformed where one of these is not the index of one of count tensors."""
    for index in indices:
        if not 0 <= index < count:
            raise Malformed(f"{what} is tensor {index} of {count}")


def check_order(
    operators: Sequence[tuple[Sequence[int], Sequence[int]]],
    given: Collection[int],
    variables: Collection[int],
    count: int,
) -> None:
    """Malformed unless every tensor is written once and before it is read.

    operators: inputs (-1: absent) and outputs of each, in order; given: tensors that none may write; variables: those
    that may be read before they are written; count: of tensors.
    """
    writer: dict[int, int] = {}
    for index, (inputs, outputs) in enumerate(operators):
        check_indices((i for i in inputs if i != -1), count, f"an input of operator {index}")
        check_indices(outputs, count, f"an output of operator {index}")
        for output in outputs:
            if output in writer or output in given:
                raise Malformed(f"operator {index} writes tensor {output}, which is not its to write")
            writer[output] = index
    for index, (inputs, _) in enumerate(operators):
        for tensor in inputs:
            if writer.get(tensor, -1) >= index and tensor not in variables:
                raise Malformed(f"operator {index} reads tensor {tensor} before it is computed")


def check_calls(options: Iterable[Mapping[str, Any]], count: int) -> None:
    """Malformed where the options of an operator of control flow name none of count subgraphs."""
    for fields in options:
        for name, value in fields.items():
            if name.endswith(("subgraph", "subgraph_index")) and not (isinstance(value, int) and -1 <= value < count):
                raise Malformed(f"an operator calls subgraph {value!r} of {count}")
            if name == "branch_subgraph_indices" and not all(-1 <= branch < count for branch in value or ()):
                raise Malformed("an operator branches to a subgraph that is not there")
