"""The device's tokenizer compiled for this machine, and tokenizers to try it with."""

from __future__ import annotations

import ctypes
import json
import random
from pathlib import Path

import firmware_tools
from edge import tokenizer
from firmware_tools import build, vocabulary

RUNTIME = Path(firmware_tools.__file__).parent / "runtime"
CANARY = 0xA5A5

ROOMS = ("kitchen", "bedroom", "cellar", "Küche", "salle de bain", "寝室", "🛋")
VERBS = ("turn on", "switch off", "dim", "please raise", "could you lower")
THINGS = ("lamp", "heating", "blinds", "fan", "radio", "naïve thermostat")


def sentences(count: int = 2000, seed: int = 1) -> list[str]:
    """Text to train on: commands with repeated words, numbers, punctuation and a few characters beyond ASCII."""
    pick = random.Random(seed)
    return [
        f"{pick.choice(VERBS)} the {pick.choice(ROOMS)} {pick.choice(THINGS)} to {pick.randrange(100)} %, now"
        + "!" * pick.randrange(3)
        for _ in range(count)
    ]


def trained() -> bytes:
    return tokenizer.train(sentences(), 400)


def word_marked(source: bytes) -> bytes:
    """The same tokenizer as Llama's converter writes it: U+2581 for a space, merges as strings."""
    document = json.loads(source)
    model = document["model"]
    model["vocab"] = {name.replace(" ", "\u2581"): id for name, id in model["vocab"].items()}
    model["merges"] = [" ".join(part.replace(" ", "\u2581") for part in merge) for merge in model["merges"]]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    document["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, replace]}
    document["decoder"]["decoders"].insert(0, back)
    return json.dumps(document).encode()


def random_merges(seed: int, count: int = 120) -> bytes:
    """A tokenizer no training makes: merges of few letters in random order, so that results outrank their parts."""
    pick = random.Random(seed)
    names = ["<unk>", "<s>", "</s>", *tokenizer.BYTES, *"abc é"]
    merges: set[tuple[str, str]] = set()
    while len(merges) < count:
        left, right = pick.choice(names[259:]), pick.choice(names[259:])
        if len(left + right) > 9:
            continue
        merges.add((left, right))
        if left + right not in names:
            names.append(left + right)
    ranked = sorted(merges)
    pick.shuffle(ranked)
    return tokenizer._tokenizer_json(names, ranked)


class Device:
    """edge_encode and edge_piece of one vocabulary through ctypes; every call checks the end of its array."""

    def __init__(self, tables: vocabulary.Vocabulary, folder: Path, sanitize: bool = False) -> None:
        source = folder / "vocabulary.c"
        source.write_text(vocabulary.lower(tables), encoding="ascii")
        library = build.build_host(
            [source, RUNTIME / "tokenizer.c"], [RUNTIME], folder / f"tokenizer-{sanitize}.so", sanitize=sanitize
        )
        self._library = ctypes.CDLL(str(library))
        self._library.edge_encode.restype = ctypes.c_size_t
        self._library.edge_encode.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
        self._library.edge_piece.restype = ctypes.c_void_p
        self._library.edge_piece.argtypes = [ctypes.c_uint32, ctypes.POINTER(ctypes.c_size_t)]

    @property
    def can_encode(self) -> bool:
        return bool(ctypes.c_int.in_dll(self._library, "edge_can_encode").value)

    def encode(self, text: bytes, capacity: int | None = None) -> tuple[int, list[int]]:
        """What edge_encode returns, and the ids; capacity count + 1 unless given."""
        room = len(text) + 1 if capacity is None else capacity
        ids = (ctypes.c_uint16 * (room + 1))(*[CANARY] * (room + 1))
        count = self._library.edge_encode(text, len(text), ids, room)
        assert ids[room] == CANARY, "wrote past its capacity"
        return count, list(ids[:count]) if count <= room else []

    def piece(self, id: int) -> bytes:
        length = ctypes.c_size_t(12345)
        address = self._library.edge_piece(id, ctypes.byref(length))
        return ctypes.string_at(address, length.value)
