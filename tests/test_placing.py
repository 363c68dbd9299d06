"""Where weights, code and buffers lie: by a board's facts and by what fits, with the same bits wherever it is."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import firmware
import pytest
import tiny

from edge.make.convert import convert, save
from firmware_tools import boards, build, elf, emulators, graph, instructions, linker, placing, veneers
from firmware_tools import compile as compiler
from firmware_tools.boards import Board, Memory
from firmware_tools.compile import Sources, compile_model
from firmware_tools.errors import DoesNotFit, MissingTool
from firmware_tools.linker import Layout

SLOW, FAST = 20_000_000, 500_000_000
BOARDS = ("virtual-m0", "virtual-m4")
TOOLCHAINS = ("zig", "gcc")


def sources(board: Board) -> Sources:
    return compile_model(graph.read(convert(tiny.checkpoint())), board)


def with_slow_flash(name: str, **facts: object) -> Board:
    """A virtual board whose flash is said to be slow, as a Pico's is."""
    board = boards.load(name)
    flash, ram = replace(board.flash, bytes_per_s=SLOW), replace(board.ram, bytes_per_s=FAST)
    return replace(board, **{"flash": flash, "ram": ram, "code_in": "ram", **facts})  # type: ignore[arg-type]


BUILT: dict[str, build.Image] = {}

# a model in the eyes of the build: its code, its weights and its buffers
SMALL = """
EDGE_WEIGHTS const int8_t weights[3000] = {1, 2, 3};
_Alignas(16) uint8_t edge_arena[1500], edge_kv_cache[2500];
__attribute__((noinline)) static int step(int n) { return edge_arena[n] + edge_kv_cache[n] + weights[n & 3] * n; }
void serve(int byte) { edge_arena[byte] = edge_kv_cache[byte] = (uint8_t)byte; print_number((uint64_t)step(byte)); }
"""


def built(board: Board, toolchain: str = "zig", weights: str | None = None) -> build.Image:
    """A tiny model's image, made once."""
    key = repr((board, toolchain, weights))
    if key not in BUILT:
        try:
            BUILT[key] = build.build(sources(board), board, toolchain=toolchain, weights=weights)
        except MissingTool as error:
            pytest.skip(error.message)
    return BUILT[key]


def small(board: Board, weights: str | None = None) -> build.Image:
    """An image of SMALL, which takes no time to build."""
    return build.build(replace(firmware.sources(SMALL), kind="plain"), board, bare=True, weights=weights)


Answers = tuple[bytes, int | None]


def answers(image: build.Image, emulator: str = "unicorn") -> Answers:
    """The logits after a few tokens, and the ticks of the last step; what the device says of itself must be so."""
    with emulators.load(emulator).open(image, counting=True) as link:
        info = link.hello()
        assert (info.image, info.weights_in) == (image.facts.identity, image.facts.weights_in)
        content = image.flash_content()
        assert link.check() == (len(content), zlib.crc32(content))
        link.prefill([1, 2, 3])
        ticks = link.forward(4, 3)
        return link.logits().tobytes(), ticks


def test_what_a_board_says_decides() -> None:
    board = boards.load("virtual-m4")
    assert placing.layouts(board) == [Layout()]
    assert placing.layouts(board, "ram") == [Layout("ram", "flash")]
    slow = with_slow_flash("virtual-m4")
    tried = [Layout("ram", "ram"), Layout("ram", "flash"), Layout("flash", "ram"), Layout("flash", "flash")]
    assert placing.layouts(slow) == tried
    assert placing.layouts(slow, "flash") == tried[2:]
    assert placing.layouts(replace(slow, code_in="flash")) == [tried[1], tried[3]]
    fast = replace(slow, flash=replace(slow.flash, bytes_per_s=FAST), code_in="flash")
    assert placing.layouts(fast) == [Layout()]


def section(image: build.Image, name: str) -> elf.Section:
    return next(section for section in elf.read(image.elf).sections if section.name == name)


