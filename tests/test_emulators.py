"""The emulators: real firmware in unicorn and in QEMU does the same, counts the same, and fails as it should."""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import firmware
import numpy as np
import pytest
import tiny

from edge.make.convert import convert
from firmware_tools import boards, build, emulators, graph
from firmware_tools.compile import compile_model
from firmware_tools.emulators import qemu, unicorn
from firmware_tools.errors import LinkError, MissingTool
from firmware_tools.sampler import Sampler
from firmware_tools.transports import Transport

BOARD = boards.load("virtual-m4")
EMULATORS = ["unicorn", pytest.param("qemu", marks=pytest.mark.system)]
TICK = {"unicorn": 1, "qemu": 40}  # instructions

PROGRAM = """
static uint32_t count, initialised = 41;
static uint8_t cleared[3000];
static volatile float product = 0.1f;
static volatile uint32_t sink;

/* 2 instructions a turn */
__attribute__((naked, noinline)) static void turn(__attribute__((unused)) uint32_t n) {
    __asm volatile("1: subs r0, #1\\n bne 1b\\n bx lr\\n");
}
/* 6 instructions a turn, one of which is skipped */
__attribute__((naked, noinline)) static void skip(__attribute__((unused)) uint32_t n) {
    __asm volatile("1: cmp r0, #5\\n ite eq\\n moveq r1, #1\\n movne r1, #2\\n subs r0, #1\\n bne 1b\\n bx lr\\n");
}
__attribute__((noinline)) static void collatz(uint32_t n) {
    for (uint32_t start = 1; start <= n; start++)
        for (uint32_t k = start; k != 1; k = k & 1 ? 3 * k + 1 : k / 2) sink++;
}
static void timed(void (*work)(uint32_t)) {
    uint64_t start = port_ticks();
    port_gate(PORT_GATE_DECODE, 1);
    work(count);
    port_gate(PORT_GATE_DECODE, 0);
    print_number(port_ticks() - start);
}
__attribute__((noinline)) static uint32_t deep(uint32_t n) {
    volatile uint32_t here[100];
    for (int i = 0; i < 100; i++) here[i] = n;
    return n ? deep(n - 1) + here[n % 100] : 0;
}
void serve(int byte) {
    if (byte >= '0' && byte <= '9') { count = count * 10 + (uint32_t)(byte - '0'); return; }
    if (byte == 't') timed(turn);
    if (byte == 'k') timed(skip);
    if (byte == 'c') timed(collatz);
    if (byte == 'T') print_number(port_ticks());
    if (byte == 'M') print_number(port_millis());
    if (byte == 'S') print_number(port_stack_bytes());
    if (byte == 'D') { sink = deep(count); print_number(port_stack_bytes()); }
    if (byte == 'i') print_number(initialised++ + cleared[count]++);
    if (byte == 'f') {
        product = product * 3.0f - 0.3f;
        union { float number; uint32_t bits; } as = {product};
        print_number(as.bits);
    }
    if (byte == 'w') *(volatile uint32_t *)0x60000000 = 1;
    if (byte == 'u') __asm volatile("udf #0");
    if (byte == 'j') ((void (*)(void))0x90000001)();
    if (byte == 'F') *(volatile uint32_t *)0x100 = 1;
    if (byte == 'L') for (;;) sink++;
    count = 0;
}
"""


@pytest.fixture(scope="module")
def program() -> build.Image:
    return firmware.image(PROGRAM, BOARD)


@pytest.fixture(scope="module")
def model() -> build.Image:
    return build.build(compile_model(graph.read(convert(tiny.checkpoint())), BOARD), BOARD)


def start(name: str, image: build.Image, counting: bool = True) -> Transport:
    if name == "qemu":
        try:
            return qemu.QemuTransport(image, BOARD)
        except MissingTool as missing:
            pytest.skip(missing.message)
    return unicorn.UnicornTransport(unicorn.Device(image, BOARD, counting))


