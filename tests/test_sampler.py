"""C and numpy choose the same tokens, and choose them as often as they should."""

from __future__ import annotations

import ctypes
import math
import random
import subprocess
from pathlib import Path

import cortex
import numpy as np
import pytest
import unicorn
from numpy.typing import NDArray

import firmware_tools
from firmware_tools import build
from firmware_tools.errors import MissingTool
from firmware_tools.sampler import Generator, Sampler

RUNTIME = Path(firmware_tools.__file__).parent / "runtime"
INF, NAN = math.inf, math.nan
Logits = NDArray[np.float32]


class State(ctypes.Structure):
    _fields_ = (("temperature", ctypes.c_float), ("top_p", ctypes.c_float), ("state", ctypes.c_uint64))


class Device:
    """runtime/sampler.c compiled for this machine."""

    def __init__(self, folder: Path, sanitize: bool) -> None:
        library = build.build_host([RUNTIME / "sampler.c"], [RUNTIME], folder / "sampler.so", sanitize=sanitize)
        self._library = ctypes.CDLL(str(library))
        self._library.edge_seed.argtypes = [ctypes.POINTER(State), ctypes.c_uint64]
        self._library.edge_sample.argtypes = [ctypes.POINTER(State), ctypes.c_void_p, ctypes.c_size_t]
        self._library.edge_sample.restype = ctypes.c_uint32

    def generator(self, sampler: Sampler) -> DeviceGenerator:
        return DeviceGenerator(self._library, sampler)


class DeviceGenerator:
    """As firmware_tools.sampler.Generator, in C."""

    def __init__(self, library: ctypes.CDLL, sampler: Sampler) -> None:
        self._library = library
        self._state = State(sampler.temperature, sampler.top_p, 0)
        library.edge_seed(self._state, sampler.seed)

    def choose(self, logits: Logits) -> int:
        copy = logits.copy()
        chosen: int = self._library.edge_sample(self._state, copy.ctypes.data, len(copy))
        assert copy.tobytes() == logits.tobytes(), "the logits were changed"
        return chosen


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "UBSan"])
def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Device:
    return Device(tmp_path_factory.mktemp("sampler"), request.param)


def agree(device: Device, sampler: Sampler, logits: Logits, count: int = 5) -> list[int]:
    host, chip = Generator(sampler), device.generator(sampler)
    chosen = [host.choose(logits) for _ in range(count)]
    assert [chip.choose(logits) for _ in range(count)] == chosen, sampler
    return chosen


def random_logits(pick: random.Random, rng: np.random.Generator) -> Logits:
    count = pick.choice((1, 2, 3, 10, 100, 512))
    logits = rng.normal(size=count) * pick.choice((0.0, 0.1, 1.0, 5.0, 100.0, 1e6, 1e30, 3e38))
    if pick.random() < 0.4:
        logits = np.round(logits)  # ties
    with np.errstate(over="ignore"):
        logits = logits.astype(np.float32)
    if pick.random() < 0.3:
        odd = pick.choice(([-INF], [NAN], [-INF, NAN, INF], [-0.0, 0.0], [1e-45, -1e-45], [3.4e38, -3.4e38]))
        places = rng.random(count) < pick.choice((0.1, 0.9, 1.0))
        logits[places] = rng.choice(np.array(odd, np.float32), int(places.sum()))
    return logits


def random_sampler(pick: random.Random) -> Sampler:
    temperature = pick.choice((0.0, 1e-45, 1e-30, 2.0**-20, 1e-3, 0.3, 0.7, 1.0, 1.5, 20.0, 1e30, INF, NAN, -1.0))
    top_p = pick.choice((0.0, 1e-45, 1e-6, 0.1, 0.5, 0.9, 0.95, 0.999, 1.0 - 2.0**-24, 1.0, 2.0, INF, NAN, -1.0))
    return Sampler(temperature, top_p, pick.getrandbits(64))


def test_device_equals_host_on_random_cases(device: Device) -> None:
    pick, rng = random.Random(1), np.random.default_rng(1)
    for _ in range(6000):
        agree(device, random_sampler(pick), random_logits(pick, rng))


def test_device_equals_host_on_usual_cases(device: Device) -> None:
    pick, rng = random.Random(2), np.random.default_rng(2)
    seen = set()
    for _ in range(1000):
        sampler = Sampler(pick.uniform(0.2, 1.5), pick.uniform(0.05, 1.0), pick.getrandbits(64))
        seen.update(agree(device, sampler, rng.normal(size=512).astype(np.float32) * 3))
    assert len(seen) > 300


