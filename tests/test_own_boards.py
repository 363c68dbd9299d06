"""A board of the user's own: begun from one that is known, edited by a page of facts, built and run."""

from __future__ import annotations

import dataclasses
import json
import re
import zlib
from pathlib import Path

import pytest
import tiny

from edge.cli import main
from edge.make import board_facts, catalogue, new_board
from edge.make.convert import convert
from firmware_tools import boards, build, graph
from firmware_tools.compile import compile_model
from firmware_tools.emulators import unicorn
from firmware_tools.errors import BadFile, DoesNotFit, UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "my boards"
    place.mkdir()
    monkeypatch.setenv(boards.FOLDER, str(place))
    return place


def edit(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


def test_page_of_facts_is_all_it_takes(folder: Path) -> None:
    """Another memory map and another UART than the board that it began as: only facts and wiring were edited."""
    facts, port = new_board.write("virtual-m4", "our-m4", folder)
    edit(
        facts,
        (
            "flash=Memory(start=0x00000000, size_bytes=4096 << 10)",
            "flash=Memory(start=0x00080000, size_bytes=256 << 10)",
        ),
        ("ram=Memory(start=0x20000000, size_bytes=4096 << 10)", "ram=Memory(start=0x20010000, size_bytes=64 << 10)"),
        ("uart=0x40004000", "uart=0x40007000"),
    )
    edit(port, ("#define UART0 0x40004000u", "#define UART0 0x40007000u"))
    board = boards.load("our-m4")
    read = graph.read(convert(tiny.checkpoint(context=24)))
    image = build.build(compile_model(read, board), board)
    assert image.segments[0][0] == 0x80000 and image.sizes.ram_bytes <= 64 << 10
    assert {"boards/our_m4.c", "boards/mps2.h"} <= image.files.keys()
    with unicorn.open(image) as link:
        assert link.hello().board == "EMULATED our-m4"
        assert link.prefill([1, 270, 280]) is None
        assert link.check() == (len(image.flash_content()), zlib.crc32(image.flash_content()))
    with pytest.raises(DoesNotFit, match="our-m4"):
        small = dataclasses.replace(board, ram=boards.Memory(0x20010000, 9 << 10))
        build.build(compile_model(read, small), small)


@pytest.mark.parametrize("like", boards.shipped())
def test_copy_says_what_the_board_says(like: str, folder: Path) -> None:
    """Of every board of ours: nothing gets lost on the way into the file, but what another board cannot inherit."""
    new_board.write(like, "copy", folder)
    old, new = boards.load(like), boards.load("copy")
    kept = {field.name for field in dataclasses.fields(old)} - {"name", "description", "sources", "emulators"}
    kept -= {*new_board.FRESH, "usb"}
    assert {name: getattr(new, name) for name in kept} == {name: getattr(old, name) for name in kept}
    text = boards.port_source("copy").read_text(encoding="utf-8")
    assert re.search('"(EMULATED )?copy"', text) and f'{like}"' not in text


@pytest.mark.parametrize("like", ["pico", "nucleo-f446re"])
def test_copy_of_a_board_of_silicon_is_built(like: str, folder: Path) -> None:
    """With all that its chip takes: second stage, headers, kernels in RAM; and it tells its own name."""
    new_board.write(like, "copy", folder)
    board = boards.load("copy")
    image = build.build(compile_model(graph.read(convert(tiny.checkpoint())), board), board)
    assert b"copy\0" in image.flash_content() and like.encode() + b"\0" not in image.flash_content()
    assert {usb.product for usb in board.usb} == {usb.product.replace(like, "copy") for usb in boards.load(like).usb}


def test_every_fact_is_explained() -> None:
    fields = {field.name for field in dataclasses.fields(boards.Board)}
    assert fields - {"sources"} <= new_board.EXPLAINED.keys()


def test_own_boards_are_found_like_ours(folder: Path) -> None:
    new_board.write("virtual-m0", "aaa", folder)
    edit(folder / "aaa.py", ("aliases=()", 'aliases=("first",)'))
    assert boards.names() == ("aaa", *boards.shipped())
    assert boards.load("aaa+wide").full_name == "aaa+wide"
    assert boards.load("first").name == "aaa"
    assert [row["name"] for row in catalogue.boards()] == list(boards.names())
    assert "aaa  aaa: begun as virtual-m0" in board_facts.text(boards.load("aaa"))


def test_copy_of_a_header_takes_the_place_of_ours(folder: Path) -> None:
    _, port = new_board.write("virtual-m4", "ours", folder)
    header = (port.parent / "mps2.h").resolve()
    header.write_text("#error mine\n", encoding="utf-8")
    board = boards.load("ours")
    with pytest.raises(UserError, match="mine"):
        build.build(compile_model(graph.read(convert(tiny.checkpoint())), board), board)


@pytest.mark.parametrize(
    "change, message",
    [
        ((")\n", ""), r"ours\.py, line \d+: .*"),
        (("core=", "cores="), r"ours\.py, line 7: .*unexpected keyword argument 'cores'"),
        (("Memory(start=0x20000000", "Memory(begin=0x20000000"), r"ours\.py, line \d+: .*'begin'"),
        (("stack_bytes=8 << 10", 'stack_bytes="8 KB"'), r"BOARD\.stack_bytes = '8 KB' is not of the type int"),
        (
            ("size_bytes=4096 << 10", "size_bytes=4.5"),
            r"BOARD\.flash\.size_bytes|size_bytes = 4\.5 is not of the type int",
        ),
        (("aliases=()", 'aliases=("virtual-m0",)'), "the alias 'virtual-m0' is taken"),
        (("aliases=()", 'aliases="x"'), r"BOARD\.aliases = 'x' is not of the type"),
        (("BOARD = Board(", "CARD = Board("), r"has no BOARD = Board\("),
        (('name="ours"', 'name="theirs"'), "its name is 'theirs'"),
        (("cortex_m4+vfp4d16sp", "cortex_m4"), "cpu has 'cortex_m4'"),
        (('clock="instructions"', 'clock="ticks"'), "clock has 'ticks'"),
        (('"unicorn", "qemu"', '"bochs",'), "emulators has 'bochs'"),
        (("stack_bytes=8 << 10", "stack_bytes=8 << 20"), "no room"),
        (("import annotations", "import annotations\nraise RuntimeError('why')"), r"ours\.py, line 4: why"),
    ],
)
def test_faults_in_the_users_file_are_one_sentence(change: tuple[str, str], message: str, folder: Path) -> None:
    facts, _ = new_board.write("virtual-m4", "ours", folder)
    edit(facts, change)
    with pytest.raises(UserError) as failure:
        boards.load("ours")
    assert re.search(message, failure.value.message) and failure.value.hint


def test_names_that_cannot_be(folder: Path) -> None:
    for name in ("virtual-m4", "My-Board", "x_y", "../x", "", "1st", "a--b", "x" + "\n"):
        with pytest.raises(UserError):
            new_board.write("virtual-m4", name, folder)
    new_board.write("virtual-m4", "mine", folder)
    with pytest.raises(UserError, match="exists"):
        new_board.write("virtual-m4", "mine", folder)
    with pytest.raises(UserError, match="no board is called 'nothing'"):
        new_board.write("nothing", "other", folder)


@pytest.mark.parametrize("stem", ["virtual_m4", "My_Board", "my board"])
def test_files_that_cannot_be_boards(stem: str, folder: Path) -> None:
    (folder / f"{stem}.py").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=stem):
        boards.names()


