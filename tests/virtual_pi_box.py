"""Switches a virtual Raspberry Pi on: run as root by virtual_pi.py, and all of it is gone when its stdin ends.

    python virtual_pi_box.py JSON      then one line on stdout: the process id, out here, of the Pi's first process

Two network namespaces are made here and end with the processes in them: this process is the desk (its end of the cable
is `desk`, DESK_ADDRESS), the Pi the other end (`eth0`, PI_ADDRESS). The Pi has namespaces of its own for users, mounts,
processes and its name; the emulator is registered in its user namespace alone, so nothing of this machine changes. What
the Pi writes lies in memory: its disk is an overlay over the userland, which stays as it was built.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

DESK_ADDRESS, PI_ADDRESS = "192.168.77.1", "192.168.77.2"  # private (RFC 1918), and nowhere but in these namespaces
NEW_MOUNTS, NEW_NAME, NEW_USERS, NEW_PROCESSES, NEW_NETWORK = 0x20000, 0x4000000, 0x10000000, 0x20000000, 0x40000000
EVERY_ID = "0 0 4294967295"
BINFMT = Path("/proc/sys/fs/binfmt_misc")
DEATH_SIGNAL = 1  # of prctl
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def own(flags: int) -> None:
    """Gives this process new namespaces."""
    if libc().unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")


def end_with_parent() -> None:
    libc().prctl(DEATH_SIGNAL, signal.SIGKILL)


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def laid_out(config: dict[str, Any]) -> Path:
    """The Pi's disk: an overlay in memory over the userland, with a home of its own size and the files of `config`."""
    run("mount", "--make-rprivate", "/")
    box = Path(config["box"])
    run("mount", "-t", "tmpfs", "tmpfs", str(box))
    upper, work, root, boot = (box / name for name in ("upper", "work", "root", "boot"))
    for folder in (upper, work, root, boot):
        folder.mkdir(mode=0o755)
    layers = f"lowerdir={config['userland']},upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "overlay", "-o", layers, str(root))
    run(
        "mount",
        "-t",
        "tmpfs",
        "-o",
        f"size={config['home_bytes']},mode=0755,uid=1000,gid=1000",
        "home",
        f"{root}/home/pi",
    )
    for name in DEVICES:
        (root / "dev" / name).touch()
        run("mount", "--bind", f"/dev/{name}", str(root / "dev" / name))
    for path, text in config["files"].items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        (root / path).chmod(0o600 if path.endswith("_key") else 0o644)
    for path, text in config["proc"].items():
        (boot / path).write_text(text)
    return root


def power_up(root: Path, config: dict[str, Any]) -> NoReturn:
    """The Pi's first process: mounts, network, emulator, sshd; then it reaps what others left, as init does."""
    os.setgroups([])
    os.setgid(0)
    os.setuid(0)
    end_with_parent()
    run("hostname", config["name"])
    for link in (["lo"], ["eth0"]):
        run("ip", "link", "set", *link, "up")
    run("ip", "address", "add", f"{PI_ADDRESS}/30", "dev", "eth0")
    run("mount", "-t", "proc", "proc", "/proc")
    run("mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT))
    (BINFMT / "register").write_text(Path(config["emulator"]).read_text().strip())
    run("mount", "-t", "proc", "proc", f"{root}/proc")
    for path in config["proc"]:
        run("mount", "--bind", str(root.parent / "boot" / path), f"{root}/proc/{path}")
    (root / "dev" / "pts").mkdir(exist_ok=True)
    run("mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620", "devpts", f"{root}/dev/pts")
    os.chroot(root)
    os.chdir("/")
    os.umask(0o022)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "QEMU_CPU": config["cpu"], "LANG": "C.UTF-8"}
    if not (sshd := os.fork()):
        os.execve("/usr/sbin/sshd", ["/usr/sbin/sshd", "-D", "-e"], environment)
    while True:
        ended, _ = os.wait()
        if ended == sshd:
            sys.exit("sshd ended")


def power_supply(root: Path, config: dict[str, Any], ready: int, go: int) -> NoReturn:
    """Lives between the desk and the Pi, in the Pi's new namespaces: a process namespace begins with a child."""
    end_with_parent()
    own(NEW_USERS | NEW_MOUNTS | NEW_PROCESSES | NEW_NETWORK | NEW_NAME)
    os.write(ready, b"1")
    os.read(go, 1)
    if not (pi := os.fork()):
        power_up(root, config)
    print(pi, flush=True)
    os.waitpid(pi, 0)
    os._exit(1)


def main() -> int:
    config = json.loads(sys.argv[1])
    own(NEW_MOUNTS | NEW_NETWORK)
    root = laid_out(config)
    ready, go = os.pipe(), os.pipe()
    if not (supply := os.fork()):
        power_supply(root, config, ready[1], go[0])
    os.read(ready[0], 1)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{supply}/{name}").write_text(EVERY_ID)
    run("ip", "link", "add", "desk", "type", "veth", "peer", "name", "eth0")
    run("ip", "link", "set", "eth0", "netns", str(supply))
    run("ip", "address", "add", f"{DESK_ADDRESS}/30", "dev", "desk")
    run("ip", "link", "set", "desk", "up")
    os.write(go[1], b"1")
    sys.stdin.buffer.read()  # until whoever switched it on lets go, by intent or by its death
    os.kill(supply, signal.SIGKILL)
    os.waitpid(supply, 0)
    run("umount", "--lazy", config["box"])
    shutil.rmtree(Path(config["box"]).parent, ignore_errors=True)  # also where the one who made it was killed
    return 0


if __name__ == "__main__":
    sys.exit(main())
