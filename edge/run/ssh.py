"""A program on another computer, over the system's OpenSSH: one ssh process, whose pipes are then the program's own.

The user's keys, ~/.ssh/config (aliases, jump hosts) and host-key checks apply; passwords and questions go to the
terminal. No name from this side becomes a shell word there: the remote command is one fixed line, which has python3
run what it reads from its stdin. EDGE_SSH names another ssh program or options, as GIT_SSH_COMMAND does for git:
EDGE_SSH="ssh -i key -F config".
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from firmware_tools.errors import LinkError, MissingTool, UserError
from firmware_tools.transports import clean

PREFIX = "ssh:"
PROGRAM = "EDGE_SSH"
# in single quotes, and without what means something there to sh, fish or csh: the other end's login shell reads it.
# Isolated: neither the folder it starts in nor PYTHON* variables nor packages of the user decide what is imported.
REMOTE_LINE = """python3 -I -u -X utf8 -c 'exec(open(0,"rb",0,closefd=False).readline())'"""
PRELUDE = """import json, os, sys
os.write(1, {marker!r})
def take(size):
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            sys.exit("the line ended before the program had come")
        data += part
    return data
sys.argv[1:] = json.loads(take({arguments}).decode())
exec(compile(take({source}), "edge", "exec"), {{"__name__": "__main__", "__builtins__": __builtins__}})
"""
OPTIONS = {
    "ConnectTimeout": "20",
    "ServerAliveInterval": "10",  # with the count: a network that is gone is noticed within 50 s
    "ServerAliveCountMax": "4",
    "ClearAllForwardings": "yes",  # a port that is taken on this side must not end the connection
    "RemoteCommand": "none",
    "LogLevel": "INFO",  # what goes wrong must be said for us to explain it
}
ANSWER_S = 150.0  # sshd itself gives 120 s to log in; then the program must be running
MOST_NOISE_BYTES = 1 << 18  # that the other end's profile may print before it
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_][A-Za-z0-9._-]*)?")


@dataclass(frozen=True)
class Destination:
    """Another computer: user and port are those of the user's ssh configuration where None."""

    user: str | None
    host: str
    port: int | None

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{PREFIX}{user}{host}" + (f":{self.port}" if self.port else "")


def parse(text: str) -> Destination:
    """The computer that `ssh:[user@]host[:port]` names; UserError for what could be an option or a shell word."""
    hint = "write ssh:pi@raspberrypi.local, ssh:pi@192.168.1.20:22, ssh:pi@[fe80::1%eth0] or a name of ~/.ssh/config"
    found = re.fullmatch(r"ssh:(?:([^@]*)@)?(?:\[([^\]]*)\]|([^@\[\]:]*))(?::([0-9]{1,5}))?", text, re.DOTALL)
    shown = clean(text) or "ssh:"
    if found is None:
        raise UserError(f"{shown} does not name a computer", hint)
    user, address, name, port = found.groups()
    if user is not None and not NAME.fullmatch(user):
        raise UserError(f"{shown} has no user name before the @", hint)
    if not (NAME.fullmatch(name) if address is None else IPV6.fullmatch(address)):
        raise UserError(f"{shown} does not name a computer", hint)
    if port is not None and not 1 <= int(port) <= 65535:
        raise UserError(f"{shown} has a port that is not between 1 and 65535", hint)
    return Destination(user, name if address is None else address, None if port is None else int(port))


def command(destination: Destination) -> list[str]:
    """The argument list of an ssh that runs REMOTE_LINE; MissingTool where there is no ssh."""
    asked = os.environ.get(PROGRAM, "").strip() or "ssh"
    # backslashes are part of names on Windows
    words = [word.strip('"') for word in shlex.split(asked, posix=os.name != "nt")]
    if not words or shutil.which(words[0]) is None:
        hint = "install OpenSSH's client: sudo apt install openssh-client; on Windows it is an optional feature"
        raise MissingTool(f"there is no program {clean(words[0] if words else asked)}", hint)
    options = dict(OPTIONS)
    if os.name == "nt":
        options["ControlMaster"] = "no"  # Windows has no socket to share a connection by
    line = [*words, "-T", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]
    line += ["-p", str(destination.port)] if destination.port else []
    line += ["-l", destination.user] if destination.user else []
    return [*line, "--", destination.host, REMOTE_LINE]


