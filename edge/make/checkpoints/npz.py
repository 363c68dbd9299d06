"""Our own training output: a numpy archive (.npz) with a checkpoint's weights, and three members of bytes.

`config` is the architecture as JSON, `card` the card as JSON, `tokenizer` a tokenizer.json, each as uint8 [bytes].
Every other member is a weight, float32, under its name in `Checkpoint`. Nothing is pickled. The same checkpoint always
gives the same bytes: members are sorted and carry the zip format's first date.
"""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.make.checkpoints import Architecture, Checkpoint, RopeScaling, shapes_beside
from edge.replacing import replacing
from firmware_tools.errors import BadFile

SUFFIXES = (".npz",)
LARGEST_BYTES = 1 << 31  # of all members together, unpacked
LARGEST_TEXT_BYTES = 1 << 26  # of config, card or tokenizer
LARGEST_HEADER_BYTES = 1 << 12  # of one array's header in numpy's format
# What zipfile, zlib, json and numpy raise on a damaged or hostile archive: the file's fault, and one error to the user.
FAULTS = (OSError, ValueError, TypeError, EOFError, SyntaxError, ArithmeticError, MemoryError, RuntimeError)
FAULTS += (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error)  # type: ignore[assignment]
TEXTS = ("config", "card", "tokenizer")
NEWER = {"head_dim", "rope_scaling"}  # fields that files of older versions do not have
FIRST_DATE = (1980, 1, 1, 0, 0, 0)
HINT = "give the .npz that `edge train` left"
MOST = {"vocab_size": 1 << 20, "dim": 1 << 16, "hidden_dim": 1 << 18, "layers": 1 << 10, "heads": 1 << 10}
MOST |= {"kv_heads": 1 << 10, "context": 1 << 20}


def recognises(path: Path) -> bool:
    """Whether the file has the suffix."""
    return path.suffix in SUFFIXES


def load(path: Path, tokenizer: Path | None = None) -> Checkpoint:
    """Reads a checkpoint; tokenizer, where given, replaces the one inside. BadFile where anything is not right."""
    try:
        members = _members(path)
        texts = {name: members.pop(name).tobytes() for name in TEXTS}
        architecture = _architecture(json.loads(texts["config"]))
        card = json.loads(texts["card"])
        own = texts["tokenizer"] if tokenizer is None else tokenizer.read_bytes()
    except BadFile as error:
        raise BadFile(f"{path} is not a whole checkpoint: {error.message}", HINT) from error
    except KeyError as error:
        raise BadFile(f"{path} is not a whole checkpoint: it has no {error}", HINT) from error
    except FAULTS as error:
        raise BadFile(f"cannot read {path} as a checkpoint: {error}", HINT) from error
    if not isinstance(card, dict):
        raise BadFile(f"{path} is not a whole checkpoint: its card is no JSON object", HINT)
    _check_weights(path, architecture, members)
    return Checkpoint(architecture, members, own, card)


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes the archive whole or not at all; UserError where that fails."""
    shape = checkpoint.architecture
    texts = {
        "config": json.dumps(_config(shape), sort_keys=True).encode(),
        "card": json.dumps(dict(checkpoint.card), sort_keys=True).encode(),
        "tokenizer": checkpoint.tokenizer,
    }
    members: dict[str, NDArray[Any]] = {name: np.frombuffer(text, np.uint8) for name, text in texts.items()}
    members |= {name: np.asarray(weight, np.float32) for name, weight in checkpoint.weights.items()}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in sorted(members):
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(members[name]), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", FIRST_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, data.getvalue())
    with replacing(path) as output:
        output.write(archive.getvalue())


def _config(shape: Architecture) -> dict[str, Any]:
    """The fields, but for those of NEWER that say nothing new: an older reader takes the others."""
    config = dataclasses.asdict(shape)
    if shape.head_dim * shape.heads == shape.dim:
        del config["head_dim"]
    if shape.rope_scaling is None:
        del config["rope_scaling"]
    return config


def _members(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of the archive, once its stated sizes are known to be sound."""
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        names = [info.filename for info in infos]
        if sum(info.file_size for info in infos) > LARGEST_BYTES:
            raise BadFile(f"it unpacks to more than {LARGEST_BYTES} bytes")
        if len(set(names)) != len(names) or not all(name.endswith(".npy") for name in names):
            raise BadFile("it has a member twice, or one that is no array")
        if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in infos):
            raise BadFile("it is compressed in a way that numpy does not use")
        for info in infos:
            if info.filename.removesuffix(".npy") in TEXTS and info.file_size > LARGEST_TEXT_BYTES:
                raise BadFile(f"its {info.filename} is larger than {LARGEST_TEXT_BYTES} bytes")
        return {info.filename.removesuffix(".npy"): _array(archive, info) for info in infos}


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    """One member, whose header must promise as many bytes as the member has."""
    name = info.filename.removesuffix(".npy")
    data = archive.read(info)  # at most the stated size, checked against its CRC
    array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False, max_header_size=LARGEST_HEADER_BYTES)
    kind = np.uint8 if name in TEXTS else np.float32
    if array.dtype != kind or not 1 <= array.ndim <= 2 or not 0 <= len(data) - array.nbytes <= LARGEST_HEADER_BYTES:
        raise BadFile(f"its member {name[:40]!r} is no {np.dtype(kind).name} array of one or two dimensions")
    return np.ascontiguousarray(array)


