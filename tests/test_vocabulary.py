"""tokenizer.json is read with suspicion, and its tables arrive on the device as they should."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizer_device
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_device import RUNTIME, Device
from tokenizers import Tokenizer as HuggingFace
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from edge import tokenizer
from firmware_tools import elf, vocabulary
from firmware_tools.errors import BadFile, UserError

TRAINED = tokenizer_device.trained()
HOSTILE = (
    "*/ int x; /*",
    '"); system("reboot',
    "\n#include </etc/passwd>\n",
    "\x1b[2J\x1b]0;x\x07",
    "??/\\\\\"'%s%n",
    "\0",
)


def changed(change: Callable[[dict[str, Any]], None], source: bytes = TRAINED) -> bytes:
    document = json.loads(source)
    change(document)
    return json.dumps(document).encode()


def setting(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def test_a_trained_tokenizer_reads_whole() -> None:
    read = vocabulary.read(TRAINED)
    assert read.can_encode and read.reason == ""
    assert len(read.pieces) == 400 and read.prefix == b" " and read.byte_ids == tuple(range(3, 259))
    assert read.pieces[:4] == (b"", b"", b"", b"\x00") and read.pieces[258] == b"\xff"
    for left, right, result in read.merges:
        assert read.pieces[left] + read.pieces[right] == read.pieces[result]
    assert len(read.merges) == 400 - 259 - len(read.characters)
    assert all(read.pieces[id].decode() == chr(code) for code, id in read.characters)


def test_word_marks_are_spaces() -> None:
    plain, marked = vocabulary.read(TRAINED), vocabulary.read(tokenizer_device.word_marked(TRAINED))
    assert marked.can_encode
    assert (marked.pieces, marked.merges, marked.prefix) == (plain.pieces, plain.merges, plain.prefix)
    assert dict(marked.characters) == dict(plain.characters) | {0x2581: dict(plain.characters)[ord(" ")]}


DAMAGED = {
    "empty": b"",
    "not JSON": b"\x00\xff\x00",
    "a list": b"[]",
    "truncated": TRAINED[: len(TRAINED) // 2],
    "too deep": b"[" * 100_000,
    "UTF-16": TRAINED.decode().encode("utf-16"),
    "no model": b"{}",
    "model is a list": b'{"model": []}',
    "unigram": changed(setting("model", "type", value="Unigram")),
    "no vocabulary": changed(setting("model", "vocab", value=[])),
    "no tokens": b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}',
    "a gap in the ids": changed(setting("model", "vocab", "lamp!", value=10_000)),
    "an id twice": changed(setting("model", "vocab", "lamp!", value=300)),
    "a negative id": changed(setting("model", "vocab", "lamp!", value=-1)),
    "an id that is a float": changed(setting("model", "vocab", "lamp!", value=400.0)),
    "an id that is true": changed(setting("model", "vocab", "lamp!", value=True)),
    "an enormous id": changed(setting("model", "vocab", "lamp!", value=10**30)),
    "half a surrogate pair": changed(setting("model", "vocab", "\ud800", value=400)),
    "a piece too long": changed(setting("model", "vocab", "a" * 256, value=400)),
    "an added token that is a number": changed(setting("added_tokens", value=[3])),
    "an added token without text": changed(setting("added_tokens", value=[{"id": 400}])),
    "an added token of another's id": changed(setting("added_tokens", value=[{"id": 300, "content": "<x>"}])),
    "an added token's name at another id": changed(setting("added_tokens", value=[{"id": 400, "content": "<s>"}])),
    "no merges": changed(setting("model", "merges", value=None)),
    "a merge of three": changed(setting("model", "merges", 0, value=["a", "b", "c"])),
    "a merge of three in a string": changed(setting("model", "merges", 0, value="a b c")),
    "a merge of numbers": changed(setting("model", "merges", 0, value=[1, 2])),
    "a merge with nothing": changed(setting("model", "merges", 0, value=["", "a"])),
    "a merge of unknown tokens": changed(setting("model", "merges", 0, value=["qq", "zz"])),
    "a merge into an unknown token": changed(setting("model", "merges", 0, value=["!", "t"])),
    "a merge twice": changed(lambda d: d["model"]["merges"].append(d["model"]["merges"][0])),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_clear_error(name: str) -> None:
    with pytest.raises(BadFile) as caught:
        vocabulary.read(DAMAGED[name])
    assert caught.value.hint and "\n" not in caught.value.message and caught.value.message.isprintable()


def test_an_oversized_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "MAX_JSON_BYTES", len(TRAINED) - 1)
    vocabulary.read.cache_clear()
    with pytest.raises(BadFile, match="more than"):
        vocabulary.read(TRAINED)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(TRAINED) - 1), st.binary(max_size=4), st.integers(0, 40))
def test_a_file_with_a_few_other_bytes_is_read_or_refused(place: int, bytes_: bytes, dropped: int) -> None:
    damaged = TRAINED[:place] + bytes_ + TRAINED[place + dropped :]
    try:
        read = vocabulary.read(damaged)
    except UserError:
        return
    assert len(read.pieces) > 0 and vocabulary.size_bytes(read) > 0 and vocabulary.lower(read).isascii()


NOT_FOR_THE_DEVICE = {
    "byte tokens": setting("model", "byte_fallback", value=False),
    "spell bytes": setting("decoder", value={"type": "ByteLevel"}),
    "splits": setting("pre_tokenizer", value={"type": "Whitespace"}),
    "normalizes": setting("normalizer", value={"type": "Lowercase"}),
    "dropout": setting("model", "dropout", value=0.1),
    "ignore_merges": setting("model", "ignore_merges", value=True),
    "end_of_word_suffix": setting("model", "end_of_word_suffix", value="</w>"),
    "prefix": setting("normalizer", "prepend", value="ab"),
    "more than 65535 tokens": lambda d: d["model"]["vocab"].update({f"x{i}": i for i in range(400, 65_536)}),
}


@pytest.mark.parametrize("reason", NOT_FOR_THE_DEVICE)
def test_what_the_device_cannot_encode_with_is_said_and_decodes(reason: str) -> None:
    read = vocabulary.read(changed(NOT_FOR_THE_DEVICE[reason]))
    assert not read.can_encode and reason in read.reason
    assert b"".join(read.pieces[id] for id in tokenizer.Tokenizer(TRAINED).encode("lamp")) in (b" lamp", b"<0x20>lamp")


def test_65535_tokens_still_fit() -> None:
    most = changed(lambda d: d["model"]["vocab"].update({f"x{i}": i for i in range(400, 65_535)}))
    assert vocabulary.read(most).can_encode


def byte_level() -> bytes:
    model = HuggingFace(models.BPE())
    model.pre_tokenizer, model.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|end|>"]
    model.train_from_iterator(
        tokenizer_device.sentences(),
        trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=special, show_progress=False),
    )
    return model.to_str().encode()


def test_byte_level_pieces_are_bytes() -> None:
    text = "dim the Küche lamp, 寝室\n\x00!"
    oracle = HuggingFace.from_str(byte_level().decode())
    read = vocabulary.read(byte_level())
    assert not read.can_encode and "byte tokens" in read.reason
    assert b"".join(read.pieces[id] for id in oracle.encode(text).ids) == text.encode()
    assert len(set(read.pieces)) == len(read.pieces) and {bytes([byte]) for byte in range(256)} <= set(read.pieces)


def test_normalizers_that_only_look_alike_are_not_taken() -> None:
    replace = json.loads(normalizers.Replace(" ", "\u2581").__getstate__())
    marked = tokenizer_device.word_marked(TRAINED)
    twice = {"type": "Sequence", "normalizers": [replace, {"type": "Prepend", "prepend": " "}]}
    assert not vocabulary.read(changed(setting("normalizer", value=twice), marked)).can_encode
    assert not vocabulary.read(changed(setting("normalizer", value=replace))).can_encode  # the decoder does not undo it
    assert vocabulary.read(changed(setting("normalizer", value=replace), marked)).prefix == b""


def hostile() -> bytes:
    def change(document: dict[str, Any]) -> None:
        vocab = document["model"]["vocab"]
        vocab.update({text: len(vocab) + i for i, text in enumerate(HOSTILE)})
        document["added_tokens"].append({"id": len(vocab), "content": "*/ </s> */", "special": False})

    return changed(change)


def test_hostile_pieces_reach_c_as_numbers_only(tmp_path: Path) -> None:
    read = vocabulary.read(hostile())
    text = vocabulary.lower(read)
    body = text.replace(text.splitlines()[0], "")
    assert set(re.findall(r"\b[A-Za-z_]\w+", body)) <= set(
        re.findall(r"\w+", vocabulary.lower(vocabulary.read(TRAINED)))
    )
    assert re.fullmatch(r'[\w\s{}\[\]=,;.#"-]*', body)
    device = Device(read, tmp_path)
    assert tuple(device.piece(id) for id in range(len(read.pieces))) == read.pieces
    assert set(text.encode() for text in HOSTILE) <= set(read.pieces)
    assert device.piece(len(read.pieces)) == device.piece(0xFFFFFFFF) == b""


def test_a_vocabulary_that_only_decodes_compiles(tmp_path: Path) -> None:
    read = vocabulary.read(byte_level())
    device = Device(read, tmp_path, sanitize=True)
    assert not device.can_encode and device.encode(b"lamp") == (0, [])
    assert tuple(device.piece(id) for id in range(len(read.pieces))) == read.pieces
    assert vocabulary.size_bytes(read) < sum(map(len, read.pieces)) + 2 * len(read.pieces)


@pytest.mark.parametrize("source", [TRAINED, byte_level()], ids=["encodes", "decodes"])
def test_size_is_that_of_the_section(source: bytes, tmp_path: Path) -> None:
    read = vocabulary.read(source)
    (tmp_path / "vocabulary.c").write_text(vocabulary.lower(read), encoding="ascii")
    target = ["-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp", "-Os"]
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{RUNTIME}"]
    out = tmp_path / "vocabulary.o"
    command = [sys.executable, "-m", "ziglang", "cc", *target, *flags, "-c", "vocabulary.c", "-o", str(out)]
    subprocess.run(command, cwd=tmp_path, check=True)
    measured = elf.read(out.read_bytes()).section_bytes(".vocabulary")
    assert 0 <= measured - vocabulary.size_bytes(read) < 4 * 9  # the compiler aligns each array
