"""Rows of an int8 table as floats: y = table[indices] * scale of the row.

inputs      indices int32 [n]
outputs     y float32 [n, …]
constants   table int8 [rows, …]; scales float32 [rows]

An index outside the table reads its nearest row, as `gather` does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from firmware_tools.floats import constant, of_dtype, of_shape, scales_of
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run

OPERATORS = ("EMBEDDING_LOOKUP",)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    indices, table = operator.inputs[:2]
    rows = constant(subgraph, table, "the table", "int8")
    of_dtype(subgraph, operator.outputs[0], "the output", "float32")
    count = of_dtype(subgraph, indices, "the indices", "int32").shape
    of_shape(subgraph, operator, (*count, *rows.shape[1:]))
    scales = scales_of(subgraph.tensors[table], "the table", 0, len(rows))
    constants = {"table": rows, "scales": scales}
    return Call("embedding_lookup_hybrid", (indices,), operator.outputs, constants)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    table, scales = call.constants["table"], call.constants["scales"]
    rows = np.clip(inputs[0], 0, len(table) - 1)
    chosen = table[rows].astype(np.float32)
    return (chosen * scales[rows].reshape(rows.shape + (1,) * (table.ndim - 1)),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_embedding_lookup_hybrid"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    table = call.constants["table"]
    sizes = f"{c['in0_count']}, {len(table)}, {table[0].size}"
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, {c['table']}, {c['scales']}, {sizes});"
