"""The USB serial port of the Picos on this machine: boards/rp_usb.h around a simulated controller and host.

What a host sees is checked by the rules of USB 2.0 and CDC, written down here a second time. test_rp2040js_usb.py has
the same port in an emulator of the chip.
"""

from __future__ import annotations

import ctypes
import random
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmware_tools import boards
from firmware_tools.build import RUNTIME, build_host, build_host_program

HERE = Path(__file__).parent
INCLUDES = [HERE, Path(boards.__file__).parent, RUNTIME]
NAK, STALLED, NO_ANSWER = -1, -2, -3
NOTHING, BREAK = -1, -2
IN, OUT = 0x80, 0
DATA = 2  # the endpoint
TO_DEVICE, TO_INTERFACE, TO_ENDPOINT = 0x00, 0x01, 0x02
FROM_DEVICE, FROM_INTERFACE, FROM_ENDPOINT = 0x80, 0x81, 0x82
CLASS = 0x20
SERIAL = "0123456789ABCDEF"


class Stalled(Exception):
    """The device refuses a request."""


class Host:
    """A host that keeps to the rules: control transfers with their stages and toggles, bulk transfers."""

    def __init__(self, library: ctypes.CDLL, revoke: bool = True, frames: bool = True, serial: str = SERIAL) -> None:
        self.board = library
        self.board.board_start(int(revoke), int(frames), serial.encode())
        self.out_toggle = 0

    def control(self, kind: int, request: int, value: int, index: int, asked: int = 0, data: bytes = b"") -> bytes:
        """A whole control transfer; returns what the device sent."""
        setup = struct.pack("<BBHHH", kind, request, value, index, len(data) or asked)
        assert self.board.host_setup(setup) == 0
        self.board.board_poll()
        if kind & IN:
            answer = self._data_in(asked)
            assert self._out(0, b"", 1) == 0  # the status stage
            self.board.board_poll()
            return answer
        if data:
            if (got := self._out(0, data, 1)) == STALLED:
                raise Stalled
            assert got == 0
            self.board.board_poll()
        status = self.fetch(0)
        if status == STALLED:
            raise Stalled
        assert status == b""
        self.board.board_poll()
        return b""

    def _data_in(self, asked: int) -> bytes:
        answer = b""
        while True:
            part = self.fetch(0)
            if part == STALLED:
                raise Stalled
            assert isinstance(part, bytes), part
            answer += part
            self.board.board_poll()
            if len(part) < 64 or len(answer) >= asked:
                assert len(answer) <= asked
                return answer

    def fetch(self, endpoint: int) -> bytes | int:
        """One IN transfer: the packet, or why there is none."""
        buffer = ctypes.create_string_buffer(64)
        got = self.board.host_fetch(endpoint, buffer)
        return buffer.raw[:got] if got >= 0 else int(got)

    def _out(self, endpoint: int, data: bytes, toggle: int) -> int:
        return int(self.board.host_out(endpoint, data, len(data), toggle))

    def send(self, data: bytes) -> int:
        """One packet to the data endpoint."""
        got = self._out(DATA, data, self.out_toggle)
        if got == 0:
            self.out_toggle ^= 1
        return got

    def receive(self) -> bytes:
        """What the device sends until it has had no more for two frames."""
        data, looks = b"", 0
        while looks < 400:  # 5 us each
            self.board.board_poll()
            part = self.fetch(DATA)
            looks += 1
            if part != NAK:
                assert isinstance(part, bytes), part
                data, looks = data + part, 0
        return data

    def fetched(self) -> bytes:
        """What the host has read by itself."""
        buffer = ctypes.create_string_buffer(1 << 16)
        count = self.board.host_fetched(buffer)
        return buffer.raw[:count]

    def enumerate(self) -> None:
        """Reset, address, configuration, as an operating system does it; the port is opened by nobody."""
        self.board.host_reset()
        self.board.board_poll()
        assert self.control(FROM_DEVICE, 6, 0x100, 0, 64)[:2] == b"\x12\x01"
        self.control(TO_DEVICE, 5, 7, 0)
        self.board.host_address(7)
        self.control(TO_DEVICE, 9, 1, 0)
        self.out_toggle = 0

    def open(self, baud: int = 115200) -> None:
        """A program opens the port: DTR and RTS."""
        self.control(CLASS | TO_INTERFACE, 0x20, 0, 0, data=struct.pack("<IBBB", baud, 0, 0, 8))
        self.control(CLASS | TO_INTERFACE, 0x22, 3, 0)

    def close(self) -> None:
        self.control(CLASS | TO_INTERFACE, 0x22, 0, 0)

    def write(self, data: bytes) -> int:
        """The firmware writes; returns the microseconds that it took."""
        before = self.board.board_micros()
        self.board.board_write(data, len(data))
        return int(self.board.board_micros() - before)

    def read(self) -> bytes:
        """What the firmware reads until there is nothing."""
        data = bytearray()
        while (byte := self.board.board_read()) != NOTHING:
            assert byte >= 0
            data.append(byte)
        return bytes(data)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    out = tmp_path_factory.mktemp("usb") / "usb.so"
    loaded = ctypes.CDLL(str(build_host([HERE / "usb_controller.c"], INCLUDES, out, sanitize=True)))
    loaded.board_micros.restype = ctypes.c_uint32
    loaded.host_fetched.restype = ctypes.c_size_t
    loaded.board_write.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
    return loaded


