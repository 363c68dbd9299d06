"""Virtual Raspberry Pis: Debian for ARM in namespaces of its own, with a real sshd, run by QEMU's user emulation.

They need root and Debian's programs (system tier). What runs there is real: Python, the wheels, LiteRT, sshd, the
network with its cable. What is not: the kernel is this machine's, and time means nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from virtual_pi_box import PI_ADDRESS
from virtual_pi_userland import Kind, userland

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("mmdebstrap", "apt-get", "ssh", "ssh-keygen", "nsenter", "ip", "mount", "qemu-aarch64-static")
GIB = 1 << 30
CPU = {"arm64": "cortex-a72", "armhf": "cortex-a7"}  # `max`, QEMU's default, computes wrongly with XNNPACK
EMULATOR = {"arm64": "/usr/lib/binfmt.d/qemu-aarch64.conf", "armhf": "/usr/lib/binfmt.d/qemu-arm.conf"}
PARTS = {"cortex-a7": "0xc07", "cortex-a72": "0xd08", "cortex-a76": "0xd0b"}
FEATURES = {  # as the processors of a Pi 2, 4 and 5 have them, and QEMU's
    "cortex-a7": "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm",
    "cortex-a72": "fp asimd evtstrm crc32 cpuid",
    "cortex-a76": "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
}
CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: {architecture}
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 3
"""
SSHD = """HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
PrintMotd no
SetEnv QEMU_CPU={cpu}
"""
SSH = """Host {name}
  HostName {address}
  User pi
  IdentityFile {folder}/key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking yes
  HostKeyAlias {name}
"""


@dataclass(frozen=True)
class VirtualPi:
    """A Pi that is on: `process` out here is its first one, `desk` the one whose network its cable ends in."""

    kind: Kind
    folder: Path
    process: int
    desk: int
    name: str = "raspberrypi"

    @property
    def target(self) -> str:
        return f"ssh:{self.name}"

    def edge(self, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """An edge command on the desk, whose ssh finds the Pi; variables: more of its environment."""
        return subprocess.run(self.command(*arguments), **self.started(**variables))

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "edge", *map(str, arguments)]

    def started(self, **variables: str) -> dict[str, object]:
        """How a program of the desk is run to its end."""
        return {"env": self.environment(**variables), "capture_output": True, "text": True, "timeout": 600}

    def pipes(self, **variables: str) -> dict[str, object]:
        """How a program of the desk is started that the test talks with."""
        return {
            "env": self.environment(**variables),
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }

    def environment(self, **variables: str) -> dict[str, str]:
        """That of the desk: its ssh is found first."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, **variables}

    def run(self, command: Sequence[str], user: int = 0, **options: object) -> subprocess.CompletedProcess[str]:
        """A program of the Pi, run there without any network: how the tests look and meddle."""
        return subprocess.run(self.inside(command, user), capture_output=True, text=True, check=True, **options)

    def inside(self, command: Sequence[str], user: int = 0) -> list[str]:
        """The command line, out here, of a program in there."""
        home = "/root" if user == 0 else "/home/pi"
        enter = [
            "nsenter",
            f"--target={self.process}",
            "--user",
            "--mount",
            "--pid",
            "--net",
            "--uts",
            "--root",
            "--wd",
        ]
        enter += [f"--setuid={user}", f"--setgid={user}", "env", "-i", f"HOME={home}", "PATH=/usr/sbin:/usr/bin"]
        return [*enter, f"QEMU_CPU={CPU[self.kind.architecture]}", *command]

    def path(self, inside: str) -> Path:
        """A path of the Pi as it is seen from here."""
        return Path(f"/proc/{self.process}/root") / inside.lstrip("/")

    def files(self, inside: str = "/home/pi") -> list[str]:
        """All files below a folder, relative, sorted."""
        top = self.path(inside)
        return sorted(str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir())

    def processes(self) -> list[str]:
        """The command lines of all that the user pi runs there, sshd's own aside."""
        lines = []
        for entry in self.path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == 1000:
                    words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                    line = " ".join(words[2:]).strip()  # behind the emulator and the program it runs
                    lines += [line] if line and not line.startswith("/usr/sbin/sshd") else []
        return sorted(lines)

    def plug(self, plugged: bool) -> None:
        """Puts the cable in or pulls it."""
        state = "up" if plugged else "down"
        network = f"--net=/proc/{self.desk}/ns/net"
        subprocess.run(["nsenter", network, "ip", "link", "set", "desk", state], check=True)

    def throttle(self, rate: str) -> None:
        """Makes the way to the Pi as slow as a rate of tc's, so that there is a middle of a transfer."""
        network = f"--net=/proc/{self.desk}/ns/net"
        slow = ["qdisc", "replace", "dev", "desk", "root", "tbf", "rate", rate, "burst", "64kb", "latency", "50ms"]
        subprocess.run(["nsenter", network, "tc", *slow], check=True)

    @contextlib.contextmanager
    def with_processor(self, cpu: str) -> Iterator[None]:
        """Another processor for what is started over ssh within the block."""
        self._become(cpu)
        try:
            yield
        finally:
            self._become(CPU[self.kind.architecture])

    def _become(self, cpu: str) -> None:
        self.path("/etc/ssh/sshd_config").write_text(SSHD.format(cpu=cpu))
        Path(f"/proc/{self.desk}/root{self.folder}/box/boot/cpuinfo").write_text(cpuinfo(cpu))
        before = listener(self)
        self.run(["pkill", "-HUP", "-o", "-x", "sshd"])
        wait_for_sshd(self, before)

    @contextlib.contextmanager
    def unplugged(self) -> Iterator[None]:
        self.plug(False)
        try:
            yield
        finally:
            self.plug(True)


