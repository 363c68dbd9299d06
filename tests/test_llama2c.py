"""llama2.c checkpoints: what is read from a good one, and the one error that any other file gives."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import Array, Decoder

from edge.make import checkpoints
from edge.make.checkpoints import Architecture, llama2c
from edge.tokenizer import Tokenizer
from firmware_tools.errors import BadFile

DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT = 24, 20, 2, 4, 2, 300, 12
HEADER = (DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT)


def arrays(tied: bool) -> dict[str, Array]:
    """Random arrays in the order of the file, as llama2.c's run.c maps them."""
    random = np.random.default_rng(5)
    key_value = DIM // HEADS * KV_HEADS
    shapes = {
        "token_embedding_table": (VOCAB, DIM),
        "rms_att_weight": (LAYERS, DIM),
        "wq": (LAYERS, DIM, DIM),
        "wk": (LAYERS, key_value, DIM),
        "wv": (LAYERS, key_value, DIM),
        "wo": (LAYERS, DIM, DIM),
        "rms_ffn_weight": (LAYERS, DIM),
        "w1": (LAYERS, HIDDEN, DIM),
        "w2": (LAYERS, DIM, HIDDEN),
        "w3": (LAYERS, HIDDEN, DIM),
        "rms_final_weight": (DIM,),
        "freq_cis_real": (CONTEXT, DIM // HEADS // 2),
        "freq_cis_imag": (CONTEXT, DIM // HEADS // 2),
    }
    if not tied:
        shapes["wcls"] = (VOCAB, DIM)
    return {name: random.normal(0, 0.3, shape).astype("<f4") for name, shape in shapes.items()}


def write(folder: Path, tied: bool = True, header: tuple[int, ...] = HEADER, tail: bytes = b"") -> Path:
    """A checkpoint with its tokenizer beside it."""
    if not tied:
        header = (*header[:5], -header[5], header[6])
    path = folder / "model.bin"
    path.write_bytes(struct.pack("<7i", *header) + b"".join(a.tobytes() for a in arrays(tied).values()) + tail)
    (folder / f"tok{VOCAB}.bin").write_bytes(tiny.llama2c_tokenizer(VOCAB))
    return path


class Interleaved(Decoder):
    """The oracle with llama2.c's RoPE: pairs (2i, 2i + 1)."""

    def _rotate(self, x: Array, position: int) -> Array:
        pairs = x[:, 0::2] + 1j * x[:, 1::2]
        half = self.shape.head_dim // 2
        turned = pairs * np.exp(1j * position * self.shape.rope_theta ** (-np.arange(half) / half))
        return np.stack([turned.real, turned.imag], axis=2).reshape(x.shape)


@pytest.mark.parametrize("tied", [True, False])
def test_it_computes_what_the_file_says(tmp_path: Path, tied: bool) -> None:
    """The weights as read, with half-split RoPE, against the arrays of the file with interleaved RoPE."""
    read = checkpoints.load(write(tmp_path, tied))
    assert read.architecture == Architecture(VOCAB, DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, CONTEXT)
    assert ("head" in read.weights) == (not tied)
    assert all(weight.dtype == np.float32 for weight in read.weights.values())
    raw = arrays(tied)
    names = {"embedding": "token_embedding_table", "final_norm": "rms_final_weight"}
    weights = {name: raw[source] for name, source in names.items()} | ({} if tied else {"head": raw["wcls"]})
    parts = {"attention_norm": "rms_att_weight", "q": "wq", "k": "wk", "v": "wv", "o": "wo"}
    parts |= {"ffn_norm": "rms_ffn_weight", "gate": "w1", "down": "w2", "up": "w3"}
    weights |= {f"{i}.{name}": raw[source][i] for name, source in parts.items() for i in range(LAYERS)}
    here, there = Decoder(read), Interleaved(replace(read, weights=weights))
    for position, token in enumerate([1, 5, 299, 17, 17, 250, 3, 8, 9, 10, 11, 12]):
        np.testing.assert_allclose(here.step(token, position), there.step(token, position), rtol=1e-9, atol=1e-9)


def test_the_card_and_the_tokenizer(tmp_path: Path) -> None:
    read = checkpoints.load(write(tmp_path))
    assert read.card["name"] == "model" and read.card["bos_id"] == 1 and read.card["stop_ids"] == [1, 2]
    assert read.card["template"] == {"before": "", "after": ""}
    assert Tokenizer(read.tokenizer).vocab_size == VOCAB


def test_stories_tell_the_known_story(shared_data: Path) -> None:
    read = checkpoints.load(shared_data / "stories260K" / "stories260K.bin")
    tokenizer = Tokenizer(read.tokenizer, bos_id=1)
    decoder, token, text = Decoder(read), 1, []
    for position in range(60):
        token = int(decoder.step(token, position).argmax())
        text.append(token)
    assert tokenizer.decode(text).startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
        "One day, she saw a big, red ball."
    )


# ------------------------------------------------------------------------------------------------- other files


@given(keep=st.integers(0, 60_000))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_cut_anywhere(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep % len(whole)])
    with pytest.raises(BadFile, match="cut off") as error:
        checkpoints.load(path)
    assert error.value.hint


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 4096])
def test_a_file_that_is_too_long(tmp_path: Path, tail: bytes) -> None:
    with pytest.raises(BadFile, match="too long"):
        checkpoints.load(write(tmp_path, tail=tail))


