"""The weights of a checkpoint as they are read one by one: each is what the architecture says, or one clear BadFile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from edge.make.checkpoints import Weights
from edge.make.quantize import row_blocks
from firmware_tools.errors import BadFile


class Checked(Mapping[str, NDArray[np.float32]]):
    """Weights of the given shapes; all are there from the start, and what each holds is checked when it is read."""

    def __init__(self, weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.weights = weights
        self.shapes = shapes
        for name, size in shapes.items():
            if name not in weights:
                raise _bad(name, size, "nothing")

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        size, weight = self.shapes[name], self.weights[name]
        if weight.shape != size or weight.dtype != np.float32:
            raise _bad(name, size, f"{weight.dtype} {list(weight.shape)}")
        if not all(bool(np.isfinite(part).all()) for part in row_blocks(weight)):
            raise BadFile(
                f"the weight {name!r} holds values that are not finite", "the training diverged, or the file is damaged"
            )
        return weight

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def _bad(name: str, size: tuple[int, ...], found: str) -> BadFile:
    return BadFile(f"the weight {name!r} should be float32 {list(size)} and is {found}", "train or export it again")