@pytest.fixture(params=[True, False], ids=["revoke", "first-chips"])
def host(library: ctypes.CDLL, request: pytest.FixtureRequest) -> Host:
    """With the port open; the first RP2040s cannot take packets back."""
    host = Host(library, revoke=request.param)
    host.enumerate()
    host.open()
    return host


def descriptors(data: bytes) -> Iterator[bytes]:
    """The descriptors in a configuration, one after the other."""
    while data:
        assert 2 <= data[0] <= len(data)
        yield data[: data[0]]
        data = data[data[0] :]


# --- who it is


def test_the_device_descriptor_is_that_of_a_composite_full_speed_device(library: ctypes.CDLL) -> None:
    host = Host(library)
    host.enumerate()
    device = host.control(FROM_DEVICE, 6, 0x100, 0, 18)
    length, kind, usb, *classes, packet = struct.unpack_from("<BBHBBBB", device)
    vendor, product, _version, *texts, configurations = struct.unpack_from("<HHHBBBB", device, 8)
    assert (length, kind, usb, packet, configurations) == (18, 1, 0x200, 64, 1)
    assert classes == [0xEF, 2, 1]  # an interface association follows
    assert (vendor, product) == (0x1209, 0x0001)  # pid.codes' for tests, and not Raspberry Pi's
    assert texts == [1, 2, 3]


def test_the_configuration_is_one_cdc_function_of_two_interfaces(library: ctypes.CDLL) -> None:
    host = Host(library)
    host.enumerate()
    data = host.control(FROM_DEVICE, 6, 0x200, 0, 9)
    assert len(data) == 9
    total = struct.unpack_from("<H", data, 2)[0]
    data = host.control(FROM_DEVICE, 6, 0x200, 0, total)
    assert len(data) == total
    parts = list(descriptors(data))
    assert parts[0] == struct.pack("<BBHBBBBB", 9, 2, total, 2, 1, 0, 0x80, 50)
    assert [(part[0], part[1]) for part in parts[1:]] == [
        *[(8, 11), (9, 4), (5, 0x24), (5, 0x24), (4, 0x24), (5, 0x24), (7, 5), (9, 4), (7, 5), (7, 5)]
    ]
    association, control, header, call, model, union, notify, values, out, into = parts[1:]
    assert association[2:7] == bytes([control[2], 2, *control[5:7], 0][:5])
    assert control[4:8] == bytes([1, 2, 2, 0])  # one endpoint; communication, abstract control model
    assert [part[2] for part in (header, call, model, union)] == [0, 1, 2, 6]
    assert header[3:5] == b"\x20\x01"
    assert model[3] == 0x06  # line coding and state; BREAK
    assert union[3:5] == bytes([control[2], values[2]]) and call[4] == values[2]
    assert values[4:8] == bytes([2, 0x0A, 0, 0])
    assert (notify[2], notify[3]) == (0x81, 3) and notify[6] > 0
    assert (out[2], out[3], out[4]) == (0x02, 2, 64)
    assert (into[2], into[3], into[4]) == (0x82, 2, 64)


def text(host: Host, index: int) -> str:
    data = host.control(FROM_DEVICE, 6, 0x300 | index, 0x409, 255)
    assert (data[0], data[1]) == (len(data), 3)
    return data[2:].decode("utf-16-le")


