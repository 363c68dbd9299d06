"""The virtual Raspberry Pis themselves: what they say they are, and that nothing of them stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from virtual_pi import VirtualPi, switched_on
from virtual_pi_userland import PI32, PI64, Kind

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("virtual Pis")]  # one builds them
HERE = Path(__file__).resolve().parent


def shell(pi: VirtualPi, command: str) -> str:
    """What a command prints that the user types over ssh."""
    done = subprocess.run(["ssh", pi.name, command], **pi.started())
    assert not done.returncode, done.stderr
    return str(done.stdout)


@pytest.mark.parametrize(("kind", "machine"), [(PI64, "aarch64"), (PI32, "armv7l")], ids=["64", "32"])
def test_one_answers_over_ssh(kind: Kind, machine: str) -> None:
    with switched_on(kind) as pi:
        first = shell(pi, "uname -m; whoami; python3 -c 'import sys; print(sys.version_info[:2], sys.maxsize > 2**32)'")
        assert first.split("\n")[:3] == [machine, "pi", f"(3, 11) {kind is PI64}"]
        assert pi.files() == pi.processes() == []
        busy = subprocess.Popen(["ssh", pi.name, "touch here; echo started; exec sleep 1000"], **pi.pipes())
        assert busy.stdout is not None and busy.stdout.readline() == b"started\n"
        deadline = time.monotonic() + 60  # a process that becomes another has no name for a moment
        while len(pi.processes()) != 1 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert pi.files() == ["here"] and len(pi.processes()) == 1
    assert busy.wait(60) == 255  # ssh: the other end is gone
    busy.stdout.close()


def test_one_is_gone_when_the_tests_are_killed() -> None:
    """Nothing is left to do for those who were killed: the processes of a Pi, its network and its files just end."""
    code = (
        "import sys, time, virtual_pi, virtual_pi_userland\n"
        "with virtual_pi.switched_on(virtual_pi_userland.PI64) as pi:\n"
        "    print(pi.process, pi.desk, pi.folder, flush=True)\n"
        "    time.sleep(1000)\n"
    )
    tests = subprocess.Popen([sys.executable, "-c", code], cwd=HERE, stdout=subprocess.PIPE, text=True)
    assert tests.stdout is not None
    first, desk, folder = tests.stdout.readline().split()
    assert Path(f"/proc/{first}/root/home/pi").is_dir()
    tests.send_signal(signal.SIGKILL)
    tests.wait()
    tests.stdout.close()
    for _ in range(600):
        if not any(os.path.exists(path) for path in (f"/proc/{first}", f"/proc/{desk}", folder)):
            return
        time.sleep(0.1)
    pytest.fail("a virtual Pi outlived the tests")