@pytest.mark.parametrize("top_p", [0.5, 0.95, 1.0])
@pytest.mark.parametrize("spread", [0.0, 1.0, 4.0])
def test_device_equals_host_on_a_large_vocabulary(device: Device, top_p: float, spread: float) -> None:
    logits = np.random.default_rng(3).normal(size=49_152).astype(np.float32) * np.float32(spread)
    assert len(set(agree(device, Sampler(0.8, top_p, 3), logits, count=8))) > 1


def test_the_random_numbers_are_the_published_ones() -> None:
    """Known values: SplitMix64 of 1234567, and one step of xorshift64* from 1."""
    generator = Generator(Sampler(seed=1234567))
    assert generator._state == 6457827717110365317
    generator._state = 1
    assert float(generator._uniform()) == (0x47E4CE4B896CDD1D >> 40) / 2**24
    assert generator._state == 0x2000001


def test_a_state_of_zero_is_left_out() -> None:
    """The one seed that SplitMix64 maps to 0."""
    seed = -0x9E3779B97F4A7C15 % 2**64
    generator = Generator(Sampler(seed=seed))
    assert generator._state == 1


def test_the_seed_of_zero_state_on_the_device(device: Device) -> None:
    seed = -0x9E3779B97F4A7C15 % 2**64
    assert len(set(agree(device, Sampler(1.0, 1.0, seed), np.zeros(100, np.float32), 20))) > 5


CALLS = """
#include "sampler.h"
void call_seed(edge_sampler *sampler, uint64_t seed) { edge_seed(sampler, seed); }
uint32_t call_sample(edge_sampler *sampler, const float *logits, size_t n) { return edge_sample(sampler, logits, n); }
"""


@pytest.mark.parametrize("core", [cortex.M4, cortex.M0], ids=lambda core: core.name)
def test_cortex_m_equals_host(core: cortex.Core, tmp_path: Path) -> None:
    """The M0 computes floats in software, with the same results."""
    (tmp_path / "calls.c").write_text(CALLS, encoding="ascii")
    chip = cortex.Cortex(core, [tmp_path / "calls.c", RUNTIME / "sampler.c"], [RUNTIME], tmp_path)
    pick, rng = random.Random(8), np.random.default_rng(8)
    for _ in range(300):
        sampler, logits = random_sampler(pick), random_logits(pick, rng)
        state = chip.put(bytes(State(sampler.temperature, sampler.top_p, 0)))
        chip.call("call_seed", state, 0, sampler.seed & 0xFFFFFFFF, sampler.seed >> 32)  # a uint64 begins at r2
        values, host = chip.put(logits.tobytes()), Generator(sampler)
        for _ in range(3):
            chip.call("call_sample", state, values, len(logits))
            assert chip.machine.reg_read(unicorn.arm_const.UC_ARM_REG_R0) == host.choose(logits), sampler
        assert chip.get(values, logits.nbytes) == logits.tobytes()
        chip.release()


# --- what is chosen


@pytest.mark.parametrize(
    ("logits", "greedy"),
    [
        ([1, 3, 3, 2], 1),
        ([-5, -INF, -4], 2),
        ([NAN, 1, NAN], 1),
        ([-INF, NAN], 0),
        ([NAN, -INF, -3.4e38], 2),
        ([0, INF, INF], 1),
        ([-0.0, 0.0], 0),
        ([7], 0),
    ],
)
def test_greedy(device: Device, logits: list[float], greedy: int) -> None:
    values = np.array(logits, np.float32)
    for temperature, top_p in ((0, 1), (-1, 0.5), (NAN, 1), (2.0**-21, 1), (1, 0), (1, -1), (INF, 0)):
        assert agree(device, Sampler(temperature, top_p, 9), values) == [greedy] * 5
    if INF in logits:
        assert agree(device, Sampler(1.0, 0.9, 9), values) == [greedy] * 5


def test_a_greedy_choice_takes_no_random_number(device: Device) -> None:
    flat, peak = np.zeros(1000, np.float32), np.array([0, INF], np.float32)
    expected = agree(device, Sampler(1.0, 1.0, 4), flat, 3)
    host, chip = Generator(Sampler(1.0, 1.0, 4)), device.generator(Sampler(1.0, 1.0, 4))
    for generator in (host, chip):
        assert [generator.choose(peak), *(generator.choose(flat) for _ in range(3))] == [1, *expected]


