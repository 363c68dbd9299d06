"""Convolutions and pooling in one and two dimensions, with the channels last as TFLite has them.

A signal [N, C, L] is an image of one row. Where ONNX pads otherwise than TFLite's SAME, an
operator of its own does it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge.make.formats.onnx_ops.builder import (
    HYBRID_CONV_VERSION,
    Array,
    Builder,
    Node,
    NotTaken,
    Value,
    constant_of,
    integers,
)

Op = Callable[..., Value]
LEAST = np.float32(-3.4028235e38)  # what MAX_POOL_2D never chooses
MOST_PADDING = 4096


@dataclass(frozen=True)
class Window:
    """How a kernel moves over an image of two dimensions: sizes and steps of each, and what is padded before, after."""

    size: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    image: tuple[int, int]

    @property
    def reach(self) -> tuple[int, ...]:
        return tuple((k - 1) * d + 1 for k, d in zip(self.size, self.dilations, strict=True))

    @property
    def out(self) -> tuple[int, ...]:
        padded = [n + sum(p) for n, p in zip(self.image, self.pads, strict=True)]
        made = [(n - r) // s + 1 for n, r, s in zip(padded, self.reach, self.strides, strict=True)]
        if min(made) < 1:
            raise NotTaken(f"its kernel {list(self.size)} is larger than its input {list(self.image)}")
        return tuple(made)

    @property
    def is_same(self) -> bool:
        """Is this what TFLite calls SAME?"""
        return all(
            -(-n // s) == o and (max((o - 1) * s + r - n, 0) // 2, -(-max((o - 1) * s + r - n, 0) // 2)) == tuple(p)
            for n, s, o, r, p in zip(self.image, self.strides, self.out, self.reach, self.pads, strict=True)
        )

    @property
    def is_padded(self) -> bool:
        return any(map(any, self.pads))


def window(node: Node, size: Sequence[int], image: Sequence[int], rounds_up: bool = False) -> Window:
    """The window of a node in one or two dimensions."""
    rank = len(image)
    if rank not in (1, 2) or len(size) != rank or min(size) < 1:
        raise NotTaken(f"it is of {rank} dimensions", "boards compute it in one and two")
    strides, dilations = node.numbers("strides", [1] * rank), node.numbers("dilations", [1] * rank)
    pads = node.numbers("pads", [0] * (2 * rank))
    if len(pads) != 2 * rank or len(strides) != rank or len(dilations) != rank or min(*strides, *dilations) < 1:
        raise NotTaken("its strides, dilations or pads are not those of its kernel")
    if not all(0 <= pad <= MOST_PADDING for pad in pads):
        raise NotTaken(f"its pads {pads} are out of range")
    both = [(pads[i], pads[i + rank]) for i in range(rank)]
    auto = node.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        both = []
        for n, k, s, d in zip(image, size, strides, dilations, strict=True):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            less, more = total // 2, total - total // 2
            both.append((less, more) if auto == "SAME_UPPER" else (more, less))
    elif auto == "VALID":
        both = [(0, 0)] * rank
    if rounds_up:
        for i, (n, k, s, d) in enumerate(zip(image, size, strides, dilations, strict=True)):
            rest = (n + sum(both[i]) - (k - 1) * d - 1) % s
            steps = -(-(n + sum(both[i]) - (k - 1) * d - 1) // s)
            if rest and steps * s < n + both[i][0]:  # the last window begins inside
                both[i] = (both[i][0], both[i][1] + s - rest)
    if rank == 1:
        return Window((1, size[0]), (1, strides[0]), (1, dilations[0]), ((0, 0), both[0]), (1, image[0]))
    return Window(
        (size[0], size[1]),
        (strides[0], strides[1]),
        (dilations[0], dilations[1]),
        (both[0], both[1]),
        (image[0], image[1]),
    )


def _image(b: Builder, x: Value) -> int:
    """A value as [N, H, W, C]."""
    if len(x.shape) not in (3, 4):
        raise NotTaken(f"its input is {list(x.shape)}", "boards compute it in one and two dimensions")
    tensor = b.channels_last(x)
    shape = b.graph.shape(tensor)
    return tensor if len(shape) == 4 else b.reshaped(tensor, (shape[0], 1, *shape[1:]))


def _value(b: Builder, tensor: int, rank: int) -> Value:
    """The value of a tensor [N, H, W, C]."""
    n, h, w, c = b.graph.shape(tensor)
    if rank == 4:
        return Value((n, c, h, w), np.dtype(np.float32), last=tensor)
    return Value((n, c, w), np.dtype(np.float32), last=b.reshaped(tensor, (n, w, c)))


def _padded(b: Builder, tensor: int, form: Window, fill: np.float32 | None = None) -> int:
    pads = np.array([(0, 0), *form.pads, (0, 0)], np.int32)
    shape = [n + int(p.sum()) for n, p in zip(b.graph.shape(tensor), pads, strict=True)]
    if fill is None:
        return b.emit("PAD", [tensor, b.constant(pads)], shape, schema.PadOptionsT())
    return b.emit("PADV2", [tensor, b.constant(pads), b.constant(np.array([fill]))], shape, schema.PadV2OptionsT())


def conv(b: Builder, node: Node, x: Value, filters: Value, bias: Value | None = None) -> Value:
    weights = np.asarray(constant_of(filters, "filters"), np.float32)
    groups, channels = node.number("group", 1), x.shape[1] if len(x.shape) > 1 else 0
    if len(weights.shape) != len(x.shape) or groups < 1 or weights.shape[1] * groups != channels:
        raise NotTaken(f"its filters {list(weights.shape)} do not fit its input {list(x.shape)}")
    form = window(node, weights.shape[2:], x.shape[2:])
    weights = weights.reshape(*weights.shape[:2], *form.size).transpose(0, 2, 3, 1)  # [O, H, W, I]
    added = np.zeros(len(weights), np.float32) if bias is None else np.asarray(constant_of(bias, "bias"), np.float32)
    image = _image(b, x)
    if not form.is_same and form.is_padded:
        image = _padded(b, image, form)
    return _value(b, _convolution(b, image, weights, added, form, groups), len(x.shape))


def _convolution(b: Builder, image: int, weights: Array, bias: Array, form: Window, groups: int) -> int:
    shape = (b.graph.shape(image)[0], *form.out, len(weights))
    settings = {
        "padding": schema.Padding.SAME if form.is_same and form.is_padded else schema.Padding.VALID,
        "strideH": form.strides[0],
        "strideW": form.strides[1],
        "dilationHFactor": form.dilations[0],
        "dilationWFactor": form.dilations[1],
    }
    if weights.shape[3] == 1 and groups > 1:  # every filter sees one channel; few weights, which stay floats
        moved = np.ascontiguousarray(weights.transpose(3, 1, 2, 0))
        options = schema.DepthwiseConv2DOptionsT(depthMultiplier=len(weights) // groups, **settings)
        return b.emit("DEPTHWISE_CONV_2D", [image, b.widened(moved), b.constant(bias)], shape, options)
    filters = b.weights(weights) if groups == 1 else b.widened(np.ascontiguousarray(weights))
    version = HYBRID_CONV_VERSION if b.is_int8(filters) else 1
    inputs = [image, filters, b.constant(bias)]
    return b.emit("CONV_2D", inputs, shape, schema.Conv2DOptionsT(**settings), version=version)


def _pool(b: Builder, kind: str, image: int, form: Window, padding: int) -> int:
    shape = (b.graph.shape(image)[0], *form.out, b.graph.shape(image)[3])
    options = schema.Pool2DOptionsT(
        padding=padding,
        strideH=form.strides[0],
        strideW=form.strides[1],
        filterHeight=form.size[0],
        filterWidth=form.size[1],
    )
    return b.emit(kind, [image], shape, options)


def _pooling(node: Node, x: Value) -> Window:
    if any(node.outputs[1:]):
        raise NotTaken("the places of its maxima are used, too", "boards compute the maxima alone")
    form = window(node, node.numbers("kernel_shape", ()), x.shape[2:], bool(node.number("ceil_mode", 0)))
    if form.dilations != (1, 1):
        raise NotTaken("it is dilated", "pool without dilation")
    return form


def max_pool(b: Builder, node: Node, x: Value) -> Value:
    form, image = _pooling(node, x), _image(b, x)
    padding = schema.Padding.VALID
    if form.is_padded and form.is_same:
        padding = schema.Padding.SAME
    elif form.is_padded:
        image = _padded(b, image, form, LEAST)
    return _value(b, _pool(b, "MAX_POOL_2D", image, form, padding), len(x.shape))


def average_pool(b: Builder, node: Node, x: Value) -> Value:
    """Where windows reach over the border, the mean is corrected by how many elements ONNX counts in each."""
    form, image = _pooling(node, x), _image(b, x)
    counts_padding = bool(node.number("count_include_pad", 0))
    if not form.is_padded or form.is_same and not counts_padding:
        padding = schema.Padding.SAME if form.is_padded else schema.Padding.VALID
        return _value(b, _pool(b, "AVERAGE_POOL_2D", image, form, padding), len(x.shape))
    made = _pool(b, "AVERAGE_POOL_2D", _padded(b, image, form), form, schema.Padding.VALID)
    rank = len(x.shape) - 2
    given = node.numbers("pads", [0] * (2 * rank))
    inside = [(given[i], given[i + rank]) if counts_padding else (0, 0) for i in range(rank)]
    inside = [(0, 0), *inside] if rank == 1 else inside
    factors = [_shares(form, axis, inside[axis]) for axis in (0, 1)]
    factor = (factors[0][:, None] * factors[1][None, :])[None, :, :, None]
    if not np.all(factor == 1):
        made = b.binary("MUL", made, b.constant(factor))
    return _value(b, made, len(x.shape))


def _shares(form: Window, axis: int, inside: tuple[int, int]) -> Array:
    """The kernel's size over the elements that count in each window, along one axis."""
    starts = np.arange(form.out[axis]) * form.strides[axis] - form.pads[axis][0]
    low = np.maximum(starts, -inside[0])
    high = np.minimum(starts + form.size[axis], form.image[axis] + inside[1])
    return np.asarray(form.size[axis] / np.maximum(high - low, 1), np.float32)


