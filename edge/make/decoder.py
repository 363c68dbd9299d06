"""The graph of a Llama-family decoder: the signatures `decode` (one token) and `prefill` (N) of docs/model-file.md.

Both are the same layers over R rows of hidden state, R being 1 or N, and over a cache of S positions: all T of the
context, or, where the cache is `open`, as many as whoever runs the graph gives it. What only the position decides (the
rows of the RoPE tables, the mask over the cache) is computed once, before the first layer, so that all that follows is
made of ops which XNNPACK takes. Shapes in comments: R rows, H query heads, G key-value heads, D head dimension, S cache
positions; those in the file have T for S.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge.make import rope
from edge.make.checkpoints import Architecture
from edge.make.quantize import Matrix
from edge.make.tflite import Subgraph

VISIBLE = np.float32(np.finfo(np.float32).max)  # MINIMUM(score, VISIBLE) leaves a score as it is,
MASKED = np.float32(-1e9)  # MINIMUM(score, MASKED) makes its probability exactly 0
# versions of FULLY_CONNECTED: int8 rows with a scale each are 12, so that older runtimes, which would take the first
# scale for all, refuse them; with one scale for all they are 3
PER_CHANNEL_VERSION, HYBRID_VERSION = 12, 3


@dataclass(frozen=True)
class Decoder:
    """What the graph is made of; `norms` are float32 [dim], `matrices` hold the keys `embedding`, `head` and, for each
    layer i, `i.qkv`, `i.o`, `i.gate_up`, `i.down`. Where the head is tied it is the same object as the embedding.
    `biases` hold what is added after a matrix, under its key, where it has one. open_cache: the cache may be given any
    length up to the context.
    """

    architecture: Architecture
    context: int
    matrices: Mapping[str, Matrix]
    norms: Mapping[str, NDArray[np.float32]]
    biases: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    open_cache: bool = False
    scaled_apart: bool = False  # for runtimes that know one scale for a matrix: that is 1, and MUL by the rows' follows


def decode_graph(decoder: Decoder) -> Subgraph:
    """One token at one position: every shape has R = 1."""
    graph = Subgraph("decode")
    token = graph.input("token", [1], np.int32)
    position = graph.input("position", [1], np.int32)
    rows = _Rows(graph, decoder, 1, position, position)
    hidden = rows.layers(rows.embedding(token))
    rows.head(hidden)
    return graph


def prefill_graph(decoder: Decoder, count: int) -> Subgraph:
    """count tokens from one position on; those from `length` on are padding and reach nothing that is used."""
    graph = Subgraph("prefill")
    tokens, position, length, positions = prefill_inputs(graph, decoder.context, count)
    graph.apart.update(range(length, positions + 1))
    rows = _Rows(graph, decoder, count, position, positions)
    hidden = rows.layers(rows.embedding(tokens))
    row = last_row(graph, length)
    chosen = rows.gather(hidden, row)
    graph.apart.update((row, chosen))
    rows.head(chosen)
    return graph


def prefill_inputs(graph: Subgraph, context: int, count: int) -> tuple[int, int, int, int]:
    """The inputs tokens, position and length, and behind these what gives the rows' positions [R], the last of all."""
    tokens = graph.input("tokens", [count], np.int32)
    position = graph.input("position", [1], np.int32)
    length = graph.input("length", [1], np.int32)
    steps = graph.constant("steps", np.arange(count, dtype=np.int32))
    last = graph.constant("last", np.array([context - 1], np.int32))
    (shifted,) = graph.add("ADD", [position, steps], [count], options=schema.AddOptionsT(), dtype=np.int32)
    # padding may lie behind the end of the context, where the RoPE tables have no row
    limit = schema.MaximumMinimumOptionsT()
    (positions,) = graph.add("MINIMUM", [shifted, last], [count], options=limit, dtype=np.int32)
    return tokens, position, length, positions


def last_row(graph: Subgraph, length: int) -> int:
    """The number of the last row that is no padding, [1]."""
    one = graph.constant("one", np.array([1], np.int32))  # RMSNorm's axis is equal and came before: not apart
    return graph.add("SUB", [length, one], [1], options=schema.SubOptionsT(), dtype=np.int32)[0]


