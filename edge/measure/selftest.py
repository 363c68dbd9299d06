"""Does a board do all that it should? One record of it, to attach to an issue: `edge selftest --on BOARD@PORT`.

The checks, in order: link, identity, flash, clock, logits, time-outs, stack, hardware, latency, as silicon.py names
them. Each is passed, failed or skipped, with the reason in words. The record has no name of a user, computer,
port or path, and no serial number: it is put together from what is known to have none, and what a device or an error
says is searched for them. A board that says that it is emulated is called so; such a record never counts as silicon.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edge import __version__, zoo
from edge.measure.bench import bench
from edge.replacing import replacing
from edge.run import target as targets
from edge.run.generate import prompt_ids
from edge.run.target import Place, Running
from edge.terminal import one_line
from firmware_tools import build, fuse, graph, interpret, ports, silicon, toolchains
from firmware_tools.bfp_program import for_board
from firmware_tools.boards import Board
from firmware_tools.build import Image
from firmware_tools.compile import compile_model
from firmware_tools.content import record_digest
from firmware_tools.errors import BadFile, UserError
from firmware_tools.link import SILENCE_S

MODEL = "intent"
PROMPT = "turn the kitchen lamp down to 20 percent"
POSITION = 15
REPEATS = 5
ROUND_TRIPS = 20
CLOCK_S = 3.0
CLOCK_TOLERANCE = 0.02  # an RC oscillator is good for 1 %
MOST_STEPS = 24
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Check:
    """What was looked at, what came of it, and how."""

    name: str
    state: str
    what: str


@dataclass(frozen=True)
class SelfTest:
    """The record, as its JSON has it. says: the board's name in the words of its firmware; image: its identity.

    Times are in the unit that clock names; null where nothing was measured. weights_in: where kernels read weights,
    `flash` or `ram`. stack_bytes: the deepest since start.
    """

    schema: str
    edge: str
    date: str
    board: str
    says: str
    emulated: bool
    passed: bool
    toolchain: str
    image: str
    model: str
    clock: str
    ticks_hz: int
    weights_in: str | None
    stack_bytes: int | None
    prefill_per_token: float | None
    decode_median: float | None
    decode_repeats: tuple[float, ...]
    position: int
    checks: tuple[Check, ...]
    tools: dict[str, str]


class _Skip(Exception):
    """A check that has no meaning here; says why."""


class _Fail(Exception):
    """A check that was not passed; says why."""


def run(target: str, folder: Path | None, toolchain: str | None, progress: Progress) -> SelfTest:
    """Tests the board that TARGET names, flashed with an image of the shipped model.

    folder: that image, of `edge build`; by default one is built here, and the board must hold the very same.
    Raises LinkError where nothing answers, or another board or model does; whatever else is wrong is in the record.
    """
    place = targets.parse(target)
    if place.board is None:
        raise UserError(f"{target} is no board", "--on BOARD@PORT, BOARD@auto or BOARD@emulator")
    progress("building the image", 0, len(silicon.CHECKS))
    path = zoo.find(MODEL)
    model = graph.read(path)
    image = _image(place.board, model, folder, toolchain)
    link = (
        targets.open_image(image, place.emulator, counting=True)
        if place.emulator
        else targets.connect(place, model, path, counting=True)[0]
    )
    with targets.attach(str(place), model, link, image, image.facts.context) as running:
        tester = _Tester(running, image, place.board, place)
        checks = []
        for done, name in enumerate(silicon.CHECKS):
            progress(f"testing: {name}", done, len(silicon.CHECKS))
            checks.append(tester.check(name))
        return _record(tester, scrubbed(checks, place))


def _image(board: Board, model: graph.Graph, folder: Path | None, toolchain: str | None) -> Image:
    if folder is None:
        return build.build(compile_model(model, board), board, toolchain=toolchain or toolchains.DEFAULT)
    image = build.load(folder)
    if image.board != board.name or image.facts.model_sha256 != model.sha256:
        raise BadFile(
            f"{folder} is no image of {MODEL} for {board.name}", f"edge build {MODEL} --board {board.name} -o DIR"
        )
    return image


class _Tester:
    """The checks of one board, and what they found."""

    def __init__(self, running: Running, image: Image, board: Board, place: Place) -> None:
        self.running, self.image, self.board, self.place = running, image, board, place
        self.prefill: float | None = None
        self.decode: tuple[float, ...] = ()
        self.decode_median: float | None = None

    def check(self, name: str) -> Check:
        """One check; whatever goes wrong in it is its result."""
        test: Callable[[], str] = getattr(self, f"_{name.replace('-', '_')}")
        try:
            return Check(name, PASSED, test())
        except _Skip as why:
            return Check(name, SKIPPED, str(why))
        except _Fail as why:
            return Check(name, FAILED, str(why))
        except UserError as error:
            return Check(name, FAILED, error.message)

    @property
    def emulated(self) -> bool:
        """By what the firmware says, or because we emulate it ourselves."""
        return self.running.info.emulated or self.place.emulator is not None

    def _link(self) -> str:
        link, says = self.running.link, self.running.info.board
        for _ in range(ROUND_TRIPS):
            if link.hello().board != says:
                raise _Fail("the board changes its name from answer to answer")
        if f"m-name-dut-[{says}]" not in link.command("name"):
            raise _Fail("lines mode does not say the name that frames do")
        return f"{ROUND_TRIPS} requests in frames and one in lines were answered"

    def _identity(self) -> str:
        told, built = self.running.info.image, self.image.facts.identity
        if told != built:
            flash = f"edge build {MODEL} --board {self.board.full_name} -o DIR, and edge flash DIR"
            raise _Fail(
                f"the firmware is {(told or 'no known image')[:12]}, the image is {built[:12]}: flash what is tested "
                f"({flash}), or name the folder of what was flashed by --image"
            )
        return f"the firmware is the image {built[:12]}"

    def _flash(self) -> str:
        import zlib

        content = self.image.flash_content()
        size_bytes, crc = self.running.link.check()
        if (size_bytes, crc) != (len(content), zlib.crc32(content)):
            raise _Fail(
                f"the board reads {size_bytes:,} bytes with CRC-32 {crc:08x}, and the image has {len(content):,} with "
                f"{zlib.crc32(content):08x}"
            )
        return f"the board reads all {size_bytes:,} bytes of the image as they are, CRC-32 {crc:08x}"

    def _clock(self) -> str:
        """The board's microseconds beside the host's, which are known up to the time that an answer takes."""
        if self.emulated or self.running.link.clock.kind != "seconds":
            raise _Skip("an emulated board has no time")
        first, second = self._now(), self._now(CLOCK_S)
        device_s = (second[1] - first[1]) / 1e6
        error = clock_error(device_s, second[0] - first[2], second[2] - first[0])
        if error > CLOCK_TOLERANCE:
            raise _Fail(f"{second[2] - first[0]:.3f} s passed here, and {device_s:.3f} s on the board")
        hz = self.running.info.ticks_hz
        return f"{device_s:.3f} s of {hz:,} ticks took what they should, to {CLOCK_TOLERANCE:.0%}"

    def _now(self, wait_s: float = 0.0) -> tuple[float, int, float]:
        """The host's time before, the board's microseconds, and the host's time after."""
        time.sleep(wait_s)
        before = time.monotonic()
        lines = self.running.link.command("timestamp")
        after = time.monotonic()
        told = [int(found[1]) for line in lines if (found := re.fullmatch(r"m-lap-us-(\d{1,19})", line))]
        if not told:
            raise _Fail("the board does not tell its time")
        return before, told[0], after

    def _logits(self) -> str:
        """The shipped model's answer to a prompt: every logit of every step beside the numpy model of that board."""
        running, link = self.running, self.running.link
        program = for_board(fuse.program(running.model, running.context), self.board)
        state = interpret.start(program)
        ids = prompt_ids(running, PROMPT)
        link.prefill(ids)
        for position, token in enumerate(ids):
            expected = interpret.step(program, state, token, position)
        for steps in range(MOST_STEPS):
            self._compare(expected, len(ids) + steps - 1)
            token = int(np.argmax(expected))
            if token in running.stop_ids or len(ids) + steps >= running.context:
                break
            link.forward(token, len(ids) + steps)
            expected = interpret.step(program, state, token, len(ids) + steps)
        return f"{steps + 1} steps after a prompt of {len(ids)} tokens: every logit equals the reference's, bit for bit"

    def _compare(self, expected: Any, position: int) -> None:
        found = self.running.link.logits()
        if found.tobytes() != expected.astype(np.float32).tobytes():
            wrong = int(np.sum(found.view(np.uint32) != expected.astype(np.float32).view(np.uint32)))
            raise _Fail(f"{wrong} of {found.size} logits at position {position} are not those of the reference")

    def _time_outs(self) -> str:
        """A host that dies in frames, in mid-packet: the board's terminal is back after 2 s, which take an emulated one
        that does not sleep longer.
        """
        link, line = self.running.link, self.running.link.transport
        link.hello()
        line.write(b"\x05half a packet")
        time.sleep(SILENCE_S + 0.2)
        text, tries = b"", 60 if self.emulated else 1
        while tries and b"m-ready" not in text:
            line.write(b"name%")
            deadline, tries = time.monotonic() + 1.0, tries - 1
            while time.monotonic() < deadline and b"m-ready" not in text:
                text += line.read(0.1)
        if b"m-name-dut-[" not in text:
            raise _Fail("after 2 s without a packet it is not in lines mode again")
        link.hello()
        return "after 2 s without a whole packet it is in lines mode again"

    def _stack(self) -> str:
        used, most = self.running.link.hello().stack_bytes, self.image.sizes.stack_deepest_bytes
        if not used:
            raise _Fail("the board does not tell how deep its stack has been")
        if used > (self.board.stack_bytes if most is None else most):
            raise _Fail(f"the stack has been {used:,} bytes deep, and the call graph allows {most or 0:,}")
        return f"{used:,} of {self.board.stack_bytes:,} bytes were used"

    def _hardware(self) -> str:
        if trouble := self.running.link.hello().trouble:
            raise _Fail(f"the firmware says: {trouble}")
        return "everything started, says the firmware"

    def _latency(self) -> str:
        link = self.running.link
        if not link.clock.counting:
            raise _Skip("nothing counts there")
        found = bench(self.running, position=POSITION, repeats=REPEATS)
        self.prefill, self.decode = found.prefill.per_token, found.decode.repeats
        self.decode_median = found.decode.median
        if self.prefill is None or self.decode_median is None or min(self.prefill, *self.decode) <= 0:
            raise _Fail("ticks do not count")
        return (
            f"{_amount(self.prefill, link.clock.kind)} a token of a prompt of {POSITION}, "
            f"{_amount(self.decode_median, link.clock.kind)} a decoded one at position {POSITION}"
        )