def test_texts_say_whose_device_it_is(library: ctypes.CDLL) -> None:
    host = Host(library)
    host.enumerate()
    assert host.control(FROM_DEVICE, 6, 0x300, 0, 255) == b"\x04\x03\x09\x04"
    assert [text(host, index) for index in (1, 2, 3)] == ["edge", "edge simulated", SERIAL]
    with pytest.raises(Stalled):
        text(host, 4)


def test_a_chip_that_does_not_know_its_number_has_none(library: ctypes.CDLL) -> None:
    host = Host(library, serial="")
    host.enumerate()
    assert host.control(FROM_DEVICE, 6, 0x100, 0, 18)[16] == 0
    with pytest.raises(Stalled):
        text(host, 3)


# --- control transfers


@pytest.mark.parametrize("asked", [1, 8, 9, 63, 64, 65, 74, 75, 76, 128, 255, 65535])
def test_an_answer_is_what_was_asked_for_and_not_more(library: ctypes.CDLL, asked: int) -> None:
    host = Host(library)
    host.enumerate()
    whole = host.control(FROM_DEVICE, 6, 0x200, 0, 75)
    assert host.control(FROM_DEVICE, 6, 0x200, 0, asked) == whole[:asked]


def test_an_answer_of_full_packets_ends_with_an_empty_one_where_more_was_asked_for(library: ctypes.CDLL) -> None:
    host = Host(library, serial="x" * 31)  # as UTF-16 with its head: 64 bytes
    host.enumerate()
    for asked, packets in ((64, [64]), (255, [64, 0])):
        library.host_setup(struct.pack("<BBHHH", FROM_DEVICE, 6, 0x303, 0x409, asked))
        got = []
        for _ in range(4):
            library.board_poll()
            part = host.fetch(0)
            if isinstance(part, bytes):
                got.append(len(part))
        assert got == packets
        assert library.host_out(0, b"", 0, 1) == 0


def test_the_new_address_counts_only_after_the_status_stage(library: ctypes.CDLL) -> None:
    host = Host(library)
    library.host_reset()
    library.board_poll()
    library.host_setup(struct.pack("<BBHHH", TO_DEVICE, 5, 42, 0, 0))
    library.board_poll()
    library.host_address(42)
    assert host.fetch(0) == NO_ANSWER
    library.host_address(0)
    assert host.fetch(0) == b""
    library.board_poll()
    assert host.fetch(0) == NO_ANSWER
    library.host_address(42)
    assert host.control(FROM_DEVICE, 8, 0, 0, 1) == b"\x00"  # and is not configured yet


def test_what_is_unknown_is_stalled_and_the_next_request_answered(host: Host) -> None:
    for request in (
        (FROM_DEVICE, 6, 0x600, 0, 10),  # of devices of high speed
        (FROM_DEVICE, 6, 0x201, 0, 9),
        (FROM_DEVICE, 6, 0x3EE, 0, 18),  # what Windows asks first
        (TO_DEVICE, 9, 2, 0),
        (TO_DEVICE, 3, 1, 0),  # remote wake-up
        (TO_INTERFACE, 11, 1, 1),
        (FROM_INTERFACE, 10, 0, 2, 1),
        (FROM_ENDPOINT, 0, 0, 0x83, 2),
        (TO_ENDPOINT, 3, 0, 5),
        (CLASS | TO_INTERFACE, 0x24, 0, 0),
        (CLASS | TO_INTERFACE, 0x22, 0, 1),  # the data interface
        (0x40, 1, 0, 0),  # a vendor's
        (0xC0, 1, 0, 0, 8),
        (FROM_DEVICE, 6, 0x100, 0, 0),
    ):
        with pytest.raises(Stalled):
            host.control(*request)
        assert host.control(FROM_DEVICE, 8, 0, 0, 1) == b"\x01"


def test_states_and_interfaces_are_told(host: Host) -> None:
    assert host.control(FROM_DEVICE, 0, 0, 0, 2) == b"\0\0"
    assert host.control(FROM_INTERFACE, 0, 0, 1, 2) == b"\0\0"
    assert host.control(FROM_INTERFACE, 10, 0, 1, 1) == b"\0"
    assert host.control(FROM_ENDPOINT, 0, 0, 0x82, 2) == b"\0\0"


def test_the_line_coding_that_was_set_is_told(host: Host) -> None:
    coding = struct.pack("<IBBB", 921600, 2, 1, 7)
    host.control(CLASS | TO_INTERFACE, 0x20, 0, 0, data=coding)
    assert host.control(CLASS | FROM_INTERFACE, 0x21, 0, 0, 7) == coding
    with pytest.raises(Stalled):
        host.control(CLASS | TO_INTERFACE, 0x20, 0, 0, data=coding + b"x")
    assert host.control(CLASS | FROM_INTERFACE, 0x21, 0, 0, 7) == coding


