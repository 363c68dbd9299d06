"""What the boards' port functions share, on this machine: time in 64 bits, and waits that end."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_tools import boards
from firmware_tools.build import RUNTIME, build_host

BOARDS = Path(boards.__file__).parent
EXPORTS = """\
#include "ticks.h"
#include "wait.h"

uint64_t nearest(uint64_t about, uint32_t fine, unsigned bits) { return ticks_nearest(about, fine, bits); }
uint64_t extend(uint64_t *time, uint32_t now, unsigned bits) { return ticks_extend(time, now, bits); }
uint32_t slept(uint64_t before, uint64_t about, uint32_t fine) { return ticks_after_sleep(before, about, fine); }
int wait_for(const volatile uint32_t *where, uint32_t mask, uint32_t value, uint32_t turns, const char *what) {
    return wait_until(where, mask, value, turns, what);
}
void note(const char *what) { trouble_note(what); }
"""
times = st.integers(0, 1 << 50)
widths = st.sampled_from([16, 24, 32])


def library(folder: Path) -> ctypes.CDLL:
    """The functions, compiled so that undefined behaviour ends the process; nothing has failed to start yet."""
    source = folder / "exports.c"
    source.write_text(EXPORTS, encoding="utf-8")
    loaded = ctypes.CDLL(str(build_host([source], [BOARDS, RUNTIME], folder / "exports.so", sanitize=True)))
    loaded.nearest.restype = loaded.extend.restype = ctypes.c_uint64
    loaded.nearest.argtypes = (ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint)
    loaded.slept.restype = ctypes.c_uint32
    loaded.slept.argtypes = (ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32)
    loaded.port_trouble.restype = ctypes.c_char_p
    return loaded


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return library(tmp_path_factory.mktemp("headers"))


@given(times, widths, st.data())
def test_the_coarse_timer_tells_how_often_the_fine_one_wrapped(
    headers: ctypes.CDLL, time: int, bits: int, data: st.DataObject
) -> None:
    """The coarse one may be off by anything below half a period, in both directions, at every distance from a wrap."""
    half = 1 << bits - 1
    apart = data.draw(st.integers(-half + 1, half) | st.sampled_from([-half + 1, half, -1, 0, 1]))
    about = max(time + apart, 0)
    assert headers.nearest(about, time & (1 << bits) - 1, bits) == time


@given(times, widths)
def test_what_lies_above_the_fine_counters_bits_is_disregarded(headers: ctypes.CDLL, time: int, bits: int) -> None:
    """SysTick's value is negated in 32 bits, of which it has 24."""
    assert headers.nearest(time, time & 0xFFFFFFFF, bits) == time


@given(times, widths, st.data())
def test_a_timer_that_wraps_goes_on(headers: ctypes.CDLL, start: int, bits: int, data: st.DataObject) -> None:
    period = 1 << bits
    kept, time = ctypes.c_uint64(start), start
    for passed in data.draw(st.lists(st.integers(0, period - 1) | st.sampled_from([0, 1, period - 1]), max_size=6)):
        time += passed
        assert headers.extend(ctypes.byref(kept), ctypes.c_uint32(time & period - 1), bits) == time
    assert kept.value == time


@given(st.sampled_from([24, 32]), st.booleans(), st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 1 << 22))))
def test_time_goes_on_over_sleeps_in_which_the_fine_counter_stands_still(
    headers: ctypes.CDLL, bits: int, stands_still: bool, works_and_sleeps: list[tuple[int, int]]
) -> None:
    """As a port does it: what was lost is added. 150 ticks are one of the coarse timer's counts; it never goes back."""
    each, time, fine, slept, last = 150, 0, 0, 0, 0

    def about() -> int:
        return time // each * each

    def ticks() -> int:
        return int(headers.nearest(about(), ctypes.c_uint32(fine + slept), bits))

    for work, sleep in works_and_sleeps:
        before_work = ticks()
        time, fine = time + work, fine + work
        assert ticks() - before_work == work  # exact while it works
        before = ticks()
        time, fine = time + sleep, fine + (0 if stands_still else sleep)
        slept = headers.slept(before, about(), fine & 0xFFFFFFFF)
        assert max(last, before) <= ticks()
        assert abs(ticks() - time) <= each
        last = ticks()


def test_a_wait_ends_with_what_it_waits_for(tmp_path: Path) -> None:
    headers, register = library(tmp_path), ctypes.c_uint32(0x80000100)
    assert headers.wait_for(ctypes.byref(register), 0x80000000, 0x80000000, 1, b"the crystal") == 1
    assert headers.wait_for(ctypes.byref(register), 0x0000000F, 0, 1, b"the crystal") == 1
    assert headers.port_trouble() == b""


def test_a_wait_for_nothing_ends_and_is_told(tmp_path: Path) -> None:
    headers, register = library(tmp_path), ctypes.c_uint32(0)
    for what in (b"the crystal", b"the PLL"):
        assert headers.wait_for(ctypes.byref(register), 1, 1, 1000, what) == 0
    assert headers.port_trouble() == b"the crystal, the PLL"


@pytest.mark.parametrize(
    ("notes", "told"),
    [
        ((b"x" * 100,), b"x" * 100),
        ((b"x" * 101,), b""),
        ((b"x" * 97, b"y"), b"x" * 97 + b", y"),
        ((b"x" * 98, b"y"), b"x" * 98),
        ((b"x" * 99, b"y"), b"x" * 99),
        ((b"x" * 60, b"y" * 60, b"z"), b"x" * 60 + b", z"),
    ],
)
def test_trouble_has_room_for_100_bytes(tmp_path: Path, notes: Sequence[bytes], told: bytes) -> None:
    """What has no room is left out whole."""
    headers = library(tmp_path)
    for note in notes:
        headers.note(note)
    assert headers.port_trouble() == told
