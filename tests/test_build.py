"""The build: the same bytes from the same sources, every byte accounted for, and nothing that does not fit."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import firmware
import pytest
import tiny

from edge.make.convert import convert
from firmware_tools import boards, build, elf, emulators, graph, linker, stack, uf2
from firmware_tools.boards import Board, Memory
from firmware_tools.compile import compile_model
from firmware_tools.errors import BadFile, DoesNotFit, MissingTool, UserError

SECTIONS = """
EDGE_WEIGHTS static const int8_t weights[1000] = {1, 2, 3};
EDGE_VOCABULARY static const uint8_t vocabulary[512] = {4, 5, 6};
EDGE_NOINIT static float arena[300];
static int initialised = 7, cleared;
static uint8_t buffer[400];
void serve(int byte) {
    arena[byte] += (float)weights[byte] + (float)vocabulary[byte];
    buffer[byte]++;
    print_number((uint64_t)(initialised++ + cleared++ + buffer[byte] + (int)arena[byte]));
}
"""


@pytest.fixture(scope="module")
def board() -> Board:
    return boards.load("virtual-m4")


@pytest.fixture(scope="module")
def sections(board: Board) -> build.Image:
    return firmware.image(SECTIONS, board)


@pytest.fixture(scope="module")
def model(board: Board) -> build.Image:
    return build.build(compile_model(graph.read(convert(tiny.checkpoint())), board), board)


def test_boards_are_whole() -> None:
    for name in boards.names():
        board = boards.load(name)
        assert board.name == name
        assert boards.port_source(name).is_file()
        assert set(board.emulators) <= set(emulators.names())
        assert board.machine is not None or "unicorn" not in board.emulators
        assert 0 < board.stack_bytes < board.ram.size_bytes
        first, second = sorted((board.flash, board.ram), key=lambda memory: memory.start)
        assert first.start + first.size_bytes <= second.start, "flash and RAM overlap"
        assert linker.script(board).count("{") == linker.script(board).count("}")


def test_unknown_names_are_errors_that_list_the_known_ones() -> None:
    with pytest.raises(UserError) as raised:
        boards.load("virtual-m5")
    assert "virtual-m4" in raised.value.hint
    with pytest.raises(UserError) as raised:
        emulators.load("bochs")
    assert "unicorn" in raised.value.hint


def test_the_same_sources_give_the_same_bytes_in_any_folder(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = firmware.image(SECTIONS, board, tmp_path / "first")
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "cache"))  # the compiler's own library is built again too
    second = firmware.image(SECTIONS, board, tmp_path / "deep" / "second folder")
    assert first.elf == second.elf
    assert first == second
    for name in (str(tmp_path), str(Path.home()), str(Path(build.__file__).parent)):
        assert name.encode() not in first.elf


def test_every_byte_is_accounted_for(sections: build.Image, board: Board) -> None:
    sizes = sections.sizes
    assert (sizes.weight_bytes, sizes.vocabulary_bytes, sizes.data_bytes) == (1000, 512, 8)
    assert sizes.flash_bytes == sizes.code_bytes + sizes.weight_bytes + sizes.vocabulary_bytes
    assert sizes.flash_bytes == len(sections.flash_content())
    assert sizes.ram_bytes == board.stack_bytes + sizes.data_bytes + sizes.bss_bytes + 1200
    assert 404 <= sizes.bss_bytes <= 416
    assert sizes.code_bytes < 2000
    assert all(sizes.code_bytes > 0 and address >= board.flash.start for address, _ in sections.segments)


def test_the_vector_table_names_stack_and_reset(sections: build.Image, board: Board) -> None:
    words = [int.from_bytes(sections.flash_content()[i : i + 4], "little") for i in range(0, 64, 4)]
    assert words[0] == board.ram.start + board.stack_bytes
    assert words[1] == sections.entry | 1
    assert all(word & 1 for word in words[1:7])


def test_a_model_image_counts_its_parts(model: build.Image, board: Board) -> None:
    sources = compile_model(graph.read(convert(tiny.checkpoint())), board)
    assert model.sizes.weight_bytes >= sources.weight_bytes > 0
    assert model.sizes.weight_bytes - sources.weight_bytes < 1000  # padding between arrays
    assert abs(model.sizes.vocabulary_bytes - sources.vocabulary_bytes) < 64
    assert model.sizes.code_bytes <= 32 << 10
    assert model.sizes.ram_bytes >= board.stack_bytes + sources.arena_bytes + sources.kv_cache_bytes
    assert model.sizes.stack_deepest_bytes is not None
    assert model.sizes.stack_deepest_bytes < board.stack_bytes
    assert model.facts.model_sha256 == sources.model_sha256


def test_floats_are_computed_by_the_fpu(model: build.Image) -> None:
    helpers = {"__aeabi_fadd", "__aeabi_fmul", "__aeabi_fdiv", "__aeabi_i2f", "sqrtf", "fmaf"}
    assert not helpers & {symbol.name for symbol in elf.read(model.elf).symbols}


@pytest.mark.parametrize("region", ["flash", "RAM", "stack"])
def test_one_byte_too_many_is_refused_by_name(region: str, sections: build.Image, board: Board) -> None:
    needed = {
        "flash": sections.sizes.flash_bytes,
        "RAM": sections.sizes.ram_bytes,
        "stack": sections.sizes.stack_deepest_bytes or 0,
    }[region]

    def with_room(room: int) -> Board:
        if region == "stack":
            return replace(board, stack_bytes=room)
        if region == "flash":
            return replace(board, flash=Memory(board.flash.start, room))
        return replace(board, ram=Memory(board.ram.start, room))

    assert firmware.image(SECTIONS, with_room(needed)).sizes.code_bytes == sections.sizes.code_bytes
    with pytest.raises(DoesNotFit) as raised:
        firmware.image(SECTIONS, with_room(needed - 8))
    assert f"8 bytes of {region} are missing" in raised.value.message
    assert "test does not fit virtual-m4" in raised.value.message
    assert raised.value.hint


def test_all_that_is_missing_is_named_at_once(board: Board) -> None:
    small = replace(board, flash=Memory(board.flash.start, 100), ram=Memory(board.ram.start, 200))
    with pytest.raises(DoesNotFit, match="bytes of flash are missing .*; .* bytes of RAM are missing"):
        firmware.image(SECTIONS, small)


CALLS = """
static volatile int sink;
__attribute__((noinline)) static void leaf(int n) { volatile char big[%d]; big[n] = 1; sink = big[n]; }
__attribute__((noinline)) static void other(int n) { sink = n; }
"""
BY_POINTER = "static void (*volatile table[])(int) = {other, leaf}; void serve(int byte) { table[byte & 1](byte); }"
BY_NAME = "void serve(int byte) { if (byte) leaf(byte); else other(byte); }"


def deepest(program: str, board: Board) -> int | None:
    return firmware.image(program, replace(board, stack_bytes=1 << 20)).sizes.stack_deepest_bytes


@pytest.mark.parametrize("call", [BY_NAME, BY_POINTER], ids=["by name", "by pointer"])
def test_the_deepest_stack_follows_calls(call: str, board: Board) -> None:
    shallow, deep = (deepest(CALLS % size_bytes + call, board) for size_bytes in (256, 5256))
    assert shallow is not None and deep is not None
    assert 5000 <= deep - shallow <= 5016  # a large frame may save one register more


def test_the_deepest_stack_counts_what_assembly_pushes(board: Board) -> None:
    program = """
    __attribute__((noinline)) static void leaf(void) { __asm volatile("%s" ::: "memory"); }
    void serve(int byte) { if (byte) leaf(); }
    """
    without, pushing = (deepest(program % code, board) for code in ("nop", "push {r4-r11}; nop; pop {r4-r11}"))
    assert without is not None and pushing == without + 32


def test_recursion_has_no_deepest_stack(board: Board) -> None:
    program = """
    static volatile int sink;
    static int walk(int n) { volatile int here[4] = {n}; sink = here[n & 3]; return n ? walk(n - 1) + here[0] : 0; }
    void serve(int byte) { print_number((uint64_t)walk(byte)); }
    """
    assert deepest(program, board) is None


@pytest.mark.parametrize(
    ("first", "second", "taken_bytes"),
    [
        (0xB510, 0, 8),  # push {r4, lr}
        (0xE92D, 0x4FF0, 36),  # push.w {r4-r11, lr}
        (0xF84D, 0xBD04, 4),  # str r11, [sp, #-4]!
        (0xB0A8, 0, 160),  # sub sp, #160
        (0xED2D, 0x8A04, 16),  # vpush {s16-s19}
        (0xED2D, 0x8B08, 32),  # vpush {d8-d11}
        (0xF5AD, 0x7D00, 512),  # sub.w sp, sp, #512
        (0xF2AD, 0x4D04, 1028),  # subw sp, sp, #1028
        (0xF5AD, 0x5D80, 4096),  # sub.w sp, sp, #4096
        (0xEBAD, 0x0D0C, None),  # sub.w sp, sp, r12
        (0xB002, 0, 0),  # add sp, #8
    ],
)
def test_frames_are_read_from_instructions(first: int, second: int, taken_bytes: int | None) -> None:
    assert stack._frame_bytes([(0, first, second)]) == taken_bytes


def test_save_and_load(sections: build.Image, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    build.save(sections, folder)
    assert build.load(folder) == sections
    assert (folder / "image.bin").read_bytes() == sections.flash_content()
    assert json.loads((folder / "image.json").read_text())["sha256"] == sections.sha256
    assert {"src/model.c", "src/runtime/startup.c", "src/boards/virtual_m4.c"} <= {
        path.relative_to(folder).as_posix() for path in folder.rglob("*.c")
    }
    build.save(sections, folder)  # over the image before
    assert build.load(folder) == sections
    assert [path.name for path in folder.parent.iterdir()] == ["here"], "nothing is left beside it"


def test_boards_that_take_uf2_files_get_one(board: Board, sections: build.Image, tmp_path: Path) -> None:
    build.save(sections, tmp_path / "without")
    assert not (tmp_path / "without" / "image.uf2").exists()
    image = firmware.image(SECTIONS, replace(board, uf2_family=uf2.RP2350_ARM))
    build.save(image, tmp_path / "with")
    assert build.load(tmp_path / "with") == image
    read = uf2.decode((tmp_path / "with" / "image.uf2").read_bytes())
    content = image.flash_content()
    assert (read.start, read.family, read.absolute_block) == (board.flash.start, uf2.RP2350_ARM, True)
    assert read.content == content + b"\xff" * (-len(content) % uf2.PAYLOAD_BYTES)


def test_save_touches_no_folder_of_others(sections: build.Image, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(UserError, match="is not a firmware image"):
        build.save(sections, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
    for folder in (tmp_path / "letter.txt", tmp_path / "letter.txt" / "below"):
        with pytest.raises(UserError):
            build.save(sections, folder)
    assert (tmp_path / "letter.txt").read_text() == "dear reader"


def test_load_refuses_what_is_damaged(sections: build.Image, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="is not a firmware image"):
        build.load(tmp_path)
    folder = tmp_path / "image"
    build.save(sections, folder)
    content = bytearray((folder / "image.elf").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "image.elf").write_bytes(content)
    with pytest.raises(BadFile, match="its hash is not the one"):
        build.load(folder)
    build.save(sections, folder)
    described = json.loads((folder / "image.json").read_text())
    for wrong in ("[]", "{}", "\x00", json.dumps({**described, "sizes": {}}), json.dumps({**described, "schema": 99})):
        (folder / "image.json").write_text(wrong)
        with pytest.raises(BadFile):
            build.load(folder)


@pytest.mark.parametrize("size", [0, 4, 16, 51, 60, 400])
def test_truncated_elf_files_are_bad_files(size: int, sections: build.Image) -> None:
    with pytest.raises(BadFile):
        elf.read(sections.elf[:size])


def test_c_that_is_wrong_is_an_error_with_the_compilers_words(board: Board) -> None:
    with pytest.raises(UserError, match=r"model\.c.*no_such_name"):
        firmware.image("void serve(int byte) { (void)byte; no_such_name(); }", board)


def test_a_missing_compiler_is_a_missing_tool(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ziglang", None)  # as on a machine without it
    with pytest.raises(MissingTool) as raised:
        firmware.image(firmware.ECHO, board)
    assert raised.value.hint == "pip install ziglang"


ADD = "#include <stdint.h>\nint32_t add(int32_t a, int32_t b);\nint32_t add(int32_t a, int32_t b) { return a + b; }\n"
CALL_ADD = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).add(int(sys.argv[2]), 1))"


@pytest.mark.parametrize("sanitize", [False, True])
def test_host_libraries(sanitize: bool, tmp_path: Path) -> None:
    source = tmp_path / "add.c"
    source.write_text(ADD)
    library = build.build_host([source], [], tmp_path / "add.so", sanitize=sanitize)
    assert ctypes.CDLL(str(library)).add(40, 2) == 42
    overflow = subprocess.run(
        [sys.executable, "-c", CALL_ADD, str(library), str(2**31 - 1)], capture_output=True, text=True, check=False
    )
    if sanitize:
        assert overflow.returncode != 0, "UBSan must stop at the overflow"
    else:
        assert overflow.stdout.strip() == str(-(2**31))


@pytest.mark.system
def test_host_programs_stop_at_a_write_out_of_bounds(tmp_path: Path) -> None:
    if not (shutil.which("clang") or shutil.which("gcc")):
        pytest.skip("needs clang or gcc")
    source = tmp_path / "program.c"
    source.write_text(
        "int main(int count, char **arguments) {"
        " volatile char a[4]; (void)arguments; a[count + 2] = 1; return a[count + 2] - 1; }"
    )
    program = build.build_host_program([source], [], tmp_path / "program")
    assert subprocess.run([str(program)], check=False).returncode == 0
    beyond = subprocess.run([str(program), "x"], capture_output=True, text=True, check=False)
    assert beyond.returncode != 0
    assert "program.c:1" in beyond.stderr