def lacking() -> str:
    """What this machine lacks for virtual Pis; empty where it can have them."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"virtual Pis need {' '.join(missing)}"
    return "virtual Pis need root" if os.geteuid() else ""


@contextlib.contextmanager
def switched_on(kind: Kind, home_bytes: int = GIB) -> Iterator[VirtualPi]:
    """A Pi fresh from its userland; when the block ends, or this process does, nothing of it is left."""
    if why := lacking():
        pytest.skip(why)
    name = "raspberrypi"
    with tempfile.TemporaryDirectory(prefix="edge-pi-") as temporary:
        folder = Path(temporary)
        (folder / "box").mkdir()
        host_key = make_keys(folder, name)
        cpu = CPU[kind.architecture]
        config = {
            "box": str(folder / "box"),
            "userland": str(userland(kind)),
            "name": name,
            "home_bytes": home_bytes,
            "cpu": cpu,
            "emulator": EMULATOR[kind.architecture],
            "files": {
                "etc/ssh/sshd_config": SSHD.format(cpu=cpu),
                "etc/ssh/host_key": host_key,
                "etc/ssh/authorized": (folder / "key.pub").read_text(),
                "etc/hostname": f"{name}\n",
            },
            "proc": {"cpuinfo": cpuinfo(cpu)},
        }
        with open(folder / "log", "w") as log:
            box = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("virtual_pi_box.py")), json.dumps(config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which then let go
            )
        assert box.stdin is not None and box.stdout is not None
        try:
            line = box.stdout.readline()
            if not line:
                raise RuntimeError(f"the virtual Pi did not start: {(folder / 'log').read_text()}")
            write_ssh(folder, name, box.pid)
            pi = VirtualPi(kind, folder, int(line), box.pid, name)
            wait_for_sshd(pi)
            yield pi
        finally:
            box.stdin.close()
            box.wait()
            box.stdout.close()


def cpuinfo(cpu: str) -> str:
    """The file of that name, of one core."""
    architecture = 7 if cpu == "cortex-a7" else 8
    return CPUINFO.format(features=FEATURES[cpu], architecture=architecture, part=PARTS[cpu])


def wait_for_sshd(pi: VirtualPi, before: str = "") -> None:
    """Until port 22 listens, by another socket than the one before."""
    end = time.monotonic() + 60
    while listener(pi) in ("", before):
        if not Path(f"/proc/{pi.process}").exists() or time.monotonic() > end:
            raise RuntimeError(f"sshd did not start: {(pi.folder / 'log').read_text()}")
        time.sleep(0.02)


def listener(pi: VirtualPi) -> str:
    """The number of the socket that listens on port 22, as the Pi's own network tells it; empty without."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pi.process}/net/tcp").read_text().splitlines()
        return "".join(line.split()[9] for line in lines if ":0016 00000000:0000 0A" in line)
    return ""


def make_keys(folder: Path, name: str) -> str:
    """The user's key and what they know of the Pi; returns the Pi's own key."""
    for key in ("key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / key], check=True)
    (folder / "known_hosts").write_text(f"{name} {(folder / 'host_key.pub').read_text()}")
    return (folder / "host_key").read_text()


def write_ssh(folder: Path, name: str, desk: int) -> None:
    """ssh as the user of the desk has it: the system's own, in the desk's network, with that user's configuration."""
    (folder / "config").write_text(SSH.format(name=name, address=PI_ADDRESS, folder=folder))
    (folder / "bin").mkdir()
    ssh = [shutil.which("nsenter"), f"--net=/proc/{desk}/ns/net", shutil.which("ssh"), "-F", str(folder / "config")]
    (folder / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {shlex.join(map(str, ssh))} "$@"\n')
    (folder / "bin" / "ssh").chmod(0o755)
