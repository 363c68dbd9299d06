"""Ports that lead to a running device: a pty, or a socket of this machine."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading

from firmware_tools.errors import LinkError
from firmware_tools.transports import Transport

if sys.platform != "win32":
    import termios
    import tty


class Pty:
    """A pty at whose other end a device answers, whoever opens it and however often; its name is that of a port."""

    def __init__(self, line: Transport, ends: tuple[int, int] | None = None) -> None:
        self._line = line
        self._master, self._slave = ends or os.openpty()
        tty.setraw(self._slave)
        self.name = os.ttyname(self._slave)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._to_device, self._from_device)]
        for thread in self._threads:
            thread.start()

    def _to_device(self) -> None:
        with contextlib.suppress(OSError, LinkError):
            while not self._over.is_set():
                if select.select([self._master], [], [], 0.02)[0]:
                    self._line.write(os.read(self._master, 4096))

    def _from_device(self) -> None:
        with contextlib.suppress(OSError, LinkError):
            while not self._over.is_set():
                data = self._line.read(0.05)
                while data:
                    data = data[os.write(self._master, data) :]

    @property
    def baud(self) -> int:
        """The speed at which somebody has opened it, as termios numbers it."""
        return int(termios.tcgetattr(self._slave)[5])

    def close(self) -> None:
        """Both ends go: whoever has the port open reads that it is gone."""
        self._over.set()
        self._line.close()
        for thread in self._threads:
            thread.join(5)
        os.close(self._slave)
        os.close(self._master)


class Socket:
    """A socket behind which a device answers; it stays on from one host to the next. name: a URL of pyserial."""

    def __init__(self, line: Transport) -> None:
        self._line = line
        self._server = socket.create_server(("127.0.0.1", 0))
        self.name = f"socket://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                with connection, contextlib.suppress(OSError, LinkError):
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        ended = threading.Event()
        answers = threading.Thread(target=self._answer, args=(connection, ended), daemon=True)
        answers.start()
        try:
            while data := connection.recv(4096):
                self._line.write(data)
        finally:
            ended.set()
            answers.join()

    def _answer(self, connection: socket.socket, ended: threading.Event) -> None:
        with contextlib.suppress(OSError, LinkError):
            while not ended.is_set():
                connection.sendall(self._line.read(0.02))

    def close(self) -> None:
        """Nobody is let in any more, and the device is switched off."""
        self._server.close()
        self._line.close()
