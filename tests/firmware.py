"""Small C programs on a board, for tests of the build and the emulators that need firmware but no model."""

from __future__ import annotations

import time
from pathlib import Path

from firmware_tools.boards import Board
from firmware_tools.build import Image, build
from firmware_tools.compile import Sources
from firmware_tools.transports import Transport

# main: serve() answers each received byte
MAIN = """
#include "port.h"
#include "section.h"
void serve(int byte);
void print(const char *text);
void print_number(uint64_t value);

void print(const char *text) { while (*text) port_write((const uint8_t *)text++, 1); }
void print_number(uint64_t value) {
    char digits[21];
    int at = 20;
    digits[at] = 0;
    do digits[--at] = (char)('0' + value % 10); while (value /= 10);
    print(digits + at);
    print("\\n");
}
int main(void) {
    port_init();
    for (;;) {
        int byte = port_read();
        if (byte == PORT_NOTHING) port_idle();
        else serve(byte);
    }
}
"""
ECHO = "void serve(int byte) { uint8_t back = (uint8_t)byte; port_write(&back, 1); }\n"


def sources(program: str, name: str = "test") -> Sources:
    """Sources of MAIN and a program that defines serve."""
    return Sources(
        files={"model.c": MAIN + program},
        kernels=(),
        includes=(),
        weight_bytes=0,
        vocabulary_bytes=0,
        arena_bytes=0,
        kv_cache_bytes=0,
        model_sha256="0" * 64,
        model_file_sha256="1" * 64,
        name=name,
        context=1,
        can_encode=False,
        vocab_size=1,
    )


def image(program: str, board: Board, folder: Path | None = None) -> Image:
    """An image of MAIN and a program that defines serve."""
    return build(sources(program), board, folder, bare=True)


def ask(transport: Transport, data: bytes, timeout_s: float = 60.0) -> str:
    """Sends data and returns the one line that answers it, without its end."""
    transport.write(data)
    deadline = time.monotonic() + timeout_s
    answer = b""
    while not answer.endswith(b"\n") and time.monotonic() < deadline:
        answer += transport.read(deadline - time.monotonic())
    assert answer.endswith(b"\n"), f"no whole line came, only {answer!r}"
    return answer[:-1].decode()
