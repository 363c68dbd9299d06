"""The device's tokenizer compiled for this machine, and tokenizers to try it with."""

from __future__ import annotations

import ctypes
import json
import random
import struct
from collections.abc import Callable, Sequence
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


def random_merges(seed: int, count: int = 120, unused: int = 0) -> bytes:
    """A tokenizer no training makes: merges of few letters in random order, so that results outrank their parts.

    unused: how many tokens that no text reaches come first, so that the others have high ids.
    """
    pick = random.Random(seed)
    names = ["<unk>", "<s>", "</s>", *tokenizer.BYTES, *(f"unused {i}" for i in range(unused)), *"abc é"]
    merges: set[tuple[str, str]] = set()
    while len(merges) < count:
        left, right = pick.choice(names[259 + unused :]), pick.choice(names[259 + unused :])
        if len(left + right) > 9:
            continue
        merges.add((left, right))
        if left + right not in names:
            names.append(left + right)
    ranked = sorted(merges)
    pick.shuffle(ranked)
    return tokenizer._tokenizer_json(names, ranked)


def llama2c_file(tokens: Sequence[tuple[float, bytes]], longest: int | None = None) -> bytes:
    reserved = [
        (0.0, b"<unk>"),
        (0.0, b"\n<s>\n"),
        (0.0, b"\n</s>\n"),
        *((0.0, name.encode()) for name in tokenizer.BYTES),
    ]
    records = [*reserved, *tokens]
    header = struct.pack("<i", max(len(piece) for _, piece in records) if longest is None else longest)
    return header + b"".join(struct.pack("<fi", score, len(piece)) + piece for score, piece in records)


def small_llama2c() -> bytes:
    """A tokenizer in llama2.c's format made from trained(): scores fall with the id, as SentencePiece gives them."""
    pieces = vocabulary.read(trained()).pieces[259:]
    merged = [piece for piece in pieces if len(piece.decode()) > 1]
    single = [piece for piece in pieces if len(piece.decode()) == 1]
    return llama2c_file([(-float(i), piece) for i, piece in enumerate(merged + single)])


def vocabulary_text(source: vocabulary.Vocabulary, pick: random.Random, count: int) -> bytes:
    return b"".join(pick.choice(source.pieces) for _ in range(count))


def overlong(character: str, length: int) -> bytes:
    """The character in 2, 3 or 4 bytes as UTF-8 would write it, were it allowed to be longer than need be."""
    code, mark = ord(character), {2: 0xC0, 3: 0xE0, 4: 0xF0}[length]
    tail = [0x80 | code >> 6 * i & 0x3F for i in reversed(range(length - 1))]
    return bytes([mark | code >> 6 * (length - 1) & (0x7F >> length), *tail])


def random_bytes(source: vocabulary.Vocabulary, pick: random.Random) -> bytes:
    """A byte string of one of the kinds that go wrong differently."""
    size = pick.choice((0, 1, 2, 3, 5, 8, 13, 30, 80))
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: bytes(pick.randrange(128) for _ in range(size)),
        lambda: bytes(pick.randrange(256) for _ in range(size)),
        lambda: vocabulary_text(source, pick, size),
        lambda: "".join(
            chr(pick.choice((0x61, 0xE9, 0x20AC, 0xD7FF, 0xE000, 0xFFFF, 0x1F600))) for _ in range(size)
        ).encode(),
        lambda: bytes([pick.randrange(256)]) * size,
        lambda: pick.choice((b" ", b"a", b" a", b"ab", b"\n", b"\xc3\xa9")) * size,
        lambda: b"".join(
            pick.choice((b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a")) for _ in range(size)
        ),
        lambda: b"".join(overlong(pick.choice("al \u00e9\u5bdd"), pick.randrange(2, 5)) for _ in range(size)),
        lambda: bytes(byte | pick.choice((0, 0x08, 0x40)) for byte in "\U0001f6cbé寝".encode() * size),
        lambda: b"".join(pick.choice((b"</s>", b"<s>", b"<0x0A>", b"<unk>", b"\0", b" ")) for _ in range(size)),
        lambda: random_bytes(source, pick)[: size // 2] + random_bytes(source, pick),
    )
    return pick.choice(kinds)()


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