class _Rows:
    """Builds the layers of one signature over `count` rows."""

    def __init__(self, graph: Subgraph, decoder: Decoder, count: int, position: int, positions: int) -> None:
        self.graph = graph
        self.decoder = decoder
        self.count = count
        shape = decoder.architecture
        self.heads, self.kv_heads, self.head_dim = shape.heads, shape.kv_heads, shape.head_dim
        names = [f"{side}_{layer}" for side in "kv" for layer in range(shape.layers)]
        size = self.kv_heads * decoder.context * self.head_dim
        self.caches = {name: graph.input(name, [size], np.float32, decoder.open_cache) for name in names}
        tables = rope.tables(shape, decoder.context)
        self.cos, self.sin = (
            self.gather(graph.constant(name, table), positions, name)
            for name, table in zip(("cos", "sin"), tables, strict=True)
        )
        self.wide: dict[int, int] = {}
        self.mask = self._mask(position)
        self.causal = self._causal() if count > 1 else -1

    def embedding(self, tokens: int) -> int:
        """Rows of the embedding, float32 [R, dim]; the int8 table is read by its plain values and scaled after."""
        matrix = self.decoder.matrices["embedding"]
        if matrix.scales is None:
            return self.gather(self._weights("embedding"), tokens, "x")
        values = self.gather(self.graph.constant("embedding", matrix.values), tokens, "x")
        scales = self.graph.constant("embedding_scales", matrix.scales[:, None])
        shape = self.graph.shape(values)
        cast = schema.CastOptionsT(schema.TensorType.INT8, schema.TensorType.FLOAT32)
        (values,) = self.graph.add("CAST", [values], shape, name="x", options=cast, version=3)
        return self._mul(values, self.gather(scales, tokens, "x"), "x")

    def layers(self, x: int) -> int:
        """All layers; x and the result are float32 [R, dim]."""
        for layer in range(self.decoder.architecture.layers):
            normed = self._rms_norm(x, f"{layer}.attention_norm")
            x = self._add(x, self._fully_connected(self._attention(normed, layer), f"{layer}.o"))
            normed = self._rms_norm(x, f"{layer}.ffn_norm")
            x = self._add(x, self._fully_connected(self._swiglu(normed, layer), f"{layer}.down"))
        return x

    def head(self, x: int) -> None:
        """Logits of one row x [1, dim], the first output of the signature."""
        logits = self._fully_connected(self._rms_norm(x, "final_norm"), "head")
        vocab_size = self.decoder.architecture.vocab_size
        new_rows = dict(self.graph.outputs)
        self.graph.outputs.clear()
        self.graph.output("logits", self._reshape(logits, [vocab_size], "logits"))
        self.graph.outputs.update(new_rows)

    def gather(self, table: int, rows: int, name: str = "x") -> int:
        """Rows of a table [n, columns]."""
        kept = self.graph.tensors[table]
        dtype, version = (np.int8, 2) if kept.type == schema.TensorType.INT8 else (np.float32, 1)
        shape = [self.graph.shape(rows)[0], kept.shape[1]]
        options = schema.GatherOptionsT()
        return self.graph.add("GATHER", [table, rows], shape, name=name, options=options, version=version, dtype=dtype)[
            0
        ]

    def _mask(self, position: int) -> int:
        """[S]: VISIBLE below position, MASKED from there on, for MINIMUM with the scores over the cache."""
        fixed = np.arange(self.decoder.context, dtype=np.int32)
        if not self.decoder.open_cache:
            return self._visible_where_less(self.graph.constant("slots", fixed), position, fixed.shape)[-1]
        row = self.graph.constant("row", np.array([self.kv_heads * self.head_dim], np.int32))
        options = schema.MulOptionsT()
        (limit,) = self.graph.add("MUL", [position, row], [1], name="slots", options=options, dtype=np.int32)
        return self._visible_where_less(self._places(), limit, fixed.shape)[-1]

    def _places(self) -> int:
        """[S]: 0, G * D, 2 * G * D …, by the length the cache is given; computed when LiteRT lays out memory."""
        add, integers = self.graph.add, schema.TensorType.INT32
        shape_of, first = schema.ShapeOptionsT(outType=integers), schema.StridedSliceOptionsT(shrinkAxisMask=1)
        (shape,) = add("SHAPE", [self.caches["k_0"]], [1], name="slots", options=shape_of, dtype=np.int32)
        zero, one = (self.graph.constant("slots", np.array([i], np.int32)) for i in (0, 1))
        (length,) = add("STRIDED_SLICE", [shape, zero, one, one], [], name="slots", options=first, dtype=np.int32)
        start, step = (self.graph.constant("slots", np.array(i, np.int32)) for i in (0, self.kv_heads * self.head_dim))
        ranged = schema.RangeOptionsT()
        return add(
            "RANGE", [start, length, step], [self.decoder.context], name="slots", options=ranged, dtype=np.int32
        )[0]

    def _cached(self, cache: str, name: str) -> int:
        """A cache as [G, S, D]."""
        shape = [self.kv_heads, self.decoder.context, self.head_dim]
        return self._reshape(self.caches[cache], shape, name, open_axis=1 if self.decoder.open_cache else None)

    def _causal(self) -> int:
        """[H / G * R, R]: a new row sees itself and the new rows before it."""
        shared = self.heads // self.kv_heads
        steps = self.graph.constant("steps", np.arange(self.count, dtype=np.int32))
        after = self.graph.constant("after", np.tile(np.arange(1, self.count + 1, dtype=np.int32), shared)[:, None])
        made = self._visible_where_less(steps, after, [shared * self.count, self.count])
        self.graph.apart.update((after, *made))
        return made[-1]

    def _visible_where_less(self, a: int, b: int, shape: Sequence[int]) -> tuple[int, int]:
        """Where a < b, and VISIBLE there, MASKED elsewhere."""
        visible = self.graph.constant("visible", np.array([VISIBLE]))
        masked = self.graph.constant("masked", np.array([MASKED]))
        less, select = schema.LessOptionsT(), schema.SelectV2OptionsT()
        (where,) = self.graph.add("LESS", [a, b], shape, name="mask", options=less, dtype=np.bool_)
        return where, self.graph.add("SELECT_V2", [where, visible, masked], shape, name="mask", options=select)[0]

    def _rms_norm(self, x: int, key: str) -> int:
        """x / sqrt(mean(x^2) + epsilon) * gain, by rows (Zhang and Sennrich, 2019)."""
        rows = self.graph.shape(x)[0]
        squares = self._mul(x, x, "norm")
        axis = self.graph.constant("axis", np.array([1], np.int32))
        keep = schema.ReducerOptionsT(keepDims=True)
        (mean,) = self.graph.add("MEAN", [squares, axis], [rows, 1], name="norm", options=keep)
        epsilon = self.graph.constant("epsilon", np.array([self.decoder.architecture.norm_eps], np.float32))
        (inverse,) = self.graph.add("RSQRT", [self._add(mean, epsilon, "norm")], [rows, 1], name="norm")
        return self._mul(self._mul(x, inverse, "norm"), self.graph.constant(key, self.decoder.norms[key]), "norm")

    def _attention(self, x: int, layer: int) -> int:
        """Softmax attention over the cache and the new rows; x [R, dim] -> [R, H * D]."""
        heads, groups, head_dim, rows = self.heads, self.kv_heads, self.head_dim, self.count
        qkv = self._to_heads(self._fully_connected(x, f"{layer}.qkv"), heads + 2 * groups)
        query_key = self._rope(self._slice(qkv, 0, 0, heads + groups, "qk"))
        query = self._slice(query_key, 0, 0, heads, "q")
        keys = self._slice(query_key, 0, heads, groups, "k")
        values = self._slice(qkv, 0, heads + groups, groups, "v")
        self.graph.output(f"k_new_{layer}", self._reshape(keys, [groups * rows * head_dim], "k_new"))
        self.graph.output(f"v_new_{layer}", self._reshape(values, [groups * rows * head_dim], "v_new"))
        # query heads that share a key head lie side by side: [H, R, D] is [G, H / G * R, D]
        query = self._reshape(query, [groups, heads // groups * rows, head_dim], "q")
        scale = self.graph.constant("scale", np.array([1 / np.sqrt(head_dim)], np.float32))
        mixed = self._attend(self._mul(query, scale, "q"), layer, keys, values)
        return self._from_heads(mixed)

    def _attend(self, query: int, layer: int, keys: int, values: int) -> int:
        """query [G, H / G * R, D], keys and values of the new rows [G, R, D] -> [G, H / G * R, D]."""
        old_keys, old_values = self._cached(f"k_{layer}", "k_old"), self._cached(f"v_{layer}", "v_old")
        old = self._minimum(self._matmul(query, old_keys, "scores", transposed=True), self.mask)
        new = self._matmul(query, keys, "scores", transposed=True)
        if self.count > 1:
            new = self._apart(self._minimum(new, self.causal))
        probabilities = self._softmax(self._concatenate(old, new, "scores"))
        old = self._matmul(self._of_old(probabilities), old_values, "mix")
        new = self._matmul(self._of_new(probabilities), values, "mix")
        return self._add(old, new, "mix")

    def _of_old(self, probabilities: int) -> int:
        """Those of the cache, of [G, H / G * R, S + R]."""
        if self.decoder.open_cache:
            return self._cut(probabilities, 0, -self.count, self.decoder.context, "p_old")
        return self._slice(probabilities, 2, 0, self.decoder.context, "p_old")

    def _of_new(self, probabilities: int) -> int:
        """Those of the new rows, which are the last R."""
        if self.decoder.open_cache:
            return self._cut(probabilities, -self.count, 0, self.count, "p_new")
        return self._slice(probabilities, 2, self.decoder.context, self.count, "p_new")

    def _cut(self, x: int, begin: int, end: int, count: int, name: str) -> int:
        """x[:, :, begin:end], both counted from the end of an axis of open length; 0 is its beginning or its end."""
        ends = [self.graph.constant(name, np.array([0, 0, place], np.int32)) for place in (begin, end)]
        step = self.graph.constant("step", np.ones(3, np.int32))
        whole, cut = 0b011, 0b100  # bits of axes: those of a mask begin or end where the axis does
        options = schema.StridedSliceOptionsT(
            beginMask=whole | (0 if begin else cut), endMask=whole | (0 if end else cut)
        )
        shape = [*self.graph.shape(x)[:2], count]
        return self.graph.add("STRIDED_SLICE", [x, *ends, step], shape, name=name, options=options)[0]

    def _to_heads(self, x: int, heads: int) -> int:
        """[R, heads * D] -> [heads, R, D]."""
        if self.count == 1:
            return self._reshape(x, [heads, 1, self.head_dim], "qkv")
        return self._swap(self._apart(self._reshape(x, [self.count, heads, self.head_dim], "qkv")), "qkv")

    def _from_heads(self, x: int) -> int:
        """[G, H / G * R, D] -> [R, H * D]."""
        if self.count > 1:
            x = self._apart(self._reshape(x, [self.heads, self.count, self.head_dim], "mix"))
            x = self._apart(self._swap(x, "mix"))
        return self._reshape(x, [self.count, self.heads * self.head_dim], "mix")

    def _apart(self, tensor: int) -> int:
        """The tensor, as one that the other signature does not have."""
        self.graph.apart.add(tensor)
        return tensor

    def _rope(self, x: int) -> int:
        """Rotates the pairs (i, i + D / 2) of x [heads, R, D] by the angles of the rows' positions."""
        first, second = self._halves(x, 2, "rope")
        sub = schema.SubOptionsT()
        left, right = self._mul(first, self.cos, "rope"), self._mul(second, self.sin, "rope")
        (low,) = self.graph.add("SUB", [left, right], self.graph.shape(first), name="rope", options=sub)
        high = self._add(self._mul(second, self.cos, "rope"), self._mul(first, self.sin, "rope"), "rope")
        return self._concatenate(low, high, "rope")

    def _swiglu(self, x: int, layer: int) -> int:
        """silu(gate) * up of x [R, dim] -> [R, hidden] (Shazeer, 2020)."""
        gate, up = self._halves(self._fully_connected(x, f"{layer}.gate_up"), 1, "gate_up")
        (sigmoid,) = self.graph.add("LOGISTIC", [gate], self.graph.shape(gate), name="silu")
        return self._mul(self._mul(gate, sigmoid, "silu"), up, "silu")

    def _fully_connected(self, x: int, key: str) -> int:
        matrix = self.decoder.matrices[key]
        if matrix.scales is not None and self.decoder.scaled_apart:
            ones = np.ones(1, np.float32)
            plain = self._product(x, key, self.graph.constant(key, matrix.values, ones), -1, HYBRID_VERSION)
            scaled = self._mul(plain, self.graph.constant(f"{key}_scales", matrix.scales), key)
            bias = self._bias(key)
            return scaled if bias < 0 else self._add(scaled, bias, key)
        version = 1 if matrix.scales is None else PER_CHANNEL_VERSION
        y = self._product(x, key, self._weights(key), self._bias(key), version)
        return y if matrix.offsets is None else self._add(y, self._offset_product(x, key, matrix.offsets), key)

    def _offset_product(self, x: int, key: str, offsets: NDArray[Any]) -> int:
        """What the offsets of blocks add to a product: the sums of the blocks of x, times the offsets."""
        rows, columns = self.graph.shape(x)
        blocks = offsets.shape[1]
        parts = self._reshape(x, [rows, blocks, columns // blocks], "blocks")
        if rows > 1:
            self._apart(parts)
        axis = self.graph.constant("axis", np.array([2], np.int32))
        (sums,) = self.graph.add("SUM", [parts, axis], [rows, blocks], name="blocks", options=schema.ReducerOptionsT())
        stored = self._widened(self.graph.constant(f"{key}_offsets", offsets), key)
        return self._product(sums, key, stored, -1, 1)

    def _bias(self, key: str) -> int:
        """What is added to a matrix's product; -1 where that is nothing."""
        bias = self.decoder.biases.get(key)
        return -1 if bias is None else self.graph.constant(f"{key}_bias", bias)

    def _weights(self, key: str) -> int:
        """The matrix as float32, whatever it is stored in, or as integers with their scales."""
        matrix = self.decoder.matrices[key]
        if matrix.bits == 4 and matrix.scales is not None:
            return self.graph.constant_int4(key, matrix.values, matrix.scales)
        stored = self.graph.constant(key, matrix.values, matrix.scales)
        return self._widened(stored, key) if matrix.values.dtype == np.float16 else stored

    def _widened(self, stored: int, key: str) -> int:
        """A float16 constant as float32; equal ones are widened once, when LiteRT loads the file."""
        if stored not in self.wide:
            options = schema.DequantizeOptionsT()
            (self.wide[stored],) = self.graph.add(
                "DEQUANTIZE", [stored], self.graph.shape(stored), name=key, options=options
            )
        return self.wide[stored]

    def _product(self, x: int, key: str, weights: int, bias: int, version: int) -> int:
        shape = [self.graph.shape(x)[0], self.graph.shape(weights)[0]]
        options = schema.FullyConnectedOptionsT()
        inputs = [x, weights, bias]
        return self.graph.add("FULLY_CONNECTED", inputs, shape, name=key, options=options, version=version)[0]

    def _matmul(self, a: int, b: int, name: str, transposed: bool = False) -> int:
        columns = self.graph.shape(b)[1 if transposed else 2]
        options = schema.BatchMatMulOptionsT(adjY=transposed)
        return self.graph.add("BATCH_MATMUL", [a, b], [*self.graph.shape(a)[:2], columns], name=name, options=options)[
            0
        ]

    def _softmax(self, x: int) -> int:
        return self.graph.add("SOFTMAX", [x], self.graph.shape(x), name="p", options=schema.SoftmaxOptionsT(beta=1.0))[
            0
        ]

    def _halves(self, x: int, axis: int, name: str) -> tuple[int, int]:
        shape = list(self.graph.shape(x))
        shape[axis] //= 2
        where = self.graph.constant("axis", np.array(axis, np.int32))
        options = schema.SplitOptionsT(numSplits=2)
        first, second = self.graph.add("SPLIT", [where, x], shape, shape, name=name, options=options)
        return first, second

    def _slice(self, x: int, axis: int, start: int, count: int, name: str) -> int:
        shape = list(self.graph.shape(x))
        begin = [0] * len(shape)
        shape[axis], begin[axis] = count, start
        where = self.graph.constant("begin", np.array(begin, np.int32))
        size = self.graph.constant("size", np.array(shape, np.int32))
        return self.graph.add("SLICE", [x, where, size], shape, name=name, options=schema.SliceOptionsT())[0]

    def _concatenate(self, a: int, b: int, name: str) -> int:
        shape = list(self.graph.shape(a))
        shape[-1] += self.graph.shape(b)[-1]
        options = schema.ConcatenationOptionsT(axis=len(shape) - 1)
        return self.graph.add("CONCATENATION", [a, b], shape, name=name, options=options)[0]

    def _reshape(self, x: int, shape: Sequence[int], name: str, open_axis: int | None = None) -> int:
        """open_axis: the axis that has what is left, where x may have another length."""
        options = schema.ReshapeOptionsT(newShape=[-1 if i == open_axis else size for i, size in enumerate(shape)])
        return self.graph.add("RESHAPE", [x], shape, name=name, options=options)[0]

    def _swap(self, x: int, name: str) -> int:
        """Exchanges the first two of three axes."""
        order = self._apart(self.graph.constant("order", np.array([1, 0, 2], np.int32)))
        first, second, third = self.graph.shape(x)
        shape = [second, first, third]
        return self.graph.add("TRANSPOSE", [x, order], shape, name=name, options=schema.TransposeOptionsT())[0]

    def _mul(self, a: int, b: int, name: str) -> int:
        return self._elementwise("MUL", a, b, name, schema.MulOptionsT())

    def _add(self, a: int, b: int, name: str = "x") -> int:
        return self._elementwise("ADD", a, b, name, schema.AddOptionsT())

    def _minimum(self, a: int, b: int) -> int:
        return self._elementwise("MINIMUM", a, b, "scores", schema.MaximumMinimumOptionsT())

    def _elementwise(self, kind: str, a: int, b: int, name: str, options: Any) -> int:
        """b broadcasts to the shape of a."""
        return self.graph.add(kind, [a, b], self.graph.shape(a), name=name, options=options)[0]
