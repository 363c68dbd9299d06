"""A real sshd of this machine on 127.0.0.1, with keys, a client configuration and a home of its own below a folder.

Who logs in is who runs the tests, with $HOME of the far side in the folder: what is deployed there touches no home. Its
python3 is the one that runs the tests.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployed import PATH, children, command_line

from edge.run.ssh import PROGRAM


@dataclass
class Sshd:
    """A server that runs. target: what `--on` takes; home: $HOME there; ssh: value for EDGE_SSH of who logs in."""

    folder: Path
    port: int
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        return f"ssh:{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def ssh(self) -> str:
        return f"ssh -F {self.folder / 'client'}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process that reaches it."""
        return {**os.environ, PROGRAM: self.ssh}

    def start(self) -> None:
        """Starts the server and waits until it listens."""
        self.process = subprocess.Popen(self.command, stderr=(self.folder / "log").open("ab"))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError(f"sshd does not listen: {(self.folder / 'log').read_text()}")

    def stop(self) -> None:
        """Ends the server, so that nothing listens, and the connections that it serves."""
        if self.process is None:
            return
        self.drop()
        self.process.terminate()
        self.process.wait(10)
        self.process = None

    def sessions(self) -> list[int]:
        """The processes below the server that serve connections (not what runs in them)."""
        assert self.process is not None
        return [pid for pid in descendants(self.process.pid) if command_line(pid).startswith("sshd: ")]

    def running(self) -> list[int]:
        """What runs on the far side in sessions that are served: all below the server but sshd's own processes."""
        assert self.process is not None
        return [pid for pid in descendants(self.process.pid) if not command_line(pid).startswith("sshd: ")]

    def drop(self) -> None:
        """Cuts all connections, as a server that crashes does."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found = [pid]
    for known in found:
        found += children(known)
    return found[1:]


@contextlib.contextmanager
def sshd(folder: Path, settings: Sequence[str] = ()) -> Iterator[Sshd]:
    """A server below folder, which is empty; settings: further lines of sshd_config, which win over those here."""
    home = folder / "home"
    home.mkdir(parents=True)
    for key in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    public = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    (folder / "server").write_text("\n".join([*settings, *_server(folder, port)]) + "\n")
    (folder / "client").write_text("\n".join(_client(folder, port)) + "\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where Debian's sshd separates privileges
    program = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert program, "sshd is not installed"
    server = Sshd(folder, port, [program, "-D", "-e", "-f", str(folder / "server")])
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _server(folder: Path, port: int) -> list[str]:
    return [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'host_key'}",
        f"AuthorizedKeysFile {folder / 'authorized_keys'}",
        f"PidFile {folder / 'pid'}",
        f"SetEnv HOME={folder / 'home'} PATH={PATH}",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        "PrintMotd no",
        "UseDNS no",
    ]


def _client(folder: Path, port: int) -> list[str]:
    return [
        "Host pi-by-alias",
        "HostName 127.0.0.1",
        f"Port {port}",
        f"User {getpass.getuser()}",
        "Host *",
        f"IdentityFile {folder / 'user_key'}",
        "IdentitiesOnly yes",
        "IdentityAgent none",
        f"UserKnownHostsFile {folder / 'known_hosts'}",
        "GlobalKnownHostsFile /dev/null",
        "StrictHostKeyChecking yes",
        "BatchMode yes",
    ]
