"""The host's end of the UART protocol of the bootloader in STM32's ROM, over a port that may lose and spoil bytes.

Commands are a byte and its complement; addresses, lengths and data end in the XOR of their bytes; the ROM answers each
part with ACK or NACK. What it sends has no checksum, so `read` may be wrong, and whoever verifies reads again. The ROM
waits for ever for the rest of a part that lost a byte: `Rom` feeds it bytes until it complains, and begins anew.

Source: AN3155, "USART protocol used in the STM32 bootloader", revision 14 and later (commands, checksums, special
erases, two NACKs of some protected products, no error on write-protected sectors); AN2606 (start-up times).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from firmware_tools.errors import LinkError

BAUD = 115200
ACK, NACK, SYNC = 0x79, 0x1F, 0x7F
GET, GET_ID, READ, GO, WRITE, ERASE, EXTENDED_ERASE = 0x00, 0x02, 0x11, 0x21, 0x31, 0x43, 0x44
MOST_BYTES = 256  # of one READ or WRITE
MOST_PAGES = 16  # of one erase, so that progress can be told
TRIES = 6
SYNC_S, QUICK_S, PROGRAM_S = 0.3, 1.0, 3.0
PAGE_S, MASS_S = 6.0, 60.0  # 128 KiB at low voltage take 2 to 4 s; 2 MiB at once up to 32 s
QUIET_S, NUDGE_S = 0.05, 0.025
TICK_S = 0.025  # the timeout that a port must have
LONGEST_NUDGES = 400  # a part has at most 258 bytes

T = TypeVar("T")


class Refused(LinkError):
    """The ROM said NACK, every time that it was asked."""


class Silent(LinkError):
    """The ROM does not answer any more, whatever it is sent: only a reset helps."""


class Dirty(LinkError):
    """A block of flash is neither erased nor what was written: only another erase helps."""


class _Garbled(Exception):
    """No answer, or one that is no answer: nobody knows what the ROM waits for."""


class _Nack(Exception):
    """The ROM said NACK and waits for a command."""


class Rom:
    """A ROM that answers. troubles counts answers that were not as they should be: on a good line it stays 0."""

    def __init__(self, port: Any, name: str) -> None:
        self._port = port
        self._name = name
        self._sent = b""
        self.troubles = 0

    def sync(self) -> bool:
        """Wakes a ROM that has just started; True as well if it had been woken before."""
        self._settle()
        for _ in range(3):
            self._write(bytes([SYNC]))
            answer = self._read(1, SYNC_S)
            if answer and answer[0] in (ACK, NACK):  # NACK: it was awake, and SYNC is no command
                self._settle()
                return True
        return False

    def commands(self) -> frozenset[int]:
        """The commands that this ROM knows."""
        return frozenset(self._tried("GET", lambda: self._told(GET))[1:])

    def product_id(self) -> int:
        """The number of the chip's product line, as 0x421."""
        return int.from_bytes(self._tried("GET ID", lambda: self._told(GET_ID, 2)), "big")

    def read(self, address: int, count: int) -> bytes:
        """What count bytes of memory are; they have come without a checksum."""

        def ask() -> bytes:
            self._address(READ, address)
            self._part(bytes([count - 1, (count - 1) ^ 0xFF]), QUICK_S)
            data = self._read(count, QUICK_S)
            if len(data) < count:
                raise _Garbled
            return data

        return self._tried("READ MEMORY", ask)

    def write(self, address: int, data: bytes) -> None:
        """Writes up to 256 bytes, a multiple of 4, into erased flash. Dirty where they are not what is there then."""
        for _ in range(TRIES):
            try:
                self._address(WRITE, address)
                self._part(_checked(bytes([len(data) - 1]) + data), PROGRAM_S)
                return
            except (_Nack, _Garbled):
                self.recover()
            there = self.read(address, len(data))
            if there == data:
                return
            if there != b"\xff" * len(data) and self.read(address, len(data)) != b"\xff" * len(data):
                raise Dirty(f"{self._name}: a block at {address:#010x} was written wrong", _BAD_LINE)
        raise LinkError(f"{self._name} takes no block at {address:#010x} in {TRIES} tries", _BAD_LINE)

    def erase(self, pages: Sequence[int] | None, extended: bool) -> None:
        """Erases up to MOST_PAGES pages by their numbers, or with None all of flash."""
        width = 2 if extended else 1
        if pages is None:
            part = b"\xff" * width
            checked = _checked(part) if extended else b"\xff\x00"
        else:
            checked = _checked(b"".join(n.to_bytes(width, "big") for n in (len(pages) - 1, *pages)))
        patience_s = MASS_S if pages is None else PAGE_S * len(pages)

        def ask() -> None:
            self._command(EXTENDED_ERASE if extended else ERASE)
            self._part(checked, patience_s)

        self._tried("ERASE", ask)

    def go(self, address: int) -> None:
        """Starts what the vector table at address says; what is started does not understand any repeat."""
        self._tried("GO", lambda: self._command(GO))
        try:
            self._part(_checked(address.to_bytes(4, "big")), QUICK_S)
        except (_Nack, _Garbled):
            raise LinkError(f"{self._name} does not confirm GO", _BAD_LINE) from None

    def recover(self) -> None:
        """Has the ROM wait for a command. After a NACK too: one byte too many makes it refuse every command."""
        self.troubles += 1
        self._settle()  # some products say NACK twice
        self._resync()

    # --- how

    def _told(self, command: int, size: int | None = None) -> bytes:
        """The answer to a command without arguments: its length less 1, that many bytes, ACK."""
        self._command(command)
        count = self._read(1, QUICK_S)
        data = self._read(count[0] + 1, QUICK_S) if count else b""
        if not count or len(data) != count[0] + 1 or (size is not None and len(data) != size):
            raise _Garbled
        self._expect_ack(QUICK_S)
        return data

    def _command(self, command: int) -> None:
        self._port.reset_input_buffer()
        self._part(bytes([command, command ^ 0xFF]), QUICK_S)

    def _address(self, command: int, address: int) -> None:
        self._command(command)
        self._part(_checked(address.to_bytes(4, "big")), QUICK_S)

    def _part(self, data: bytes, patience_s: float) -> None:
        self._write(data)
        self._expect_ack(patience_s)

    def _expect_ack(self, patience_s: float) -> None:
        answer = self._read(1, patience_s)
        if answer == bytes([NACK]):
            raise _Nack
        if answer != bytes([ACK]):
            raise _Garbled

    def _tried(self, what: str, ask: Callable[[], T]) -> T:
        """What ask gives; LinkError after TRIES, Refused where each of them ended in a NACK."""
        nacks = 0
        for _ in range(TRIES):
            try:
                return ask()
            except (_Nack, _Garbled) as trouble:
                nacks += isinstance(trouble, _Nack)
                self.recover()
        if nacks == TRIES:
            raise Refused(f"{self._name} refuses {what}")
        raise LinkError(f"{self._name} gives no valid answer to {what} in {TRIES} tries", _BAD_LINE)

    def _resync(self) -> None:
        """Feeds the ROM until it says NACK to what is no command; LinkError where it never does.

        The byte is one that can neither complete what was sent as its checksum, nor be a length that it completes
        itself (an odd one would), nor half of an address in flash.
        """
        avoid = {*self._sent, 0x00, 0x08}
        nudge = next((b for b in range(0xFE, 0, -2) if b not in avoid), 0xA4)
        for count in range(LONGEST_NUDGES):
            burst = 1 if count < 4 or count % 8 == 0 else 16
            self._port.write(bytes([nudge]) * burst)
            answer = self._read(1, NUDGE_S)
            if not answer:
                continue
            rest = self._settle()
            if burst == 1 and answer + rest in (bytes([NACK]), bytes([NACK, NACK])):
                return
        raise Silent(f"{self._name} does not answer any more", _BAD_LINE)

    def _settle(self) -> bytes:
        """Everything that still comes, until the line is quiet."""
        seen = b""
        while len(seen) < 1 << 12 and (data := self._read(MOST_BYTES, QUIET_S)):
            seen += data
        return seen

    def _write(self, data: bytes) -> None:
        self._sent = data
        self._port.write(data)

    def _read(self, count: int, patience_s: float) -> bytes:
        """What comes in patience_s, up to count bytes. To change the port's own timeout would set it up anew."""
        data = bytes(self._port.read(count))
        for _ in range(round(patience_s / TICK_S) - 1):
            if len(data) >= count:
                break
            data += self._port.read(count - len(data))
        return data


_BAD_LINE = "is the cable loose, too long or without ground, or does another program use the port?"


def _checked(data: bytes) -> bytes:
    """data with the XOR of its bytes behind it."""
    xor = 0
    for byte in data:
        xor ^= byte
    return data + bytes([xor])