@given(header=st.tuples(*[st.one_of(st.sampled_from([0, 1, -1, 2, 3, 2**31 - 1, -(2**31)]), st.integers(1, 64))] * 7))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_headers_of_other_models(tmp_path: Path, header: tuple[int, ...]) -> None:
    """Whatever the header claims, it is refused before memory is taken for it."""
    path = write(tmp_path)
    path.write_bytes(struct.pack("<7i", *header) + path.read_bytes()[28:])
    tracemalloc.start()
    try:
        with pytest.raises(BadFile):
            llama2c.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(content=st.binary(max_size=200))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_of_anything(tmp_path: Path, content: bytes) -> None:
    for name in ("anything.bin", "anything.txt"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(BadFile):
            checkpoints.load(path)


def test_a_checkpoint_by_another_name_is_known_by_its_header(tmp_path: Path) -> None:
    path = write(tmp_path)
    renamed = path.rename(tmp_path / "weights")
    assert checkpoints.load(renamed).card["name"] == "weights"


def test_newer_versions_are_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_bytes(struct.pack("<Ii", 0x616B3432, 1) + path.read_bytes())
    with pytest.raises(BadFile, match="newer version"):
        checkpoints.load(path)


def test_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="does not exist"):
        checkpoints.load(tmp_path / "nothing.bin")
    folder = tmp_path / "folder.bin"
    folder.mkdir()
    with pytest.raises(BadFile):
        checkpoints.load(folder)


# --------------------------------------------------------------------------------------------- the second file


@pytest.mark.parametrize("right", [f"tok{VOCAB}.bin", "tokenizer.bin"])
def test_the_tokenizer_beside_it(tmp_path: Path, right: str) -> None:
    """The one of that name is taken, though others lie there."""
    path = write(tmp_path)
    (tmp_path / f"tok{VOCAB}.bin").rename(tmp_path / right)
    (tmp_path / "tok9.bin").write_bytes(b"of another model")
    assert Tokenizer(checkpoints.load(path).tokenizer).vocab_size == VOCAB


def test_the_only_tokenizer_beside_it(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / f"tok{VOCAB}.bin").rename(tmp_path / "tok9.bin")
    assert Tokenizer(checkpoints.load(path).tokenizer).vocab_size == VOCAB


def test_a_tokenizer_given_by_name(tmp_path: Path) -> None:
    path = write(tmp_path)
    elsewhere = (tmp_path / f"tok{VOCAB}.bin").rename(tmp_path / "pieces.bin")
    expected = checkpoints.load(path, elsewhere).tokenizer
    as_json = tmp_path / "tokenizer.json"
    as_json.write_bytes(expected)
    assert checkpoints.load(path, as_json).tokenizer == expected


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no tokenizer"),
        ({"tok1.bin": b"", "tok2.bin": b""}, "more than one"),
        ({"tok1.bin": b"damaged"}, "tok1.bin|tokenizer"),
    ],
)
def test_a_tokenizer_that_is_not_there(tmp_path: Path, files: dict[str, Any], words: str) -> None:
    path = write(tmp_path)
    (tmp_path / f"tok{VOCAB}.bin").unlink()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadFile, match=words):
        checkpoints.load(path)
    with pytest.raises(BadFile, match="cannot read the tokenizer"):
        checkpoints.load(path, tmp_path / "missing.bin")
