"""Simulated hardware to plug in: a USB bus, boards with flash and a boot loader, a debug probe. None of it is silicon.

A `Bus` lives in the process of a test. What it shows is in files of a folder, so that any process that has called
`see(folder)` finds the boards there as if they were plugged into the machine: `python -m tests.simulated.edge`.
"""

from __future__ import annotations

import functools
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from firmware_tools import boards, flashers, usb_tree, volumes

VID, PORT_PID, LOADER_PID = 0x1209, 0x0001, 0x0002  # pid.codes has these for tests
PORTS = "ports.json"

FACTS = """'{name}: {base} as if it were silicon, plugged into a simulated bus.'
from dataclasses import replace
from firmware_tools.boards import Memory, Programming, Usb, {module}
BOARD = replace(
    {module}.BOARD, name="{name}", clock="seconds", emulators=("unicorn",),
    usb=(Usb({vid}, {port_pid}, "port", "{name}"), Usb({vid}, {loader_pid}, "bootloader")), {more}
)
"""
FAMILY = 0x12091209
FLASHERS = f'flashers=("simulated-probe", "bootsel"), uf2_family={FAMILY}, programming=Programming(uf2_board="BENCH")'
ROM = 'flash=Memory(0x08000000, 512 << 10), flashers=("stm32-uart",), programming=Programming(rom_id=0x421)'
BOARDS = {
    "bench-m4": ("virtual_m4", FLASHERS),
    "bench-m0": ("virtual_m0", FLASHERS),
    "bench-uart": ("virtual_m4", ROM),
}


def prepare(folder: Path) -> None:
    """Writes the boards of the simulated bus: those that unicorn knows, with USB. Nothing is plugged in."""
    (folder / "boards").mkdir(parents=True)
    (folder / usb_tree.DEVICES).mkdir(parents=True)
    (folder / PORTS).write_text("[]", encoding="utf-8")
    ids = {"vid": VID, "port_pid": PORT_PID, "loader_pid": LOADER_PID}
    for name, (module, more) in BOARDS.items():
        base, stem = module.replace("_", "-"), name.replace("-", "_")
        facts = FACTS.format(name=name, base=base, module=module, more=more, **ids)
        (folder / "boards" / f"{stem}.py").write_text(facts, encoding="utf-8")
        port = (Path(boards.__file__).parent / f"{module}.c").read_text(encoding="utf-8")
        (folder / "boards" / f"{stem}.c").write_text(port.replace(f'"{base}"', f'"{name}"'), encoding="utf-8")
    for header in Path(boards.__file__).parent.glob("*.h"):
        shutil.copy(header, folder / "boards")


def build_images(folder: Path) -> Path:
    """Images for bench-m4 of two models that differ in their weights, in old/ and new/; the models lie beside them."""
    import pytest  # not needed by a program that looks at the bus

    from edge.make.convert import convert
    from firmware_tools import build, graph
    from firmware_tools.compile import compile_model
    from tests import tiny

    prepare(folder / "bus")
    with pytest.MonkeyPatch.context() as patch:
        see(folder / "bus", patch.setattr)
        board = boards.load("bench-m4")
        for name, seed in (("old", 9), ("new", 1)):
            (folder / f"{name}.tflite").write_bytes(convert(tiny.checkpoint(seed=seed)))
            sources = compile_model(graph.read(folder / f"{name}.tflite"), board)
            build.save(build.build(sources, board), folder / name)
    return folder


def see(folder: Path, patch: Any) -> None:
    """Has this process find what is plugged into the bus of the folder. patch: `setattr`, or a monkeypatch's."""
    patch(boards, "__path__", [*boards.__path__, str(folder / "boards")])
    patch(boards, "port_source", functools.partial(_port_source, folder, boards.port_source))
    patch(flashers, "__path__", [*flashers.__path__, str(Path(__file__).parent / "flashers")])
    patch(list_ports, "comports", functools.partial(_comports, folder))
    patch(volumes, "ROOT", folder)
    importlib.invalidate_caches()
    boards._aliases.cache_clear()


def _port_source(folder: Path, shipped: Any, name: str) -> Path:
    return folder / "boards" / f"{name.replace('-', '_')}.c" if name in BOARDS else shipped(name)


def _comports(folder: Path) -> list[ListPortInfo]:
    """What pyserial would tell of the simulated ports."""
    found = []
    for told in json.loads((folder / PORTS).read_text(encoding="utf-8")):
        port = ListPortInfo(told["device"])
        for key, value in told.items():
            setattr(port, key, value)
        found.append(port)
    return found
