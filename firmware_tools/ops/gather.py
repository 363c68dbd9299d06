"""Rows of a table: y = table[indices], along one axis.

inputs      table of any type, indices int32; either may be a constant
outputs     y of the table's type: the axis is replaced by the indices' axes
constants   table or indices, where the file stores it
attributes  axis, batch_dims; outer, batched, rows, row_bytes, count: the sizes of the loops

An index outside the table reads its nearest row: TFLite refuses to run there, a device cannot. EMBEDDING_LOOKUP of a
table that is not quantized is the same along axis 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools.floats import as_stored, of_dtype, sorted_out, together
from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.ops.compare import same_quantization

OPERATORS = ("GATHER", "EMBEDDING_LOOKUP")
DTYPES = ("float32", "int32", "int16", "int8", "uint8", "bool")


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    table, indices = operator.inputs[:2] if operator.op == "GATHER" else operator.inputs[1::-1]
    source = of_dtype(subgraph, table, "the table", *DTYPES)
    out = of_dtype(subgraph, operator.outputs[0], "the output", source.dtype)
    index_shape = of_dtype(subgraph, indices, "the indices", "int32").shape
    if source.dtype != "float32" and not same_quantization(source, out) and source.data is None:
        raise Unsupported("the output has another scale than the table")
    axis, batch_dims = (int(str(operator.options.get(name) or 0)) for name in ("axis", "batch_dims"))
    axis += len(source.shape) if axis < 0 else 0
    batch_dims += len(index_shape) if batch_dims < 0 else 0
    shape = source.shape
    fits = 0 <= batch_dims <= min(axis, len(index_shape)) and axis < len(shape) and shape[axis] > 0
    expected = (*shape[:axis], *index_shape[batch_dims:], *shape[axis + 1 :])
    if not fits or index_shape[:batch_dims] != shape[:batch_dims] or out.shape != expected:
        raise Unsupported(f"axis {axis} and {batch_dims} batch dimensions do not fit {list(shape)}")
    attributes = {
        "axis": axis,
        "batch_dims": batch_dims,
        "batches": math.prod(shape[:batch_dims]),
        "outer": math.prod(shape[batch_dims:axis]),
        "rows": shape[axis],
        "row_bytes": math.prod(shape[axis + 1 :]) * np.dtype(source.dtype).itemsize,
        "count": math.prod(index_shape[batch_dims:]),
        "shape": out.shape,
    }
    inputs, constants = sorted_out(subgraph, {"table": table, "indices": indices})
    return Call("gather", inputs, operator.outputs, constants, attributes)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    a = call.attributes
    table, indices = together(("table", "indices"), call.constants, inputs)
    wide = table.reshape(a["batches"], a["outer"], a["rows"], -1)
    chosen = np.clip(indices, 0, a["rows"] - 1).reshape(a["batches"], 1, a["count"], 1)
    return (np.take_along_axis(wide, chosen, axis=2).reshape(a["shape"]),)


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_gather"


def layout(call: Call, features: frozenset[str]) -> dict[str, Array]:
    return as_stored(call.constants)


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a = call.attributes
    computed = [c[f"in{i}"] for i in range(len(call.inputs))]
    table, indices = together(("table", "indices"), {name: c[name] for name in call.constants}, computed)
    sizes = ", ".join(str(a[name]) for name in ("batches", "outer", "rows", "row_bytes", "count"))
    return f"edge_gather({table}, {indices}, {c['out0']}, {sizes});"
