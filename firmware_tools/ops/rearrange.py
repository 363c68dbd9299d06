"""Rearrange: elements go to other places, of any type; transposing, slicing, joining, padding are all this.

    inputs      tensors of one type
    outputs     tensors of that type; not an input
    constants   operand0 …: what the operator takes from the file, as bytes
    attributes  itemsize (bytes of an element), dtype, shapes (of the outputs), fill (None, or the bytes of an element
                that all of the output starts as), copies: tuples (operand, output, from, to, counts, from_steps,
                to_steps) with operand an input's number, or -1 - n for constant n, and all else in elements

A copy walks a box of elements: element (i, j, …) goes from `from` + i * from_steps[0] + … to `to` + i * to_steps[0] + …
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from firmware_tools.graph import Operator, Subgraph
from firmware_tools.ops import Array, Call, Run, Unsupported
from firmware_tools.quantized import constant, number

ITEM_BYTES = {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "uint16": 2, "float16": 2, "int32": 4, "uint32": 4}
ITEM_BYTES |= {"float32": 4, "int64": 8}
MOST_RANK = 8  # of a copy, after what lies together is one


@dataclass(frozen=True)
class Box:
    """A part of a tensor: where its first element is, its shape, and how far apart they are, all in elements."""

    at: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]

    def is_inside(self, size: int) -> bool:
        """Are all its elements among the first `size`?"""
        reaches = [(count - 1) * step for count, step in zip(self.shape, self.steps, strict=True)]
        low, high = (self.at + sum(end(0, reach) for reach in reaches) for end in (min, max))
        return 0 in self.shape or min(self.shape, default=1) > 0 and low >= 0 and high < size

    def axis(self, axis: int, start: int, count: int, step: int = 1) -> Box:
        """Of one axis `count` elements from start on, step apart."""
        steps, shape = list(self.steps), list(self.shape)
        at = self.at + start * steps[axis]
        steps[axis], shape[axis] = steps[axis] * step, count
        return Box(at, tuple(shape), tuple(steps))

    def ordered(self, axes: Sequence[int]) -> Box:
        return Box(self.at, tuple(self.shape[i] for i in axes), tuple(self.steps[i] for i in axes))

    def folded(self, number: int, outer: int) -> Box:
        """One axis as two, of `outer` and of the rest."""
        inner = self.shape[number] // outer
        shape = (*self.shape[:number], outer, inner, *self.shape[number + 1 :])
        steps = (*self.steps[:number], inner * self.steps[number], *self.steps[number:])
        return Box(self.at, shape, steps)

    def repeated(self, number: int, times: int) -> Box:
        """With an axis before number `number` that stays where it is."""
        shape, steps = list(self.shape), list(self.steps)
        shape.insert(number, times)
        steps.insert(number, 0)
        return Box(self.at, tuple(shape), tuple(steps))


def whole(shape: Sequence[int]) -> Box:
    steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    return Box(0, tuple(shape), tuple(steps))


@dataclass
class Lowering:
    """An operator on its way to a call: the copies so far."""

    operator: Operator
    subgraph: Subgraph
    copies: list[tuple[Any, ...]] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    fill: bytes | None = None

    def numbers(self, position: int, what: str) -> list[int]:
        """The stored integers of one of the operator's inputs."""
        return [int(n) for n in constant(self.subgraph, self.operator.inputs[position], what).reshape(-1)]

    def box(self, position: int) -> Box:
        return whole(self.subgraph.tensors[self.operator.inputs[position]].shape)

    def out(self, position: int = 0) -> Box:
        return whole(self.subgraph.tensors[self.operator.outputs[position]].shape)

    def copy(self, position: int, source: Box, target: Box, output: int = 0) -> None:
        """Adds a copy from the operator's input number position."""
        if source.shape != target.shape:
            raise Unsupported(f"its output's shape does not follow from its input's ({source.shape}, {target.shape})")
        tensor = self.subgraph.tensors[self.operator.inputs[position]]
        made = self.subgraph.tensors[self.operator.outputs[output]]
        if not (source.is_inside(math.prod(tensor.shape)) and target.is_inside(math.prod(made.shape))):
            raise Unsupported("it reaches outside of its tensors")
        if tensor.data is None:
            if tensor.index not in self.inputs:
                self.inputs.append(tensor.index)
            operand = self.inputs.index(tensor.index)
        else:
            operand = -1 - len(self.constants)
            self.constants[f"operand{len(self.constants)}"] = np.frombuffer(tensor.data.tobytes(), np.uint8)
        self.copies.append((operand, output, source.at, target.at, *_merged(source, target)))


