"""Files of the format safetensors: what lies in them, checked by the package `safetensors`, and its numbers one by one.

The package's side for numpy does not know bfloat16, so numbers are read from the file here, where the checked header
says they are, and widened to float32. Nothing is mapped or kept: memory holds the weight that was asked for.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_tools.errors import BadFile, MissingTool

SUFFIX = ".safetensors"
INDEX = "model.safetensors.index.json"
LARGEST_INDEX_BYTES = 1 << 26
LENGTH = struct.Struct("<Q")  # of the header, which the file begins with
HINT = "copy or download it again"


def _widen_bfloat16(values: NDArray[Any]) -> NDArray[np.float32]:
    """bfloat16 is the upper half of float32."""
    return (values.astype(np.uint32) << 16).view(np.float32)


def _widen(values: NDArray[Any]) -> NDArray[np.float32]:
    return values.astype(np.float32, copy=False)


# name in a header -> numpy's type of what is stored, and how it becomes float32
KINDS: dict[str, tuple[str, Callable[[NDArray[Any]], NDArray[np.float32]]]] = {
    "F32": ("<f4", _widen),
    "F16": ("<f2", _widen),
    "BF16": ("<u2", _widen_bfloat16),
}


@dataclass(frozen=True)
class Stored:
    """A tensor of a file, not yet read."""

    path: Path
    kind: str
    shape: tuple[int, ...]
    start: int  # of its first byte in the file

    def read(self, rows: int | None = None) -> NDArray[np.float32]:
        """Its numbers, or those of the first rows; BadFile where the file has fewer than it had."""
        dtype, widen = KINDS[self.kind]
        shape = self.shape if rows is None else (rows, *self.shape[1:])
        try:
            values = np.fromfile(self.path, dtype, math.prod(shape), offset=self.start)
        except OSError as error:
            raise BadFile(f"cannot read {self.path}: {error.strerror}", HINT) from error
        if values.size != math.prod(shape):
            raise BadFile(f"{self.path} changed while it was read", "try again")
        return widen(values).reshape(shape)


@dataclass(frozen=True)
class Part:
    """What a weight is made of: the first rows (None: all) of a tensor, times a number."""

    tensor: Stored
    rows: int | None = None
    factor: float = 1.0


class Weights(Mapping[str, NDArray[np.float32]]):
    """Weights by name, each read when it is asked for; none is kept."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = parts

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        part = self.parts[name]
        weight = part.tensor.read(part.rows)
        return weight if part.factor == 1.0 else weight * np.float32(part.factor)

    def __contains__(self, name: object) -> bool:
        return name in self.parts

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)


def files(path: Path) -> tuple[Path, ...]:
    """The files of a model, whole or in shards: path is one of them, the index, or their folder."""
    folder = path if path.is_dir() else path.parent
    index = folder / INDEX
    if path.suffix == SUFFIX:
        shards = _listed(index) if index.is_file() else ()
        return shards if path.name in {shard.name for shard in shards} else (path,)
    whole = folder / f"model{SUFFIX}"
    if path.is_dir() and whole.is_file():
        return (whole,)
    if index.is_file():
        return _listed(index)
    found = tuple(sorted(folder.glob(f"*{SUFFIX}")))
    if len(found) != 1:
        what = "no file" if not found else f"{len(found)} files"
        raise BadFile(f"{folder} has {what} *{SUFFIX}, and no {INDEX} that says which to take", HINT)
    return found


def _listed(index: Path) -> tuple[Path, ...]:
    """The shards that an index names, each there and beside it."""
    named = json_object(index, LARGEST_INDEX_BYTES).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise BadFile(f"{index} has no weight_map from tensors to files", HINT)
    names = sorted(set(named.values()))
    for name in names:
        if "/" in name or "\\" in name or ":" in name or not name.endswith(SUFFIX) or name.startswith("."):
            raise BadFile(f"{index} names the file {name[:80]!a}, which is no {SUFFIX} beside it", HINT)
        if not (index.parent / name).is_file():
            raise BadFile(f"{index} names the file {name}, which is not there", "download all of the model's files")
    return tuple(index.parent / name for name in names)


def json_object(path: Path, most_bytes: int = 1 << 24) -> dict[str, Any]:
    """What a JSON file holds; BadFile unless that is an object."""
    try:
        if path.stat().st_size > most_bytes:
            raise BadFile(f"{path} has more than {most_bytes} bytes", HINT)
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise BadFile(f"cannot read {path}: {error.strerror}", HINT) from error
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{path} is not JSON: {str(error)[:200]}", HINT) from error
    if not isinstance(value, dict):
        raise BadFile(f"{path} is not a JSON object", HINT)
    return value


def tensors(paths: tuple[Path, ...]) -> dict[str, Stored]:
    """Everything that lies in the files, by name; no numbers are read."""
    found: dict[str, Stored] = {}
    for path in paths:
        for name, stored in _in_file(path):
            if name in found:
                raise BadFile(f"{name[:80]!a} is in {found[name].path.name} and in {path.name}", HINT)
            found[name] = stored
    return found


def _in_file(path: Path) -> Iterator[tuple[str, Stored]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingTool("the package safetensors is not installed", "pip install safetensors") from error
    try:
        with safe_open(path, framework="numpy"):  # checks lengths, offsets, types and shapes against the file
            pass
        with path.open("rb") as file:
            (length,) = LENGTH.unpack(file.read(LENGTH.size))
            header = json.loads(file.read(length))
    except SafetensorError as error:
        raise BadFile(f"{path} is damaged or cut off: {str(error)[:200]}", HINT) from error
    except OSError as error:
        raise BadFile(f"cannot read {path}: {error.strerror or error}", HINT) from error
    except (ValueError, struct.error) as error:
        raise BadFile(f"{path} changed while it was read", "try again") from error
    for name, entry in header.items():
        if name != "__metadata__":
            start = LENGTH.size + length + entry["data_offsets"][0]
            yield name, Stored(path, entry["dtype"], tuple(entry["shape"]), start)
