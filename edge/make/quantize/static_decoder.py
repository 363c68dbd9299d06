"""The graph of decoder.py over integers: every activation lies on a grid that was chosen when it was calibrated.

The border is docs/model-file.md's, float32: the caches are quantized as they come in, new rows and logits are
dequantized as they go out. How many bits an activation has is the plan's choice alone; where two that meet have
different ones, QUANTIZE stands between them. Letters as in decoder.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge.make import rope
from edge.make.checkpoints import Architecture
from edge.make.decoder import last_row, prefill_inputs
from edge.make.quantize import Matrix
from edge.make.quantize.integers import Grid, Integers, grid_of
from edge.make.tflite import Subgraph

FINER = 8  # steps of swiglu's fine grid in one of the coarse one, where it has 8 bits
GAP = 20.0  # a score so far below the largest of its row counts as nothing: exp(-20) is 2e-9


@dataclass(frozen=True)
class StaticDecoder:
    """What the graph is made of.

    matrices: int8 with scales, `embedding`, `head`, and of each layer i `i.q`, `i.k`, `i.v`, `i.o`, `i.gate`, `i.up`,
    `i.down`; biases of these, where they have one; q holds the factor 1 / sqrt(D). gains: of the norms, float32 [dim],
    times sqrt(dim). centers: of each layer i whose keys have 8 bits, float32 [G, D]: what they are relative to (softmax
    does not see it). grids: one for each activation, as activations.py names them.
    """

    architecture: Architecture
    context: int
    matrices: Mapping[str, Matrix]
    biases: Mapping[str, NDArray[np.float32]]
    gains: Mapping[str, NDArray[np.float32]]
    centers: Mapping[int, NDArray[np.float32]]
    grids: Mapping[str, Grid]


def reach(scores: Grid, query: Grid, key: Grid) -> tuple[int, float, float]:
    """How many columns of a key's furthest value take any score off a product; a score's factor there; that value."""
    end = max(((level - key.zero_point) * float(key.scale) for level in key.levels), key=abs)
    far = max(abs(level - scores.zero_point) for level in scores.levels) * float(scores.scale)
    near = min(abs(level - query.zero_point) for level in query.levels) * float(query.scale)
    columns = max(1, int(np.ceil(far / max(near * abs(end), 1e-30))))
    return columns, -1 / (columns * end), end


def decode_graph(decoder: StaticDecoder) -> Subgraph:
    """One token at one position."""
    graph = Subgraph("decode")
    token = graph.input("token", [1], np.int32)
    position = graph.input("position", [1], np.int32)
    rows = _Rows(graph, decoder, 1, position, position)
    rows.head(rows.layers(rows.embedding(token)))
    return graph


def prefill_graph(decoder: StaticDecoder, count: int) -> Subgraph:
    """count tokens from one position on; those from `length` on are padding and reach nothing that is used."""
    graph = Subgraph("prefill")
    tokens, position, length, positions = prefill_inputs(graph, decoder.context, count)
    rows = _Rows(graph, decoder, count, position, positions)
    hidden = rows.layers(rows.embedding(tokens))
    rows.head(rows.ops.gather(hidden, last_row(graph, length), "x"))
    return graph


class _Rows:
    """Builds the layers of one signature over `count` rows."""

    def __init__(self, graph: Subgraph, decoder: StaticDecoder, count: int, position: int, positions: int) -> None:
        self.graph = graph
        self.decoder = decoder
        self.grids = decoder.grids
        self.ops = Integers(graph)
        self.count = count
        shape = decoder.architecture
        self.heads, self.kv_heads, self.head_dim = shape.heads, shape.kv_heads, shape.head_dim
        names = [f"{side}_{layer}" for side in "kv" for layer in range(shape.layers)]
        size = self.kv_heads * decoder.context * self.head_dim
        self.caches = {name: graph.input(name, [size], np.float32) for name in names}
        self.turns = self._turns(positions)
        slots = graph.constant("slots", np.arange(decoder.context, dtype=np.int32))
        self.cached = self._less(slots, position, [decoder.context])
        shared = self.heads // self.kv_heads
        steps = graph.constant("steps", np.arange(count, dtype=np.int32))
        after = graph.constant("after", np.tile(np.arange(1, count + 1, dtype=np.int32), shared)[:, None])
        self.causal = self._less(steps, after, [shared * count, count]) if count > 1 else -1
        self.masks: dict[tuple[int, Grid], int] = {}
        self.narrow: dict[int, Grid] = {}  # int16 tensors that matrices of 8 bits read too, and the grid for them

    def _turns(self, positions: int) -> int:
        """[R, D, D]: the matrices [c s; -s c] that turn a head, a row vector, by the angles of the rows' positions."""
        size, grid = self.head_dim, self.grids["turn"]
        cos, sin = rope.tables(self.decoder.architecture, self.decoder.context)
        half = np.eye(size // 2)
        parts = []
        for name, table, places in (
            ("cos", np.concatenate([cos, cos], axis=1), np.kron(np.eye(2), half)),
            ("sin", np.concatenate([sin, sin], axis=1), np.kron(np.array([[0, 1], [-1, 0]]), half)),
        ):
            rows = self.ops.gather(self.ops.constant(name, table, grid), positions, name)
            rows = self.ops.reshape(rows, [self.count, size, 1], name)
            parts.append((rows, self.ops.constant(f"{name}_places", places[None], Grid(grid.bits, np.float32(1)))))
        return self._turned_parts(parts, grid)

    def _turned_parts(self, parts: Sequence[tuple[int, int]], grid: Grid) -> int:
        """Each table's values in their places of the matrices, together; exact, as every place has one of them."""
        shape = [self.count, self.head_dim, self.head_dim]
        made = [
            self.ops.add("MUL", [places, rows], shape, grid, "turn", schema.MulOptionsT()) for rows, places in parts
        ]
        return self.ops.elementwise("ADD", made[0], made[1], grid, "turn")

    def _less(self, a: int, b: int, shape: Sequence[int]) -> int:
        options = schema.LessOptionsT()
        return self.graph.add("LESS", [a, b], shape, name="mask", options=options, dtype=np.bool_)[0]

    def embedding(self, tokens: int) -> int:
        """Rows of the embedding [R, dim]: plain values of a table that the head may share, times the row's scale."""
        matrix, grid = self.decoder.matrices["embedding"], self.grids["embedding"]
        assert matrix.scales is not None
        table = self.ops.constant("embedding", matrix.values, Grid(8, np.float32(1)))
        scales = self.ops.constant("embedding_scales", matrix.scales[:, None], self.grids["embedding_scales"])
        values = self.ops.gather(table, tokens, "x")
        return self.ops.elementwise("MUL", values, self.ops.gather(scales, tokens, "x"), grid, "x")

    def layers(self, x: int) -> int:
        for layer in range(self.decoder.architecture.layers):
            attended = self._project(self._attention(self._norm(x, f"{layer}.attention_norm"), layer), f"{layer}.o")
            x = self._add(x, attended, f"{layer}.attention_residual")
            down = self._feed_forward(self._norm(x, f"{layer}.ffn_norm"), layer)
            x = self._add(x, down, f"{layer}.ffn_residual")
        return x

    def head(self, x: int) -> None:
        """Logits of one row x [1, dim], the first output of the signature."""
        logits = self._project(self._norm(x, "final_norm"), "head")
        flat = self.ops.reshape(logits, [self.decoder.architecture.vocab_size], "logits")
        new_rows = dict(self.graph.outputs)
        self.graph.outputs.clear()
        self.graph.output("logits", self.ops.floats(flat, "logits"))
        self.graph.outputs.update(new_rows)

    def _project(self, x: int, key: str) -> int:
        """x times a matrix; x goes in with as many bits as the result has."""
        grid = self.grids[key]
        if grid.bits == 8:
            x = self.ops.to(x, self.narrow.get(x, self.ops.grids[x]), key)
        return self.ops.fully_connected(x, self.decoder.matrices[key], self.decoder.biases.get(key), grid, key)

    def _add(self, a: int, b: int, key: str) -> int:
        return self.ops.elementwise("ADD", a, b, self.grids[key], "x")

    def _norm(self, x: int, key: str) -> int:
        """x / |x| * gain, by rows; the sum of squares is a row's product with itself, in one accumulator."""
        rows, dim = self.graph.shape(x)
        row = self.ops.reshape(x, [rows, 1, dim], "norm")
        squares = self.ops.matmul(row, row, self.grids[f"{key}.squares"], "norm", transposed=True)
        inverse = self.ops.unary("RSQRT", squares, self.grids[f"{key}.inverse"], "norm")
        inverse = self.ops.reshape(inverse, [rows, 1], "norm")
        unit = self.ops.elementwise("MUL", x, inverse, self.grids[f"{key}.unit"], "norm")
        gain = self.decoder.gains[key]
        largest = float(np.abs(gain).max())
        gains = self.ops.constant(key, gain, grid_of(-largest, largest, self.grids[f"{key}.unit"].bits))
        normed = self.ops.elementwise("MUL", unit, gains, self.grids[key], "norm")
        if f"{key}.narrow" in self.grids:
            self.narrow[normed] = self.grids[f"{key}.narrow"]
        return normed

    def _attention(self, x: int, layer: int) -> int:
        """Softmax attention over the cache and the new rows; x [R, dim] -> [R, H * D]."""
        groups, rows, head_dim = self.kv_heads, self.count, self.head_dim
        query = self._by_head(self._turned(self._project(x, f"{layer}.q"), f"{layer}.query"))
        keys = self._by_head(self._keys(self._project(x, f"{layer}.k"), layer))
        values = self._by_head(self._rows_of_heads(self._project(x, f"{layer}.v")))
        self._new_rows(f"k_new_{layer}", keys)
        self._new_rows(f"v_new_{layer}", values)
        # query heads that share a key head lie side by side: [H, R, D] is [G, H / G * R, D]
        query = self.ops.reshape(query, [groups, self.heads // groups * rows, head_dim], "q")
        mixed = self._attend(query, keys, values, layer)
        if rows > 1:
            mixed = self.ops.swap(self.ops.reshape(mixed, [self.heads, rows, head_dim], "mix"), "mix")
        return self.ops.reshape(mixed, [rows, self.heads * head_dim], "mix")

    def _rows_of_heads(self, x: int) -> int:
        """[R, heads * D] -> [R, heads, D]."""
        rows, size = self.graph.shape(x)
        return self.ops.reshape(x, [rows, size // self.head_dim, self.head_dim], "heads")

    def _turned(self, x: int, key: str) -> int:
        """RoPE of x [R, heads * D] as one product a row: [R, heads, D]."""
        return self.ops.matmul(self._rows_of_heads(x), self.turns, self.grids[key], "rope")

    def _keys(self, x: int, layer: int) -> int:
        """RoPE of the keys, less their center.

        The center is subtracted inside the product, where numbers are wide: each head's row gets a one-hot of the
        heads behind it, each matrix that turns gets the centers as rows below it.
        """
        if layer not in self.decoder.centers:
            return self._turned(x, f"{layer}.key")
        centers, grid = self.decoder.centers[layer], self.ops.grids[x]
        ends = [(level - grid.zero_point) * float(grid.scale) for level in grid.levels]
        end = max(ends, key=abs)
        hot = np.tile(end * np.eye(self.kv_heads), (self.count, 1, 1))
        rows = self.ops.concatenate(self._rows_of_heads(x), self.ops.constant("hot", hot, grid), "rope")
        below = np.tile(-centers / end, (self.count, 1, 1))
        turns = self.ops.concatenate(self.turns, self.ops.constant("center", below, self.grids["turn"]), "rope", 1)
        return self.ops.matmul(rows, turns, self.grids[f"{layer}.key"], "rope")

    def _by_head(self, x: int) -> int:
        """[R, heads, D] -> [heads, R, D]."""
        rows, heads, size = self.graph.shape(x)
        return self.ops.reshape(x, [heads, 1, size], "heads") if rows == 1 else self.ops.swap(x, "heads")

    def _new_rows(self, name: str, rows: int) -> None:
        flat = self.ops.reshape(rows, [int(np.prod(self.graph.shape(rows)))], name)
        self.graph.output(name, self.ops.floats(flat, name))

    def _cache(self, name: str, grid: Grid) -> int:
        """A cache [G, T, D] on the grid of the new rows."""
        numbers = self.ops.to(self.caches[name], grid, name)
        return self.ops.reshape(numbers, [self.kv_heads, self.decoder.context, self.head_dim], name)

    def _attend(self, query: int, keys: int, values: int, layer: int) -> int:
        """query [G, H / G * R, D], keys and values of the new rows [G, R, D] -> [G, H / G * R, D]."""
        context, ops = self.decoder.context, self.ops
        old_keys = self._cache(f"k_{layer}", self.grids[f"{layer}.key"])
        old_values = self._cache(f"v_{layer}", self.grids[f"{layer}.v"])
        probabilities = self._probabilities(query, old_keys, keys, layer)
        grid = self.grids[f"{layer}.mix"]
        old = ops.matmul(ops.slice(probabilities, 2, 0, context, "p"), old_values, grid, "mix")
        new = ops.matmul(ops.slice(probabilities, 2, context, self.count, "p"), values, grid, "mix")
        return ops.elementwise("ADD", old, new, grid, "mix")

    def _scores(self, query: int, old: int, new: int, grid: Grid) -> int:
        """[G, H / G * R, T + R]: of the cache and of the new rows, the lowest number where nothing is to be seen."""
        old_scores = self.ops.matmul(query, old, grid, "scores", transposed=True)
        old_scores = self.ops.limited("MINIMUM", old_scores, self._mask(self.cached, grid), "scores")
        new_scores = self.ops.matmul(query, new, grid, "scores", transposed=True)
        if self.count > 1:
            new_scores = self.ops.limited("MINIMUM", new_scores, self._mask(self.causal, grid), "scores")
        return self.ops.concatenate(old_scores, new_scores, "scores")

    def _mask(self, where: int, grid: Grid) -> int:
        """The highest number where there is something to see, the lowest elsewhere."""
        if (where, grid) not in self.masks:
            low, high = (
                self.ops.constant("mask", np.array([level - grid.zero_point]) * grid.scale, grid)
                for level in grid.levels
            )
            options = schema.SelectV2OptionsT()
            shape = self.graph.shape(where)
            self.masks[where, grid] = self.ops.add("SELECT_V2", [where, high, low], shape, grid, "mask", options)
        return self.masks[where, grid]

    def _probabilities(self, query: int, old: int, new: int, layer: int) -> int:
        """Softmax of the scores [G, H / G * R, T + R]."""
        grids, ops = self.grids, self.ops
        scores = self._scores(query, old, new, grids[f"{layer}.scores"])
        if f"{layer}.gap" in grids:
            gap, largest = grids[f"{layer}.gap"], ops.largest(scores, "scores")
            if grids[f"{layer}.scores"].bits == 16:
                below = ops.elementwise("SUB", scores, largest, Grid(16, np.float32(GAP / 32767)), "gap")
                scores = ops.to(below, gap, "gap")
            else:
                scores = self._scores(*self._below(query, old, new, largest), gap)
        return ops.unary("SOFTMAX", scores, grids[f"{layer}.probabilities"], "p", schema.SoftmaxOptionsT(beta=1.0))

    def _below(self, query: int, old: int, new: int, largest: int) -> tuple[int, int, int]:
        """Query and keys with columns whose product takes the largest score off, inside the accumulator.

        int8 steps of a score are wide where scores reach far; what is left below the largest is short, and fine.
        """
        ops, grid = self.ops, self.ops.grids[query]
        columns, factor, end = reach(self.ops.grids[largest], grid, self.ops.grids[old])
        part = ops.constant("away", np.array([factor]), grid_of(factor, factor, 8))
        away = ops.elementwise("MUL", largest, part, grid, "away")
        for _ in range(columns):
            query = ops.concatenate(query, away, "q")
        keys = []
        for rows in (old, new):
            groups, count, _ = self.graph.shape(rows)
            ends = ops.constant("end", np.full((groups, count, columns), end), ops.grids[rows])
            keys.append(ops.concatenate(rows, ends, "k"))
        return query, keys[0], keys[1]

    def _feed_forward(self, x: int, layer: int) -> int:
        """silu(gate) * up of x [R, dim], times down."""
        ops = self.ops
        gate, up = self._project(x, f"{layer}.gate"), self._project(x, f"{layer}.up")
        sigmoid = ops.unary("LOGISTIC", gate, self.grids[f"{layer}.sigmoid"], "silu")
        silu = ops.elementwise("MUL", gate, sigmoid, self.grids[f"{layer}.silu"], "silu")
        grid, key = self.grids[f"{layer}.swiglu"], f"{layer}.down"
        whole = ops.elementwise("MUL", silu, up, grid, "silu")
        if grid.bits == 16:
            return self._project(whole, key)
        # a few numbers reach far, and one grid for all would be coarse: the same product on a fine grid that ends
        # early, and what is beyond its ends on the coarse one, by the same matrix
        fine = ops.elementwise("MUL", silu, up, Grid(8, np.float32(grid.scale / FINER)), "fine")
        end = 128 / FINER * float(grid.scale)
        ends = [ops.constant("end", np.array([value]), grid) for value in (-end, end)]
        inside = ops.limited("MINIMUM", ops.limited("MAXIMUM", whole, ends[0], "fine"), ends[1], "fine")
        beyond = ops.elementwise("SUB", whole, inside, grid, "beyond")
        far = ops.fully_connected(beyond, self.decoder.matrices[key], None, self.grids[key], key)
        return ops.elementwise("ADD", self._project(fine, key), far, self.grids[key], key)
