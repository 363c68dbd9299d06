"""Ops in block floating point: C equals numpy bit for bit, here, under sanitizers, and on cores without FPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sanitized
from cortex import GCC, M0, M3, Core
from kernels import PORTABLE, CortexRunner, HostRunner, Runner
from test_ops import CONTEXT, Case, floats, int8_weights, row_groups

from firmware_tools import bfp, ops
from firmware_tools.errors import MissingTool
from firmware_tools.ops import Array, Call, Run, attention_bfp, rms_norm_bfp, rope_bfp
from firmware_tools.program import Value

LARGEST = (1 << 29) - 1
V6M = frozenset({"v6m"})
WIDE = frozenset({"v6m", "wide"})
PAIR, WIDE_PAIR = V6M | {"pair"}, WIDE | {"pair"}
M0_GCC = Core("m0-gcc", (*GCC, "-mcpu=cortex-m0plus"), M0.unicorn, V6M)


def row(x: Array, bits: int = 25, exponent: int = 0) -> Array:
    """Numbers as a row whose largest mantissa has so many bits; exponent is added to what they need."""
    mantissas, found = bfp.constant(x, bits)
    return bfp.join(found + exponent, mantissas)


def form(count: int) -> Value:
    return Value("int32", (count + 1,))


def rows(seed: int, count: int) -> Iterator[Array]:
    """Rows of count numbers: ordinary, far from 1, with one outlier, of few bits, zeros, all at the ends."""
    yield row(floats(seed, count))
    yield row(floats(seed + 1, count), 29, 300)
    yield row(floats(seed + 2, count), 12, -200)
    outlier = floats(seed + 3, count, scale=1e-3)
    outlier[count // 2] = -50
    yield row(outlier)
    yield row(floats(seed + 4, count), 3)
    yield bfp.join(-7, np.zeros(count, np.int64))
    yield bfp.join(-29, np.full(count, LARGEST))
    yield bfp.join(-29, np.full(count, -LARGEST - 1))
    yield bfp.join(-29, np.where(np.arange(count) % 2, LARGEST, -LARGEST))
    yield bfp.join(-29, np.where(np.arange(count) // 2 % 2, LARGEST, -LARGEST))
    yield bfp.join(-15, np.random.default_rng(seed).integers(-1, 2, count))


def matrix(seed: int, n: int, k: int) -> dict[str, Array]:
    return {"weights": int8_weights(seed, n, k), "scales": np.random.default_rng(seed).integers(0, 65536, n, np.uint16)}


def cases() -> Iterator[Case]:
    for n, k in ((1, 1), (3, 2), (4, 4), (5, 7), (8, 64), (9, 172), (2, 256), (6, 258), (4, 601)):
        inputs = tuple((0, 0, (x,)) for x in rows(k, k))
        call = Call("fully_connected_bfp", (0,), (1,), matrix(k, n, k), {"exponent": -20})
        yield Case(f"fully_connected-{n}x{k}", call, (form(k),), (form(n),), inputs)
        biased = replace(call, constants={**call.constants, "bias": row(floats(n, n))})
        yield Case(f"fully_connected-bias-{n}x{k}", biased, (form(k),), (form(n),), inputs)
    for dim in (1, 6, 64):
        call = Call("embedding_bfp", (), (0,), matrix(dim, 7, dim), {"exponent": -9})
        yield Case(f"embedding-{dim}", call, (), (form(dim),), tuple((token, 0, ()) for token in range(7)))
        for name, out, epsilon in (("", 1, 1e-30), ("", 1, 1e4), ("in-place-", 0, 1e-5)):
            constants, attributes = rms_norm_bfp.constants(floats(dim, dim), epsilon)
            call = Call("rms_norm_bfp", (0,), (out,), constants, attributes)
            steps = tuple((0, 0, (x,)) for x in rows(dim, dim))
            yield Case(f"rms_norm-{name}{dim}-{epsilon}", call, (form(dim),), (form(dim),), steps)
        left, right = list(rows(dim, dim)), list(rows(dim + 9, dim))
        pairs = tuple((0, 0, (a, right[(i + turn) % len(right)])) for turn in (0, 2, 5) for i, a in enumerate(left))
        yield Case(f"add-{dim}", Call("add_bfp", (0, 1), (0,)), (form(dim), form(dim)), (form(dim),), pairs)
        gates = [*rows(dim, 2 * dim), *(row(np.linspace(-top, top, 2 * dim)) for top in (1, 9, 100))]
        for name, out in (("", 1), ("in-place-", 0)):
            call = Call("swiglu_bfp", (0,), (out,))
            yield Case(f"swiglu-{name}{dim}", call, (form(2 * dim),), (form(dim),), tuple((0, 0, (x,)) for x in gates))
            call = Call("bfp_to_float", (0,), (out,))
            yield Case(f"to_float-{name}{dim}", call, (form(dim),), (dim,), tuple((0, 0, (x,)) for x in rows(dim, dim)))
    yield from place_cases()


def place_cases() -> Iterator[Case]:
    """Ops that know where in the text they are."""
    for heads, head_dim in ((1, 2), (3, 6), (12, 8)):
        angles, size = floats(heads, CONTEXT, head_dim // 2), heads * head_dim + 5  # what lies behind stays as it is
        constants = {"cos": rope_bfp.table(np.cos(angles)), "sin": rope_bfp.table(np.sin(angles))}
        call = Call("rope_bfp", (0,), (0,), constants, {"heads": heads, "head_dim": head_dim})
        steps = tuple((0, p % CONTEXT, (x,)) for p, x in enumerate(rows(size, size)))
        yield Case(f"rope-{heads}x{head_dim}", call, (form(size),), (form(size),), steps)
    for heads, kv_heads, head_dim in ((1, 1, 2), (2, 1, 6), (4, 2, 8), (3, 3, 10), (2, 2, 16), (4, 1, 24), (1, 1, 264)):
        size = (heads + 2 * kv_heads) * head_dim
        shape = {"layer": 0, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "context": CONTEXT}
        inputs = [*rows(heads, size), *(row(floats(p, size), 25, p % 4 * 3 - 6) for p in range(CONTEXT))]
        steps = [(0, p % CONTEXT, (x,)) for p, x in enumerate(inputs)]
        steps += [(0, 4, (row(floats(99, size)),)), (0, 5, (row(floats(98, size)),))]  # back, and on from there
        call = Call("attention_bfp", (0,), (1,), {}, shape)
        name = f"attention-{heads}-{kv_heads}-{head_dim}"
        yield Case(name, call, (form(size),), (form(heads * head_dim),), tuple(steps))


CASES = tuple(cases())
CALLS = [case.call for case in CASES]
LENGTHS = [(case.ins, case.outs) for case in CASES]


def host(folder: Path) -> Runner:
    return HostRunner(CALLS, LENGTHS, folder)


def host_undefined(folder: Path) -> Runner:
    return HostRunner(CALLS, LENGTHS, folder, sanitize=True)


def m0(folder: Path) -> Runner:
    return CortexRunner(M0, V6M, CALLS, LENGTHS, folder)


def m0_wide(folder: Path) -> Runner:
    return CortexRunner(M0, WIDE, CALLS, LENGTHS, folder)


def m0_pair(folder: Path) -> Runner:
    return CortexRunner(M0, PAIR, CALLS, LENGTHS, folder)


def m0_wide_pair(folder: Path) -> Runner:
    return CortexRunner(M0, WIDE_PAIR, CALLS, LENGTHS, folder)


def m0_portable(folder: Path) -> Runner:
    return CortexRunner(M0, PORTABLE, CALLS, LENGTHS, folder)


def m0_gcc(folder: Path) -> Runner:
    return CortexRunner(M0_GCC, V6M, CALLS, LENGTHS, folder)


def m3(folder: Path) -> Runner:
    return CortexRunner(M3, V6M, CALLS, LENGTHS, folder)


def m3_wide(folder: Path) -> Runner:
    return CortexRunner(M3, WIDE, CALLS, LENGTHS, folder)


RUNNERS = (host, host_undefined, m0, m0_wide, m0_pair, m0_wide_pair, m0_portable, m0_gcc, m3, m3_wide)


@pytest.fixture(scope="module", params=RUNNERS, ids=lambda make: make.__name__)
def runner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]
) -> Runner:
    make: Callable[[Path], Runner] = request.param
    if make is m0_gcc:
        tool(M0_GCC.compiler[0])  # the strict cross-check, where there is one
    return make(tmp_path_factory.mktemp(make.__name__))


@pytest.mark.parametrize("i", range(len(CASES)), ids=[case.name for case in CASES])
def test_kernel_equals_reference(runner: Runner, i: int) -> None:
    for n, ((token, position, inputs), expected) in enumerate(zip(CASES[i].steps, CASES[i].expected(), strict=True)):
        for j, y in enumerate(runner.run(i, inputs, token, position)):
            wrong = np.flatnonzero(expected[j].view(np.int32) != y.view(np.int32)[: expected[j].size])
            assert wrong.size == 0, f"step {n}, element {wrong[0]}: {y[wrong[0]]!r}, not {expected[j][wrong[0]]!r}"


@pytest.mark.parametrize("i", range(len(CASES)), ids=[case.name for case in CASES])
def test_rows_at_once_give_the_same(runner: Runner, i: int) -> None:
    case = CASES[i]
    steps = list(zip(case.steps, case.expected(), strict=True))
    for n, group in enumerate(row_groups(case, steps)):
        inputs = [np.concatenate([step[2][j] for step, _ in group]) for j in range(len(case.ins))]
        found = runner.run_rows(i, inputs, [step[0] for step, _ in group], group[0][0][1])
        for j in range(len(case.outs)):
            expected = np.concatenate([outputs[j] for _, outputs in group])
            assert found[j][: expected.size].tobytes() == expected.tobytes(), f"group {n}, output {j}"


def test_kernels_stay_inside_their_memory(tmp_path: Path) -> None:
    try:
        wrong = sanitized.check(CASES, tmp_path)
    except MissingTool as error:
        pytest.skip(str(error))
    assert not wrong, wrong


def test_every_op_has_a_case() -> None:
    assert {case.call.op for case in CASES} == {name for name in ops.names() if "bfp" in name}


# --- what the arithmetic promises


def real(x: Array) -> Array:
    exponent, mantissas = bfp.split(x)
    return np.ldexp(mantissas.astype(np.float64), exponent)


def test_quantized_pairs_fit_the_mid_product() -> None:
    for seed in range(300):
        x = row(floats(seed, 2 * (seed % 40 + 1)), seed % 27 + 2)
        q, factor, exponent = bfp.quantize(x)
        assert np.abs(q).max() <= 127
        assert np.abs(q.reshape(-1, 2).sum(axis=1)).max() <= 128
        step = np.ldexp(float(factor), exponent)
        assert np.abs(q * step - real(x)).max() <= 0.51 * step + np.abs(real(x)).max() * 2.0**-13


def test_codes_are_within_half_a_step() -> None:
    for seed in range(300):
        m = np.random.default_rng(seed).integers(-(2 ** (seed % 29)), 2 ** (seed % 29) + 1, 8)
        q, code = bfp.code(m, -seed % 29)
        assert np.abs(q).max() <= 127
        scale = (8 + code % 8) * 2.0 ** (code // 8 + bfp.BASE)
        error = np.abs(q * scale - np.ldexp(m.astype(float), -seed % 29))
        assert code // 8 == 31 or error.max() <= 0.51 * scale + np.abs(m).max() * 2.0 ** (-seed % 29 - 14)
        assert not m.any() or code // 8 in (0, 31) or np.abs(q).max() >= 110  # a mantissa of 8 wastes the most


@pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 1.0])
def test_norm_is_accurate(epsilon: float) -> None:
    constants, attributes = rms_norm_bfp.constants(np.ones(64, np.float32), epsilon)
    for seed in range(50):
        x = row(floats(seed, 64), 25, seed - 25)
        found = real(rms_norm_bfp.reference(Call("rms_norm_bfp", (0,), (1,), constants, attributes), (x,), Run())[0])
        exact = real(x) / np.sqrt(np.mean(real(x) ** 2) + epsilon)
        assert np.abs(found - exact).max() <= np.abs(exact).max() * 2.0**-11


def test_attention_is_accurate() -> None:
    """Against float64: what is left is the cache's int8."""
    shape = {"layer": 0, "heads": 4, "kv_heads": 2, "head_dim": 16, "context": 64}
    call, run = Call("attention_bfp", (0,), (1,), {}, shape), Run()
    keys, values = [], []
    for run.position in range(64):
        x = row(floats(run.position, 8 * 16, scale=1.5))
        found = real(attention_bfp.reference(call, (x,), run)[0]).reshape(4, 16)
        rows_ = real(x).reshape(8, 16)
        keys.append(rows_[4:6]), values.append(rows_[6:])
        for h in range(4):
            scores = np.array(keys)[:, h // 2] @ rows_[h] / 4
            weights = np.exp(scores - scores.max())
            exact = weights / weights.sum() @ np.array(values)[:, h // 2]
            assert np.abs(found[h] - exact).max() < 0.05 * np.abs(rows_).max()


def test_costs_stay_where_they_are(tmp_path: Path) -> None:
    """Instructions on a Cortex-M0+ for each weight; the products alone take 2.44, or 1.69 of wide weights."""
    for features, limit in ((V6M, 2.95), (WIDE, 2.25)):
        calls = [Call("fully_connected_bfp", (0,), (1,), matrix(n, n, k), {"exponent": 0}) for n, k in SHAPES]
        lengths = [((form(k),), (form(n),)) for n, k in SHAPES]
        runner = CortexRunner(M0, features, calls, lengths, tmp_path, counting=True)
        for i, (n, k) in enumerate(SHAPES):
            runner.run(i, [row(floats(i, k))])
            print(f"{sorted(features)} {n}x{k}: {runner.instructions / (n * k):.3f} instructions a weight")
            assert 1.69 < runner.instructions / (n * k) < limit


SHAPES = ((344, 64), (64, 172), (512, 64))
