"""Numbers from files or the command line, as a plain model stores its inputs.

    X.npy     any array of numbers        X.csv     numbers parted by commas, a line for each row
    NUMBERS   parted by commas or spaces, as `0.5` or `1,2,3`

A model that takes a text (`edge.words`) is given one, or a file with a text on each line; an .npy or .csv has ids then.

Numbers of a type that the model stores are taken as they are, and so are other integers of an .npy. Real numbers, and
whatever comes as text, are quantized by the input's scale where it has one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.tasks import read_text
from edge.words import Words
from firmware_tools.errors import BadFile, UserError
from firmware_tools.program import Border

Array = NDArray[Any]
MOST_BYTES = 1 << 30  # of a file that is read
NUMBER_FILES = (".npy", ".csv")
TEXT_HINT = '--input "SOME WORDS", or --input FILE.txt with a text on each line'


def one(specs: Sequence[str], borders: Sequence[Border], words: Words | None = None) -> tuple[Array, ...]:
    """One set of inputs, each in its border's type and shape."""
    batch = many(specs, borders, words)
    if len(batch) != 1:
        hint = "`edge eval` takes many, with --labels or --reference"
        raise UserError(f"the input holds {len(batch)} samples, and one is run", hint)
    return batch[0]


def many(specs: Sequence[str], borders: Sequence[Border], words: Words | None = None) -> list[tuple[Array, ...]]:
    """Sets of inputs, one for each sample.

    specs: what `--input` was given: FILE, NUMBERS or a text for the only input, NAME=FILE for each of several.
    words: of a model that takes a text.

    Raises:
        UserError: an input is missing or unknown, or its numbers are not what the model takes; says what that is.
    """
    if words is not None:
        return [(ids,) for ids in _texts(specs, borders, words)]
    given = _assigned(specs, borders)
    columns = [_samples(given[border.name], border) for border in borders]
    counts = sorted({len(column) for column in columns})
    if len(counts) > 1:
        raise UserError(f"the inputs hold different numbers of samples: {', '.join(map(str, counts))}")
    return [tuple(column[i] for column in columns) for i in range(counts[0] if counts else 1)]


def wanted(border: Border) -> str:
    """What an input takes, in words."""
    kind = f"{border.dtype}{list(border.shape)}"
    if border.dtype == "float32" or border.scale is None:
        return kind
    return f"{kind}, or real numbers that its scale {border.scale:.6g} and zero point {border.zero_point} quantize"


def _assigned(specs: Sequence[str], borders: Sequence[Border]) -> dict[str, str]:
    """Name of each input -> where its numbers are."""
    names = [border.name for border in borders]
    if len(set(names)) != len(names):
        raise UserError("inputs of the model share a name, so that none can be meant", "rename them in the model")
    given: dict[str, str] = {}
    for spec in specs:
        name, equals, value = spec.partition("=")
        if not equals or name not in names:
            if len(names) != 1:
                raise UserError(f"--input {spec} does not say which input it is for", _how(borders))
            name, value = names[0], spec
        if name in given:
            raise UserError(f"the input {name} is given twice", _how(borders))
        given[name] = value
    missing = [border for border in borders if border.name not in given]
    if missing:
        raise UserError(f"the model wants the input {missing[0].name}: {wanted(missing[0])}", _how(borders))
    return given


def _texts(specs: Sequence[str], borders: Sequence[Border], words: Words) -> list[Array]:
    """Ids for the only input of a model that takes a text."""
    if len(borders) != 1 or np.dtype(borders[0].dtype).kind != "i":
        raise BadFile("the model says that it takes a text, and has no single input of ids", "convert it again")
    if len(specs) != 1:
        raise UserError("the model wants one text" if not specs else "the text is given twice", TEXT_HINT)
    (border,), (source,) = borders, specs
    if Path(source).suffix in NUMBER_FILES:
        return _samples(source, border)
    found = [words.ids(text, border.size) for text in _lines(source)]
    return [as_stored(ids, border, _name(source)).reshape(border.shape) for ids in found]


def _lines(source: str) -> list[str]:
    """The lines of a file, or the text itself where it names none."""
    path = Path(source)
    try:
        if path.suffix != ".txt" and not path.is_file():
            return [source]
    except OSError:  # a text may be too long for a name
        return [source]
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise BadFile(f"{source} is larger than {MOST_BYTES >> 20} MiB")
    lines = read_text(path).removesuffix("\n").split("\n")
    if lines == [""]:
        raise BadFile(f"{source} is empty", TEXT_HINT)
    return lines


