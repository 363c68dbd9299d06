# ruff: noqa: UP032 - a Python of 3.5 has no f-strings, and must get so far as to say that it is 3.5
"""What a computer is, told by itself: the first program that runs there, and the one that loads the installer.

Its source is sent to a `python3` that is not known yet, so it is one file, of the standard library, in the Python of
3.5. It writes MARK and what it found, then waits for the sources of the modules to run next; where none come, it ends
and has changed nothing. A message is its length as u32, big-endian, and JSON; what follows it is said in it.
"""

import json
import os
import platform
import signal
import struct
import subprocess
import sys
import types
from typing import Any, BinaryIO, Dict, List, Optional  # noqa: UP035 - as above

MARK = b"\0edge-probe-1\0"  # before it may come whatever a login script prints
MOST_BYTES = 1 << 20  # of a message's JSON
WAIT_S = 20  # for a program asked for a fact
PATIENCE_S = 3600  # for a host that downloads wheels meanwhile; then SIGALRM ends this process
FIRST_MODULE = "edge.run.pi.installer"


def send(answers: BinaryIO, message: Dict[str, Any]) -> None:  # noqa: UP006
    data = json.dumps(message).encode()
    answers.write(struct.pack(">I", len(data)) + data)
    answers.flush()


def receive(requests: BinaryIO) -> Optional[Dict[str, Any]]:  # noqa: UP006, UP045
    """The next message; None where the line has ended."""
    head = requests.read(4)
    if len(head) < 4:
        return None
    (size,) = struct.unpack(">I", head)
    if size > MOST_BYTES:
        raise ValueError("a message of {} bytes is too long".format(size))
    data = requests.read(size)
    if len(data) < size:
        return None
    message = json.loads(data.decode())  # type: Dict[str, Any]
    return message


def text_of(path: str) -> str:
    """The beginning of a file, one line; empty where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(65536).decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""


def output_of(command: List[str]) -> str:  # noqa: UP006
    """What a program prints; empty where it is not there, fails or hangs."""
    try:
        found = subprocess.check_output(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=WAIT_S)
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.decode("utf-8", "replace").strip()


def memory() -> Dict[str, int]:  # noqa: UP006
    """Bytes by their name in /proc/meminfo."""
    found = {}
    for line in text_of("/proc/meminfo").splitlines():
        words = line.split()
        if len(words) >= 2 and words[1].isdigit():
            found[words[0].rstrip(":")] = int(words[1]) * 1024
    return found


def operating_system() -> str:
    for line in (text_of("/etc/os-release") or text_of("/usr/lib/os-release")).splitlines():
        if line.startswith("PRETTY_NAME="):
            return line[len("PRETTY_NAME=") :].strip("\"'")
    return platform.system()


def libc() -> str:
    """Such as `glibc 2.36`; empty where it is not glibc."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        return ""


def temperature_c() -> Optional[float]:  # noqa: UP045
    text = text_of("/sys/class/thermal/thermal_zone0/temp")
    return int(text) / 1000 if text.lstrip("-").isdigit() else None


def throttled() -> Optional[int]:  # noqa: UP045
    """The bits of `vcgencmd get_throttled`; None where nothing tells them."""
    text = output_of(["vcgencmd", "get_throttled"]).partition("=")[2]
    try:
        return int(text or text_of("/sys/devices/platform/soc/soc:firmware/get_throttled"), 16)
    except ValueError:
        return None


def free_bytes(folder: str) -> Optional[int]:  # noqa: UP045
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def look() -> Dict[str, Any]:  # noqa: UP006
    """Every fact; None or empty where this computer does not tell it."""
    home = os.path.expanduser("~")
    bits = struct.calcsize("P") * 8
    found = memory()
    numpy = ""
    if bits == 32:  # where we have none to bring; asked in a child, since a broken one may end its process
        numpy = output_of([sys.executable, "-c", "import numpy; print(numpy.__version__)"])
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "bits": bits,
        "model": text_of("/proc/device-tree/model") or text_of("/sys/firmware/devicetree/base/model"),
        "os": operating_system(),
        "kernel": platform.release(),
        "python": list(sys.version_info[:3]),
        "implementation": platform.python_implementation(),
        "libc": libc(),
        "memory_total_bytes": found.get("MemTotal"),
        "memory_available_bytes": found.get("MemAvailable"),
        "disk_free_bytes": free_bytes(home),
        "home_writable": os.access(home, os.W_OK | os.X_OK),
        "temperature_c": temperature_c(),
        "throttled": throttled(),
        "numpy": numpy,
    }


def load(modules: List[List[str]]) -> None:  # noqa: UP006
    """Makes modules of sources, in the order given, as if they had been imported from files."""
    for name, source in modules:
        parent = ""
        for part in name.split("."):
            whole = parent + "." + part if parent else part
            if whole not in sys.modules:
                module = types.ModuleType(whole)
                module.__path__ = []
                sys.modules[whole] = module
                if parent:
                    setattr(sys.modules[parent], part, module)
            parent = whole
        exec(compile(source, name, "exec"), sys.modules[name].__dict__)


def main() -> None:
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    answers.write(MARK)
    send(answers, look())
    if hasattr(signal, "alarm"):
        signal.alarm(PATIENCE_S)
    message = receive(requests)
    if message is not None:
        load(message["modules"])
        sys.modules[FIRST_MODULE].__dict__["serve"](requests, answers)


if __name__ == "__main__":
    main()