def clock_error(device_s: float, least_s: float, most_s: float) -> float:
    """By which share a device's time lies outside of what it can have been; 0 within."""
    return max(0.0, least_s / device_s - 1 if device_s > 0 else float("inf"), device_s / most_s - 1)


def _amount(value: float, unit: str) -> str:
    return f"{value * 1e3:,.3f} ms" if unit == "seconds" else f"{value:,.0f} instructions"


def _record(tester: _Tester, checks: tuple[Check, ...]) -> SelfTest:
    running, facts = tester.running, tester.image.facts
    return SelfTest(
        schema=silicon.SCHEMA,
        edge=__version__,
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        board=tester.board.full_name,
        says=running.info.board,
        emulated=tester.emulated,
        passed=all(check.state != FAILED for check in checks),
        toolchain=facts.toolchain,
        image=facts.identity,
        model=facts.model_sha256,
        clock=running.link.clock.kind,
        ticks_hz=running.info.ticks_hz,
        weights_in=running.info.weights_in,
        stack_bytes=running.link.info.stack_bytes,
        prefill_per_token=tester.prefill,
        decode_median=tester.decode_median,
        decode_repeats=tester.decode,
        position=POSITION,
        checks=checks,
        tools={
            "python": platform.python_version(),
            "numpy": metadata.version("numpy"),
            "pyserial": metadata.version("pyserial"),
            "system": platform.system(),
        },
    )


