"""The window that a convolution or pooling moves over an image; `runtime/window.h` has the same numbers as a struct."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FIELDS = (
    "height",  # of the image, in rows
    "width",
    "out_height",
    "out_width",
    "kernel_height",
    "kernel_width",
    "stride_height",
    "stride_width",
    "dilation_height",
    "dilation_width",
    "pad_top",  # rows before the first of the image
    "pad_left",
)
VALID = 1  # schema.Padding


def window(
    image: Sequence[int], kernel: Sequence[int], out: Sequence[int], options: Mapping[str, Any]
) -> tuple[int, ...]:
    """FIELDS of an operator, from (height, width) of image, kernel and output and the operator's options."""
    strides = (int(options["stride_h"]), int(options["stride_w"]))
    dilations = (int(options.get("dilation_h_factor", 1)), int(options.get("dilation_w_factor", 1)))
    pads = [0, 0]
    if options["padding"] != VALID:
        for i in (0, 1):
            reach = (out[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1
            pads[i] = max(0, reach - image[i]) // 2
    return (*image, *out, *kernel, *strides, *dilations, *pads)


def c_initializer(numbers: Sequence[int]) -> str:
    """The C initializer of an edge_window."""
    return "{" + ", ".join(f".{name} = {number}" for name, number in zip(FIELDS, numbers, strict=True)) + "}"


def taps(numbers: Sequence[int], image: Array, padding: int) -> Iterator[tuple[int, int, Array]]:
    """(row, column) of each tap of the window and what it sees: the image [batch, height, width, …] at every output."""
    w = dict(zip(FIELDS, numbers, strict=True))
    bottom = (w["out_height"] - 1) * w["stride_height"] + (w["kernel_height"] - 1) * w["dilation_height"] + 1
    right = (w["out_width"] - 1) * w["stride_width"] + (w["kernel_width"] - 1) * w["dilation_width"] + 1
    sides = [(w["pad_top"], max(0, bottom - w["pad_top"] - w["height"]))]
    sides += [(w["pad_left"], max(0, right - w["pad_left"] - w["width"]))]
    padded = np.pad(image, [(0, 0), *sides, *[(0, 0)] * (image.ndim - 3)], constant_values=padding)
    for i in range(w["kernel_height"]):
        rows = padded[:, i * w["dilation_height"] :: w["stride_height"]][:, : w["out_height"]]
        for j in range(w["kernel_width"]):
            yield i, j, rows[:, :, j * w["dilation_width"] :: w["stride_width"]][:, :, : w["out_width"]]
