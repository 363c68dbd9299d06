"""Golden transcripts: what a user types and reads, errors included.

A file of tests/transcripts holds commands, each as `$ edge …`, and what comes back, stdout and stderr as they come.
The commands of a file share a folder, which begins with what `prepare` puts there. In what is expected

    <int>  <float>  <hex>   stand for a number or a hash
    …                       stands for any text within a line; alone on a line for any lines, or none
    spaces, and a ruler ---  may be of any length
    [exit N]                ends a command whose exit code N is not 0
    ^C                      is Ctrl-C, once what stands above it has come, or a device has been asked

and in a command `<silent>`, `<noisy>`, `<other>` are ports where nothing answers, where garbage comes, and where
another model runs; `< FILE` is standard input. `$ ls` lists the folder. Lines that begin with # are comments.
In flash.txt simulated boards are plugged into a simulated bus: `$ plug PLACE IMAGE` plugs one in, `$ boot PLACE IMAGE`
one in its boot loader, `$ fault PLACE WHAT` has something go wrong with it once, `$ unplug PLACE` takes it away,
and `<PLACE>` is its port.

    PYTHONPATH=tests python -m tests.test_transcripts --update    writes what comes now; what still matches stays
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edge.make import convert
from edge.make.checkpoints import npz
from firmware_tools import boards, build, graph
from firmware_tools.compile import compile_model
from firmware_tools.emulators import unicorn
from tests import plain_models, simulated, test_safetensors, tiny

if sys.platform != "win32":
    from tests.simulated.bus import Board, Bus, powered

FOLDER = Path(__file__).parent / "transcripts"
ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.txt"))
PATTERNS = {"<int>": r"[\d,]+", "<float>": r"[\d,.]+(?:e[-+]?\d+)?", "<hex>": r"[0-9a-f]{8,64}", "…": r".*"}
LONG_S = 300.0


@dataclass
class Command:
    """One command of a transcript: its line, and the lines that are expected."""

    line: str
    expected: list[str] = field(default_factory=list)


def parse(path: Path) -> tuple[list[str], list[Command]]:
    """The comment at the top, and the commands."""
    lines = path.read_text(encoding="utf-8").splitlines()
    commands: list[Command] = []
    for line in lines:
        if line.startswith("$ "):
            commands.append(Command(line[2:]))
        elif commands and line:
            commands[-1].expected.append(line)
    return [line for line in lines if line.startswith("#")], commands


def matches(expected: list[str], found: list[str]) -> bool:
    """Whether what came is what was expected, patterns and `…` lines understood."""
    parts = [r"(?:.*\n)*" if line == "…" else pattern(evened(line)) + r"\n" for line in expected]
    return re.fullmatch("".join(parts), "".join(evened(line) + "\n" for line in found)) is not None


def evened(line: str) -> str:
    """A line of a table as it is whatever the widths of its columns."""
    return re.sub("---+", "---", re.sub(" +", " ", line)).strip()


def pattern(line: str) -> str:
    pieces = re.split("(" + "|".join(PATTERNS) + ")", line)
    return "".join(PATTERNS.get(piece) or re.escape(piece) for piece in pieces)


class Devices:
    """Ports that behave badly, each a socket of this machine; started when a transcript first names one."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.heard = threading.Event()  # a program has asked one of them something
        self._folder, self._stack = folder, stack
        self._urls: dict[str, str] = {}
        self._board: unicorn.UnicornTransport | None = None

    def url(self, name: str) -> str:
        if name not in self._urls:
            if name == "other":
                self._board = self._switch_on()
                self._stack.callback(self._board.close)
            server = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            threading.Thread(target=self._serve, args=(server, name), daemon=True).start()
            self._urls[name] = f"socket://127.0.0.1:{server.getsockname()[1]}"
        return self._urls[name]

    def hide(self, text: str) -> str:
        """text with the names in place of the URLs, which differ from run to run."""
        for name, url in self._urls.items():
            text = text.replace(url, f"<{name}>")
        return text

    def _serve(self, server: socket.socket, name: str) -> None:
        with server:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return  # the test is over
                with connection:
                    {"silent": self._silent, "noisy": self._noisy, "other": self._other}[name](connection)

    def _silent(self, connection: socket.socket) -> None:
        while self._hear(connection):
            self.heard.set()

    def _noisy(self, connection: socket.socket) -> None:
        """Answers everything with random bytes, as a line at the wrong speed does."""
        random = np.random.default_rng(0)
        while self._hear(connection):
            try:
                connection.sendall(random.bytes(100))
            except OSError:
                return

    def _other(self, connection: socket.socket) -> None:
        """The virtual board, with another model, behind a serial line that is a socket; it stays on between hosts."""
        assert self._board
        ended = threading.Event()
        answers = threading.Thread(target=self._answers, args=(self._board, connection, ended), daemon=True)
        answers.start()
        while data := self._hear(connection):
            self._board.write(data)
        ended.set()
        answers.join()

    def _switch_on(self) -> unicorn.UnicornTransport:
        board = boards.load("virtual-m4")
        image = build.build(compile_model(graph.read(self._folder / "other.tflite"), board), board)
        return unicorn.UnicornTransport(unicorn.Device(image, board, counting=False))

    @staticmethod
    def _answers(transport: unicorn.UnicornTransport, connection: socket.socket, ended: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while not ended.is_set():
                connection.sendall(transport.read(0.05))

    @staticmethod
    def _hear(connection: socket.socket) -> bytes:
        with contextlib.suppress(OSError):
            return connection.recv(4096)
        return b""


def prepare(folder: Path) -> None:
    """What every transcript may use."""
    model = convert.convert(tiny.checkpoint())
    convert.save(model, folder / "tiny.tflite")
    convert.save(convert.convert(tiny.checkpoint(), "float32"), folder / "float.tflite")
    convert.save(convert.convert(tiny.checkpoint(seed=9)), folder / "other.tflite")
    endless = tiny.checkpoint(context=3000, card={"stop_ids": []})
    convert.save(convert.convert(endless), folder / "endless.tflite")
    huge = tiny.checkpoint(context=8000, dim=192, hidden_dim=44, kv_heads=4)
    convert.save(convert.convert(huge, context=8000), folder / "huge.tflite")
    (folder / "truncated.tflite").write_bytes(model[: len(model) // 2])
    (folder / "text.txt").write_text("sit on the tin can and eat a date in rain", encoding="utf-8")
    (folder / "words.jsonl").write_text('{"prompt": "tin", "answer": "can"}\n', encoding="utf-8")
    (folder / "lines.txt").write_text("tin\n\ncan\n", encoding="utf-8")


def prepare_compare(folder: Path) -> None:
    """What the transcript of comparisons uses beside."""
    (folder / "long.txt").write_text("sit on the tin can and eat a date in rain " * 8, encoding="utf-8")
    (folder / "classifier.tflite").write_bytes(plain_models.classifier())
    npz.save(tiny.checkpoint(), folder / "tiny.npz")


CHATML = (
    "{% if messages[0].role != 'system' %}<s>sit\n{{ messages[0].content }}{% set messages = messages[1:] %}"
    "{% else %}<s>{{ messages[0].content }}\n{{ messages[1].content }}{% set messages = messages[2:] %}{% endif %}</s>"
    "{% for m in messages %}{{ m.content }}</s>{% endfor %}"
)


def prepare_chat(folder: Path) -> None:
    """What the transcript of conversations uses beside: folders of safetensors with chat templates."""
    for name, template, changes in (
        ("chat", CHATML, {"context": 48}),
        ("endless_chat", CHATML, {"context": 3000}),
        ("dated", "{{ strftime_now('%d') }}", {}),
    ):
        source = tiny.checkpoint(seed=5, **changes)
        source.weights["embedding"][3:259] *= 0.1  # letters are what it says, not bytes
        source.weights["embedding"][2] *= 0.1 if name == "endless_chat" else 1.0  # </s>
        saved = test_safetensors.save(
            folder / name, source, tie_word_embeddings=True, max_position_embeddings=source.architecture.context
        )
        (saved / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")
    (folder / "talk.txt").write_text("tin\ncan\n/new\ntin\n/quit\nnever\n", encoding="utf-8")


def prepare_plain(folder: Path) -> None:
    """What the transcript of plain models uses beside."""
    for name in ("classifier", "two_inputs", "unsupported", "autoencoder"):
        (folder / f"{name}.tflite").write_bytes(getattr(plain_models, name)())
    (folder / "signatures.tflite").write_bytes(plain_models.classifier(signatures=("day", "night")))
    x = plain_models.stored((20, 48), 0)
    np.save(folder / "x.npy", x)
    np.savetxt(folder / "one.csv", x[:1] * 0.05, delimiter=",")
    (folder / "y.txt").write_text("0\n1\n2\n3\n4\n" * 4, encoding="utf-8")
    (folder / "names.txt").write_text("red\ngreen\nblue\nblack\nwhite\n", encoding="utf-8")
    (folder / "damaged.tflite").write_bytes(plain_models.classifier()[:2000])


def prepare_flash(folder: Path, stack: ExitStack) -> Bus:
    """The images of the transcript of flashing, and a simulated bus, on which nothing is plugged in."""
    simulated.build_images(folder)
    simulated.see(folder / "bus", stack.enter_context(pytest.MonkeyPatch.context()).setattr)
    return stack.enter_context(powered(folder / "bus"))


def prepare_boards(folder: Path) -> None:
    """What the transcript of boards uses beside: what they do about answers."""
    (folder / "acts.toml").write_text('[[action]]\nanswer = "a"\npin = "LED"\ndo = "on"\n', encoding="utf-8")
    (folder / "pin.toml").write_text('[[action]]\nanswer = "a"\npin = "GP99"\ndo = "on"\n', encoding="utf-8")


class Shell:
    """Runs the commands of one transcript in a folder of its own."""

    def __init__(self, folder: Path, devices: Devices, bus: Bus | None = None) -> None:
        self.folder, self.devices, self.bus = folder, devices, bus

    def run(self, command: Command) -> list[str]:
        """The lines that come: output, then the exit code where it is not 0."""
        if command.line == "ls":
            return sorted(path.name for path in self.folder.iterdir())
        line = re.sub("<(silent|noisy|other)>", lambda match: self.devices.url(match[1]), command.line)
        line = re.sub(r"<(\d-[\d.]+)>", lambda match: str(self._board(match[1]).port), line)
        program, *words = shlex.split(line)
        if self.bus and program in ("plug", "boot", "fault", "unplug"):
            self._change(program, *words)
            return []
        assert program == "edge", f"{command.line} is not a command of edge"
        source = subprocess.DEVNULL
        if "<" in words:
            source = (self.folder / words[words.index("<") + 1]).open("rb")  # type: ignore[assignment]
            words = words[: words.index("<")]
        text, code = self._communicate(words, source, command)
        for board in self.bus.boards if self.bus else ():
            text = text.replace(board.port, f"<{board.location}>") if board.port else text
        lines = self.devices.hide(text).replace(str(self.folder), "<folder>").splitlines()
        return [line.rstrip() for line in lines if line.strip()] + ([f"[exit {code}]"] if code else [])

    def _board(self, place: str) -> Board:
        assert self.bus
        return next(board for board in self.bus.boards if board.location == place)

    def _change(self, what: str, place: str, more: str = "") -> None:
        """What somebody does to the simulated boards."""
        assert self.bus
        if what in ("plug", "boot"):
            self.bus.plug(place, build.load(self.folder / more), f"E{place[-1]}", starts=what == "plug")
        elif what == "fault":
            setattr(self._board(place).faults, more, 1)
        else:
            self.bus.unplug(place)

    def _communicate(self, words: list[str], source: int, command: Command) -> tuple[str, int]:
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUTF8": "1", "COLUMNS": "100"}
        environment |= {"EDGE_SIMULATED": str(self.bus.folder)} if self.bus else {}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.simulated.edge" if self.bus else "edge", *words],
            stdin=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.folder, env=environment,
        )  # fmt: skip
        assert process.stdout
        received = bytearray()
        reader = threading.Thread(target=lambda: self._collect(process, received), daemon=True)
        reader.start()
        if "^C" in command.expected:
            self._await(process, received, command.expected[: command.expected.index("^C")])
            process.send_signal(signal.SIGINT)
        try:
            process.wait(LONG_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        reader.join()
        return received.decode(errors="replace"), process.returncode

    @staticmethod
    def _collect(process: subprocess.Popen[bytes], received: bytearray) -> None:
        assert process.stdout
        while data := os.read(process.stdout.fileno(), 4096):
            received += data

    def _await(self, process: subprocess.Popen[bytes], received: bytearray, before: list[str]) -> None:
        """Waits until what is expected before it has come, or where that is nothing, until a device has been asked."""
        deadline = time.monotonic() + LONG_S

        def come() -> bool:
            lines = [line.rstrip() for line in received.decode(errors="replace").splitlines()]
            return bool(received) and matches(before, lines)

        while not (come() if before else self.devices.heard.is_set()):
            assert process.poll() is None, f"it ended before Ctrl-C: {received.decode(errors='replace')}"
            assert time.monotonic() < deadline, "nothing came before Ctrl-C"
            time.sleep(0.01)


@contextmanager
def shell(name: str = "") -> Iterator[Shell]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-transcript-"))).resolve()
        prepare(folder)
        if name == "plain":
            prepare_plain(folder)
        if name == "chat":
            prepare_chat(folder)
        if name == "boards":
            prepare_boards(folder)
        if name == "compare":
            prepare_compare(folder)
        yield Shell(folder, Devices(folder, stack), prepare_flash(folder, stack) if name == "flash" else None)


@pytest.mark.parametrize("name", NAMES)
def test_transcript(name: str) -> None:
    _, commands = parse(FOLDER / f"{name}.txt")
    if sys.platform == "win32" and any("^C" in command.expected for command in commands):
        pytest.skip("Windows sends Ctrl-C to the whole console")
    if sys.platform == "win32" and name == "flash":
        pytest.skip("the simulated boards are behind ptys")
    with shell(name) as it:
        for command in commands:
            found = it.run(command)
            expected = [line for line in command.expected if line != "^C"]
            assert matches(expected, found), f"$ {command.line}\n" + "\n".join(found)


def test_patterns_refuse_what_is_different() -> None:
    assert matches(["a <int> b", "…", "[exit 1]"], ["a 1,234 b", "[exit 1]"])
    assert matches(["a <int> b", "…", "[exit 1]"], ["a 7 b", "x", "y", "[exit 1]"])
    assert not matches(["a <int> b"], ["a x b"])
    assert not matches(["a"], ["a", "b"])
    assert not matches(["a", "b"], ["a"])
    assert not matches(["(a)"], ["a"])
    assert matches(["a  <int>   b", "---  -----"], ["a      12 b", "--------------  ----"])
    assert not matches(["a b"], ["ab"])


def loosened(line: str) -> str:
    """A line with patterns for what another machine or the next better kernel changes: hashes, counts, ports."""
    line = re.sub(r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)(?:[0-9a-f]{64}|[0-9a-f]{12})\b", "<hex>", line)
    line = re.sub(r"\d{1,3}(,\d{3})+", "<int>", line)
    line = re.sub(r"\d+\.\d+ (ms|KB|bits)", r"<float> \1", line)
    line = re.sub(r"(perplexity|KL|top-1) [\d.e-]+", r"\1 <float>", line)
    line = re.sub(r"\d+ bytes came", "<int> bytes came", line)
    return re.sub(r"(ports of this machine: |virtual-m4@qemu|by a port --on |hint: boards: ).*", r"\1…", line)


def update() -> None:
    """Writes what comes now into the transcripts; a command whose output still matches stays as it is."""
    for path in sorted(FOLDER.glob("*.txt")):
        comment, commands = parse(path)
        parts = ["\n".join(comment) + "\n"] if comment else []
        with shell(path.stem) as it:
            for command in commands:
                found = it.run(command)
                if not matches([line for line in command.expected if line != "^C"], found):
                    mark = ["…", "^C"] if "^C" in command.expected else []
                    command.expected = [*mark, *map(loosened, found)]
                    print(f"{path.name}: $ {command.line}")
                parts.append("\n".join([f"$ {command.line}", *command.expected]) + "\n")
        path.write_text("\n".join(parts), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit(__doc__)
    update()