def test_a_request_that_the_host_gave_up_does_not_spoil_the_next(host: Host) -> None:
    whole = host.control(FROM_DEVICE, 6, 0x200, 0, 75)
    before = host.board.board_overwritten()
    for polls in (0, 1):
        for packets in (0, 1):
            host.board.host_setup(struct.pack("<BBHHH", FROM_DEVICE, 6, 0x200, 0, 75))
            for _ in range(polls):
                host.board.board_poll()
            for _ in range(packets):
                host.fetch(0)
            assert host.control(FROM_DEVICE, 6, 0x100, 0, 18)[1] == 1
            assert host.control(FROM_DEVICE, 6, 0x200, 0, 75) == whole
    # the first chips cannot take a packet back: the one that nobody fetched, and no other, is overwritten
    assert host.board.board_overwritten() - before in (0, 1)


# --- bytes


def test_what_is_not_read_yet_is_not_overwritten(host: Host) -> None:
    """NAK is the flow control: the host tries again while the model computes."""
    assert host.send(b"a" * 64) == 0
    assert host.send(b"b" * 64) == NAK
    host.board.board_poll()
    assert host.send(b"b" * 64) == NAK
    assert host.read() == b"a" * 64
    assert host.send(b"b" * 64) == 0
    assert host.read() == b"b" * 64


def test_all_sizes_arrive(host: Host) -> None:
    sent = bytes(i * 7 & 0xFF for i in range(5000))
    at, seen, sizes = 0, b"", random.Random(1)
    while at < len(sent):
        part = sent[at : at + sizes.choice([0, 1, 2, 63, 64, 64, 64])]
        assert host.send(part) == 0
        at += len(part)
        seen += host.read()
    assert seen == sent


@pytest.mark.parametrize("size", [1, 63, 64, 65, 127, 128, 129, 640])
def test_an_answer_of_full_packets_is_ended_by_an_empty_one(host: Host, size: int) -> None:
    host.board.host_reads_every(5)
    host.write(bytes(size))
    host.board.host_reads_every(0)
    packets = []
    for _ in range(1000):  # 5 us each
        host.board.board_poll()
        part = host.fetch(DATA)
        if isinstance(part, bytes):
            packets.append(len(part))
    assert len(host.fetched()) + sum(packets) == size
    assert packets and packets[-1] < 64
    assert not host.board.board_waiting()


def test_long_answers_arrive_whole_and_never_near_the_end_of_a_frame(host: Host) -> None:
    """Erratum RP2040-E15: in the last fifth of a frame a hub may cut a transfer, and the chip hangs."""
    sent = bytes(i * 31 & 0xFF for i in range(20000))
    host.board.board_pass(1000)
    host.receive()  # the bus has begun its first frames
    host.board.host_reads_every(210)
    for at in range(0, len(sent), 333):
        host.write(sent[at : at + 333])
        host.board.board_pass(2777)  # the model computes, and nobody looks at the bus
    host.board.host_reads_every(0)
    assert host.fetched() + host.receive() == sent
    assert host.board.board_worst_age() < 810


def test_breaks_are_read_and_other_bytes_stay(host: Host) -> None:
    host.control(CLASS | TO_INTERFACE, 0x23, 0xFFFF, 0)
    assert host.board.board_read() == BREAK
    host.control(CLASS | TO_INTERFACE, 0x23, 0, 0)  # its end
    host.send(b"x")
    assert host.read() == b"x"


def test_endpoints_halt_and_begin_anew(host: Host) -> None:
    """Windows clears halts whenever a port is opened, to begin with DATA0."""
    host.send(b"x")
    assert host.read() == b"x"
    host.control(TO_ENDPOINT, 1, 0, 0x02)
    host.control(TO_ENDPOINT, 1, 0, 0x82)
    host.out_toggle = 0
    host.board.host_toggle(DATA, 0)
    assert host.send(b"y") == 0
    assert host.read() == b"y"
    host.write(b"z")
    assert host.receive() == b"z"
    for endpoint in (0x02, 0x82):
        host.control(TO_ENDPOINT, 3, 0, endpoint)
        assert host.control(FROM_ENDPOINT, 0, 0, endpoint, 2) == b"\1\0"
    assert host.send(b"y") == STALLED
    assert host.fetch(DATA) == STALLED