@pytest.fixture(params=EMULATORS)
def emulator(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def running(emulator: str, program: build.Image) -> Iterator[Transport]:
    with closing(start(emulator, program)) as transport:
        yield transport


def test_echo_of_many_bytes(emulator: str) -> None:
    data = bytes(np.random.default_rng(1).integers(0, 256, 5000, np.uint8))
    with closing(start(emulator, firmware.image(firmware.ECHO, BOARD))) as transport:
        transport.write(data)
        back = b""
        while len(back) < len(data):
            part = transport.read(60.0)
            assert part, f"only {len(back)} bytes came back"
            back += part
        assert back == data
        assert transport.read(0.1) == b"", "silence after the answer"


def test_memory_is_as_c_promises(running: Transport) -> None:
    assert firmware.ask(running, b"2999i") == "41"
    assert firmware.ask(running, b"2999i") == str(42 + 1)
    assert firmware.ask(running, b"0i") == "43"


def test_floats_round_after_every_operation(running: Transport) -> None:
    expected = np.float32(0.1)
    for _ in range(5):
        expected = np.float32(np.float32(expected * np.float32(3.0)) - np.float32(0.3))
        assert firmware.ask(running, b"f") == str(expected.view(np.uint32))


@pytest.mark.parametrize(("work", "instructions_a_turn"), [(b"t", 2), (b"k", 6)])
def test_counts_are_instructions(emulator: str, running: Transport, work: bytes, instructions_a_turn: int) -> None:
    few, many = (int(firmware.ask(running, b"%d" % turns + work)) for turns in (1000, 101000))
    expected = 100000 * instructions_a_turn
    error = abs((many - few) * TICK[emulator] - expected)
    assert error == 0 if emulator == "unicorn" else error <= 2 * TICK[emulator]


def test_counts_repeat_and_grow_with_work(running: Transport) -> None:
    counts = [int(firmware.ask(running, b"%dc" % n)) for n in (100, 100, 101, 200)]
    assert abs(counts[0] - counts[1]) <= 1
    assert counts[0] < counts[2] < counts[3]


@pytest.mark.system
def test_both_emulators_count_the_same(program: build.Image) -> None:
    counts = {}
    for name in ("unicorn", "qemu"):
        with closing(start(name, program)) as transport:
            counts[name] = int(firmware.ask(transport, b"1000c")) * TICK[name]
    assert counts["unicorn"] == pytest.approx(counts["qemu"], rel=0.005)
    assert abs(counts["unicorn"] - counts["qemu"]) <= 200


def test_without_counting_time_stands_still_in_gates(program: build.Image) -> None:
    with closing(start("unicorn", program, counting=False)) as transport:
        assert firmware.ask(transport, b"1000c") == "0"


@pytest.mark.parametrize("ticks", [0, 2**31, 2**32 - 2, 2**32, 2**32 + 2**31 - 1, 3 * 2**32 + 5, 2**40 + 2**31])
def test_ticks_have_64_bits(ticks: int, program: build.Image) -> None:
    device = unicorn.Device(program, BOARD, counting=True)
    device.waited_ticks = ticks
    with closing(unicorn.UnicornTransport(device)) as transport:
        before = int(firmware.ask(transport, b"T"))
        after = int(firmware.ask(transport, b"T"))
    assert ticks <= before <= after <= device.waited_ticks


def test_time_passes_while_the_firmware_waits(running: Transport) -> None:
    first = int(firmware.ask(running, b"M"))
    assert running.read(0.3) == b""
    second = int(firmware.ask(running, b"M"))
    assert second - first >= 200, "time-outs need a clock that runs while nothing comes"


def test_idling_wakes_only_for_its_timer(program: build.Image) -> None:
    device = unicorn.Device(program, BOARD, counting=True)
    with closing(unicorn.UnicornTransport(device)) as transport:
        firmware.ask(transport, b"M")
        began, wakes = time.monotonic(), device.wakes
        assert transport.read(0.5) == b""
        most = (time.monotonic() - began) / unicorn.IDLE_S + 2
        assert 0 < device.wakes - wakes <= most


def test_the_deepest_stack_seen_is_within_the_deepest_computed(emulator: str) -> None:
    text = """
    __attribute__((noinline)) static void leaf(int n) { volatile char big[777]; big[n] = 1; print_number(big[n]); }
    void serve(int byte) { if (byte == 'S') print_number(port_stack_bytes()); else leaf(byte); }
    """
    image = firmware.image(text, BOARD)
    with closing(start(emulator, image)) as transport:
        assert firmware.ask(transport, b"a") == "1"
        seen = int(firmware.ask(transport, b"S"))
    computed = image.sizes.stack_deepest_bytes
    assert computed is not None
    assert 777 < seen <= computed < seen + 128


def test_a_deeper_call_is_seen(running: Transport) -> None:
    shallow, deep = (int(firmware.ask(running, b"%dD" % depth)) for depth in (0, 5))
    assert deep - shallow >= 5 * 400


@pytest.mark.parametrize(
    ("trigger", "told"),
    [
        (b"w", "in serve: a write to 0x60000000"),
        (b"u", "in serve"),
        (b"j", "stopped at 0x90000000: a jump to 0x90000000"),
        (b"F", "in serve: a write to 0x00000100"),
        (b"1000D", "in deep: a write to 0x1ffff"),
    ],
    ids=["write to nowhere", "undefined instruction", "jump to nowhere", "write to flash", "stack overflow"],
)
def test_a_fault_is_a_link_error_that_tells_where(trigger: bytes, told: str, program: build.Image) -> None:
    with closing(start("unicorn", program)) as transport:
        transport.write(trigger)
        with pytest.raises(LinkError) as raised:
            while True:
                transport.read(60.0)
        assert "virtual-m4 stopped" in raised.value.message
        assert told in raised.value.message
        with pytest.raises(LinkError):
            transport.write(b"x")


@pytest.mark.system
@pytest.mark.parametrize("trigger", [b"w", b"u", b"j"])
def test_the_firmware_reports_its_own_faults(trigger: bytes, program: build.Image) -> None:
    with closing(start("qemu", program)) as transport:
        transport.write(trigger)
        answer = b""
        while not answer.endswith(b"]\r\n"):
            part = transport.read(60.0)
            assert part, f"the report ends at {answer!r}"
            answer += part
        address = int(answer.strip().removeprefix(b"e-[fault at 0x").removesuffix(b"]"), 16)
        name = build.elf.read(program.elf).function_at(address)
        assert address == 0x90000000 if trigger == b"j" else name == "serve"


def test_firmware_that_hangs_can_be_left(running: Transport) -> None:
    running.write(b"L")
    assert running.read(0.2) == b""
    running.close()
    running.close()
    with pytest.raises(LinkError):
        running.read(1.0)


def test_ctrl_c_leaves_a_transport_that_can_be_closed(program: build.Image) -> None:
    with closing(start("unicorn", program)) as transport:
        transport.write(b"L")
        timer = threading.Timer(0.2, _thread.interrupt_main)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            transport.read(300.0)
        timer.join()


def test_a_program_may_end_without_closing(program: build.Image, tmp_path: Path) -> None:
    build.save(program, tmp_path / "image")
    script = (
        "import sys; from pathlib import Path; from firmware_tools import boards, build\n"
        "from firmware_tools.emulators.unicorn import Device, UnicornTransport\n"
        "transport = UnicornTransport(Device(build.load(Path(sys.argv[1])), boards.load('virtual-m4'), True))\n"
        "transport.write(b'9999999c'); transport.read(0.1)\n"
    )
    root = Path(build.__file__).parent.parent
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path / "image")], cwd=root, check=False, timeout=60)
    assert ended.returncode == 0


