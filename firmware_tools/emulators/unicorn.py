"""The default emulator: unicorn, in this process, from pip alone. https://www.unicorn-engine.org

The device runs in a thread of its own, as real ones do, so that Ctrl-C meets a reader that waits and never the
emulator. WFI ends a run of the emulator; the thread then sleeps until the host writes or 10 ms have passed.

Time is that of a board whose every instruction takes one tick of COUNTER: with counting, ticks are the instructions
executed while a gate is high (conditional ones that are skipped included, as on silicon), plus 25 million a second
while the firmware waits for its host. Outside gates and waiting, time stands still: no host can disturb a count.

Unicorn is more permissive than a chip (it knows no CPACR and lets more unaligned accesses pass): qemu.py is the strict
check. It is stricter in one thing, that flash cannot be written.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeAlias

from firmware_tools import boards, elf
from firmware_tools.boards import Board
from firmware_tools.build import Image
from firmware_tools.errors import LinkError, MissingTool, UserError
from firmware_tools.link import Clock, Link

if TYPE_CHECKING:
    from unicorn import Uc

PAGE_BYTES = 0x1000
CORE_REGISTERS = 0xE000E000  # SysTick, NVIC, CPACR: nothing here needs an answer, since WFI is the emulator's idle
UART_DATA, UART_STATE, STATE_RX_FULL = 0x0, 0x4, 2
FPGAIO_LED, FPGAIO_CLK100HZ, FPGAIO_COUNTER, FPGAIO_MISC = 0x0, 0x14, 0x18, 0x4C
IDLE_S = 0.01  # what the firmware asks of SysTick
LONGEST_REQUEST_S = 600.0  # counting is slow, and a fault is reported at once
Pass: TypeAlias = tuple[str, int]
LONGEST_WAIT_S = 0.05  # a wait this long can be interrupted by Ctrl-C on every system


def open(image: Image, counting: bool = False) -> Link:
    """Starts image on an emulated board; with counting, ticks are exact instructions, else None.

    Raises MissingTool without unicorn, UserError for a board that it cannot be.
    """
    clock = Clock("instructions", per_tick=1.0, counting=counting)
    return Link(UnicornTransport(Device(image, _board(image), counting)), clock, timeout_s=LONGEST_REQUEST_S)


def trace(image: Image, functions: Collection[str], request: Callable[[Link], None]) -> list[Pass]:
    """See `emulators`: where the instructions of a step went."""
    board = _board(image)
    device = Device(image, board, counting=True, watched=functions)
    with Link(UnicornTransport(device), Clock("instructions", per_tick=1.0), timeout_s=LONGEST_REQUEST_S) as link:
        request(link)
    return device.passes


def _board(image: Image) -> Board:
    board = boards.load(image.board)
    if "unicorn" not in board.emulators or board.machine is None:
        raise UserError(
            f"{board.name} cannot be emulated by unicorn", f"it can by: {', '.join(board.emulators) or 'none'}"
        )
    return board


class Device:
    """A board's memory, UART, gates and counters around unicorn's core. Only `run` touches the core."""

    def __init__(self, image: Image, board: Board, counting: bool, watched: Collection[str] = ()) -> None:
        assert board.machine is not None
        self.name = board.name
        self.received: deque[int] = deque()
        self.sent = bytearray()
        self.changed = threading.Condition()
        self.fault = ""
        self.instructions = 0
        self.wakes = 0
        self._parts = elf.read(image.elf)
        self._vectors = image.vectors
        self._gates = 0
        self.pins: list[int] = [0]  # what was written to them, all in one number, the latest last
        self.waited_ticks = 0
        self._waiting_since = time.monotonic()
        self._counter_hz = board.machine.counter_hz
        self._closing = False
        self._access = ""
        self.passes: list[Pass] = []
        self._watched = self._parts.functions(watched)
        self._core = _core(board)
        self._map_memory(image, board)
        if counting:
            self._count_blocks()

    def run(self) -> None:
        """The device's life: until `stop`, or a fault, whose description is left in `fault`."""
        from unicorn import UcError
        from unicorn.arm_const import UC_ARM_REG_PC, UC_ARM_REG_SP

        core, nowhere = self._core, 0  # execution never reaches the vector table
        stack, at = (int.from_bytes(core.mem_read(self._vectors + i, 4), "little") for i in (0, 4))
        core.reg_write(UC_ARM_REG_SP, stack)
        try:
            while not self._closing:
                core.emu_start(at | 1, nowhere)
                at = core.reg_read(UC_ARM_REG_PC)
                self._idle()
        except UcError as error:
            self._describe_fault(core.reg_read(UC_ARM_REG_PC), str(error))

    def stop(self) -> None:
        """Ends `run`, whatever the firmware is doing; to be called from another thread."""
        self._closing = True
        with self.changed:
            self.changed.notify_all()
        self._core.emu_stop()

    def _idle(self) -> None:
        self.wakes += 1
        with self.changed:
            self.changed.notify_all()
            if not self.received and not self._closing:
                self.changed.wait(IDLE_S)
        self._let_time_pass()

    def _let_time_pass(self) -> None:
        now = time.monotonic()
        self.waited_ticks += int((now - self._waiting_since) * self._counter_hz)
        self._waiting_since = now

    def _map_memory(self, image: Image, board: Board) -> None:
        from unicorn import UC_PROT_EXEC, UC_PROT_READ, UC_PROT_WRITE

        assert board.machine is not None
        core = self._core
        core.mem_map(board.flash.start, board.flash.size_bytes, UC_PROT_READ | UC_PROT_EXEC)
        has_code = UC_PROT_EXEC if image.facts.code_in == "ram" else 0
        core.mem_map(board.ram.start, board.ram.size_bytes, UC_PROT_READ | UC_PROT_WRITE | has_code)
        for address, content in image.segments:
            core.mem_write(address, content)
        for address, read, write in (
            (board.machine.uart, self._read_uart, self._write_uart),
            (board.machine.fpgaio, self._read_fpgaio, self._write_fpgaio),
            (CORE_REGISTERS, lambda *_: 0, lambda *_: None),
        ):
            core.mmio_map(address, PAGE_BYTES, read, None, write, None)
        self._note_bad_accesses()

    def _note_bad_accesses(self) -> None:
        from unicorn import (
            UC_HOOK_MEM_INVALID,
            UC_MEM_FETCH_PROT,
            UC_MEM_FETCH_UNMAPPED,
            UC_MEM_WRITE_PROT,
            UC_MEM_WRITE_UNMAPPED,
        )

        kinds = dict.fromkeys((UC_MEM_WRITE_PROT, UC_MEM_WRITE_UNMAPPED), "a write to")
        kinds |= dict.fromkeys((UC_MEM_FETCH_PROT, UC_MEM_FETCH_UNMAPPED), "a jump to")

        def note(_core: Uc, access: int, address: int, _size: int, _value: int, _user: Any) -> bool:
            self._access = f"{kinds.get(access, 'a read of')} {address:#010x}"
            return False

        self._core.hook_add(UC_HOOK_MEM_INVALID, note)

    def _count_blocks(self) -> None:
        """Unicorn calls at the start of every stretch of code that it runs to its end."""
        from unicorn import UC_HOOK_BLOCK

        lengths: dict[int, int] = {}  # instructions of a block, by address and size in one number

        def block(core: Uc, address: int, size: int, _user: Any) -> None:
            if self._gates:
                if address in self._watched:
                    self.passes.append((self._watched[address], self.instructions))
                key = address << 16 | size
                try:
                    self.instructions += lengths[key]
                except KeyError:
                    lengths[key] = count_instructions(bytes(core.mem_read(address, size)))
                    self.instructions += lengths[key]

        self._core.hook_add(UC_HOOK_BLOCK, block)

    def _read_uart(self, _core: Uc, offset: int, _size: int, _user: Any) -> int:
        if offset == UART_STATE:
            if self.received:
                return STATE_RX_FULL
            self._let_time_pass()
        elif offset == UART_DATA and self.received:
            return self.received.popleft()
        return 0

    def _write_uart(self, _core: Uc, offset: int, _size: int, value: int, _user: Any) -> None:
        if offset == UART_DATA:
            with self.changed:
                self.sent.append(value & 0xFF)

    def _read_fpgaio(self, _core: Uc, offset: int, _size: int, _user: Any) -> int:
        ticks = self.waited_ticks + self.instructions
        if offset == FPGAIO_COUNTER:
            return ticks & 0xFFFFFFFF
        if offset == FPGAIO_CLK100HZ:
            return ticks // (self._counter_hz // 100) & 0xFFFFFFFF
        if offset == FPGAIO_MISC:
            return self.pins[-1]
        return self._gates if offset == FPGAIO_LED else 0

    def _write_fpgaio(self, _core: Uc, offset: int, _size: int, value: int, _user: Any) -> None:
        if offset == FPGAIO_LED:
            self._gates = value & 3
            self._waiting_since = time.monotonic()
            with self.changed:  # what was printed until here may be read while the next step computes
                self.changed.notify_all()
        elif offset == FPGAIO_MISC:
            self.pins.append(value)

    def _describe_fault(self, at: int, error: str) -> None:
        function = self._parts.function_at(at)
        where = f"{at:#010x}" + (f", in {function}" if function else "")
        with self.changed:
            self.fault = f"{self.name} stopped at {where}: {self._access or error}"
            self.changed.notify_all()