# --- hosts that do not read


def test_nothing_is_written_where_no_host_is(library: ctypes.CDLL) -> None:
    host = Host(library)
    assert host.write(bytes(10000)) < 1000
    host.enumerate()
    assert host.receive() == b""


def test_a_host_that_stops_reading_is_waited_for_once(host: Host) -> None:
    assert 2_000_000 < host.write(bytes(10000)) < 2_100_000
    assert host.write(bytes(10000)) < 1000
    assert host.receive() == bytes(64)  # the packet that was ready
    host.write(b"again")
    assert host.receive() == b"again"


def test_who_has_not_opened_the_port_is_not_waited_for_long(host: Host) -> None:
    host.close()
    assert 100_000 < host.write(bytes(10000)) < 150_000
    assert host.write(bytes(10000)) < 1000


def test_a_host_that_reads_without_opening_gets_its_answers(host: Host) -> None:
    """Some programs never raise DTR."""
    host.close()
    host.board.host_reads_every(5)
    host.write(b"x" * 1000)
    host.board.host_reads_every(0)
    assert len(host.fetched()) + len(host.receive()) == 1000


def test_a_cable_that_was_pulled_is_noticed_by_the_frames(host: Host) -> None:
    """The board may be fed by its other pin, and nothing tells of the cable."""
    host.board.host_frames(0)
    assert host.write(bytes(10000)) < 150_000


def test_what_a_program_left_behind_is_not_the_next_ones(host: Host) -> None:
    """But for the packet that was ready: on the first chips it cannot be taken back."""
    host.write(b"a" * 100)
    host.close()
    host.open()
    assert host.receive() == b"a" * 64
    host.write(b"new")
    assert host.receive() == b"new"


def test_a_reset_in_the_middle_of_an_answer(host: Host) -> None:
    host.write(b"a" * 100)
    host.send(b"hardly read")
    assert host.board.board_read() == ord("h")
    host.enumerate()
    host.open()
    assert host.read() == b""
    assert host.receive() == b""
    host.write(b"b" * 10)
    assert host.receive() == b"b" * 10
    host.send(b"c")
    assert host.read() == b"c"


# --- into the boot loader


def test_closing_at_1200_baud_starts_the_boot_loader_after_the_answer(host: Host) -> None:
    host.open(1200)
    assert host.board.board_bootloader_calls() == 0
    host.board.host_setup(struct.pack("<BBHHH", CLASS | TO_INTERFACE, 0x22, 0, 0, 0))
    host.board.board_poll()
    assert host.board.board_bootloader_calls() == 0  # the host still waits for the status stage
    assert host.fetch(0) == b""
    host.board.board_poll()
    assert host.board.board_bootloader_calls() == 1
    host.open()  # where there is no boot loader, all goes on
    host.close()
    assert host.board.board_bootloader_calls() == 1


def test_other_speeds_do_not_start_the_boot_loader(host: Host) -> None:
    for baud in (115200, 0, 1201, 1200 << 8, 0x04B00000):
        host.open(baud)
        host.close()
    host.control(CLASS | TO_INTERFACE, 0x20, 0, 0, data=struct.pack("<IBBB", 1200, 0, 0, 8))
    host.close()  # it was closed already
    assert host.board.board_bootloader_calls() == 0


# --- hostile


def test_the_controller_is_set_up_as_documented(library: ctypes.CDLL) -> None:
    Host(library)
    assert library.board_interrupts() == 1 << 4 | 1 << 12 | 1 << 16  # buffers, reset, SETUP: they end a WFI
    assert library.board_main_ctrl() == 1  # on, a device, and the RP2350's PHY not isolated


def compile_fuzz(folder: Path) -> Path:
    """Random hosts under ASan and UBSan, as a program."""
    source = folder / "fuzz.c"
    source.write_text('#define FUZZ\n#include "usb_controller.c"\n', encoding="utf-8")
    return build_host_program([source], INCLUDES, folder / "fuzz")


def fuzz(program: Path, first_seed: int, seeds: int) -> None:
    command = [str(program), str(first_seed), str(seeds), "3000"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stdout) == (0, "fine\n"), ran.stderr


@pytest.mark.system
def test_whatever_a_host_sends_stays_within_the_controllers_memory(tmp_path: Path) -> None:
    """And no call takes longer than it may, and the device is there afterwards; tests/soak.py has more seeds."""
    fuzz(compile_fuzz(tmp_path), 0, 300)
