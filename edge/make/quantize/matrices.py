"""The matrices of a file in a scheme: read, rounded and put aside one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.make.calibrate import Calibration
from edge.make.checkpoints import Architecture, Grid, Weights
from edge.make.quantize import BLOCKS, GRID, MIXED, Matrix, quantize
from edge.make.quantize.grid import check as check_grids
from edge.make.quantize.grid import on_grid
from edge.make.quantize.layerwise import PARTS, Progress, compensated_layers, silent
from edge.make.quantize.mixed import Budget, choose
from edge.make.quantize.rounding import Form, int4_form
from firmware_tools.errors import UserError

Keep = Callable[[NDArray[Any]], NDArray[Any]]  # where an array waits until all are quantized


@dataclass(frozen=True)
class Rounding:
    """What else decides how weights are rounded: texts, the budget of `mixed`, who is told how far it is, and the
    blocks that the source has its weights in.
    """

    calibration: Calibration | None = None
    budget: Budget = Budget()
    progress: Progress = silent
    grids: Mapping[str, Grid] = field(default_factory=dict)


def as_it_is(array: NDArray[Any]) -> NDArray[Any]:
    """Keeps an array in memory."""
    return array


def needs_texts(scheme: str) -> bool:
    """Whether a scheme rounds on texts even where none are given."""
    return scheme in BLOCKS or scheme == MIXED


def matrices(
    shape: Architecture, weights: Weights, scheme: str, rounding: Rounding, keep: Keep = as_it_is
) -> tuple[dict[str, Matrix], dict[str, Any]]:
    """Every matrix of the file, embedding and head first (the same object where it is tied); and keys for the card."""

    def kept(matrix: Matrix) -> Matrix:
        scales, offsets = (None if each is None else keep(each) for each in (matrix.scales, matrix.offsets))
        return dataclasses.replace(matrix, values=keep(matrix.values), scales=scales, offsets=offsets)

    grids = rounding.grids if scheme == GRID else {}
    if scheme == GRID:
        check_grids(grids)
    made = {"embedding": kept(quantize(weights["embedding"], scheme, coarse=False))}
    tied = "head" not in weights
    made["head"] = made["embedding"] if tied else kept(quantize(weights["head"], scheme, coarse=False))
    texts, said = rounding.calibration, {}
    if texts is not None:
        said["calibration"] = texts.source
    if scheme == MIXED and texts is not None:
        chosen = choose(shape, weights, made["embedding"], texts.ids, rounding.budget, rounding.progress)
        made.update({name: kept(matrix) for name, matrix in chosen.matrices.items()})
        return made, {**said, "mixed": chosen.card()}
    if texts is not None and (scheme in BLOCKS or scheme == "int8"):
        forms = {name: Form(8) for name in PARTS} if scheme == "int8" else _int4_forms(shape, BLOCKS[scheme])
        form_of = {f"{index}.{name}": forms[name] for index in range(shape.layers) for name in PARTS}
        ids, progress = texts.ids, rounding.progress
        made |= compensated_layers(shape, weights, made["embedding"], ids, form_of.__getitem__, progress, kept)
        return made, said
    for index in range(shape.layers):
        for name, parts in PARTS.items():
            names = [f"{index}.{part}" for part in parts]
            if all(each in grids for each in names):
                made[f"{index}.{name}"] = kept(on_grid([grids[each] for each in names]))
                continue
            read = [weights[each] for each in names]
            made[f"{index}.{name}"] = kept(quantize(np.concatenate(read) if len(read) > 1 else read[0], scheme))
    return made, said


def _int4_forms(shape: Architecture, block: int) -> dict[str, Form]:
    """Of each matrix of a layer."""
    columns = {"o": shape.heads * shape.head_dim, "down": shape.hidden_dim}
    forms = {name: int4_form(columns.get(name, shape.dim), block) for name in PARTS}
    if block and not any(form.block for form in forms.values()):
        what = f"no matrix of this model has rows of whole blocks of {block} columns"
        hint = f"its rows have {shape.dim} or {shape.hidden_dim}: choose a smaller block, or int4"
        raise UserError(f"int4-{block} does not go with it: {what}", hint)
    return forms
