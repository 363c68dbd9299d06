"""Every op's C equals its numpy reference bit for bit: on this machine, under sanitizers, and on Cortex-M cores."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sanitized
from cortex import M0, M4, M4_GCC
from kernels import PORTABLE, CortexRunner, Form, HostRunner, Runner, value

from firmware_tools import ops
from firmware_tools.errors import MissingTool, UserError
from firmware_tools.exp import TABLE, exp2_f32, exp2_table, exp_f32
from firmware_tools.ops import Array, Call, Run
from firmware_tools.packed import byte_scale, half, interleave, pack, pack_vectors, quantize, quantize_coded

CONTEXT = 11  # of the attention cases: no multiple of 4
HUGE = np.float32(3e38)


@dataclass(frozen=True)
class Case:
    """A call, the lengths of its inputs and outputs, and the steps it is run for: token, position, inputs."""

    name: str
    call: Call
    ins: tuple[Form, ...]
    outs: tuple[Form, ...]
    steps: tuple[tuple[int, int, tuple[Array, ...]], ...]

    def expected(self, flush: Callable[[Array], Array] = np.asarray) -> Iterator[tuple[Array, ...]]:
        """The reference's outputs, step by step; flush makes of numbers what a core takes them for."""
        run = Run(context=CONTEXT)
        for token, position, inputs in self.steps:
            run.token, run.position = token, position
            with np.errstate(over="ignore"):
                outputs = ops.load(self.call.op).reference(self.call, tuple(map(flush, inputs)), run)
            yield tuple(map(flush, outputs))