def start_python(destination: Destination, source: str, arguments: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Runs source by the other computer's python3 with sys.argv[1:] = arguments, isolated (`python3 -I`).

    Returns once it runs: stdin and stdout are then the program's own (it reads file descriptor 0 itself; nothing has
    been read ahead on either side), stderr is a pipe with what ssh and the program complain about. Ctrl-C does not
    reach the ssh process: who started it ends it, by closing its stdin.

    Raises MissingTool without ssh here, UserError (mostly LinkError) where the program does not come to run; see
    explain.
    """
    marker = f"edge {secrets.token_hex(16)}\n".encode()
    parts = [json.dumps(list(arguments)).encode(), source.encode()]
    prelude = PRELUDE.format(marker=marker, arguments=len(parts[0]), source=len(parts[1]))
    line = command(destination)
    with _deaf_to_interrupts():
        flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # of Windows
        process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, creationflags=flags
        )
    try:
        assert process.stdin
        with contextlib.suppress(OSError):  # who is gone already is explained below
            process.stdin.write(f"exec({prelude!r})\n".encode() + b"".join(parts))
            process.stdin.flush()
        _await(destination, process, marker)
    except BaseException:
        end(process)
        raise
    return process


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A child begun within it does not hear Ctrl-C, which in a chat ends an answer and not the connection."""
    if sys.platform == "win32":  # there a process group of its own does that
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _await(destination: Destination, process: subprocess.Popen[bytes], marker: bytes) -> None:
    """Reads up to the marker, byte by byte so that nothing behind it is taken; what a profile prints is skipped."""
    assert process.stdout
    late = threading.Event()

    def give_up() -> None:
        late.set()
        process.terminate()  # not killed: it may have turned a terminal's echo off

    timer = threading.Timer(ANSWER_S, give_up)
    timer.daemon = True
    timer.start()
    seen = bytearray()
    try:
        while not seen.endswith(marker):
            data = os.read(process.stdout.fileno(), 1) if len(seen) < MOST_NOISE_BYTES else b""
            if not data:
                break
            seen += data
        else:
            return
    finally:
        timer.cancel()
    if late.is_set() or len(seen) >= MOST_NOISE_BYTES:
        said = clean(bytes(seen[-200:]).decode(errors="replace"))
        what = f"it prints {said!r} instead" if said else f"nothing came in {ANSWER_S:g} s"
        raise LinkError(
            f"{destination} does not come to run python3: {what}",
            "does its login shell start another program, or does its profile wait for something?",
        )
    raise ended(destination, process)


def ended(destination: Destination, process: subprocess.Popen[bytes]) -> LinkError:
    """Why a process of start_python, of which nobody else reads stderr, ended or closed its stdout."""
    with contextlib.suppress(OSError):
        if process.stdin:
            process.stdin.close()
    process.stdin = None  # closed, which communicate would take amiss
    try:
        _, stderr = process.communicate(timeout=5.0)
    except subprocess.TimeoutExpired:
        process.kill()
        _, stderr = process.communicate()
    return explain(destination, process.returncode, stderr)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process of start_python; ssh is given the time to give a terminal its echo back."""
    with contextlib.suppress(OSError, ValueError):
        if process.stdin:
            process.stdin.close()
    for ending in (process.terminate, process.kill):
        ending()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2.0)
            break
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


def explain(destination: Destination, returncode: int | None, stderr: bytes) -> LinkError:
    """A failure of ssh, or of a program that ended on the other side, in our words."""
    said = [clean(line) for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    text, last = "\n".join(said), said[-1] if said else ""
    login = f"ssh {'-p ' + str(destination.port) + ' ' if destination.port else ''}" + (
        f"{destination.user}@{destination.host}" if destination.user else destination.host
    )
    if returncode == 127 or re.search(r"python3: (command )?not found|Unknown command:? '?python3", text, re.I):
        return LinkError(f"there is no python3 on {destination}", "there: sudo apt install python3")
    if returncode == 255:
        for pattern, message, hint in FAILURES:
            if re.search(pattern, text):
                return LinkError(message.format(there=destination), hint.format(login=login, host=destination.host))
        return LinkError(f"ssh fails for {destination}" + (f": {last}" if last else ""), f"try it by hand: {login}")
    if returncode is not None and returncode < 0:
        return LinkError(f"the connection to {destination} was ended: ssh was killed by signal {-returncode}")
    state = "closed its output" if returncode is None else f"ended with code {returncode}"
    if not last and returncode == 0:
        return LinkError(
            f"{destination} has ended the connection without a word", f"does `{login}` give a shell that runs commands?"
        )
    return LinkError(f"{destination} {state}" + (f": {last}" if last else ""))


# what ssh says, by a part of it; the first that fits
FAILURES = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key for .* has changed",
        "{there} shows another host key than before: it is another computer, or its system was installed anew",
        "if it was installed anew: ssh-keygen -R '{host}', then log in once: {login}",
    ),
    (
        r"Host key verification failed|host key is known for|No matching host key|no .*host key is known",
        "{there} is not known to ssh yet",
        "log in once and compare its fingerprint: {login}",
    ),
    (
        r"Could not resolve hostname|Name or service not known|nodename nor servname",
        "there is no computer of the name in {there}",
        "is it on, and in the same network? its address works as well: ssh:pi@192.168.1.20",
    ),
    (
        r"Connection refused",
        "{there} refuses: nothing listens for ssh there",
        "on the Pi: sudo systemctl enable --now ssh (or raspi-config, Interface Options); is the port right?",
    ),
    (
        r"Permission denied|Too many authentication failures|No more authentication methods",
        "{there} does not let you in",
        "is the user name right? log in by hand: {login}; to do without a password: ssh-copy-id",
    ),
    (
        r"(connect to host|ssh: connect).*(timed out|No route to host|unreachable)|Connection timed out during banner",
        "{there} does not answer",
        "is it on, and in the same network? is its address the right one?",
    ),
    (
        r"not responding|Connection (to .* )?(closed|reset|timed out)|Broken pipe|send disconnect|Connection reset",
        "the connection to {there} was lost",
        "is it still on, and in the network? nothing goes on there; start again",
    ),
    (r"[Bb]ad configuration option|Bad owner or permissions", "your ssh configuration is refused", "try it: {login}"),
)