def scrubbed(checks: list[Check], place: Place) -> tuple[Check, ...]:
    """The checks without what tells who ran them, and where."""
    private = sorted({word for word in private_words(place) if len(word) > 1}, key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, private))})(?!\w)", re.IGNORECASE)
    return tuple(
        dataclasses.replace(check, what=pattern.sub("…", one_line(check.what)) if private else one_line(check.what))
        for check in checks
    )


def private_words(place: Place) -> Iterator[str]:
    """Of this computer and what is plugged into it."""
    yield from (str(place.port or ""), str(Path.home()), Path.home().name, str(Path.cwd()))
    yield from (platform.node(), platform.node().partition(".")[0])
    with _nobody():
        yield getpass.getuser()
    for name in (place.port, *(device.port for device in ports.plugged())):
        yield from (str(name or ""), str(name or "").rpartition("/")[2])
    for device in ports.plugged():
        yield from (device.serial_number or "", str(device.volume or ""))


@contextmanager
def _nobody() -> Iterator[None]:
    """A user without a name has none to hide."""
    try:
        yield
    except (OSError, KeyError, ImportError):
        return


# --- as JSON and as text


def to_json(record: SelfTest) -> dict[str, Any]:
    """The record as JSON's types, its hash included."""
    data: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(record), allow_nan=False))
    return {**data, "sha256": record_digest(data)}


def write(record: SelfTest, path: Path) -> None:
    """Writes the record whole or not at all."""
    with replacing(path) as file:
        file.write((json.dumps(to_json(record), indent=1) + "\n").encode())


def text(record: SelfTest, path: Path) -> str:
    """A line for each check, and what to do with the record."""
    lines = [f"{record.says}, {record.ticks_hz:,} ticks a second, image {record.image[:12]}"]
    lines += [f"  {check.name:10} {check.state:8} {check.what}" for check in record.checks]
    if record.emulated:
        lines.append(f"{path}: emulated, so that it says nothing about silicon")
    else:
        lines.append(f"{path}: attach it to an issue of the form “A board has run” (nothing in it tells who you are)")
    return "\n".join(lines) + "\n"
