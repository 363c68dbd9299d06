"""Instructions held against cores: an image with one that its core lacks is refused, and the assembler agrees."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import firmware
import pytest
import tiny

from edge.make.convert import convert
from firmware_tools import boards, build, elf, graph, instructions
from firmware_tools.compile import compile_model
from firmware_tools.cores import CORES
from firmware_tools.errors import UserError
from firmware_tools.toolchains import zig

# assembly, its halfwords, and what a core must have for it
EVERYWHERE = [
    ("adds r0, r1, r2", 0x1888, 0),
    ("mov r8, r0", 0x4680, 0),
    ("blx r3", 0x4798, 0),
    ("push {r4, lr}", 0xB510, 0),
    ("ldmia r0!, {r1, r2}", 0xC806, 0),
    ("cpsid i", 0xB672, 0),
    ("nop", 0xBF00, 0),
    ("wfi", 0xBF30, 0),
    ("rev r0, r1", 0xBA08, 0),
    ("uxth r0, r1", 0xB288, 0),
    ("udf #0", 0xDE00, 0),
    ("dsb", 0xF3BF, 0x8F4F),
    ("isb", 0xF3BF, 0x8F6F),
    ("mrs r0, PRIMASK", 0xF3EF, 0x8010),
    ("msr MSP, r0", 0xF380, 0x8808),
]
V7M = [
    ("cbz r0, 1f; nop; 1:", 0xB100, 0),
    ("ite eq; moveq r0, r1; movne r0, r2", 0xBF0C, 0),
    ("mrs r0, BASEPRI", 0xF3EF, 0x8011),
    ("movw r0, #1000", 0xF240, 0x30E8),
    ("mov.w r0, #256", 0xF44F, 0x7080),
    ("add.w r0, r1, r2, lsl #2", 0xEB01, 0x0082),
    ("ldrd r0, r1, [r2]", 0xE9D2, 0x0100),
    ("ldr.w r0, [r1, #4]", 0xF8D1, 0x0004),
    ("ldrb r0, [r1], #1", 0xF811, 0x0B01),
    ("ldrsh.w r0, [r1, #2]", 0xF9B1, 0x0002),
    ("stmdb r0!, {r1, r2}", 0xE920, 0x0006),
    ("tbb [r0, r1]", 0xE8D0, 0xF001),
    ("ldrex r0, [r1]", 0xE851, 0x0F00),
    ("mul r8, r9, r10", 0xFB09, 0xF80A),
    ("mla r0, r1, r2, r3", 0xFB01, 0x3002),
    ("mls r0, r1, r2, r3", 0xFB01, 0x3012),
    ("umull r0, r1, r2, r3", 0xFBA2, 0x0103),
    ("smlal r0, r1, r2, r3", 0xFBC2, 0x0103),
    ("ubfx r0, r1, #3, #5", 0xF3C1, 0x00C4),
    ("ssat r0, #9, r1, asr #11", 0xF321, 0x20C8),
    ("usat r0, #10, r1", 0xF381, 0x000A),
    ("clz r0, r1", 0xFAB1, 0xF081),
    ("rbit r0, r1", 0xFA91, 0xF0A1),
    ("sxtb.w r8, r9", 0xFA4F, 0xF889),
    ("lsl.w r0, r1, r2", 0xFA01, 0xF002),
]
DIVISION = [("sdiv r0, r1, r2", 0xFB91, 0xF0F2), ("udiv r0, r1, r2", 0xFBB1, 0xF0F2)]
DSP = [
    ("smlad r0, r1, r2, r3", 0xFB21, 0x3002),
    ("smuad r0, r1, r2", 0xFB21, 0xF002),
    ("smlabb r0, r1, r2, r3", 0xFB11, 0x3002),
    ("smlald r0, r1, r2, r3", 0xFBC2, 0x01C3),
    ("smmulr r0, r1, r2", 0xFB51, 0xF012),
    ("umaal r0, r1, r2, r3", 0xFBE2, 0x0163),
    ("sxtb16 r0, r1", 0xFA2F, 0xF081),
    ("uxtb16 r0, r1", 0xFA3F, 0xF081),
    ("sxtab r0, r1, r2", 0xFA41, 0xF082),
    ("ssub16 r0, r1, r2", 0xFAD1, 0xF002),
    ("uadd8 r0, r1, r2", 0xFA81, 0xF042),
    ("qadd r0, r1, r2", 0xFA82, 0xF081),
    ("qsub r0, r1, r2", 0xFA82, 0xF0A1),
    ("sel r0, r1, r2", 0xFAA1, 0xF082),
    ("pkhbt r0, r1, r2, lsl #16", 0xEAC1, 0x4002),
    ("ssat16 r0, #8, r1", 0xF321, 0x0007),
    ("usad8 r0, r1, r2", 0xFB71, 0xF002),
]
FPU = [
    ("vadd.f32 s0, s1, s2", 0xEE30, 0x0A81),
    ("vmov.f32 s6, #1.0", 0xEEB7, 0x3A00),
    ("vmov s0, r0", 0xEE00, 0x0A10),
    ("vmov s0, s1, r3, r9", 0xEC49, 0x3A10),
    ("vldr s0, [r0]", 0xED90, 0x0A00),
    ("vldr d0, [r0]", 0xED90, 0x0B00),
    ("vpush {d8, d9}", 0xED2D, 0x8B04),
    ("vsqrt.f32 s0, s1", 0xEEB1, 0x0AE0),
    ("vfma.f32 s0, s1, s2", 0xEEA0, 0x0A81),
    ("vcvtb.f32.f16 s0, s1", 0xEEB2, 0x0A60),
    ("vcvt.f32.s32 s0, s0, #8", 0xEEBA, 0x0ACC),
    ("vmrs APSR_nzcv, FPSCR", 0xEEF1, 0xFA10),
]
FPV5 = [
    ("vrinta.f32 s0, s1", 0xFEB8, 0x0A60),
    ("vrintz.f32 s0, s1", 0xEEB6, 0x0AE0),
    ("vcvtn.s32.f32 s0, s1", 0xFEBD, 0x0AE0),
    ("vseleq.f32 s0, s1, s2", 0xFE00, 0x0A81),
    ("vmaxnm.f32 s0, s1, s2", 0xFE80, 0x0A81),
]
DOUBLE = [("vadd.f64 d0, d1, d2", 0xEE31, 0x0B02), ("vcvt.f64.f32 d0, s0", 0xEEB7, 0x0AC0)]
HALF = [("vadd.f16 s0, s1, s2", 0xEE30, 0x0981), ("vmovx.f16 s0, s1", 0xFEB0, 0x0A60)]
V8M = [("tt r0, r1", 0xE841, 0xF000), ("lda r0, [r1]", 0xE8D1, 0x0FAF)]
V8_1M = [("dls lr, r0", 0xF040, 0xE001), ("csel r0, r1, r2, eq", 0xEA51, 0x8002), ("clrm {r0}", 0xE89F, 0x0001)]
HELIUM = [
    ("vldrw.u32 q0, [r0]", 0xED90, 0x1F00),
    ("vmladav.s8 r0, q0, q1", 0xEEF0, 0x0F02),
    ("vmul.f32 q0, q1, q2", 0xFF02, 0x0D54),
    ("vdup.32 q0, r0", 0xEEA0, 0x0B10),
    ("vld20.32 {q0, q1}, [r0]", 0xFC90, 0x1F00),
    ("vpst", 0xFE71, 0x0F4D),
]
KINDS = {
    instructions.EVERYWHERE: EVERYWHERE,
    instructions.V7M: V7M,
    instructions.DIVISION: DIVISION,
    instructions.DSP: DSP,
    instructions.FPU: FPU,
    instructions.FPV5: FPV5,
    instructions.DOUBLE: DOUBLE,
    instructions.HALF: HALF,
    instructions.V8M: V8M,
    instructions.V8_1M: V8_1M,
    instructions.HELIUM: HELIUM,
}
ROWS = [(text, first, second, kind) for kind, rows in KINDS.items() for text, first, second in rows]
UNDEFINED = [(0xBA80, 0), (0xB800, 0), (0xF870, 0x1000), (0xF7F0, 0x8000), (0xFB90, 0xF000), (0xFAC0, 0xF080)]


@pytest.mark.parametrize(("text", "first", "second", "kind"), ROWS, ids=[row[0] for row in ROWS])
def test_what_an_instruction_needs(text: str, first: int, second: int, kind: str) -> None:
    assert instructions.needs(first, second) == kind


@pytest.mark.parametrize(("first", "second"), UNDEFINED)
def test_what_no_table_has_is_undefined(first: int, second: int) -> None:
    assert instructions.needs(first, second) == instructions.UNDEFINED


def test_special_registers_are_those_of_the_core_though_assemblers_take_any() -> None:
    assert instructions.needs(0xB671, 0) == instructions.V7M  # cpsid f
    assert instructions.needs(0xF3EF, 0x800A) == instructions.V8M  # mrs r0, MSPLIM


def test_every_need_is_one_that_some_core_meets_or_none_does() -> None:
    met = frozenset().union(*(core.instructions for core in CORES.values())) | {instructions.EVERYWHERE}
    assert met == set(KINDS)


def assemble(cpu: str, folder: Path) -> tuple[str, Path]:
    """What LLVM's assembler for that core says of ROWS, each in 16 bytes of its own, and its output."""
    source, out = folder / "rows.s", folder / "rows.o"
    source.write_text(".syntax unified\n" + "\n".join(f"{text}; .balign 16" for text, *_ in ROWS) + "\n")
    everything = f"{cpu}+fp64" if instructions.DOUBLE in CORES[cpu].instructions else cpu  # not used by our compilers
    target = ["-target", "thumb-freestanding-eabi", f"-mcpu={everything}", "-Wa,-mimplicit-it=always"]
    command = [*zig.host_command(), *target, "-c", str(source), "-o", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr, out


@pytest.mark.parametrize("cpu", sorted(CORES))
def test_the_assembler_agrees(cpu: str, tmp_path: Path) -> None:
    """It takes exactly the instructions that the core is said to have."""
    refused = {int(line) - 2 for line in re.findall(r"rows\.s:(\d+):\d+: error", assemble(cpu, tmp_path)[0])}
    known = CORES[cpu].instructions | {instructions.EVERYWHERE}
    assert {ROWS[index][0] for index in refused} == {text for text, *_, kind in ROWS if kind not in known}


def test_the_halfwords_are_the_assemblers(tmp_path: Path) -> None:
    told, out = assemble("cortex_m55+mve_fp", tmp_path)
    assert not told
    (text,) = (section for section in elf.read(out.read_bytes()).sections if section.name == ".text")
    for index, (assembly, first, second, _) in enumerate(ROWS):
        code = first.to_bytes(2, "little") + (second.to_bytes(2, "little") if first >= 0xE800 else b"")
        assert text.content[16 * index :].startswith(code), assembly


@pytest.mark.parametrize(
    ("board", "code", "needs"),
    [
        ("virtual-m0", ".inst.w 0xfb91f0f2", "division"),
        ("virtual-m0", ".inst.w 0xf24030e8", "ARMv7-M"),
        ("virtual-m0", ".inst.n 0xbf08; nop", "ARMv7-M"),
        ("virtual-m3", ".inst.w 0xfb213002", "DSP"),
        ("virtual-m3", ".inst.w 0xee300a81", "FPU"),
        ("virtual-m4", ".inst.w 0xfeb80a60", "FPv5"),
        ("virtual-m33", ".inst.w 0xeef00f02", "Helium"),
    ],
)
def test_an_image_with_it_is_refused_and_the_function_named(board: str, code: str, needs: str) -> None:
    program = f"""
    __attribute__((noinline)) static void foreign(void) {{ __asm volatile("{code}"); }}
    void serve(int byte) {{ if (byte == 'f') foreign(); }}
    """
    with pytest.raises(UserError) as raised:
        firmware.image(program, boards.load(board))
    assert re.match(rf"foreign has an instruction that a Cortex-\S+ lacks \({needs}\): ", raised.value.message)
    assert raised.value.hint


def test_constants_between_instructions_are_not_instructions() -> None:
    program = "void serve(int byte) { print_number((uint32_t)byte ^ 0xf0f2fb91u); }"  # as words of memory: SDIV
    image = firmware.image(program, boards.load("virtual-m0"))
    assert bytes.fromhex("91fbf2f0") in image.elf


def test_all_code_of_an_image_is_looked_at() -> None:
    board = boards.load("virtual-m4")
    image = build.build(compile_model(graph.read(convert(tiny.checkpoint())), board), board)
    code = instructions.Code(elf.read(image.elf))
    functions = {symbol.address for symbol in code.functions}
    found = {at: (first, second) for symbol in code.functions for at, first, second in code.instructions(symbol)}
    assert len(found) > 5000
    assert {needs for needs in map(lambda pair: instructions.needs(*pair), found.values())} == {
        instructions.EVERYWHERE,
        instructions.V7M,
        instructions.DIVISION,
        instructions.DSP,
        instructions.FPU,
    }
    entered = {instructions.branch_target(at, *pair) for at, pair in found.items()} - {None}
    assert entered <= found.keys(), "no branch leads to what was not looked at"
    assert functions <= found.keys()
