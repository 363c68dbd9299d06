"""UF2 files: what is encoded is decoded again, and nothing else is taken for one."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_tools import uf2
from firmware_tools.errors import BadFile

FLASH = 0x10000000
contents = st.binary(min_size=1, max_size=2000)
starts = st.integers(0, (1 << 24) - 16).map(lambda page: page * uf2.PAYLOAD_BYTES)
families = st.sampled_from([uf2.RP2040, uf2.RP2350_ARM, uf2.RP2350_RISCV, 0x12345678])


def blocks(data: bytes) -> list[bytes]:
    return [data[at : at + 512] for at in range(0, len(data), 512)]


@given(contents, starts, families)
def test_what_is_encoded_is_decoded(content: bytes, start: int, family: int) -> None:
    read = uf2.decode(uf2.encode(content, start, family))
    assert (read.start, read.family) == (start, family)
    assert read.content == content + b"\xff" * (-len(content) % 256)
    assert read.blocks == -(-len(content) // 256)
    assert read.absolute_block == (family in uf2.WITH_ABSOLUTE_BLOCK)


@given(contents, st.randoms(use_true_random=False))
def test_blocks_may_come_in_any_order(content: bytes, order: random.Random) -> None:
    data = uf2.encode(content, FLASH, uf2.RP2040)
    mixed = blocks(data)
    order.shuffle(mixed)
    assert uf2.decode(b"".join(mixed)) == uf2.decode(data)


@given(contents, st.data())
def test_a_flipped_bit_is_seen_or_is_in_the_payload(content: bytes, data: st.DataObject) -> None:
    """What a flipped bit may still be: another byte of flash, or one that means nothing (behind the payload)."""
    good = uf2.encode(content, FLASH, uf2.RP2040)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= 1 << data.draw(st.integers(0, 7))
    place = at % 512
    if 32 <= place < 508:
        assert (uf2.decode(bytes(bad)).content != uf2.decode(good).content) == (place < 32 + 256)
        return
    try:
        read = uf2.decode(bytes(bad))
    except BadFile:
        return
    assert read != uf2.decode(good) or place == 9  # says that there are extensions, of which there are none


@given(st.binary(max_size=1500))
def test_garbage_is_no_uf2_file(data: bytes) -> None:
    with pytest.raises(BadFile):
        uf2.decode(data)


@given(contents, st.integers(1, 1000))
def test_a_file_cut_short_is_refused(content: bytes, cut: int) -> None:
    data = uf2.encode(content, FLASH, uf2.RP2350_ARM)
    with pytest.raises(BadFile):
        uf2.decode(data[: max(len(data) - cut, 0)])


def test_the_block_against_the_erratum_is_that_of_picotool() -> None:
    """Field by field what picotool 2 writes first: address 0x10ffff00, block 0 of 2, 256 times 0xef, the tag."""
    first, second = blocks(uf2.encode(b"x", FLASH, uf2.RP2350_ARM))
    assert struct.unpack_from("<8I", first) == (
        *(0x0A324655, 0x9E5D5157, 0x0000A000, 0x10FFFF00, 256, 0, 2, 0xE48BFF57),
    )
    assert first[32:288] == b"\xef" * 256
    assert struct.unpack_from("<I", first, 288) == (0x9957E304,)
    assert first[292:508] == bytes(216)
    assert struct.unpack_from("<8I", second)[2:] == (0x2000, FLASH, 256, 0, 1, 0xE48BFF59)
    assert len(uf2.encode(b"x", FLASH, uf2.RP2350_ARM, absolute_block=False)) == 512
    assert len(uf2.encode(b"x", FLASH, uf2.RP2040)) == 512


def patched(data: bytes, index: int, word: int, value: int) -> bytes:
    new = bytearray(data)
    struct.pack_into("<I", new, 512 * index + 4 * word, value)
    return bytes(new)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d + d[:512], "not all of them say so"),
        (lambda d: patched(d, 1, 7, uf2.RP2350_ARM), "several families"),
        (lambda d: patched(d, 1, 3, FLASH + 128), "overlaps"),
        (lambda d: patched(d, 2, 3, FLASH + 1024), "gap"),
        (lambda d: patched(d, 1, 5, 0), "missing or there twice"),
        (lambda d: patched(d, 1, 4, 477), "477 bytes"),
        (lambda d: patched(d, 1, 4, 0), "0 bytes"),
        (lambda d: patched(d, 0, 2, 0x2001), "flags 0x2001"),
        (lambda d: patched(d, 0, 2, 0), "flags 0x0"),
        (lambda d: patched(d, 2, 127, 0), "block 2 has not the marks"),
        (lambda d: uf2.encode(b"x", FLASH, uf2.RP2350_ARM)[:512], "no block to write"),
        (lambda d: d[:-1], "number of blocks"),
        (lambda d: b"", "number of blocks"),
    ],
)
def test_what_is_wrong_is_said(change, said) -> None:  # type: ignore[no-untyped-def]
    good = uf2.encode(bytes(700), FLASH, uf2.RP2040)
    with pytest.raises(BadFile) as raised:
        uf2.decode(change(good))
    assert said in raised.value.message
    assert raised.value.hint


def test_only_what_the_boot_roms_take_is_encoded() -> None:
    for content, start in ((b"", FLASH), (b"x", FLASH + 4), (b"x" * 257, (1 << 32) - 256)):
        with pytest.raises(ValueError, match="no UF2 file"):
            uf2.encode(content, start, uf2.RP2040)