def _how(borders: Sequence[Border]) -> str:
    if len(borders) == 1:
        return "--input X.npy, --input X.csv or --input NUMBERS"
    return " ".join(f"--input {border.name}=FILE" for border in borders)


def _samples(source: str, border: Border) -> list[Array]:
    array = numbers(source)
    rows = _rows(array, border)
    if rows is None:
        raise UserError(
            f"{_name(source)} has the shape {list(array.shape)}, and the model wants {wanted(border)}",
            "a sample may also be flat; many samples lie along the first axis",
        )
    return [as_stored(row, border, _name(source)).reshape(border.shape) for row in rows]


def _rows(array: Array, border: Border) -> list[Array] | None:
    """The samples in an array, None where its shape is neither of one nor of many."""
    if _fits(array.shape, border):
        return [array]
    if array.ndim and len(array) and array.size == len(array) * border.size and _fits(array.shape[1:], border):
        return list(array)
    return None


def _fits(shape: tuple[int, ...], border: Border) -> bool:
    """The border's shape, whatever its axes of length 1, or all its elements in a row."""
    lengths = [size for size in shape if size != 1]
    return lengths in ([size for size in border.shape if size != 1], [border.size] if border.size != 1 else [])


def numbers(source: str) -> Array:
    """The numbers of a file, or of the text itself where it names none."""
    path = Path(source)
    try:
        if path.suffix in (".npy", ".csv", ".txt") or path.is_file():
            if path.stat().st_size > MOST_BYTES:
                raise BadFile(f"{source} is larger than {MOST_BYTES >> 20} MiB")
            return _of_npy(path) if path.suffix == ".npy" else _of_text(path.read_text(encoding="utf-8"), source)
    except OSError as error:
        raise BadFile(f"{source} cannot be read: {error.strerror}", "give an .npy, a .csv, or the numbers") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"{source} is not text", "give an .npy, a .csv, or the numbers") from error
    return _of_text(source, _name(source))


def _name(source: str) -> str:
    return source if len(source) <= 60 else f"{source[:57]}…"


def _of_npy(path: Path) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise BadFile(f"{path} is not an .npy of numbers", "numpy.save writes one") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub" or not array.size:
        raise BadFile(f"{path} is not an .npy of numbers", "numpy.save writes one")
    return array


def _of_text(text: str, name: str) -> Array:
    """float64 [rows, columns], or [columns] of one row."""
    rows = [re.split(r"[,;\s]+", line.strip().strip(",;")) for line in text.splitlines() if line.strip()]
    try:
        array = np.array([[float(word) for word in row] for row in rows])
    except ValueError:
        raise BadFile(f"{name} is neither a file nor numbers in rows of one length", "give an .npy or a .csv") from None
    if not array.size:
        raise BadFile(f"{name} has no numbers", "give an .npy or a .csv")
    return array[0] if len(array) == 1 else array


def as_stored(array: Array, border: Border, name: str) -> Array:
    """Numbers as the input stores them: quantized, or checked to be in range."""
    dtype = np.dtype(border.dtype)
    if array.dtype == dtype:
        return array
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{name} has numbers that are not finite", f"the model wants {wanted(border)}")
    if dtype.kind == "f":
        return array.astype(dtype)
    limits = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    if array.dtype.kind == "f" and border.scale is not None:
        scaled = array.astype(np.float32) / np.float32(border.scale)
        away = np.trunc(scaled.astype(np.float64) + np.copysign(0.5, scaled))  # halves away from zero, as TFLite
        stored: Array = np.clip(away + border.zero_point, *limits).astype(dtype)
        return stored
    if array.dtype.kind == "f" and (array != np.trunc(array)).any():
        raise UserError(f"{name} has numbers that are not whole", f"the model wants {wanted(border)}")
    if array.min() < limits[0] or array.max() > limits[1]:
        worst = array.min() if array.min() < limits[0] else array.max()
        raise UserError(
            f"{name} has {worst:g}, and {border.dtype} holds {limits[0]} to {limits[1]}",
            f"the model wants {wanted(border)}",
        )
    return array.astype(dtype)


def as_real(array: Array, border: Border) -> Array:
    """What stored numbers stand for: real = scale * (stored - zero point), float32; others as they are."""
    if border.scale is None or array.dtype.kind == "f":
        return array
    centred = array.astype(np.int64) - border.zero_point
    real: Array = centred.astype(np.float32) * np.float32(border.scale)
    return real
