"""What a file with the metadata key `edge.contract` promises (docs/model-file.md), checked when it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeAlias

from firmware_tools import vocabulary
from firmware_tools.errors import BadFile
from firmware_tools.mapped import Malformed

MAJOR = 1
QUANTIZATIONS = (
    *("int8", "float32", "float16", "int4", "int4-32", "int4-64", "int4-128", "int4-grid", "mixed"),
    *("int8-static", "int8-static+int16", "int16x8"),
)
MAX_CARD_BYTES = 1 << 16
MAX_STOP_IDS = 32  # a device names them all in one frame
MAX_TEMPLATE_BYTES = 4096
KEYS = ("edge.contract", "edge.tokenizer", "edge.card")

Border: TypeAlias = Mapping[str, tuple[str, tuple[int, ...]]]  # name -> dtype, shape
Shapes: TypeAlias = tuple[Border, Border]  # inputs, outputs of a signature
Open: TypeAlias = Mapping[str, Mapping[str, tuple[int, ...]]]

# the largest value of each size in the card; what the file really holds is bounded by its length
SIZES = {
    "vocab_size": 1 << 20,
    "dim": 1 << 16,
    "hidden_dim": 1 << 18,
    "layers": 1 << 10,
    "heads": 1 << 10,
    "kv_heads": 1 << 10,
    "head_dim": 1 << 12,
    "context": 1 << 20,
    "prefill": 1 << 20,
}

CHAT_PIECES = ("first", "after", "next")  # of the key `chat`: before a first text, before an answer, behind it
MAX_PIECE_PARTS = 64


def check(
    metadata: Mapping[str, bytes], signatures: Mapping[str, Shapes], open_tensors: Open
) -> tuple[str | None, dict[str, Any]]:
    """The contract's version and the card; (None, {}) for a file that claims none.

    open_tensors: by signature and name, the shape signatures of those tensors at its border that leave a length open.

    Raises Malformed or BadFile where the file does not keep what it claims.
    """
    if "edge.contract" not in metadata:
        strays = [key for key in KEYS if key in metadata]
        if strays:
            raise Malformed(f"it has {strays[0]} but no edge.contract")
        return None, {}
    version = _version(metadata["edge.contract"])
    for key in KEYS:
        if key not in metadata:
            raise Malformed(f"it has no {key}")
    card = _card(metadata["edge.card"])
    shape = card["architecture"]
    _check_tokenizer(metadata["edge.tokenizer"], shape["vocab_size"])
    for name, (inputs, outputs) in _borders(shape).items():
        if name not in signatures:
            raise Malformed(f"it has no signature {name}")
        _check_border(signatures[name][0], inputs, f"input of {name}")
        _check_border(signatures[name][1], outputs, f"output of {name}")
    _check_open(open_tensors, shape)
    return version, card


def _version(raw: bytes) -> str:
    major, _, minor = raw[:16].partition(b".")
    if not (major.isdigit() and minor.isdigit()):
        raise Malformed("edge.contract is not a version")
    if int(major) != MAJOR:
        raise BadFile(
            f"the model follows version {int(major)} of the file's contract, this edge reads version {MAJOR}",
            "convert it again, or take the edge that made it",
        )
    return f"{int(major)}.{int(minor)}"


def _refuse(what: str) -> NoReturn:
    raise Malformed(f"the card's {what}")


def _card(raw: bytes) -> dict[str, Any]:
    """The card, every key of the contract there and in range."""
    if len(raw) > MAX_CARD_BYTES:
        _refuse(f"JSON has {len(raw)} bytes, more than {MAX_CARD_BYTES}")
    try:
        card = json.loads(raw.decode(), parse_constant=_refuse)
        json.dumps(card, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        _refuse("JSON cannot be read")
    if not isinstance(card, dict):
        _refuse("JSON is not an object")
    for key in ("name", "licence", "source"):
        _check(card, key, lambda value: isinstance(value, str) and len(value) <= 1000)
    _check(card, "name", lambda value: bool(value.strip()))
    _check(card, "quantization", lambda value: value in QUANTIZATIONS)
    _check(card, "architecture", _is_architecture)
    vocab_size = card["architecture"]["vocab_size"]
    _check(card, "bos_id", lambda value: value is None or _is_integer(value, 0, vocab_size - 1))
    _check(card, "stop_ids", lambda value: _are_ids(value, vocab_size))
    _check(card, "template", _is_template)
    if card.get("chat") is not None and not is_chat(card["chat"], vocab_size):
        _refuse("chat is out of range or of another type")
    return card


def _check(card: Mapping[str, Any], key: str, holds: Callable[[Any], bool]) -> None:
    if key not in card:
        _refuse(f"{key} is missing")
    if not holds(card[key]):
        _refuse(f"{key} is out of range or of another type")


def _is_integer(value: object, lowest: int, highest: int) -> bool:
    return type(value) is int and lowest <= value <= highest


def _is_number(value: object, above: float, below: float) -> bool:
    """A real number in the open interval."""
    return type(value) in (int, float) and above < value < below and math.isfinite(value)  # type: ignore[operator, arg-type]


def _are_ids(value: object, vocab_size: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_STOP_IDS
        and all(_is_integer(id, 0, vocab_size - 1) for id in value)
    )


def _is_template(value: object) -> bool:
    """{"before": str, "after": str}; without NUL, which ends a string on the device."""
    return isinstance(value, dict) and all(
        isinstance(value.get(key), str) and len(value[key]) <= MAX_TEMPLATE_BYTES and "\0" not in value[key]
        for key in ("before", "after")
    )


def is_chat(value: object, vocab_size: int) -> bool:
    """{"first": piece, "after": piece, "next": piece, "system": null or [piece, piece], "trim": bool}, the last two
    optional; a piece is a list of ids of tokens and of texts."""
    if not isinstance(value, dict):
        return False
    system, trim = value.get("system"), value.get("trim", False)
    pieces = [value.get(name) for name in CHAT_PIECES] + (system if isinstance(system, list) else [])
    return (
        all(_is_piece(piece, vocab_size) for piece in pieces)
        and (system is None or isinstance(system, list) and len(system) == 2)
        and isinstance(trim, bool)
    )


def _is_piece(value: object, vocab_size: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_PIECE_PARTS
        and sum(len(part) for part in value if isinstance(part, str)) <= MAX_TEMPLATE_BYTES
        and all(isinstance(part, str) or _is_integer(part, 0, vocab_size - 1) for part in value)
    )


def _is_architecture(value: object) -> bool:
    if not isinstance(value, dict) or not all(_is_integer(value.get(key), 1, most) for key, most in SIZES.items()):
        return False
    return (
        value["heads"] % value["kv_heads"] == 0
        and value["head_dim"] % 2 == 0
        and value["prefill"] <= value["context"]
        and _is_number(value.get("rope_theta"), 0.0, 1e12)
        and _is_number(value.get("norm_eps"), 0.0, 1.0)
        and _is_scaling(value.get("rope_scaling"))
    )


def _is_scaling(value: object) -> bool:
    """None, or {"kind": str, …: numbers}."""
    if not isinstance(value, dict):
        return value is None
    numbers = [number for key, number in value.items() if key != "kind"]
    return isinstance(value.get("kind"), str) and all(_is_number(number, -1.0, 1e12) for number in numbers)


def _check_tokenizer(raw: bytes, vocab_size: int) -> None:
    pieces = len(vocabulary.read(raw).pieces)
    if pieces != vocab_size:
        raise Malformed(f"its tokenizer has {pieces} tokens and its card says {vocab_size}")


def _borders(shape: Mapping[str, Any]) -> dict[str, Shapes]:
    """What the signatures take and give, by the contract."""
    rows, layers = shape["kv_heads"] * shape["head_dim"], range(shape["layers"])
    caches: Border = {f"{side}_{i}": ("float32", (shape["context"] * rows,)) for side in "kv" for i in layers}

    def outputs(count: int) -> Border:
        new: Border = {f"{side}_new_{i}": ("float32", (count * rows,)) for side in "kv" for i in layers}
        return {"logits": ("float32", (shape["vocab_size"],)), **new}

    one = ("int32", (1,))
    prefill: Border = {"tokens": ("int32", (shape["prefill"],)), "position": one, "length": one, **caches}
    return {
        "decode": ({"token": one, "position": one, **caches}, outputs(1)),
        "prefill": (prefill, outputs(shape["prefill"])),
    }


def _check_open(open_tensors: Open, shape: Mapping[str, Any]) -> None:
    """Of both signatures all caches have a length that may be chosen, or nothing has."""
    caches = {f"{side}_{i}": (-1,) for side in "kv" for i in range(shape["layers"])}
    if any(open_tensors.get(name) for name in ("decode", "prefill")):
        for name in ("decode", "prefill"):
            if open_tensors.get(name) != caches:
                raise Malformed(f"{name} leaves open other lengths than those of its caches")


def _check_border(found: Border, expected: Border, what: str) -> None:
    for name in expected:
        if name not in found:
            raise Malformed(f"the {what} {name} is missing")
        if found[name] != expected[name]:
            dtype, shape = expected[name]
            got_dtype, got_shape = found[name]
            raise Malformed(f"the {what} {name} is {got_dtype}{list(got_shape)} instead of {dtype}{list(shape)}")
    strays = set(found) - set(expected)
    if strays:
        raise Malformed(f"it has an {what} that the contract does not know")