def _architecture(config: Any) -> Architecture:
    """The architecture, each number of its type and in range."""
    fields = {field.name for field in dataclasses.fields(Architecture)}
    if not isinstance(config, dict) or not fields - NEWER <= set(config) <= fields:
        raise BadFile("its config does not have the fields of an architecture")
    for name, most in MOST.items() if "head_dim" not in config else {**MOST, "head_dim": 1 << 12}.items():
        if type(config[name]) is not int or not 1 <= config[name] <= most:
            raise BadFile(f"its config has {name} = {config[name]!r}")
    for name in ("rope_theta", "norm_eps"):
        if type(config[name]) not in (int, float) or not 0 < config[name] < 1e12:
            raise BadFile(f"its config has {name} = {config[name]!r}")
    shape = Architecture(**{**config, "rope_scaling": _scaling(config.get("rope_scaling"))})
    undivided = "head_dim" not in config and shape.dim % shape.heads
    if undivided or shape.heads % shape.kv_heads or shape.head_dim % 2:
        raise BadFile("its config has heads that do not divide its dimensions")
    return shape


def _scaling(config: Any) -> RopeScaling | None:
    if config is None:
        return None
    fields = {field.name: str if field.name == "kind" else (int, float) for field in dataclasses.fields(RopeScaling)}
    if isinstance(config, dict) and set(config) == set(fields):
        sound = all(isinstance(config[name], kind) for name, kind in fields.items())
        if sound and (scaling := RopeScaling(**config)).is_sound():
            return scaling
    raise BadFile("its config has a rope_scaling that is none")


def _check_weights(path: Path, shape: Architecture, weights: Mapping[str, NDArray[Any]]) -> None:
    wanted = shapes_beside(shape, weights)
    if set(weights) != set(wanted):
        odd = sorted(set(weights) ^ set(wanted))[0]
        raise BadFile(f"{path} is not a whole checkpoint: weight {odd[:40]!r} is missing or not expected", HINT)
    for name, size in wanted.items():
        if weights[name].shape != size:
            found, right = (" x ".join(map(str, each)) for each in (weights[name].shape, size))
            raise BadFile(f"{path} is not a whole checkpoint: {name} is {found}, not {right}", HINT)
        if not np.isfinite(weights[name]).all():
            raise BadFile(f"{path} is not a sound checkpoint: {name} holds numbers that are not finite", HINT)
