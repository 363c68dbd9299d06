"""Float, hybrid and recurrent ops on QEMU's Cortex-M55 equal numpy bit for bit; below 2^-126 all is zero there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import helium
import numpy as np
import pytest
import test_float_ops as single
import test_float_ops_random as at_random
import test_lstm as lstm
from kernels import INCLUDES
from plain_calls import Plain, PlainCortex, PlainRunner, same

from firmware_tools.emulators import qemu
from firmware_tools.ops import Array, Run

pytestmark = pytest.mark.system


class PlainHelium(PlainCortex):
    def __init__(self, plains: list[Plain], folder: Path) -> None:
        self.features = helium.FEATURES
        PlainRunner.__init__(self, plains, folder)
        names = [f"call_{i}" for i in range(len(plains))]
        self.cortex = helium.Helium(helium.M55, names, self.files, INCLUDES, folder)


def flushed(x: Array) -> Array:
    if x.dtype != np.float32:
        return x
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)


def steps() -> Iterator[tuple[Plain, list[tuple[Array, ...]]]]:
    single.plain(0)
    yield from ((plain, list(case.inputs)) for plain, case in zip(single.PLAINS, single.CASES, strict=True))
    yield from ((plain, list(case.inputs)) for plain, case in zip(at_random.PLAINS, at_random.CASES, strict=True))
    yield from (
        (plain, [(x,) for x in lstm.inputs(*case)]) for plain, case in zip(lstm.PLAINS, lstm.CASES, strict=True)
    )


def test_kernels_equal_references(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool(qemu.PROGRAM)
    every = list(steps())
    runner = PlainHelium([plain for plain, _ in every], tmp_path)
    for i, (plain, given) in enumerate(every):
        run = Run()
        for inputs in given:
            for found, expected in zip(runner.run(i, inputs), plain.reference(inputs, run), strict=True):
                assert same(flushed(found), flushed(expected)), plain.name
