"""Destinations, the fixed remote line in every login shell, and what ssh's failures become; with a real sshd."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed import children, command_line, running, until
from sshd import Sshd, sshd

from edge.run import ssh
from edge.run.ssh import Destination, explain, parse, start_python
from firmware_tools.errors import MissingTool, UserError

ECHO = "import os, sys\nos.write(1, repr(sys.argv[1:]).encode() + os.read(0, 99))\n"
WAIT = "import os\nos.write(1, str(os.getpid()).encode())\nwhile os.read(0, 99):\n    pass\n"
# of this machine; sh is one of them
SHELLS = [path for name in ("sh", "bash", "dash", "zsh", "fish", "csh", "tcsh") if (path := shutil.which(name))]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("ssh:raspberrypi", Destination(None, "raspberrypi", None)),
        ("ssh:pi@raspberrypi.local", Destination("pi", "raspberrypi.local", None)),
        ("ssh:pi@192.168.1.20:2222", Destination("pi", "192.168.1.20", 2222)),
        ("ssh:my_pi.kitchen-2", Destination(None, "my_pi.kitchen-2", None)),
        ("ssh:pi@[fe80::1%eth0]:22", Destination("pi", "fe80::1%eth0", 22)),
        ("ssh:[::1]", Destination(None, "::1", None)),
    ],
)
def test_destinations(text: str, expected: Destination) -> None:
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    ["ssh:", "ssh:@host", "ssh:pi@", "ssh:-oProxyCommand=x", "ssh:-l@host", "ssh:pi@-host", "ssh:host:0", "ssh:[host]"]
    + ["ssh:host:65536", "ssh:host:", "ssh:host:x", "ssh:a b", "ssh:host\n", "ssh:pi\n@host", "ssh:h;ls", "ssh:$(ls)"]
    + ["ssh:`ls`", "ssh:h|ls", "ssh:h'", 'ssh:h"', "ssh:h\\", "ssh:~", "ssh:h*", "ssh:a@b@c", "ssh:fe80::1", "ssh:[::1"]
    + ["ssh://pi@host", "ssh:[::1%;ls]", "ssh:[-1::]", "ssh:höst", "ssh:h\0", "ssh:%h", "ssh:{a,b}", "host", "SSH:host"]
    + ["ssh:$USER@host"],
)  # fmt: skip
def test_what_could_be_an_option_or_a_shell_word_is_refused(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert "raspberrypi.local" in caught.value.hint
    assert caught.value.message.isprintable()


def test_every_name_is_one_argument_behind_the_dashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ssh.PROGRAM, f"{sys.executable} -F 'a file'")
    line = ssh.command(parse("ssh:pi@[fe80::1]:22"))
    assert line[:3] == [sys.executable, "-F", "a file"]
    assert line[-3:] == ["--", "fe80::1", ssh.REMOTE_LINE]
    assert line[line.index("-p") + 1] == "22" and line[line.index("-l") + 1] == "pi"


def test_without_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ssh.PROGRAM, "no-such-ssh")
    with pytest.raises(MissingTool, match="no-such-ssh"):
        start_python(parse("ssh:pi"), "")


@pytest.mark.skipif(sys.platform == "win32", reason="the other side is never Windows")
@pytest.mark.parametrize("program", SHELLS)
def test_the_remote_line_in_login_shells(program: str, tmp_path: Path) -> None:
    code = b"exec('import sys; print(sys.flags.isolated, sys.flags.utf8_mode)')\n"
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": "/nowhere", "HOME": str(tmp_path)}
    done = subprocess.run([program, "-c", ssh.REMOTE_LINE], input=code, capture_output=True, env=env, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"1 1\n"), done.stderr
    done = subprocess.run(
        [program, "-c", ssh.REMOTE_LINE], capture_output=True, env={"PATH": str(tmp_path)}, timeout=60
    )
    assert "no python3" in explain(parse("ssh:pi"), done.returncode, done.stderr).message


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes by /proc")
def test_ctrl_c_while_somebody_logs_in(tmp_path: Path) -> None:
    waiting = tmp_path / "ssh"
    waiting.write_text("#!/bin/sh\nexec sleep 1000\n")
    waiting.chmod(0o755)
    code = "from edge.run import ssh; ssh.start_python(ssh.parse('ssh:pi'), '')"
    root = Path(__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=-1, env={**os.environ, ssh.PROGRAM: str(waiting)}, cwd=root
    )
    assert until(lambda: any(command_line(pid).startswith("sleep") for pid in children(process.pid)))
    (client,) = children(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1].rstrip().endswith(b"KeyboardInterrupt")
    assert client not in running()


@pytest.mark.parametrize(
    "code, said, expected",
    [
        (255, b"ssh: Could not resolve hostname pi: Name or service not known", "no computer of the name"),
        (255, b"ssh: connect to host pi port 22: Connection refused", "refuses"),
        (255, b"ssh: connect to host pi port 22: No route to host", "does not answer"),
        (255, b"ssh: connect to host pi port 22: Connection timed out", "does not answer"),
        (
            255,
            b"@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "another host key",
        ),
        (255, b"No ED25519 host key is known for pi\nHost key verification failed.", "not known to ssh yet"),
        (255, b"pi@pi: Permission denied (publickey,password).", "does not let you in"),
        (255, b"client_loop: send disconnect: Broken pipe", "was lost"),
        (255, b"Timeout, server pi not responding.", "was lost"),
        (255, b"Connection to pi closed by remote host.", "was lost"),
        (255, b"x: line 1: Bad configuration option: y", "configuration is refused"),
        (255, b"something \x1b[31mnew", "ssh fails for ssh:pi: something [31mnew"),
        (127, b"sh: 1: python3: not found", "no python3"),
        (0, b"", "without a word"),
        (1, b"Traceback\nOSError: x", "ended with code 1: OSError: x"),
        (None, b"", "closed its output"),
        (-9, b"", "signal 9"),
    ],
)
def test_failures_in_our_words(code: int | None, said: bytes, expected: str) -> None:
    assert expected in explain(parse("ssh:pi"), code, said).message


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    if not shutil.which("ssh") or not shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin"):
        pytest.skip("ssh and sshd are not installed")
    with sshd(tmp_path_factory.mktemp("ssh") / "server") as running:
        yield running


@pytest.fixture(autouse=True)
def reached(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "server" in request.fixturenames:
        monkeypatch.setenv(ssh.PROGRAM, request.getfixturevalue("server").ssh)


@pytest.mark.system
class TestServer:
    def test_a_program_its_arguments_and_its_pipes(self, server: Sshd) -> None:
        arguments = ["", "a b", "-x", "'\"$(ls)\\", "ü\n"]
        process = start_python(parse(server.target), ECHO, arguments)
        out, err = process.communicate(b"bytes \0\xff", 30)
        assert (out, err, process.returncode) == (repr(arguments).encode() + b"bytes \0\xff", b"", 0)

    def test_ctrl_c_is_not_for_ssh(self, server: Sshd) -> None:
        """In a chat it ends an answer; the connection stays."""
        process = start_python(parse(server.target), ECHO)
        process.send_signal(signal.SIGINT)
        assert process.communicate(b"!", 30)[0] == b"[]!"

    def test_an_alias_and_a_profile_that_talks(self, server: Sshd) -> None:
        profile = server.home / ".bashrc"
        profile.write_text("echo welcome; printf 'edge 0'; echo oh >&2\n")
        try:
            process = start_python(parse("ssh:pi-by-alias"), ECHO)
            assert process.communicate(b"!", 30)[0] == b"[]!"
        finally:
            profile.unlink()

    @pytest.mark.parametrize("profile", ["yes\n", "exit 0\n", "exec cat\n"])
    def test_a_profile_that_is_in_the_way(
        self, server: Sshd, profile: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(ssh, "ANSWER_S", 3.0)
        with sshd(tmp_path / "server", [f"ForceCommand {profile.strip().removeprefix('exec ')}"]) as odd:
            monkeypatch.setenv(ssh.PROGRAM, odd.ssh)
            with pytest.raises(UserError, match="does not come to run python3|without a word"):
                start_python(parse(odd.target), ECHO)

    def test_a_connection_that_is_cut(self, server: Sshd) -> None:
        process = start_python(parse(server.target), WAIT)
        server.drop()
        assert "was lost" in ssh.ended(parse(server.target), process).message

    def test_the_far_side_ends_with_this_side(self, server: Sshd) -> None:
        process = start_python(parse(server.target), WAIT)
        assert process.stdout
        there = int(os.read(process.stdout.fileno(), 20))
        assert there in running()
        process.kill()
        process.communicate()
        assert until(lambda: there not in running())

    def test_who_is_not_let_in_and_who_is_not_known(
        self, server: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with pytest.raises(UserError, match="does not let you in"):
            start_python(Destination("nobody-at-all", "127.0.0.1", server.port), ECHO)
        known = (server.folder / "known_hosts").read_text()
        (tmp_path / "none").write_text("")
        kind, key = known.split()[1:3]
        (tmp_path / "other").write_text(f"[127.0.0.1]:{server.port} {kind} {key[:-4]}AAAA\n")
        for file, expected in (("none", "not known to ssh yet"), ("other", "another host key")):
            monkeypatch.setenv(
                ssh.PROGRAM, f"ssh -o UserKnownHostsFile={tmp_path / file} -F {server.folder / 'client'}"
            )
            with pytest.raises(UserError, match=expected):
                start_python(parse(server.target), ECHO)