@pytest.mark.parametrize("name", BOARDS)
def test_weights_and_code_in_ram_compute_the_same_bits(name: str) -> None:
    board, slow = boards.load(name), with_slow_flash(name)
    usual, copied = built(board), built(slow)
    assert (usual.facts.weights_in, usual.facts.code_in) == ("flash", "flash")
    assert (copied.facts.weights_in, copied.facts.code_in) == ("ram", "ram")
    for part in (".weights", ".fast"):
        assert board.ram.start < section(copied, part).address < board.ram.start + board.ram.size_bytes
    assert copied.sizes.weight_bytes == usual.sizes.weight_bytes
    assert copied.sizes.ram_bytes >= usual.sizes.ram_bytes + usual.sizes.weight_bytes
    # veneers between flash and RAM and the table of what is copied, no more
    assert abs(copied.sizes.flash_bytes - usual.sizes.flash_bytes) < 600
    (logits, ticks), (same, other_ticks) = answers(usual), answers(copied)
    assert logits == same
    assert ticks is not None and other_ticks is not None and 0 <= other_ticks - ticks < ticks // 100


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("toolchain", [pytest.param(t, marks=[pytest.mark.system] * (t != "zig")) for t in TOOLCHAINS])
def test_the_deepest_stack_is_found_through_veneers(name: str, toolchain: str) -> None:
    usual, copied = built(boards.load(name), toolchain), built(with_slow_flash(name), toolchain)
    parts = elf.read(copied.elf)
    code = instructions.Code(parts)
    found = [veneers.veneer(f, list(code.instructions(f)), code) for f in code.functions]
    named = [f for f in code.functions if "Thunk" in f.name or f.name.endswith("_veneer")]
    assert len(named) == sum(veneer is not None for veneer in found) > 2
    assert all(veneer is None or parts.function_at(veneer.target) for veneer in found)
    deepest = (usual.sizes.stack_deepest_bytes, copied.sizes.stack_deepest_bytes)
    assert deepest[0] is not None and deepest[1] is not None and 0 <= deepest[1] - deepest[0] <= 32


@pytest.mark.system
@pytest.mark.parametrize("name", BOARDS)
def test_gcc_and_qemu_agree_with_weights_and_code_in_ram(name: str) -> None:
    logits, ticks = answers(built(with_slow_flash(name)))
    assert answers(built(with_slow_flash(name), "gcc"))[0] == logits
    try:
        assert answers(built(with_slow_flash(name)), "qemu")[0] == logits
    except MissingTool as error:
        pytest.skip(error.message)
    assert ticks


def test_what_fits_decides_next() -> None:
    """As RAM becomes smaller, weights stay in flash first, then code."""
    roomy = with_slow_flash("virtual-m4")
    steps = [("ram", "ram"), ("ram", "flash"), ("flash", "ram"), ("flash", "flash")]
    needed = [small(replace(roomy, code_in=code), weights).sizes.ram_bytes for weights, code in steps]
    assert needed == sorted(needed, reverse=True)
    for number, size in enumerate(needed):
        image = small(replace(roomy, ram=replace(roomy.ram, size_bytes=size)))
        assert (image.facts.weights_in, image.facts.code_in) == steps[number]
        smaller = replace(roomy, ram=replace(roomy.ram, size_bytes=size - 8))
        if number + 1 < len(steps):
            image = small(smaller)
            assert (image.facts.weights_in, image.facts.code_in) == steps[number + 1]
        else:
            with pytest.raises(DoesNotFit, match="8 bytes of RAM are missing"):
                small(smaller)


def test_weights_may_be_asked_into_ram_or_flash() -> None:
    slow = with_slow_flash("virtual-m4")
    assert small(slow, "flash").facts.weights_in == "flash"
    image = small(boards.load("virtual-m4"), "ram")
    assert (image.facts.weights_in, image.facts.code_in) == ("ram", "flash")
    with pytest.raises(DoesNotFit, match="8 bytes of RAM are missing"):
        small(replace(slow, ram=replace(slow.ram, size_bytes=image.sizes.ram_bytes - 8)), "ram")


def test_inspect_expects_what_build_finds(tmp_path: Path) -> None:
    """By estimates, in which code takes 32 KB: they agree where that does not decide."""
    path = tmp_path / "tiny.tflite"
    save(convert(tiny.checkpoint()), path)
    model = graph.read(path)
    needs = compiler.needs(model, boards.load("virtual-m4"))
    buffers = {".arena": needs.arena_bytes, ".kv_cache": needs.kv_cache_bytes}
    slow = with_slow_flash("virtual-m4")
    for free, expected in ((64 << 10, ("ram", "ram")), (30 << 10, ("ram", "flash")), (1 << 10, ("flash", "flash"))):
        ram = replace(slow.ram, size_bytes=slow.stack_bytes + sum(buffers.values()) + placing.RUNTIME_BYTES + free)
        board = replace(slow, ram=ram)
        layout = placing.expected(board, needs.weight_bytes, buffers, 32 << 10)
        assert layout is not None and (layout.weights, layout.code) == expected
        image = built(board)
        assert image.facts.weights_in == expected[0]
    assert placing.expected(replace(slow, ram=replace(slow.ram, size_bytes=9 << 10)), 0, buffers, 32 << 10) is None


