"""Every emulated board: one image, the same bits and counts wherever it runs, and faults where unicorn has none."""

from __future__ import annotations

from contextlib import closing

import firmware
import pytest
import tiny
from test_compile import assert_equal_to_numpy, forward

from edge.make.convert import convert
from firmware_tools import boards, build, elf, emulators, graph
from firmware_tools.boards import Board
from firmware_tools.compile import compile_model
from firmware_tools.cores import CORES
from firmware_tools.emulators import qemu, unicorn
from firmware_tools.errors import MissingTool
from firmware_tools.link import Clock, Link
from firmware_tools.sampler import Sampler
from firmware_tools.transports import Transport

NAMES = [name for name in boards.names() if boards.load(name).clock == "instructions"]


@pytest.fixture(scope="module", params=NAMES)
def board(request: pytest.FixtureRequest) -> Board:
    return boards.load(request.param)


@pytest.fixture(scope="module")
def model() -> graph.Graph:
    return graph.read(convert(tiny.checkpoint()))


@pytest.fixture(scope="module")
def image(board: Board, model: graph.Graph) -> build.Image:
    return build.build(compile_model(model, board), board)


def start(emulator: str, image: build.Image, counting: bool = False) -> Link:
    try:
        link: Link = emulators.load(emulator).open(image, counting)
        return link
    except MissingTool as missing:
        pytest.skip(missing.message)


def test_the_board_computes_what_numpy_does(board: Board, image: build.Image, model: graph.Graph) -> None:
    with start(board.emulators[0], image) as link:
        assert link.hello().board == f"EMULATED {board.name}"
        assert_equal_to_numpy(model, 24, lambda token, position: forward(link, token, position), 8, board)
        stack_bytes = link.hello().stack_bytes
    assert stack_bytes is not None and image.sizes.stack_deepest_bytes is not None
    assert 0 < stack_bytes <= image.sizes.stack_deepest_bytes < board.stack_bytes


@pytest.mark.system
def test_all_emulators_compute_and_count_the_same(board: Board, image: build.Image) -> None:
    answers, counts = [], []
    for emulator in board.emulators:
        with start(emulator, image, counting=True) as link:
            ticks = [link.prefill([1, 270, 280]), *(link.forward(200 + position, position) for position in range(3, 9))]
            counts.append([tick * link.clock.per_tick for tick in ticks if tick is not None])
            answers.append(link.logits().tobytes())
    assert len(set(answers)) == 1
    assert len(counts[0]) == 7
    for other in counts[1:]:
        assert other == pytest.approx(counts[0], rel=0.005)


# --- what an emulator may let pass

STRICT = """
static uint32_t words[4] = {1, 2, 3, 4};
static volatile uintptr_t odd;
void serve(int byte) {
    odd = (uintptr_t)words + 1;
    if (byte == 'u') __asm volatile("udf #0");
    if (byte == 'w') print_number(*(volatile uint32_t *)odd);
#if __ARM_ARCH >= 7
    if (byte == 'd') __asm volatile("ldrd r2, r3, [%0]" : : "r"(odd) : "r2", "r3");
    if (byte == 'm') __asm volatile("ldm %0, {r2, r3}" : : "r"(odd) : "r2", "r3");
#endif
#if defined(__ARM_FP)
    if (byte == 'f') *(volatile uint32_t *)0xE000ED88u = 0; /* as a startup that leaves CPACR as it is */
    if (byte == 'f') __asm volatile("dsb\\n isb\\n vmov.f32 s0, #1.0" : : : "s0");
#endif
    print("passed\\n");
}
"""
FAULT = b"e-[fault at 0x"
# what is sent, and what the core must have beyond ARMv6-M
TRIGGERS = {
    "undefined instruction": (b"u", ""),
    "LDRD at an odd address": (b"d", "ARMv7-M"),
    "LDM at an odd address": (b"m", "ARMv7-M"),
    "FPU that was not enabled": (b"f", "FPU"),
}


@pytest.fixture(scope="module")
def strict(board: Board) -> build.Image:
    return firmware.image(STRICT, board)


def power_on(emulator: str, image: build.Image) -> Transport:
    board = boards.load(image.board)
    if emulator == "unicorn":
        return unicorn.UnicornTransport(unicorn.Device(image, board, counting=False))
    try:
        return qemu.QemuTransport(image, board)
    except MissingTool as missing:
        pytest.skip(missing.message)


def answer(transport: Transport, byte: bytes) -> bytes:
    """The line that answers a byte."""
    transport.write(byte)
    line = b""
    while not line.strip() or not line.endswith(b"\n"):
        part = transport.read(60.0)
        assert part, f"the answer ends at {line!r}"
        line += part
    return line.strip()


@pytest.mark.system
@pytest.mark.parametrize("trigger", sorted(TRIGGERS))
def test_qemu_faults_where_unicorn_goes_on(trigger: str, board: Board, strict: build.Image) -> None:
    byte, needed = TRIGGERS[trigger]
    if needed and needed not in CORES[board.cpu].instructions:
        return  # the core has no such instruction, and no image may have it
    with closing(power_on("qemu", strict)) as transport:
        report = answer(transport, byte)
    assert report.startswith(FAULT) and report.endswith(b"]"), report
    address = int(report[len(FAULT) : -1], 16)
    assert elf.read(strict.elf).function_at(address) == "serve"
    if needed and "unicorn" in board.emulators:
        with closing(power_on("unicorn", strict)) as transport:
            assert answer(transport, byte) == b"passed"


def unaligned(image: build.Image, use: str) -> set[int]:
    """Addresses of instructions that accessed memory otherwise than aligned, while unicorn did what use says."""
    import unicorn as engine
    from unicorn.arm_const import UC_ARM_REG_PC

    found: set[int] = set()

    def note(core: engine.Uc, _access: int, address: int, size: int, _value: int, _user: object) -> None:
        if address % size:
            found.add(core.reg_read(UC_ARM_REG_PC))

    device = unicorn.Device(image, boards.load(image.board), counting=False)
    device._core.hook_add(engine.UC_HOOK_MEM_READ | engine.UC_HOOK_MEM_WRITE, note)
    with closing(unicorn.UnicornTransport(device)) as transport:
        if use == "word":
            answer(transport, b"w")
            return found
        link = Link(transport, Clock("instructions", 1.0, counting=False))
        link.hello()
        link.prefill([1, 270])
        assert link.generate(1, Sampler(temperature=1.0, top_p=0.9, seed=3), seed=True)
    return found


@pytest.mark.parametrize("scheme", ["int8", "float32"])
def test_a_core_without_unaligned_accesses_makes_none(scheme: str) -> None:
    board = boards.load("virtual-m0")
    image = build.build(
        compile_model(graph.read(convert(tiny.checkpoint(layers=1, hidden_dim=20), scheme)), board), board
    )
    assert not unaligned(image, "a model")
    seen = unaligned(firmware.image(STRICT, board), "word")
    assert len(seen) == 1, "the test sees what it looks for"