def floats(seed: int, *shape: int, scale: float = 1.0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def rows(seed: int, count: int) -> Iterator[Array]:
    """Inputs of count elements: ordinary, huge, with one outlier, zeros, too small to have a scale, half-way."""
    yield floats(seed, count)
    yield floats(seed, count, scale=1e4)
    yield np.where(floats(seed, count) > 0, HUGE, -HUGE)
    outlier = floats(seed, count, scale=1e-3)
    outlier[count // 2] = -50
    yield outlier
    yield np.zeros(count, np.float32)
    yield -np.zeros(count, np.float32)
    yield np.full(count, 1e-40, np.float32)
    ties = (np.arange(count) % 7 - 3).astype(np.float32) + np.float32(0.5)  # of 127: every product lies half-way
    ties[0] = 127
    yield ties


def int8_weights(seed: int, n: int, k: int) -> Array:
    """Random int8 weights; the first rows are all 127, all -127 and alternating."""
    weights = np.random.default_rng(seed).integers(-127, 128, (n, k)).astype(np.int8)
    extremes = (np.full(k, 127), np.full(k, -127), np.where(np.arange(k) % 2, 127, -127))
    for i, row in enumerate(extremes[:n]):
        weights[i] = row
    return weights


def fully_connected_cases() -> Iterator[Case]:
    for n, k in ((1, 1), (3, 2), (4, 4), (5, 7), (8, 64), (9, 172), (2, 261), (6, 601), (8, 90)):
        scales = np.abs(floats(n, n)) / 100
        for name, constants in {
            "s8": {"weights": int8_weights(k, n, k), "scales": scales},
            "s8-bias": {"weights": int8_weights(k, n, k), "scales": scales, "bias": floats(k, n)},
            "f32": {"weights": floats(k, n, k, scale=1e-2)},
            "f32-bias": {"weights": floats(k, n, k, scale=1e-2), "bias": floats(k, n)},
        }.items():
            inputs = [x if name.startswith("s8") else np.clip(x, -1e6, 1e6) for x in rows(k, k)]
            if name.startswith("s8"):  # all inputs at the ends of int8, with and against the weights
                inputs += [np.ones(k, np.float32), np.where(np.arange(k) % 2, 1, -1).astype(np.float32)]
            steps = tuple((0, 0, (x,)) for x in inputs)
            call = Call("fully_connected", (0,), (1,), constants)
            yield Case(f"fully_connected-{name}-{n}x{k}", call, (k,), (n,), steps)


def int4_cases() -> Iterator[Case]:
    """A scale a row, also past the 512 columns whose sums fit, and blocks; the first rows are at the ends."""
    shapes = (
        (1, 1, 0),
        (3, 2, 0),
        (5, 7, 0),
        (8, 64, 0),
        (9, 172, 0),
        (2, 1300, 0),
        (5, 64, 32),
        (4, 96, 32),
        (7, 256, 128),
    )
    for n, k, block in shapes:
        weights = np.random.default_rng(k).integers(-8, 8, (n, k)).astype(np.int8)
        for i, row in enumerate((np.full(k, -8), np.full(k, 7), np.where(np.arange(k) % 2, 7, -8))[:n]):
            weights[i] = row
        scales = np.abs(floats(n, n, k // block)).astype(np.float16) if block else np.abs(floats(n, n)) / 100
        constants = {"weights": weights, "block_scales" if block else "scales": scales}
        inputs = [*rows(k, k), np.ones(k, np.float32), np.where(np.arange(k) % 2, 1, -1).astype(np.float32)]
        for name, extra in (("", {}), ("-bias", {"bias": floats(k, n)})):
            call = Call("fully_connected_int4", (0,), (1,), constants | extra)
            yield Case(f"int4-{n}x{k}-{block}{name}", call, (k,), (n,), tuple((0, 0, (x,)) for x in inputs))


def vector_cases() -> Iterator[Case]:
    for dim in (1, 6, 64):
        for name, constants in {
            "s8": {"weights": int8_weights(dim, 7, dim), "scales": np.abs(floats(7, 7))},
            "f32": {"weights": floats(dim, 7, dim)},
        }.items():
            call = Call("embedding", (), (0,), constants)
            yield Case(f"embedding-{name}-{dim}", call, (), (dim,), tuple((token, 0, ()) for token in range(7)))
        small = [np.clip(x, -1e15, 1e15) for x in rows(dim, dim)]
        call = Call("rms_norm", (0,), (1,), {"gain": floats(dim, dim)}, {"epsilon": 1e-5})
        yield Case(f"rms_norm-{dim}", call, (dim,), (dim,), tuple((0, 0, (x,)) for x in small))
        call = Call("rms_norm", (0,), (0,), {"gain": floats(dim, dim)}, {"epsilon": 1e-6})
        yield Case(f"rms_norm-in-place-{dim}", call, (dim,), (dim,), tuple((0, 0, (x,)) for x in small))
        call = Call("add", (0, 1), (0,))
        pairs = tuple((0, 0, (a, b / 2)) for a, b in zip(rows(dim, dim), rows(dim + 1, dim), strict=True))
        yield Case(f"add-{dim}", call, (dim, dim), (dim,), pairs)
        gates = [np.clip(x, -1e18, 1e18) for x in rows(dim, 2 * dim)]
        gates += [np.linspace(-top, top, 2 * dim, dtype=np.float32) for top in (9, 100)]
        for bits in (8, 32):
            call = Call("swiglu", (0,), (1,), {}, {"bits": bits})
            yield Case(f"swiglu-{bits}-{dim}", call, (2 * dim,), (dim,), tuple((0, 0, (x,)) for x in gates))
    for heads, head_dim in ((1, 2), (3, 6), (12, 8)):
        angles = floats(heads, CONTEXT, head_dim // 2)
        size = heads * head_dim + 5  # what lies behind the heads must stay as it is
        attributes = {"heads": heads, "head_dim": head_dim}
        call = Call("rope", (0,), (0,), {"cos": np.cos(angles), "sin": np.sin(angles)}, attributes)
        steps = tuple((0, p % CONTEXT, (x / 2,)) for p, x in enumerate(rows(size, size)))
        yield Case(f"rope-{heads}x{head_dim}", call, (size,), (size,), steps)


def attention_cases() -> Iterator[Case]:
    for bits in (8, 32):
        for heads, kv_heads, head_dim in ((1, 1, 2), (2, 1, 6), (4, 2, 8), (3, 3, 5), (2, 2, 20), (1, 1, 262)):
            size = (heads + 2 * kv_heads) * head_dim
            shape = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "context": CONTEXT}
            call = Call("attention", (0,), (1,), {}, {"layer": 0, "cache_bits": bits, **shape})
            inputs = [floats(p, size, scale=10.0 ** (p % 4 - 2)) for p in range(CONTEXT)]
            if bits == 8:
                inputs[:8] = rows(heads, size)
            steps = [(0, p, (x,)) for p, x in enumerate(inputs)]
            steps += [(0, 4, (floats(99, size),)), (0, 5, (floats(98, size),))]  # back, and on from there
            name = f"attention-{bits}-{heads}-{kv_heads}-{head_dim}"
            yield Case(name, call, (size,), (heads * head_dim,), tuple(steps))


def long_attention_cases() -> Iterator[Case]:
    """Heads of sizes that cores have kernels for, and of another, over more positions than a core takes at once."""
    for heads, kv_heads, head_dim, context in (
        (4, 2, 8, 70),
        (2, 2, 16, 40),
        (2, 1, 32, 40),
        (1, 1, 64, 40),
        (1, 1, 12, 40),
    ):
        size = (heads + 2 * kv_heads) * head_dim
        shape = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "context": context}
        call = Call("attention", (0,), (1,), {}, {"layer": 0, "cache_bits": 8, **shape})
        steps = tuple((0, p, (floats(p, size, scale=10.0 ** (p % 3 - 1)),)) for p in range(context))
        yield Case(f"attention-8-long-{head_dim}", call, (size,), (heads * head_dim,), steps)


CASES = tuple([*fully_connected_cases(), *int4_cases(), *vector_cases(), *attention_cases(), *long_attention_cases()])
CALLS = [case.call for case in CASES]
LENGTHS = [(case.ins, case.outs) for case in CASES]


def host(folder: Path) -> Runner:
    return HostRunner(CALLS, LENGTHS, folder)


def host_undefined(folder: Path) -> Runner:
    return HostRunner(CALLS, LENGTHS, folder, sanitize=True)


def m4_dsp(folder: Path) -> Runner:
    return CortexRunner(M4, M4.features, CALLS, LENGTHS, folder)


def m4_portable(folder: Path) -> Runner:
    return CortexRunner(M4, PORTABLE, CALLS, LENGTHS, folder)


def m0(folder: Path) -> Runner:
    return CortexRunner(M0, PORTABLE, CALLS, LENGTHS, folder)


def m4_gcc(folder: Path) -> Runner:
    return CortexRunner(M4_GCC, M4.features, CALLS, LENGTHS, folder)


RUNNERS = (host, host_undefined, m4_dsp, m4_portable, m0, m4_gcc)


@pytest.fixture(scope="module", params=RUNNERS, ids=lambda make: make.__name__)
def runner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]
) -> Runner:
    make: Callable[[Path], Runner] = request.param
    if make is m4_gcc:
        tool(M4_GCC.compiler[0])  # the strict cross-check, where there is one
    return make(tmp_path_factory.mktemp(make.__name__))


@pytest.mark.parametrize("i", range(len(CASES)), ids=[case.name for case in CASES])
def test_kernel_equals_reference(runner: Runner, i: int) -> None:
    case = CASES[i]
    for n, ((token, position, inputs), expected) in enumerate(
        zip(case.steps, case.expected(runner.flush), strict=True)
    ):
        for name, y in enumerate(map(runner.flush, runner.run(i, inputs, token, position))):
            wrong = np.flatnonzero(expected[name].view(np.uint32) != y.view(np.uint32))
            assert wrong.size == 0, f"step {n}, element {wrong[0]}: {y[wrong[0]]!r}, not {expected[name][wrong[0]]!r}"


@pytest.mark.parametrize("i", range(len(CASES)), ids=[case.name for case in CASES])
def test_rows_at_once_give_the_same(runner: Runner, i: int) -> None:
    """Steps that follow each other as the rows of one call, 1 to 4 of them: each row as if it were alone."""
    case = CASES[i]
    steps = list(zip(case.steps, case.expected(runner.flush), strict=True))
    for n, group in enumerate(row_groups(case, steps)):
        inputs = [np.concatenate([step[2][j] for step, _ in group]) for j in range(len(case.ins))]
        found = runner.run_rows(i, inputs, [step[0] for step, _ in group], group[0][0][1])
        for j, size in enumerate(case.outs):
            # an output that is shorter than the input it shares memory with leaves the rest of that behind it
            expected = np.concatenate([outputs[j] for _, outputs in group])
            y = found[j][: value(size).size * len(group)]
            assert runner.flush(y).tobytes() == expected.tobytes(), f"group {n}, output {j}"


def row_groups(case: Case, steps: list[Any]) -> Iterator[list[Any]]:
    """Groups of 1, 2, 3, 4, 1 … steps, cut where a position is not the one after its neighbour's."""
    sizes, group = itertools.cycle((1, 2, 3, 4)), []
    size = next(sizes)
    for step in steps:
        free = case.call.op.removesuffix("_bfp") not in ("rope", "attention")
        follows = not group or free or step[0][1] == group[-1][0][1] + 1
        if len(group) == size or not follows:
            yield group
            group, size = [], next(sizes)
        group.append(step)
    yield group


def test_kernels_stay_inside_their_memory(tmp_path: Path) -> None:
    """AddressSanitizer, every array in its own block of the heap; the outputs are compared there too."""
    try:
        wrong = sanitized.check(CASES, tmp_path)
    except MissingTool as error:
        pytest.skip(str(error))
    assert not wrong, wrong


def test_costs_stay_where_they_are(tmp_path: Path) -> None:
    """Instructions on a Cortex-M4; tests/bench/bench_ops.py prints them all."""
    shapes = ((172, 64), (64, 172), (512, 64))
    calls = [
        Call("fully_connected", (0,), (1,), {"weights": int8_weights(n, n, k), "scales": np.ones(n, np.float32)})
        for n, k in shapes
    ]
    attributes = {"layer": 0, "cache_bits": 8, "heads": 8, "kv_heads": 4, "head_dim": 8, "context": 128}
    calls.append(Call("attention", (0,), (1,), {}, attributes))
    lengths = [((k,), (n,)) for n, k in shapes] + [((128,), (64,))]
    runner = CortexRunner(M4, M4.features, calls, lengths, tmp_path, counting=True)
    for i, (n, k) in enumerate(shapes):
        runner.run(i, [floats(i, k)])
        assert 0.875 < runner.instructions / (n * k) < 1.05, shapes[i]  # the products alone take 0.875
    counts = {}
    for position in (3, 15, 127):
        runner.run(3, [floats(position, 128)], position=position)
        counts[position] = runner.instructions
    assert sorted(counts.values()) == list(counts.values())
    assert counts[15] < 9_000
    assert counts[127] < 37_000


def test_kernels_are_small(tmp_path: Path) -> None:
    """All that int8 models need on a Cortex-M4; one model has not both kernels of attention, nor that of long rows."""
    used = [i for i, call in enumerate(CALLS) if "scales" in call.constants or "weights" not in call.constants]
    used = [i for i in used if CALLS[i].attributes.get("cache_bits") != 32]
    runner = CortexRunner(M4, M4.features, [CALLS[i] for i in used], [LENGTHS[i] for i in used], tmp_path)
    assert 4_000 < runner.cortex.kernel_bytes < 9_900


def test_packing_is_four_rows_by_four_columns() -> None:
    matrix = np.arange(5 * 6, dtype=np.int8).reshape(5, 6)
    stored = pack(matrix).reshape(2, 2, 4, 4)  # group, block, row, column
    assert stored[0, 0, 1].tolist() == [6 - 128, 7, 8 - 128, 9]
    assert stored[0, 1, 3].tolist() == [22 - 128, 23, -128, 0]
    assert stored[1, 0, 0].tolist() == [24 - 128, 25, 26 - 128, 27]
    assert stored[1, 1, 1].tolist() == [-128, 0, -128, 0]


def test_vectors_are_four_rows_by_sixteen_columns() -> None:
    matrix = np.arange(5 * 20).astype(np.int8).reshape(5, 20)
    stored = pack_vectors(matrix).reshape(2, 2, 4, 16)  # group, vector, row, column
    assert stored[0, 0, 1].tolist() == list(range(20, 36))
    assert stored[0, 1, 3].tolist() == [76, 77, 78, 79] + 12 * [0]
    assert stored[1, 0, 0].tolist() == list(range(80, 96))
    assert not stored[1, :, 1:].any()


def test_columns_of_four_rows_follow_each_other() -> None:
    matrix = np.arange(5 * 3, dtype=np.float32).reshape(5, 3)
    stored = interleave(matrix).reshape(2, 3, 4)  # group, column, row
    assert stored[0, 1].tolist() == [1, 4, 7, 10]
    assert stored[1, 2].tolist() == [14, 0, 0, 0]


def test_quantizing_is_within_half_a_step() -> None:
    for x in rows(3, 50):
        values, scale = quantize(x)
        assert np.abs(values).max() <= 127
        back = values.astype(np.float64) * np.float64(scale)
        assert np.all(np.abs(back - x) <= max(0.5 * float(scale) * (1 + 1e-5), 2.0**-100))


def test_half_precision_never_overflows() -> None:
    assert half(np.array([1e9, 65504, 1e-9, -1e9], np.float32)).tolist() == [65504, 65504, 0, -65504]


def test_bytes_of_scale_are_the_least_that_suffice() -> None:
    scales = byte_scale(np.arange(8, 216, dtype=np.uint8))
    assert np.all(np.diff(scales) > 0) and scales[[0, -1]].tolist() == [2.0**-20, 60.0]
    x = np.concatenate([floats(7, 50, 7, scale=10.0**power) for power in range(-2, 4)])
    values, codes = quantize_coded(x)
    wanted = np.abs(x).max(axis=1) / np.float32(127)
    assert np.all(byte_scale(codes) >= wanted) and np.all(byte_scale(codes - np.uint8(1)) < wanted)
    assert np.abs(values).max() <= 127
    back = values.astype(np.float64) * byte_scale(codes)[:, None]
    assert np.all(np.abs(back - x) <= 0.5001 * byte_scale(codes)[:, None])
    for x in rows(3, 50):  # beyond the bytes on both sides
        values, codes = quantize_coded(x)
        assert 8 <= codes <= 215 and np.abs(values).max() <= 127


def test_exponential_is_accurate() -> None:
    x = np.linspace(-87, 88, 100_001, dtype=np.float32)
    exact = np.exp(x.astype(np.float64))
    # the product with log2 e is rounded: half an ulp of a power up to 127 is worth 5e-6 of the result
    assert np.max(np.abs(exp_f32(x) / exact - 1)) < 6e-6
    power = np.linspace(-30, 0, 100_001, dtype=np.float32)
    assert np.max(np.abs(exp2_f32(power) / np.exp2(power.astype(np.float64)) - 1)) < 2.5e-7
    assert exp_f32(np.float32([0, -1e30, 1e30])).tolist() == [1.0, *exp_f32(np.float32([-87, 88])).tolist()]


@pytest.mark.parametrize(
    ("header", "values"),
    [("exp2_table.h", TABLE), ("sigmoid_table.h", ops.load("swiglu").SIGMOID)],
    ids=["exp2", "sigmoid"],
)
def test_tables_in_c_are_those_of_numpy(header: str, values: Array) -> None:
    """Every entry, which the cases above only sample."""
    text = (Path(ops.__file__).parent / header).read_text(encoding="utf-8")
    body = text[text.index("{") : text.index("}")]
    assert [int(number) for number in re.findall(r"\d+", body)] == values.tolist()


def test_exponential_of_attention_is_accurate() -> None:
    steps = np.arange(0, 20 << 6)
    exact = 2.0 ** (16 - (steps + 0.5) / 64)
    assert np.all(np.abs(exp2_table(steps) - exact) <= 1.02)


def test_logistic_table_is_accurate() -> None:
    gate = np.linspace(-20, 20, 100_001, dtype=np.float32)
    call = Call("swiglu", (0,), (1,), {}, {"bits": 8})
    found = ops.load("swiglu").reference(call, (np.concatenate([gate, np.ones_like(gate)]),), Run())[0]
    exact = 1 / (1 + np.exp(-gate.astype(np.float64)))
    assert np.all(np.abs(found - gate * exact) <= np.where(np.abs(gate) < 8, 0.004, 0.0004) * np.abs(gate) + 1e-6)


def test_too_many_columns_are_refused() -> None:
    constants = {"weights": np.zeros((1, 65540), np.int8), "scales": np.ones(1, np.float32)}
    call = Call("fully_connected", (0,), (1,), constants)
    with pytest.raises(UserError):
        ops.layout(call, PORTABLE)


def test_every_op_has_a_case() -> None:
    """Those of other .tflite files and of block floating point are tested in files of their own."""
    elsewhere = {n for n in ops.names() if hasattr(ops.load(n), "OPERATORS") or "bfp" in n}
    assert {case.call.op for case in CASES} == set(ops.names()) - elsewhere


@pytest.mark.parametrize("features", ["", "dsp", "dsp mve", "v6m", "v6m wide", "v6m pair"])
@pytest.mark.parametrize("op", ["fully_connected", "fully_connected_bfp"])
def test_weight_bytes_are_those_of_the_layout(op: str, features: str) -> None:
    """They are counted without laying weights out, which takes long for a large model."""
    has = frozenset(features.split())
    for n, k, dtype in itertools.product((1, 4, 7), (3, 16, 18), (np.int8, np.float32)):
        if op.endswith("bfp") and dtype == np.float32:
            continue
        constants = {
            "weights": np.ones((n, k), dtype),
            "scales": np.ones(n, np.float32),
            "bias": np.ones(n, np.float32),
        }
        call = Call(op, (0,), (1,), constants)
        assert ops.weight_bytes(call, has) == sum(array.nbytes for array in ops.layout(call, has).values())