def test_folder_or_port_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, port = new_board.write("virtual-m4", "mine", folder)
    port.unlink()
    with pytest.raises(UserError, match=r"mine\.c is missing"):
        boards.port_source("mine")
    monkeypatch.setenv(boards.FOLDER, str(folder / "nowhere"))
    with pytest.raises(UserError, match="is no folder"):
        boards.names()


def test_unreadable_file(folder: Path) -> None:
    (folder / "mine.py").mkdir()
    with pytest.raises(BadFile, match="cannot read"):
        boards.load("mine")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return int(end.value.code or 0)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(boards.FOLDER, raising=False)
    place = tmp_path / "new"
    assert run("boards", "--like", "virtual-m3", "--new", "mine", "--boards", str(place)) == 0
    assert f"edge --boards {place} build MODEL --board mine" in capsys.readouterr().out
    assert run("--boards", str(place), "boards", "mine", "--json") == 0
    assert json.loads(capsys.readouterr().out)["facts"]["core"] == {"value": "Cortex-M3", "source": None}
    assert boards.own_folder() is None, "an option is for one command line"
    assert run("boards", "mine") == 1
    assert "no board is called 'mine'" in capsys.readouterr().err
    assert run("boards", "--like", "virtual-m3") == 2
    assert run("boards", "--like", "virtual-m3", "--new", "mine") == 2
