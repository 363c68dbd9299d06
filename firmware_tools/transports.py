"""Lines to a device: each Transport carries bytes, and knows nothing of what they mean; link.py does."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, Protocol, TypeVar

import serial
from serial.tools import list_ports

from firmware_tools.errors import LinkError

MAX_TEXT = 200  # characters of a device that enter a message
MAX_COMPLAINT = 1000  # of a process here, which names files

# pyserial lets errors of POSIX terminals through, as of one that is unplugged while it is set up: they are no OSError
TERMINAL_FAULTS: tuple[type[Exception], ...] = (
    OSError,
    *((importlib.import_module("termios").error,) if os.name == "posix" else ()),
)

T = TypeVar("T")


def clean(text: str, limit: int | None = MAX_TEXT) -> str:
    """Text of a device without what a terminal might obey."""
    return "".join(c for c in text if c.isprintable())[:limit]


class Transport(Protocol):
    """Bytes to and from a device.

    `boot_s`, where a transport has it, is how many seconds its first answer may take; `bytes_per_s`, how fast the line
    is where that costs time.
    """

    name: str

    def write(self, data: bytes) -> None:
        """Sends all of data; LinkError where the other end is gone."""

    def read(self, timeout_s: float) -> bytes:
        """What has come, as soon as anything has; b"" after timeout_s; LinkError where the other end is gone."""

    def send_break(self) -> None:
        """Sends a BREAK where the line has such a thing; else does nothing."""

    def close(self) -> None:
        """Lets go of the line; may be called twice."""


class SerialTransport:
    """A serial port, or any URL of pyserial: socket://host:port, rfc2217://, loop:// …

    The port is opened for this program alone where the platform can. Opening it may reset a board, whose banner is
    then skipped. LinkError says whether the port is missing, busy or forbidden. has_break False: none is sent, which
    would mean something else to a computer's console (another speed, or the kernel's SysRq).
    """

    def __init__(self, url: str, baud: int = 115200, has_break: bool = True) -> None:
        self.name = url
        self.bytes_per_s = baud / 10.0
        self._has_break = has_break
        try:
            self._port = serial.serial_for_url(url, baudrate=baud, timeout=0.05, write_timeout=10.0, exclusive=True)
        except (serial.SerialException, ValueError, *TERMINAL_FAULTS) as error:
            raise _cannot_open(url, error) from None
        with contextlib.suppress(serial.SerialException, *TERMINAL_FAULTS):
            self._port.reset_input_buffer()

    def write(self, data: bytes) -> None:
        self._guarded(lambda: self._port.write(data))

    def read(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        while True:
            data = self._guarded(self._read_some)
            if data or time.monotonic() >= deadline:
                return data

    def _read_some(self) -> bytes:
        first = bytes(self._port.read(1))
        return first + bytes(self._port.read(self._port.in_waiting)) if first else b""

    def send_break(self) -> None:
        with contextlib.suppress(serial.SerialException, NotImplementedError, *TERMINAL_FAULTS):
            if self._has_break:
                self._port.send_break()

    def close(self) -> None:
        with contextlib.suppress(serial.SerialException, *TERMINAL_FAULTS):
            self._port.close()

    def _guarded(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except serial.SerialTimeoutException:
            raise LinkError(f"{self.name} takes no bytes", "unplug the device and plug it in again") from None
        except (serial.SerialException, TypeError, *TERMINAL_FAULTS) as error:  # TypeError: of a port closed under it
            raise LinkError(
                f"{self.name} is gone: {clean(str(error))}", "was it unplugged, or does another program use it?"
            ) from None


def _cannot_open(url: str, error: Exception) -> LinkError:
    number, text = getattr(error, "errno", error.args[0] if error.args else None), str(error)
    windows = sys.platform == "win32"
    if number == errno.ENOENT or "FileNotFoundError" in text:
        ports = ", ".join(port.device for port in list_ports.comports()) or "none"
        return LinkError(f"there is no port {url}", f"ports of this machine: {ports}; is the board plugged in?")
    if number in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK) or (windows and "PermissionError" in text):
        return LinkError(f"{url} is busy: another program uses it", "close the terminal or monitor that has it open")
    if number in (errno.EACCES, errno.EPERM):
        hint = "on Linux: sudo usermod -aG dialout $USER (on some systems uucp), then log in again"
        return LinkError(f"permission to open {url} is denied", hint)
    return LinkError(f"{url} cannot be opened: {clean(text)}", "a port is /dev/ttyACM0, COM5 or socket://host:port")


class PipeTransport:
    """stdin and stdout of a child process, which the transport ends on close.

    process must have been started with stdin and stdout as binary pipes. Where stderr is a pipe too, its last line goes
    into the LinkError of a process that ended; or explain makes that of the exit code (None: only its output ended) and
    all it said.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        name: str = "",
        boot_s: float = 60.0,
        explain: Callable[[int | None, bytes], LinkError] | None = None,
    ) -> None:
        self.name = name or f"process {process.pid}"
        self.boot_s = boot_s  # a program loads its libraries and the model first
        self._process = process
        self._explain = explain
        # b"" means the end; a Ctrl-C finds this kind of queue between two states, never within one
        self._received: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._complaint = b""
        self._ended = False
        assert process.stdin and process.stdout, "the process must be started with pipes"
        self._stdin, stdout = process.stdin, process.stdout
        self._threads = [threading.Thread(target=self._pump, args=(stdout,), daemon=True)]
        if process.stderr:
            self._threads.append(threading.Thread(target=self._listen, args=(process.stderr,), daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Has neither the process ended nor its output?"""
        return not self._ended and self._process.poll() is None

    def _pump(self, stdout: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(stdout.fileno(), 1 << 16):
                self._received.put(data)
        self._received.put(b"")

    def _listen(self, stderr: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(stderr.fileno(), 1 << 12):
                self._complaint = (self._complaint + data)[-4096:]

    def write(self, data: bytes) -> None:
        try:
            self._stdin.write(data)
            self._stdin.flush()
        except (OSError, ValueError):
            raise self._gone() from None

    def read(self, timeout_s: float) -> bytes:
        if self._ended:
            raise self._gone()
        try:
            data = self._received.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            return b""
        if not data:
            self._ended = True
            raise self._gone()
        return data

    def _gone(self) -> LinkError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        for thread in self._threads:
            thread.join(1.0)
        if self._explain:
            return self._explain(self._process.returncode, self._complaint)
        lines = [line for line in self._complaint.decode(errors="replace").splitlines() if line.strip()]
        code = self._process.returncode
        state = "closed its output" if code is None else f"ended with code {code}"
        return LinkError(f"{self.name} {state}" + (f": {clean(lines[-1], MAX_COMPLAINT)}" if lines else ""))

    def send_break(self) -> None:
        """A pipe has no BREAK."""

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stdin.close()
        for end in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(2.0)
                break
            except subprocess.TimeoutExpired:
                end()
        self._process.wait()
        for thread, stream in zip(self._threads, (self._process.stdout, self._process.stderr), strict=False):
            thread.join(1.0)
            # a thread that still reads (from a grandchild) would read whatever file gets the number next
            if stream and not thread.is_alive():
                stream.close()