def _merged(source: Box, target: Box) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(counts, from_steps, to_steps) where axes that lie together on both sides are one."""
    axes: list[list[int]] = []
    for count, a, b in zip(source.shape, source.steps, target.steps, strict=True):
        if count == 1:
            continue
        if axes and axes[-1][1] == a * count and axes[-1][2] == b * count:
            axes[-1] = [axes[-1][0] * count, a, b]
        else:
            axes.append([count, a, b])
    if len(axes) > MOST_RANK:
        raise Unsupported(f"it moves {len(axes)} axes; {MOST_RANK} are supported")
    return tuple(n for n, _, _ in axes), tuple(a for _, a, _ in axes), tuple(b for _, _, b in axes)


def lower(operator: Operator, subgraph: Subgraph) -> Call:
    target = subgraph.tensors[operator.outputs[0]]
    if target.dtype not in ITEM_BYTES:
        raise Unsupported(f"{target.dtype} is not supported")
    lowering = Lowering(operator, subgraph)
    LOWERINGS[operator.op](lowering)
    moved = {subgraph.tensors[i] for i in lowering.inputs} | {subgraph.tensors[i] for i in operator.outputs}
    if {tensor.dtype for tensor in moved} != {target.dtype}:
        raise Unsupported("its tensors have different types")
    scales = {(float(q.scale[0]), int(q.zero_point[0])) for t in moved if (q := t.quantization) and q.scale.size == 1}
    if len(scales) > 1 and target.dtype in ("int8", "uint8", "int16"):
        raise Unsupported("its tensors have different scales or zero points")
    attributes = {
        "itemsize": ITEM_BYTES[target.dtype],
        "dtype": target.dtype,
        "shapes": tuple(subgraph.tensors[i].shape for i in operator.outputs),
        "fill": lowering.fill,
        "copies": tuple(lowering.copies),
    }
    return Call("rearrange", tuple(lowering.inputs), operator.outputs, lowering.constants, attributes)


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise Unsupported(f"axis {axis} of {rank}")
    return axis % rank


def _transpose(lowering: Lowering) -> None:
    lowering.copy(0, lowering.box(0).ordered(lowering.numbers(1, "the order of axes")), lowering.out())


def _slice(lowering: Lowering) -> None:
    box, out = lowering.box(0), lowering.out()
    for i, start in enumerate(lowering.numbers(1, "where the slice begins")):
        box = box.axis(i, start, out.shape[i])
    lowering.copy(0, box, out)


def _strided_slice(lowering: Lowering) -> None:
    box, options = lowering.box(0), lowering.operator.options
    begins, ends, strides = (lowering.numbers(i, "the slice") for i in (1, 2, 3))
    first, last, shrunk = (number(options, f"{name}_mask") for name in ("begin", "end", "shrink_axis"))
    if options.get("ellipsis_mask") or options.get("new_axis_mask"):
        raise Unsupported("an ellipsis or a new axis in STRIDED_SLICE is not supported", "use a slice of all axes")
    shape = list(box.shape)
    for i, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        size = shape[i]
        at = slice(None if first >> i & 1 else begin, None if last >> i & 1 else end, stride)
        if shrunk >> i & 1:
            only = (0 if stride > 0 else size - 1) if at.start is None else begin % size
            at = slice(only, only + 1, 1)
        taken = range(size)[at]
        box = box.axis(i, taken.start, len(taken), taken.step)
    kept = [i for i in range(len(shape)) if not shrunk >> i & 1]
    lowering.copy(0, box.ordered(kept), lowering.out())


def _split(lowering: Lowering, value: int, axis: int) -> None:
    box = lowering.box(value)
    axis, at = _axis(axis, len(box.shape)), 0
    for i in range(len(lowering.operator.outputs)):
        out = lowering.out(i)
        lowering.copy(value, box.axis(axis, at, out.shape[axis]), out, i)
        at += out.shape[axis]


def _unpack(lowering: Lowering) -> None:
    box = lowering.box(0)
    axis = _axis(number(lowering.operator.options, "axis"), len(box.shape))
    rest = [i for i in range(len(box.shape)) if i != axis]
    for i in range(len(lowering.operator.outputs)):
        lowering.copy(0, box.axis(axis, i, 1).ordered(rest), lowering.out(i), i)


def _concatenation(lowering: Lowering) -> None:
    options, out, at = lowering.operator.options, lowering.out(), 0
    if options["fused_activation_function"] != "NONE":
        raise Unsupported("an activation fused into CONCATENATION is not supported")
    axis = _axis(number(options, "axis"), len(out.shape))
    for i in range(len(lowering.operator.inputs)):
        box = lowering.box(i)
        lowering.copy(i, box, out.axis(axis, at, box.shape[axis]))
        at += box.shape[axis]


def _pack(lowering: Lowering) -> None:
    out = lowering.out()
    axis = _axis(number(lowering.operator.options, "axis"), len(out.shape))
    rest = [i for i in range(len(out.shape)) if i != axis]
    for i in range(len(lowering.operator.inputs)):
        lowering.copy(i, lowering.box(i), out.axis(axis, i, 1).ordered(rest))


def _pad(lowering: Lowering) -> None:
    box, out = lowering.box(0), lowering.out()
    for i, before in enumerate(lowering.numbers(1, "the padding")[::2]):
        out = out.axis(i, before, box.shape[i])
    lowering.fill = _padding(lowering)
    if len(lowering.operator.inputs) > 2:
        lowering.fill = constant(lowering.subgraph, lowering.operator.inputs[2], "the padding's value").tobytes()
    lowering.copy(0, box, out)


def _padding(lowering: Lowering) -> bytes:
    """What stands for zero in the input."""
    tensor = lowering.subgraph.tensors[lowering.operator.inputs[0]]
    value = np.zeros(1, np.int64)
    if tensor.quantization is not None and tensor.quantization.scale.size == 1:
        value = tensor.quantization.zero_point[:1]
    return bytes(value.astype(tensor.dtype).tobytes())


def _broadcast_to(lowering: Lowering) -> None:
    box, out = lowering.box(0), lowering.out()
    while len(box.shape) < len(out.shape):
        box = box.repeated(0, out.shape[len(out.shape) - len(box.shape) - 1])
    for i, size in enumerate(out.shape):
        if box.shape[i] == 1 != size:
            rest = [j for j in range(len(out.shape) + 1) if j != i + 1]
            box = box.repeated(i, size).ordered(rest)
    lowering.copy(0, box, out)


def _tile(lowering: Lowering) -> None:
    box, out = lowering.box(0), lowering.out()
    for i, times in reversed(list(enumerate(lowering.numbers(1, "how often")))):
        box, out = box.repeated(i, times), out.folded(i, times) if times else out
    lowering.copy(0, box, out)


def _reverse(lowering: Lowering) -> None:
    box = lowering.box(0)
    for axis in lowering.numbers(1, "the axes"):
        axis = _axis(axis, len(box.shape))
        box = box.axis(axis, box.shape[axis] - 1, box.shape[axis], -1)
    lowering.copy(0, box, lowering.out())


def _space_to_depth(lowering: Lowering) -> None:
    block, box, out = number(lowering.operator.options, "block_size"), lowering.box(0), lowering.out()
    height, width = out.shape[1:3]
    box = box.folded(2, width).folded(1, height)  # batch, row, in block, column, in block, channel
    lowering.copy(0, box.ordered((0, 1, 3, 2, 4, 5)), out.folded(3, block).folded(4, block))


def _depth_to_space(lowering: Lowering) -> None:
    block, box, out = number(lowering.operator.options, "block_size"), lowering.box(0), lowering.out()
    height, width = box.shape[1:3]
    out = out.folded(2, width).folded(1, height)
    lowering.copy(0, box.folded(3, block).folded(4, block), out.ordered((0, 1, 3, 2, 4, 5)))


def _blocks(lowering: Lowering, spread: Box, around: list[int], whole_box: Box) -> Iterator[tuple[int, Box, Box]]:
    """For each place in a block: its number, the part of `spread` that comes to lie in the whole, and where it does."""
    blocks = lowering.numbers(1, "the blocks")
    for place, offsets in enumerate(itertools.product(*map(range, blocks))):
        part, target = spread, whole_box
        for i, (block, offset) in enumerate(zip(blocks, offsets, strict=True)):
            axis, shift = 1 + i, offset - around[2 * i]  # row r of the part is row r * block + shift of the whole
            first = max(0, -(shift // block))
            count = max(0, min(spread.shape[axis], -((shift - whole_box.shape[axis]) // block)) - first)
            part = part.axis(axis, first, count)
            target = target.axis(axis, first * block + shift, count, block)
        yield place, part, target


def _space_to_batch(lowering: Lowering) -> None:
    box, out = lowering.box(0), lowering.out()
    lowering.fill = _padding(lowering)
    for place, part, target in _blocks(lowering, out, lowering.numbers(2, "the padding"), box):
        lowering.copy(0, target, part.axis(0, place * box.shape[0], box.shape[0]))


def _batch_to_space(lowering: Lowering) -> None:
    box, out = lowering.box(0), lowering.out()
    for place, part, target in _blocks(lowering, box, lowering.numbers(2, "the crops"), out):
        lowering.copy(0, part.axis(0, place * out.shape[0], out.shape[0]), target)


def _mirror_pad(lowering: Lowering) -> None:
    """Each axis is what lies before, turned round, the input, and what lies behind, turned round."""
    box, out, around = lowering.box(0), lowering.out(), lowering.numbers(1, "the padding")
    edge = 0 if number(lowering.operator.options, "mode") else 1  # REFLECT leaves the edge out, SYMMETRIC repeats it
    sides = []
    for i, size in enumerate(box.shape):
        before, after = around[2 * i : 2 * i + 2]
        parts = [(before - 1 + edge, -1, 0, before), (0, 1, before, size)]
        parts.append((size - 1 - edge, -1, before + size, after))
        sides.append([part for part in parts if part[3] > 0])
    for chosen in itertools.product(*sides):
        source, target = box, out
        for i, (start, step, at, count) in enumerate(chosen):
            source, target = source.axis(i, start, count, step), target.axis(i, at, count)
        lowering.copy(0, source, target)


LOWERINGS: Mapping[str, Callable[[Lowering], None]] = {
    "BATCH_TO_SPACE_ND": _batch_to_space,
    "BROADCAST_TO": _broadcast_to,
    "CONCATENATION": _concatenation,
    "DEPTH_TO_SPACE": _depth_to_space,
    "MIRROR_PAD": _mirror_pad,
    "PACK": _pack,
    "PAD": _pad,
    "PADV2": _pad,
    "REVERSE_V2": _reverse,
    "SLICE": _slice,
    "SPACE_TO_BATCH_ND": _space_to_batch,
    "SPACE_TO_DEPTH": _space_to_depth,
    "SPLIT": lambda lowering: _split(lowering, 1, lowering.numbers(0, "the axis")[0]),
    "SPLIT_V": lambda lowering: _split(lowering, 0, lowering.numbers(2, "the axis")[0]),
    "STRIDED_SLICE": _strided_slice,
    "TILE": _tile,
    "TRANSPOSE": _transpose,
    "UNPACK": _unpack,
}
OPERATORS = tuple(LOWERINGS)


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    a, dtype = call.attributes, np.dtype(call.attributes["dtype"])
    outputs = [np.zeros(math.prod(shape), dtype) for shape in a["shapes"]]
    if a["fill"] is not None:
        outputs[0][:] = np.frombuffer(a["fill"], dtype)
    for operand, output, at, to, counts, steps, to_steps in a["copies"]:
        stored = call.constants[f"operand{-1 - operand}"].view(dtype) if operand < 0 else inputs[operand].reshape(-1)
        if math.prod(counts):
            outputs[output][_places(to, counts, to_steps)] = stored[_places(at, counts, steps)]
    return tuple(y.reshape(shape) for y, shape in zip(outputs, a["shapes"], strict=True))


def _places(at: int, counts: Sequence[int], steps: Sequence[int]) -> Array:
    """The numbers of the elements that a copy walks."""
    places = np.array(at)
    for count, step in zip(counts, steps, strict=True):
        places = places[..., None] + np.arange(count) * step
    return places


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_rearrange"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    a, size = call.attributes, call.attributes["itemsize"]
    lines = []
    if a["fill"] is not None:
        uniform = len(set(a["fill"])) == 1
        if not uniform and size > 4:
            raise Unsupported("padding of 8-byte numbers with anything but 0 is not supported")
        pattern = int.from_bytes(a["fill"][:4], "little")
        lines.append(f"edge_fill({c['out0']}, {math.prod(a['shapes'][0])}, {size}, {pattern}u);")
    for operand, output, at, to, counts, steps, to_steps in a["copies"]:
        if math.prod(counts) == 0:
            continue
        source = c[f"operand{-1 - operand}"] if operand < 0 else c[f"in{operand}"]
        run = size
        if steps and steps[-1] == to_steps[-1] == 1:
            run, counts, steps, to_steps = size * counts[-1], counts[:-1], steps[:-1], to_steps[:-1]
        axes = [f"{{{n}, {x * size}, {y * size}}}" for n, x, y in zip(counts, steps, to_steps, strict=True)]
        box = f".run = {run}, .from = {at * size}, .to = {to * size}, .rank = {len(axes)}"
        box += f", .axes = {{{', '.join(axes)}}}" if axes else ""
        lines.append(f"edge_rearrange({source}, {c[f'out{output}']}, &(edge_box){{{box}}});")
    return lines[0] if len(lines) == 1 else "{ " + " ".join(lines) + " }"