def test_where_things_lie_is_part_of_what_an_image_is() -> None:
    board = boards.load("virtual-m4")
    images = [small(board), small(board, "ram"), small(with_slow_flash("virtual-m4"))]
    assert len({image.facts.identity for image in images}) == 3


def parted(board: Board, first: int, second: int) -> Board:
    """The board with the beginning of its RAM as two, which follow each other."""
    start = board.ram.start
    return replace(board, ram=Memory(start, first), more_ram=(Memory(start + first, second, name="second"),))


def test_buffers_are_parted_among_rams() -> None:
    board = boards.load("virtual-m4")
    usual = built(board)
    cache, arena = usual.sizes.kv_cache_bytes, usual.sizes.arena_bytes
    rest = usual.sizes.ram_bytes - cache - arena
    image = built(parted(board, rest + min(cache, arena) + 64 & ~15, max(cache, arena) + 16))
    first, second = image.sizes.regions[1:]
    assert (first.name, second.name) == ("RAM", "second") and placing.fits(image.sizes)
    assert second.used_bytes >= max(cache, arena) and image.sizes.ram_bytes == first.used_bytes + second.used_bytes
    larger = ".kv_cache" if cache >= arena else ".arena"
    assert section(image, larger).address == board.ram.start + first.size_bytes
    assert answers(image) == answers(usual)


def test_weights_go_where_there_is_room() -> None:
    board = boards.load("virtual-m4")
    usual = small(board)
    image = small(parted(board, usual.sizes.ram_bytes + 64, 3008), "ram")
    assert section(image, ".weights").address == board.ram.start + usual.sizes.ram_bytes + 64
    assert image.facts.weights_in == "ram"


def test_buffers_that_fit_no_ram_are_named() -> None:
    board = boards.load("virtual-m4")
    usual = small(board)
    rest = usual.sizes.ram_bytes - 1500 - 2500
    with pytest.raises(DoesNotFit, match=r"its buffers \(KV cache 2,512, arena 1,504 bytes\) cannot be parted among"):
        small(parted(board, rest + 2400, 2400))
    with pytest.raises(DoesNotFit, match="bytes of RAM are missing"):
        small(parted(board, rest, 64))
    assert placing.fits(small(parted(board, rest + 1550, 2512)).sizes)


@pytest.mark.parametrize("toolchain", [pytest.param(t, marks=[pytest.mark.system] * (t != "zig")) for t in TOOLCHAINS])
def test_flash_has_no_gap(toolchain: str) -> None:
    """Nobody knows what a chip holds in one, so that what CHECK says could not be compared."""
    for layout in (Layout(), Layout("ram", "ram"), Layout("flash", "ram")):
        board = replace(boards.load("virtual-m0"), code_in=layout.code)
        for program in (SMALL.replace("3000", "3001"), firmware.ECHO):
            image = build.build(
                firmware.sources(program), board, bare=True, toolchain=toolchain, weights=layout.weights
            )
            end = board.flash.start
            for address, content in image.segments:
                assert address == end
                end += len(content)
            assert image.sizes.flash_bytes == end - board.flash.start
        assert linker.script(board, layout).count("{") == linker.script(board, layout).count("}")


def test_a_port_may_put_code_where_kernels_lie() -> None:
    program = f"EDGE_FAST __attribute__((noinline)) static int twice(int n) {{ return n + n; }}\n{SMALL}"
    program = program.replace("step(byte)", "(step(byte) + twice(byte))")
    for board in (boards.load("virtual-m4"), with_slow_flash("virtual-m4")):
        image = build.build(firmware.sources(program), board, bare=True)
        at = elf.read(image.elf).address_of("twice")
        memory = board.ram if board.code_in == "ram" else board.flash
        assert at is not None and memory.start <= at < memory.start + memory.size_bytes
