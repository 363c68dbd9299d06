"""The schemes whose activations are integers too: from texts to the grid of every activation of static_decoder.py.

Layer by layer, the texts run through the float model; what a layer's activations were decides how its matrices are
rescaled (equalise.py, exact in float) and which grid each activation gets. int16 grids span four times the
true range. int8 grids of what a matrix reads or gives are clipped where that makes the squared error smaller, all
others span the true range: the largest of all texts, nothing is averaged over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.make import rope as rope_angles
from edge.make.calibrate import Calibration
from edge.make.checkpoints import Architecture, Checkpoint
from edge.make.forward import embed, head, layer, rope
from edge.make.quantize import LEVELS, Matrix, per_row
from edge.make.quantize.equalise import equalised
from edge.make.quantize.integers import PROBABILITIES, Grid, grid_of, least_error
from edge.make.quantize.static_decoder import StaticDecoder, reach

HEADROOM = 4.0  # of int16 grids over what the texts showed: two bits of sixteen, for texts of another kind
SCORES_HEADROOM = 1.5  # of int8 grids for scores: one that is cut off takes the place of the largest
PLACES = 5  # of the context, where texts are looked at
GAP = 16.0  # an int8 softmax sees scores down to this below the largest: exp(-16) is 1e-7

# the activations of 16 bits, by kind; all others have 8. Probabilities have 8 everywhere: LiteRT's int16 SOFTMAX knows
# exp down to -10 alone, so that each masked position keeps 3e-5 and takes 3e-5 from the rest; its int8 one gives 0
KINDS_16 = {
    "int8-static": frozenset[str](),
    "int8-static+int16": frozenset(
        ("embedding", "turn", "squares", "inverse", "unit", "norm", "k", "query", "key", "scores", "sigmoid", "silu")
        + ("swiglu", "down", "residual")
    ),
    "int16x8": frozenset(
        ("embedding", "turn", "squares", "inverse", "unit", "norm", "q", "k", "v", "query", "key", "scores")
        + ("mix", "o", "gate", "up", "sigmoid", "silu", "swiglu", "down", "residual", "head")
    ),
}
CLIPPED = ("norm", "q", "v", "mix", "o", "gate", "up", "down")
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
OF_A_LAYER = ("q", "query", "k", "key", "v", "scores", "mix", "o", "gate", "up", "silu", "swiglu", "down")

Array = NDArray[Any]


def calibrated(checkpoint: Checkpoint, scheme: str, context: int, calibration: Calibration) -> StaticDecoder:
    """Everything that the graph of a scheme of KINDS_16 is made of."""
    shape, weights = checkpoint.architecture, checkpoint.weights
    chosen = _Chosen(KINDS_16[scheme])
    root = np.float32(np.sqrt(shape.dim))
    matrices = {"embedding": _embedding(weights["embedding"], chosen)}
    matrices["head"] = per_row(weights["head"], 8) if "head" in weights else matrices["embedding"]
    gains = {"final_norm": weights["final_norm"] * root}
    biases: dict[str, Array] = {}
    centers: dict[int, Array] = {}
    table = {"embedding": weights["embedding"]}
    texts = [embed(table, ids[None]) for ids in calibration.ids]
    before = _rows(texts)
    chosen.put("embedding", "embedding", before)
    for index in range(shape.layers):
        seen = _Seen()
        named = {name: weights[name] for name in weights if name.startswith(f"{index}.")}
        texts = [layer(shape, named, index, x, seen.observe) for x in texts]
        own = {name.partition(".")[2]: weight for name, weight in named.items()}
        own |= {name: own[name] * np.float32(1 / np.sqrt(shape.head_dim)) for name in ("q", "q_bias") if name in own}
        own, facts = equalised(own, seen.facts())
        facts |= seen.turned(shape, context, centered=chosen.bits("key") == 8)
        if chosen.bits("key") == 8:
            centers[index] = facts["center"]
        chosen.layer(index, before, facts)
        matrices |= {f"{index}.{name}": per_row(own[name], 8) for name in MATRICES}
        biases |= {f"{index}.{name}": own[f"{name}_bias"] for name in MATRICES if f"{name}_bias" in own}
        gains |= {f"{index}.{name}": own[name] * root for name in ("attention_norm", "ffn_norm")}
        before = facts["ffn_residual"]
    ends, last = _Seen(), {name: weights[name] for name in ("embedding", "head", "final_norm") if name in weights}
    for x in texts:
        head(shape, last, x, ends.observe)
    chosen.norm("final_norm", before, _rows(ends.arrays["final_norm"]))
    chosen.put("head", "head", _rows(ends.arrays["logits"]))
    return StaticDecoder(shape, context, matrices, biases, gains, centers, chosen.grids)


@dataclass
class _Seen:
    """What one layer's activations were, each text's [1, ...] apart."""

    arrays: dict[str, list[Array]] = field(default_factory=dict)

    def observe(self, name: str, values: Array) -> None:
        self.arrays.setdefault(name.rpartition(".")[2], []).append(values)

    def facts(self) -> dict[str, Array]:
        """All texts together, [n, size], as the graph has them: q with the factor 1 / sqrt(D)."""
        apart = ("q_rope", "k_rope", "scores", "probabilities")
        facts = {name: _rows(arrays) for name, arrays in self.arrays.items() if name not in apart}
        facts["q"] = facts["q"] * np.float32(1 / np.sqrt(facts["q"].shape[1]))
        facts["silu"] = facts["gate"] * facts.pop("sigmoid")
        return facts

    def turned(self, shape: Architecture, context: int, centered: bool) -> dict[str, Array]:
        """The rows `query` and `key` [n, D], what keys are relative to (`center` [G, D]), and the ends of `scores`.

        The texts may be shorter than the context, and RoPE turns what is far away further: all are looked at as if
        they stood later, too, and queries as if they stood later than the keys.
        """
        tables = rope_angles.tables(shape, context)
        part = np.float32(1 / np.sqrt(shape.head_dim))
        queries = [part * rows for rows in self._everywhere("q", tables)]
        keys = self._everywhere("k", tables)
        ends = [np.max([rows.max(axis=(0, 2)) for rows in keys], axis=0)]
        ends.append(np.min([rows.min(axis=(0, 2)) for rows in keys], axis=0))
        center = np.float32(0.5 if centered else 0) * (ends[0] + ends[1])
        shared = shape.heads // shape.kv_heads
        scores = []
        for query, seen in zip(
            queries, self.arrays["k_rope"] * (len(queries) // len(self.arrays["k_rope"])), strict=True
        ):
            key = np.repeat(seen - center[:, None], shared, axis=1)
            made = (query @ key.transpose(0, 1, 3, 2))[:, :, np.tri(query.shape[2], dtype=bool)]
            scores += [made.min(), made.max()]
        return {
            "query": _rows(queries),
            "key": _rows([rows - center[:, None] for rows in keys]),
            "center": center,
            "scores": np.array(scores),
        }

    def _everywhere(self, name: str, tables: tuple[Array, Array]) -> list[Array]:
        """RoPE of all texts [1, heads, T, D] at places spread over the context: first all at the first, and so on."""
        found = []
        for place in range(PLACES):
            for rows in self.arrays[name]:
                count = rows.shape[2]
                at = (len(tables[0]) - count) * place // (PLACES - 1)
                found.append(rope(rows, *(table[at : at + count] for table in tables)))
        return found


@dataclass
class _Chosen:
    """The grids chosen so far."""

    kinds_16: frozenset[str]
    grids: dict[str, Grid] = field(default_factory=dict)

    def __post_init__(self) -> None:
        turn = Grid(16, np.float32(1 / 32767)) if self.bits("turn") == 16 else Grid(8, np.float32(1 / 127))
        self.grids["turn"] = turn  # cos and sin, 0 among them

    def bits(self, kind: str) -> int:
        return 16 if kind in self.kinds_16 else 8

    def put(self, name: str, kind: str, values: Array) -> None:
        """Chooses the grid of an activation by its values."""
        if self.bits(kind) == 16:
            self.grids[name] = grid_of(HEADROOM * float(values.min()), HEADROOM * float(values.max()), 16)
        elif kind in CLIPPED:
            self.grids[name] = least_error(values)
        else:
            room = SCORES_HEADROOM if kind == "scores" else 1.0
            self.grids[name] = grid_of(room * float(values.min()), room * float(values.max()), 8)

    def norm(self, name: str, before: Array, after: Array) -> None:
        """The grids inside an RMSNorm of rows [n, dim], and of what it gives."""
        squares = np.square(before, dtype=np.float64).sum(axis=1, keepdims=True)
        squares = np.maximum(squares, np.finfo(np.float32).tiny)
        self.put(f"{name}.squares", "squares", squares)
        self.put(f"{name}.inverse", "inverse", 1 / np.sqrt(squares))
        self.put(f"{name}.unit", "unit", before / np.sqrt(squares))
        self.put(name, "norm", after)
        if self.bits("norm") == 16:
            self.grids[f"{name}.narrow"] = least_error(after)

    def layer(self, index: int, before: Array, facts: Mapping[str, Array]) -> None:
        """The grids of a layer whose input is before [n, dim]."""
        self.norm(f"{index}.attention_norm", before, facts["attention_norm"])
        self.norm(f"{index}.ffn_norm", facts["attention_residual"], facts["ffn_norm"])
        for name in OF_A_LAYER:
            self.put(f"{index}.{name}", name, facts[name])
        for name in ("attention_residual", "ffn_residual"):
            self.put(f"{index}.{name}", "residual", facts[name])
        for name in ("probabilities", "sigmoid"):
            self.grids[f"{index}.{name}"] = PROBABILITIES[self.bits(name)]
        if self.bits("probabilities") == 8:
            slack = 0.0 if self.bits("scores") == 16 else self._slack(index)
            self.grids[f"{index}.gap"] = grid_of(-GAP - slack, slack, 8)

    def _slack(self, index: int) -> float:
        """How far the largest score may lie from where it is taken to: half a step of each of both roundings."""
        scores, query, key = (self.grids[f"{index}.{name}"] for name in ("scores", "query", "key"))
        columns, _, end = reach(scores, query, key)
        return float(scores.scale + columns * abs(end) * query.scale) / 2


def _rows(arrays: Sequence[Array]) -> Array:
    """[..., size] of all texts as [n, size]."""
    return np.concatenate([array.reshape(-1, array.shape[-1]) for array in arrays])


def _embedding(table: Array, chosen: _Chosen) -> Matrix:
    """Rows in int8. Their scales, rounded up, are numbers on a grid themselves: what GATHER reads is then exact."""
    matrix = per_row(table, 8)
    assert matrix.scales is not None
    grid = grid_of(0, float(matrix.scales.max()), chosen.bits("embedding"))
    chosen.grids["embedding_scales"] = grid
    steps = np.ceil(matrix.scales / np.float64(grid.scale) - 1e-3).clip(1, grid.levels[1] - grid.zero_point)
    scales = np.asarray(steps * grid.scale, np.float32)
    return Matrix(np.clip(np.rint(table / scales[:, None]), -LEVELS, LEVELS).astype(np.int8), scales)
