"""The device's tokenizer gives the host's ids for any bytes, on this machine and on Cortex-M, within its memory."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cortex
import pytest
import tokenizer_device
import unicorn
from tokenizer_device import RUNTIME, Device, random_bytes, vocabulary_text

from edge import tokenizer
from edge.tokenizer import Tokenizer
from firmware_tools import build, elf, vocabulary
from firmware_tools.errors import MissingTool

TRAINED = tokenizer_device.trained()


def sources() -> dict[str, bytes]:
    return {
        "trained": TRAINED,
        "word marks": tokenizer_device.word_marked(TRAINED),
        "llama2.c": tokenizer.from_llama2c(tokenizer_device.small_llama2c()),
        "random merges 1": tokenizer_device.random_merges(1),
        "random merges 2": tokenizer_device.random_merges(2, count=400),
        "high ids": tokenizer_device.random_merges(3, unused=65_000),
    }


@pytest.fixture(scope="module", params=sources())
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Device]:
    host = Tokenizer(sources()[request.param])
    return host, Device(host.vocabulary, tmp_path_factory.mktemp("device"))


def test_device_equals_host_on_10000_random_byte_strings(pair: tuple[Tokenizer, Device]) -> None:
    host, device = pair
    assert device.can_encode
    pick = random.Random(7)
    for _ in range(10_000):
        text = random_bytes(host.vocabulary, pick)
        ids = host.encode(text)
        assert device.encode(text) == (len(ids), ids), text


def test_device_equals_host_on_tok512(shared_data: Path, tmp_path: Path) -> None:
    host = Tokenizer(tokenizer.from_llama2c((shared_data / "stories260K" / "tok512.bin").read_bytes()))
    device = Device(host.vocabulary, tmp_path)
    pick = random.Random(8)
    shakespeare = (shared_data / "corpora" / "tinyshakespeare.txt").read_bytes()
    texts = [shakespeare[start : start + 300] for start in range(0, len(shakespeare), 5000)]
    texts += [random_bytes(host.vocabulary, pick) for _ in range(10_000)]
    for text in texts:
        ids = host.encode(text)
        assert device.encode(text) == (len(ids), ids), text
        assert b"".join(device.piece(id) for id in ids) == host.decode_bytes(ids, continuation=True)


def test_device_in_any_capacity(pair: tuple[Tokenizer, Device]) -> None:
    """Enough room for the symbols before merging is enough; less room gives their number and spoils nothing."""
    host, device = pair
    pick = random.Random(9)
    for _ in range(200):
        text = random_bytes(host.vocabulary, pick)
        ids = host.encode(text)
        symbols, _ = device.encode(text, 0)
        assert len(ids) <= symbols <= len(text) + 1 and (symbols == 0) == (text == b"")
        for capacity in range(symbols + 3):
            count, got = device.encode(text, capacity)
            assert (count, got) == ((symbols, []) if capacity < symbols else (len(ids), ids))


def test_device_without_undefined_behaviour(pair: tuple[Tokenizer, Device], tmp_path: Path) -> None:
    host, _ = pair
    device = Device(host.vocabulary, tmp_path, sanitize=True)
    pick = random.Random(10)
    for _ in range(1000):
        text = random_bytes(host.vocabulary, pick)
        ids = host.encode(text)
        assert device.encode(text) == (len(ids), ids)
    assert [device.piece(id) for id in range(host.vocab_size)] == list(host.vocabulary.pieces)
    assert device.piece(host.vocab_size) == device.piece(0xFFFFFFFF) == b""


def test_device_on_a_long_text(pair: tuple[Tokenizer, Device]) -> None:
    host, device = pair
    text = vocabulary_text(host.vocabulary, random.Random(11), 3000) + b"a" * 2000 + b" " * 2000
    ids = host.encode(text)
    assert device.encode(text) == (len(ids), ids)


CALLS = """
#include "tokenizer.h"
size_t call_encode(const uint8_t *text, size_t count, uint16_t *ids, size_t capacity) {
    return edge_encode(text, count, ids, capacity);
}
"""


@pytest.mark.parametrize("core", [cortex.M4, cortex.M0], ids=lambda core: core.name)
def test_cortex_m_equals_host(core: cortex.Core, tmp_path: Path) -> None:
    host = Tokenizer(TRAINED)
    (tmp_path / "vocabulary.c").write_text(vocabulary.lower(host.vocabulary), encoding="ascii")
    (tmp_path / "calls.c").write_text(CALLS, encoding="ascii")
    files = [tmp_path / "calls.c", tmp_path / "vocabulary.c", RUNTIME / "tokenizer.c"]
    chip = cortex.Cortex(core, files, [RUNTIME], tmp_path)
    pick = random.Random(13)
    for _ in range(300):
        text = random_bytes(host.vocabulary, pick)
        room = len(text) + 1
        ids = chip.put(bytes(2 * room))
        chip.call("call_encode", chip.put(text), len(text), ids, room)
        count = chip.machine.reg_read(unicorn.arm_const.UC_ARM_REG_R0)
        assert list(struct.unpack(f"<{count}H", chip.get(ids, 2 * count))) == host.encode(text), text
        chip.release()


EXACT_BUFFERS = """
#include <stdio.h>
#include <stdlib.h>
#include "tokenizer.h"
/* Standard input: for each text its size and the capacity, two uint32, and its bytes. Every buffer is of exact size. */
int main(void) {
    uint32_t sizes[2];
    while (fread(sizes, sizeof sizes, 1, stdin) == 1) {
        uint8_t *text = malloc(sizes[0]);
        uint16_t *ids = malloc(sizes[1] * sizeof *ids);
        if (sizes[0] > 0 && fread(text, sizes[0], 1, stdin) != 1) return 2;
        size_t count = edge_encode(text, sizes[0], ids, sizes[1]);
        printf("%zu", count);
        for (size_t i = 0; i < count && count <= sizes[1]; i++) printf(" %u", ids[i]);
        printf("\\n");
        free(text);
        free(ids);
    }
    return 0;
}
"""


@pytest.mark.system
def test_device_stays_within_its_buffers(tmp_path: Path) -> None:
    host = Tokenizer(TRAINED)
    (tmp_path / "main.c").write_text(EXACT_BUFFERS)
    (tmp_path / "vocabulary.c").write_text(vocabulary.lower(host.vocabulary))
    files = [tmp_path / "main.c", tmp_path / "vocabulary.c", RUNTIME / "tokenizer.c"]
    try:
        program = build.build_host_program(files, [RUNTIME], tmp_path / "encode")
    except MissingTool as error:
        pytest.skip(error.message)
    pick = random.Random(12)
    texts = [random_bytes(host.vocabulary, pick) for _ in range(2000)]
    cases = [(text, len(text) + 1) for text in texts] + [(text, pick.randrange(len(text) + 2)) for text in texts]
    given = b"".join(struct.pack("<II", len(text), capacity) + text for text, capacity in cases)
    result = subprocess.run([str(program)], input=given, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    for (text, capacity), line in zip(cases, result.stdout.decode().splitlines(), strict=True):
        count, *ids = map(int, line.split())
        assert count > capacity or ids == host.encode(text)


CORTEX_M4 = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-ffp-contract=off", "-ffunction-sections"]


@pytest.mark.parametrize("name, limit_bytes", [("tokenizer", 1536), ("sampler", 1024)])
def test_code_size_on_cortex_m4(name: str, limit_bytes: int, tmp_path: Path) -> None:
    out = tmp_path / "out.o"
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp"]
    flags = [*CORTEX_M4, "-Os", "-fno-sanitize=undefined", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables"]
    subprocess.run([*zig, *flags, f"-I{RUNTIME}", "-c", str(RUNTIME / f"{name}.c"), "-o", str(out)], check=True)
    code = sum(s.size_bytes for s in elf.read(out.read_bytes()).sections if s.in_memory and ".ARM" not in s.name)
    assert 200 < code < limit_bytes


@pytest.mark.system
@pytest.mark.parametrize("name", ["tokenizer", "sampler"])
def test_gcc_has_no_warnings_either(name: str, tool: Callable[[str], str], tmp_path: Path) -> None:
    machine = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
    for level in ("-Os", "-O2", "-O3"):
        command = [
            tool("arm-none-eabi-gcc"),
            *machine,
            *CORTEX_M4,
            level,
            f"-I{RUNTIME}",
            "-c",
            str(RUNTIME / f"{name}.c"),
        ]
        subprocess.run([*command, "-o", str(tmp_path / "out.o")], check=True)
