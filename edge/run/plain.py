"""A plain model on any TARGET: arrays in, arrays out, behind the same frames as everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import words
from edge.run.target import connect, expect_board, notes, parse, refuse_useless
from edge.words import Words
from firmware_tools import build, graph, lower
from firmware_tools.errors import LinkError, UserError
from firmware_tools.info import BorderInfo, Info
from firmware_tools.link import Link
from firmware_tools.program import Border

Array = NDArray[Any]


@dataclass(frozen=True)
class PlainRunning:
    """A plain model that answers on a target; ends with its `with` block.

    inputs and outputs in the file's order; image: the firmware where it was built here.
    """

    target: str
    model: graph.Graph
    inputs: tuple[Border, ...]
    outputs: tuple[Border, ...]
    link: Link
    info: Info
    image: build.Image | None = None

    def __enter__(self) -> PlainRunning:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.link.close()

    @property
    def notes(self) -> list[str]:
        """What a user of this target should know, and may not expect."""
        return notes(self.target, self.info)

    @property
    def words(self) -> Words | None:
        """Of a model that takes a text."""
        return words.of(self.model.metadata)

    def invoke(self, inputs: Sequence[Array]) -> int | None:
        """One inference of arrays as the model stores them, from the state of the start; ticks where it is counted."""
        return self.link.invoke(b"".join(np.ascontiguousarray(array).tobytes() for array in inputs))

    def output(self, index: int) -> Array:
        """An output of the last inference, as the model stores it."""
        border = self.outputs[index]
        data = self.link.output(index, border.size_bytes)
        return np.frombuffer(data, border.dtype).reshape(border.shape)


def is_plain(model: Path) -> bool:
    """Is this a .tflite that is no language model of ours?"""
    return not graph.claims_contract(model)


def open_reference(model: Path, signature: str | None) -> PlainRunning:
    """A plain model in LiteRT on the host, with TFLite's reference kernels."""
    return open_plain("host", model, signature=signature, kernels="reference")


def open_plain(
    text: str,
    model: Path,
    *,
    signature: str | None = None,
    toolchain: str | None = None,
    counting: bool = False,
    kernels: str = "xnnpack",
) -> PlainRunning:
    """Opens a TARGET with a plain model; counting: have an emulator count instructions. kernels: LiteRT's, on the host.

    Raises BadFile, DoesNotFit, LinkError, MissingTool or another UserError, each with a hint.
    """
    place, facts = parse(text), graph.read(model)
    refuse_useless(toolchain, text, place)
    inputs, outputs = lower.borders(facts, lower.entry(facts, signature))
    for border in (*inputs, *outputs):
        if border.dtype not in lower.DTYPES or border.size == 0:
            raise UserError(
                f"the model's {border.name[:60]} is {border.dtype}{list(border.shape)}, which is not supported",
                f"these can: {', '.join(lower.DTYPES)}, of a fixed shape",
            )
    link, image = connect(place, facts, model, counting, signature=signature, toolchain=toolchain, kernels=kernels)
    try:
        info = link.hello()
        if place.board is not None:
            expect_board(str(place), info)
        link.expect_model(facts.sha256)
        _expect_borders(str(place), info, inputs, outputs)
        return PlainRunning(str(place), facts, inputs, outputs, link, info, image)
    except BaseException:
        link.close()
        raise


def _expect_borders(target: str, info: Info, inputs: Sequence[Border], outputs: Sequence[Border]) -> None:
    """The device must mean the same signature of the model."""
    if info.kind != "plain":
        raise LinkError(f"{target} holds a language model, and the file is none", "flash the image of this model")
    for told, expected in ((info.inputs, inputs), (info.outputs, outputs)):
        if told is not None and [(b.dtype, b.shape) for b in told] != [(b.dtype, b.shape) for b in expected]:
            raise LinkError(
                f"{target} has other inputs or outputs: {_described(told)}",
                "it was built with another --signature, or the model's file was changed",
            )


def _described(borders: Sequence[BorderInfo]) -> str:
    return ", ".join(f"{border.dtype}{list(border.shape)}" for border in borders)