class UnicornTransport:
    """The host's end of the device's UART."""

    def __init__(self, device: Device) -> None:
        self.name = f"{device.name}@unicorn"
        self.device = device
        self._thread = threading.Thread(target=device.run, name=self.name, daemon=True)
        self._thread.start()
        self._end = weakref.finalize(self, _end, device, self._thread)  # at exit too: no thread may outlive Python

    def write(self, data: bytes) -> None:
        """Sends bytes; LinkError where the device has stopped."""
        self._refuse_if_stopped()
        with self.device.changed:
            self.device.received.extend(data)
            self.device.changed.notify_all()

    def read(self, timeout_s: float) -> bytes:
        """What has come, as soon as anything has; b"" after timeout_s; LinkError where the device has stopped."""
        deadline = time.monotonic() + timeout_s
        device = self.device
        with device.changed:
            while not device.sent:
                self._refuse_if_stopped()
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return b""
                device.changed.wait(min(remaining, LONGEST_WAIT_S))
            data = bytes(device.sent)
            device.sent.clear()
            return data

    def send_break(self) -> None:
        """Nothing: the UART of these boards cannot tell a BREAK."""

    def close(self) -> None:
        """Stops the device; may be called again."""
        self._end()

    def _refuse_if_stopped(self) -> None:
        if self.device.fault:
            raise LinkError(self.device.fault, "the firmware has a fault: please report it with the model")
        if not self._thread.is_alive():
            raise LinkError(f"{self.name} is closed")


def _end(device: Device, thread: threading.Thread) -> None:
    while thread.is_alive() and thread is not threading.current_thread():
        device.stop()
        thread.join(LONGEST_WAIT_S)


def count_instructions(code: bytes) -> int:
    """Instructions in a stretch of Thumb code (halfwords from 0xE800 on begin a long one: ARMv7-M manual, A5.1)."""
    count = at = 0
    while at < len(code):
        at += 4 if code[at + 1] >= 0xE8 else 2
        count += 1
    return count


def _core(board: Board) -> Uc:
    try:
        from unicorn import UC_ARCH_ARM, UC_MODE_MCLASS, UC_MODE_THUMB, Uc, arm_const
    except ImportError as error:
        raise MissingTool("the emulator is missing: the Python package unicorn", "pip install unicorn") from error
    assert board.machine is not None
    core = Uc(UC_ARCH_ARM, UC_MODE_THUMB | UC_MODE_MCLASS)
    core.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_CORTEX_{board.machine.unicorn}"))
    return core
