"""An image says what it is, and the same inputs give the same bytes, whoever builds it and where."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import firmware
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_tools import about, boards, build, uf2
from firmware_tools.errors import BadFile

ROOT = Path(__file__).resolve().parent.parent
BOARD = replace(boards.load("virtual-m4"), uf2_family=uf2.RP2350_ARM)
# builds and saves an image with many files and jobs; says the hashes of what it wrote
BUILD = """
import dataclasses, hashlib, os, sys
from pathlib import Path
from edge.make.convert import convert
from firmware_tools import boards, build, graph, uf2
from firmware_tools.compile import compile_model
import tiny
jobs, folder, toolchain = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
os.cpu_count = lambda: jobs
board = dataclasses.replace(boards.load("virtual-m0"), uf2_family=uf2.RP2040)
sources = compile_model(graph.read(convert(tiny.checkpoint())), board)
image = build.build(sources, board, folder / "work", toolchain=toolchain)
build.save(image, folder / "image")
for name in ("image.elf", "image.bin", "image.uf2", "image.json"):
    print(name, hashlib.sha256((folder / "image" / name).read_bytes()).hexdigest())
print(image.facts.identity)
"""


def built_by(user: str, folder: Path, jobs: int, toolchain: str) -> str:
    """What a process of somebody else prints: another home, folder, zone, language, and order of sets."""
    folder.mkdir(parents=True)
    own = {"HOME": str(folder), "USER": user, "TZ": "Asia/Tokyo" if jobs > 1 else "UTC", "LANG": "C.UTF-8"}
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    kept = {name: os.environ[name] for name in ("ZIG_GLOBAL_CACHE_DIR", "SYSTEMROOT") if name in os.environ}
    cache = {"XDG_CACHE_HOME": str(Path.home() / ".cache"), **kept}
    environment = {"PATH": os.environ["PATH"], **cache, **own, "PYTHONPATH": paths, "PYTHONHASHSEED": str(jobs)}
    command = [sys.executable, "-c", BUILD, str(jobs), str(folder), toolchain]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("toolchain", ["zig", pytest.param("gcc", marks=pytest.mark.system)])
def test_the_same_inputs_give_the_same_bytes(toolchain: str, tmp_path: Path) -> None:
    first = built_by("ada", tmp_path / "home of ada" / "x", 1, toolchain)
    second = built_by("bob", tmp_path / "b", 8, toolchain)
    assert first == second and first.count("\n") == 5


def test_nothing_that_is_compiled_asks_for_time_or_place(tmp_path: Path) -> None:
    for path in (ROOT / "firmware_tools").rglob("*.[chS]"):
        assert not re.search(r"__(DATE|TIME|TIMESTAMP|FILE|COUNTER)__", path.read_text(encoding="utf-8")), path


@pytest.fixture(scope="module")
def image() -> build.Image:
    return firmware.image(firmware.ECHO, BOARD)


def test_every_file_says_what_it_is(image: build.Image, tmp_path: Path) -> None:
    build.save(image, tmp_path / "image")
    for name in ("image.elf", "image.bin", "image.uf2"):
        told = build.about((tmp_path / "image" / name).read_bytes())
        assert told is not None
        assert (told["board"], told["model"], told["inputs"]) == ("virtual-m4", "0" * 64, image.facts.identity)
        assert (told["edge"], told["toolchain"]) == (image.facts.version, image.facts.toolchain)
    at = image.flash_content().index(about.MARK)
    assert at < 4096, "who reads the start of flash reads it"


def test_only_headers_that_are_included_come_along(image: build.Image) -> None:
    headers = {name for name in image.files if name.endswith(".h")}
    assert headers == {"boards/mps2.h", "boards/cortex.h", "runtime/port.h", "runtime/section.h"} | headers
    included = {name for text in image.files.values() for name in re.findall(r'#include "([^"]+)"', text)}
    assert {header.rpartition("/")[2] for header in headers} == {name.rpartition("/")[2] for name in included}
    assert not [name for name in headers if "rp2" in name or "stm32" in name or "nrf" in name]


def test_a_folder_that_describes_another_image_is_refused(image: build.Image, tmp_path: Path) -> None:
    for change, said in (
        ({"identity": "0" * 64}, "another image"),
        ({"model_sha256": "1" * 64}, "another image"),
        ({"board": "virtual-m7"}, "is for virtual-m4, and image.json says virtual-m7"),
    ):
        build.save(dataclasses.replace(image, facts=replace(image.facts, **change)), tmp_path / "image")
        with pytest.raises(BadFile, match=said):
            build.load(tmp_path / "image")
    build.save(image, tmp_path / "image")
    assert build.load(tmp_path / "image") == image


TOLD = {"edge": "0.1", "board": "pico", "model": "a" * 64, "toolchain": "zig 1", "inputs": "b" * 64}


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_it_is_found_wherever_it_lies(before: bytes, after: bytes) -> None:
    assert about.about(before + about.text(TOLD) + b"\0" + after) == TOLD


@pytest.mark.parametrize(
    "wrong",
    [
        {**TOLD, "model": "a" * 63},
        {**TOLD, "inputs": "B" * 64},
        {**TOLD, "board": "pico\x1b[2J"},
        {**TOLD, "board": ""},
        {**TOLD, "board": "p" * 201},
        {**TOLD, "more": "x"},
        {**TOLD, "edge": 1},
        {"edge": "0.1"},
        [TOLD],
    ],
)
def test_what_says_something_else_is_none(wrong: object) -> None:
    data = about.MARK + json.dumps(wrong).encode() + b"\0"
    assert about.about(data) is None
    assert about.about(data + about.text(TOLD) + b"\0") == TOLD, "a second one may be right"


@given(st.binary(max_size=300))
def test_garbage_says_nothing(data: bytes) -> None:
    assert about.about(data) is None
    assert about.about(about.MARK + data.replace(b"{", b"") + b"\0") is None
    assert about.about(b"UF2\n" + data) is None
    assert about.about(about.text(TOLD)) is None, "it has no end"