def resize(b: Builder, node: Node, x: Value, *rest: Value | None) -> Value:
    """Nearest neighbours by whole factors: each element becomes a box of equal ones."""
    if len(x.shape) != 4 or node.text("mode", "nearest") != "nearest":
        raise NotTaken("it is not of nearest neighbours in two dimensions", "resize with mode nearest")
    given = [v for v in rest if v is not None and v.data is not None and v.data.size == 4]
    if not given:
        raise NotTaken("its scales depend on the input", "export the model with fixed shapes")
    last = given[-1]
    sizes = (
        integers(last, "sizes")
        if np.asarray(last.data).dtype.kind in "iu"
        else [int(n * s) for n, s in zip(x.shape, np.asarray(last.data, np.float64).tolist(), strict=True)]
    )
    whole = all(size >= n and size % n == 0 for n, size in zip(x.shape, sizes, strict=True))
    if sizes[:2] != list(x.shape[:2]) or not whole or max(sizes) > 1 << 14:
        raise NotTaken(f"it makes {sizes} of {list(x.shape)}", "resize by whole factors")
    options = schema.ResizeNearestNeighborOptionsT()
    image = _image(b, x)
    shape = (x.shape[0], *sizes[2:], x.shape[1])
    return _value(b, b.emit("RESIZE_NEAREST_NEIGHBOR", [image, b.numbers(*sizes[2:])], shape, options), 4)


def depth_to_space(b: Builder, node: Node, x: Value) -> Value:
    size = node.number("blocksize", 0)
    if len(x.shape) != 4 or size < 1 or x.shape[1] % (size * size):
        raise NotTaken(f"blocks of {size} do not fit its input {list(x.shape)}")
    n, c, h, w = x.shape
    image = _image(b, x)
    if node.text("mode", "DCR") == "CRD":  # the places in a block are innermost, as PyTorch's PixelShuffle has them
        parts = b.reshaped(image, (n * h * w, c // (size * size), size * size))
        image = b.reshaped(b.transposed(parts, (0, 2, 1)), (n, h, w, c))
    options = schema.DepthToSpaceOptionsT(blockSize=size)
    shape = (n, h * size, w * size, c // (size * size))
    return _value(b, b.emit("DEPTH_TO_SPACE", [image], shape, options), 4)


OPS: Mapping[str, Op] = {
    "AveragePool": average_pool,
    "Conv": conv,
    "DepthToSpace": depth_to_space,
    "MaxPool": max_pool,
    "Resize": resize,
    "Upsample": resize,
}
