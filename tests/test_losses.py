"""What a report says is lost: read back from the file, and held against an independent decoder."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.decide import losses as report
from edge.make.calibrate import Calibration, own_samples
from edge.make.convert import convert
from edge.make.losses import RESCALED, Losses, decibels, losses, matrices, refuse_rescaled
from edge.make.stored import StoredMatrices
from firmware_tools import graph
from firmware_tools.errors import UserError
from tests import oracle, test_grid, tiny

CHECKPOINT = tiny.checkpoint(hidden_dim=64)
TEXTS = own_samples(CHECKPOINT, 96)
PARTS = {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}


def converted(*what: Any, **form: Any) -> graph.Graph:
    return graph.read(convert(*what, **form))


def source(name: str) -> np.ndarray:
    layer, _, part = name.rpartition(".")
    if not layer:
        return np.asarray(CHECKPOINT.weights["embedding"])
    return np.concatenate([CHECKPOINT.weights[f"{layer}.{each}"] for each in PARTS[part]])


@pytest.mark.parametrize(
    ("scheme", "runtime", "low", "high"),
    [
        ("float32", None, 0, 0),
        ("float16", None, 1e-5, 1e-3),
        ("int8", None, 1e-3, 0.01),
        ("int8", "2.14", 1e-3, 0.01),
        ("int4", None, 0.03, 0.2),
        ("int4-32", None, 0.03, 0.2),
    ],
)
def test_matrices_are_read_back_as_they_are_computed_with(
    scheme: str, runtime: str | None, low: float, high: float
) -> None:
    """A scale of a wrong row, block or kind would leave errors as large as the weights."""
    stored = StoredMatrices(converted(CHECKPOINT, scheme, runtime=runtime))
    for name in matrices(CHECKPOINT):
        exact = source(name)
        found = stored.matrix("head" if name == "embedding" else name, exact.shape)
        errors = np.linalg.norm(found - exact, axis=1) / np.linalg.norm(exact, axis=1)
        coarse = scheme.startswith("int4") and name == "embedding"  # which stays int8
        assert ((1e-3 if coarse else low) <= errors.mean()) and (errors <= 2 * (0.01 if coarse else high)).all(), name


def test_numbers_are_the_oracles() -> None:
    scheme, name = "int4-32", "1.gate_up"
    model = converted(CHECKPOINT, scheme)
    found = losses(CHECKPOINT, {scheme: model}, TEXTS)
    rounded = StoredMatrices(model).matrix(name, source(name).shape)
    gate, up = np.split(rounded, 2)
    changed = dataclasses.replace(CHECKPOINT, weights={**CHECKPOINT.weights, "1.gate": gate, "1.up": up})
    rows: list[list[np.ndarray]] = [[], []]
    for ids in TEXTS.ids:
        for decoder, kept in zip((oracle.Decoder(CHECKPOINT), oracle.Decoder(changed)), rows, strict=True):
            kept += [decoder.step(int(token), position) for position, token in enumerate(ids)]
    (loss,) = (loss for loss in found.losses if loss.matrix == name)
    assert found.tokens == TEXTS.tokens == len(rows[0])
    assert loss.kl == pytest.approx(oracle.divergence(np.array(rows[0]), np.array(rows[1])), rel=1e-3)
    noise = np.square(rounded - source(name)).sum() / np.square(source(name)).sum()
    assert loss.weight_db == pytest.approx(-10 * np.log10(noise), abs=1e-3)
    # rounding that is compensated by its inputs lets weights go further off for outputs that are nearer
    assert loss.weight_db is not None and loss.output_db is not None and loss.output_db > loss.weight_db - 3


def test_outputs_are_on_the_models_own_activations() -> None:
    """The head multiplies the final norm: its error there, by hand."""
    model = converted(CHECKPOINT, "int8")
    found = losses(CHECKPOINT, {"int8": model}, TEXTS)
    exact = source("embedding").astype(np.float64)
    error = StoredMatrices(model).matrix("head", exact.shape) - exact
    powers = np.zeros(2)
    for ids in TEXTS.ids:
        decoder = oracle.Decoder(CHECKPOINT)
        logits = np.array([decoder.step(int(token), position) for position, token in enumerate(ids)])
        x = np.linalg.lstsq(exact, logits.T, rcond=None)[0]  # what the head was given
        powers += np.square(logits).sum(), np.square(error @ x).sum()
    (loss,) = (loss for loss in found.losses if loss.matrix == "embedding")
    assert loss.output_db == pytest.approx(10 * np.log10(powers[0] / powers[1]), abs=0.01)


def test_float_loses_nothing_and_all_lose_more_than_one() -> None:
    found = losses(CHECKPOINT, {scheme: converted(CHECKPOINT, scheme) for scheme in ("float32", "int4")}, TEXTS)
    for loss in found.losses:
        assert (loss.weight_db is None) == (loss.output_db is None) == (loss.scheme == "float32")
        assert (loss.kl < 1e-9) == (loss.scheme == "float32")
    assert found.together["float32"] < 1e-9
    assert found.together["int4"] > max(loss.kl for loss in found.losses)


def test_untied_head_texts_of_several_lengths_and_few_tokens() -> None:
    checkpoint = tiny.checkpoint(seed=5, tied=False)
    texts = Calibration((np.int32([1, 5, 9]), np.int32([1, 7]), np.int32([1, 8, 3])), "three texts")
    found = losses(checkpoint, {"int8": converted(checkpoint, "int8")}, texts)
    assert found.tokens == 8
    assert [loss.matrix for loss in found.losses][-1] == "head"
    assert all(loss.kl > 0 for loss in found.losses)


def test_a_form_that_is_not_known_is_one_error() -> None:
    stored = StoredMatrices(converted(CHECKPOINT, "int8"))
    with pytest.raises(UserError, match=r"no matrix 9\.o"):
        stored.matrix("9.o", (32, 32))
    with pytest.raises(UserError, match="a form that --report does not know"):
        stored.matrix("1.o", (32, 33))


@pytest.mark.parametrize("scheme", RESCALED)
def test_schemes_that_rescale_are_refused(scheme: str) -> None:
    refuse_rescaled(["int8", "int4"])
    with pytest.raises(UserError, match=re.escape(scheme) + " rescales its matrices"):
        refuse_rescaled(["int8", scheme])


def test_decibels() -> None:
    assert decibels(100.0, 1.0) == pytest.approx(20)
    assert decibels(1.0, 0.0) is None


def test_table_and_picture(tmp_path: Path) -> None:
    found = losses(CHECKPOINT, {scheme: converted(CHECKPOINT, scheme) for scheme in ("int8", "int4")}, TEXTS)
    lines = report.text(found).splitlines()
    assert [line.split()[0] for line in lines[3:-2]] == matrices(CHECKPOINT)
    drawn = ElementTree.fromstring(report.svg(found, "a <b>\x1b"))
    bars = [element for element in drawn.iter() if element.tag.endswith("rect") and element.get("fill")]
    assert len(bars) == 3 * len(found.losses) + 2, "a bar for each error of each matrix and scheme, and the legend"
    assert all(float(bar.get("x", 0)) + float(bar.get("width", 0)) <= float(drawn.get("width", 0)) for bar in bars)
    exact = Losses(found.losses[:0], {"float32": 0.0}, 4, "x")
    ElementTree.fromstring(report.svg(exact, "nothing is lost"))


def test_a_kept_grid_is_read_back(tmp_path: Path) -> None:
    """Blocks with an offset are two products that add up, one of them over sums of the input's blocks."""
    read = test_grid.source(tmp_path, test_grid.Type.Q4_1)
    stored = StoredMatrices(converted(read, "int4-grid"))
    for index in range(read.architecture.layers):
        exact = read.weights[f"{index}.o"]
        found = stored.matrix(f"{index}.o", exact.shape)  # type: ignore[arg-type]
        # scales are rounded to bfloat16, and that is all; without the offsets it would be .5
        assert np.linalg.norm(found - exact) <= 4e-3 * np.linalg.norm(exact)