@pytest.mark.system
@pytest.mark.skipif(sys.platform == "win32", reason="asks for a process by a signal")
def test_qemu_ends_with_a_program_that_is_killed(program: build.Image, tmp_path: Path) -> None:
    start("qemu", program).close()  # skips where there is none
    build.save(program, tmp_path / "image")
    script = (
        "import os, sys; from pathlib import Path; from firmware_tools import boards, build\n"
        "from firmware_tools.emulators.qemu import QemuTransport\n"
        "transport = QemuTransport(build.load(Path(sys.argv[1])), boards.load('virtual-m4'))\n"
        "transport.write(b'M'); transport.read(60.0)\n"
        "print(transport._qemu.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    root = Path(build.__file__).parent.parent
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "image")], cwd=root, stdout=subprocess.PIPE, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    process, deadline = int(killed.stdout), time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("QEMU outlived the program that started it")


def test_a_missing_unicorn_is_a_missing_tool(program: build.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "unicorn", None)  # as on a machine without it
    with pytest.raises(MissingTool) as raised:
        unicorn.open(program)
    assert raised.value.hint == "pip install unicorn"


def test_a_missing_qemu_is_a_missing_tool(program: build.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingTool, match="qemu-system-arm"):
        qemu.open(program)


def test_instructions_of_a_block() -> None:
    assert unicorn.count_instructions(b"") == 0
    assert unicorn.count_instructions(bytes.fromhex("10b5 2de9f04f 00f000f8 70bd")) == 4  # push, push.w, bl, pop
    assert unicorn.count_instructions(bytes.fromhex("ffe7 00e8 0000 00bf")) == 3  # b, a long one, nop


def steps(name: str, image: build.Image, counting: bool) -> tuple[list[bytes], list[float | None]]:
    """Logits and instructions of a prefill and 15 decode steps."""
    try:
        link = emulators.load(name).open(image, counting)
    except MissingTool as missing:
        pytest.skip(missing.message)
    with link:
        assert link.hello().board == "EMULATED virtual-m4"
        ticks = [link.prefill([1, 270, 280], 0)]
        logits = [link.logits().tobytes()]
        for step in link.generate(5, Sampler(temperature=1.0, top_p=0.9, seed=3), seed=True):
            ticks.append(step.ticks)
        for position in range(3, 18):
            ticks.append(link.forward(200 + position, position))
            logits.append(link.logits().tobytes())
        return logits, [None if tick is None else tick * link.clock.per_tick for tick in ticks]


def test_counting_changes_nothing_but_the_ticks(model: build.Image) -> None:
    counted, ticks = steps("unicorn", model, counting=True)
    plain, no_ticks = steps("unicorn", model, counting=False)
    assert counted == plain
    assert set(no_ticks) == {None}
    assert all(tick is not None and tick > 1000 for tick in ticks[-15:])
    assert ticks == steps("unicorn", model, counting=True)[1]