def test_impossible_tokens_are_never_chosen(device: Device) -> None:
    logits = np.array([NAN, 1, -INF, 1, NAN, -INF, 1], np.float32)
    for top_p in (0.9, 1.0):
        assert set(agree(device, Sampler(INF, top_p, 5), logits, 200)) == {1, 3, 6}


def nucleus(logits: Logits, temperature: float, top_p: float) -> NDArray[np.float64]:
    """The exact distribution in float64, by sorting: the smallest set of the most probable whose sum reaches top_p."""
    weights = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
    probabilities = weights / weights.sum()
    order = np.argsort(-probabilities, kind="stable")
    before = np.cumsum(probabilities[order]) - probabilities[order]
    kept = order[before < top_p]
    result = np.zeros(len(logits))
    result[kept] = probabilities[kept] / probabilities[kept].sum()
    return result


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.7, 0.95, 1.0])
def test_frequencies_are_those_of_the_exact_nucleus(device: Device, temperature: float, top_p: float) -> None:
    """Pearson's chi-square over 50,000 draws, within 5 standard deviations; nothing outside the nucleus is drawn."""
    logits = np.random.default_rng(6).normal(size=40).astype(np.float32) * 2
    expected = nucleus(logits, temperature, top_p)
    chip, draws = device.generator(Sampler(temperature, top_p, 6)), 50_000
    counts = np.bincount([chip.choose(logits) for _ in range(draws)], minlength=40)
    assert counts[expected == 0].sum() == 0
    common = expected * draws >= 5
    chi_square = float((((counts - expected * draws) ** 2)[common] / (expected * draws)[common]).sum())
    freedom = int(common.sum()) - 1
    assert counts[expected > 0].sum() == draws
    assert chi_square <= freedom + 5 * math.sqrt(2 * freedom)


def test_the_nucleus_ends_at_the_token_that_reaches_top_p(device: Device) -> None:
    """Four equal tokens, lowest ids first: a quarter each, in numbers that float32 holds exactly."""
    flat = np.zeros(4, np.float32)
    for top_p, size in ((0.1, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.75, 3), (0.76, 4), (1.0, 4)):
        assert set(agree(device, Sampler(1.0, top_p, 7), flat, 200)) == set(range(size))


def state_before(number: int) -> int:
    """The state of xorshift64* from which its next upper 24 bits are number: every step of it can be undone."""
    x = (number << 40) * pow(0x2545F4914F6CDD1D, -1, 2**64) % 2**64
    x ^= x >> 27 ^ x >> 54
    x ^= x << 25 ^ x << 50
    x %= 2**64
    return x ^ x >> 12 ^ x >> 24 ^ x >> 36 ^ x >> 48 ^ x >> 60


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
def test_a_number_on_the_border_belongs_to_the_token_above(device: Device, quarter: int) -> None:
    """Four equal tokens: exactly 0, 1/4, 1/2 and 3/4 begin a quarter each."""
    flat, sampler = np.zeros(4, np.float32), Sampler(1.0, 1.0)
    host, chip = Generator(sampler), device.generator(sampler)
    host._state = chip._state.state = state_before(quarter << 22)
    assert host.choose(flat) == chip.choose(flat) == quarter


def test_seeds_differ_and_repeat(device: Device) -> None:
    flat = np.zeros(512, np.float32)
    texts = {tuple(agree(device, Sampler(1.0, 0.9, seed), flat, 8)) for seed in (*range(50), 2**64 - 1)}
    assert len(texts) == 51


EXACT_BUFFER = """
#include <stdio.h>
#include <stdlib.h>
#include "sampler.h"
int main(void) {
    for (size_t count = 0; count < 50; count++) {
        float *logits = malloc(count * sizeof *logits);
        for (size_t i = 0; i < count; i++) logits[i] = (float)(i * 7 % 10);
        edge_sampler sampler = {.temperature = 1, .top_p = 0.5f};
        edge_seed(&sampler, count);
        for (int i = 0; i < 20; i++)
            if (edge_sample(&sampler, logits, count) >= count + (count == 0)) return 2;
        free(logits);
    }
    return 0;
}
"""


@pytest.mark.system
def test_device_stays_within_the_logits(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(EXACT_BUFFER)
    try:
        program = build.build_host_program([tmp_path / "main.c", RUNTIME / "sampler.c"], [RUNTIME], tmp_path / "sample")
    except MissingTool as error:
        pytest.skip(error.message)
    result = subprocess.run([str(program)], capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
