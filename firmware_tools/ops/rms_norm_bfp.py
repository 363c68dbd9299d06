"""RMSNorm in block floating point: y[i] = x[i] / sqrt(mean(x²) + epsilon) * gain[i] on a core without FPU.

    inputs      x int32[dim + 1], a row of bfp.py
    outputs     y int32[dim + 1]; may be x
    constants   gain int16 [dim], which holds the root of dim too, since the squares are summed and not averaged
    attributes  gain_exponent; epsilon, epsilon_exponent: dim * epsilon in 16 bits

The squares are of as many bits as lets their sum stay below 2^31; its root is taken bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from firmware_tools import bfp
from firmware_tools.ops import Array, Call, Run

IN_PLACE = ((0, 0),)  # (output, input) that may share memory


def square_bits(call: Call) -> int:
    """Bits of the numbers that are squared."""
    return (31 - (call.constants["gain"].size - 1).bit_length()) // 2


def reference(call: Call, inputs: tuple[Array, ...], run: Run) -> tuple[Array, ...]:
    exponent, m = bfp.split(inputs[0])
    if not m.any():
        return (bfp.join(0, m),)
    squared, shift = bfp.narrowed(m, square_bits(call))
    inverse, inverse_exponent = inverse_root(call, int((squared * squared).sum()), 2 * (exponent + shift))
    x, shift = bfp.narrowed(m)
    y = ((x * call.constants["gain"]) >> 16) * inverse
    return (bfp.join(exponent + shift + 16 + int(call.attributes["gain_exponent"]) + inverse_exponent, y),)


def inverse_root(call: Call, sum: int, exponent: int) -> tuple[int, int]:
    """1 / sqrt(sum * 2^exponent + epsilon) as an integer from 2^14 to 2^15, and its exponent; exponent is even."""
    epsilon, up = int(call.attributes["epsilon"]), int(call.attributes["epsilon_exponent"]) - exponent
    if up > 14:  # too small to count beside epsilon, or nearly so
        gone = (up - 14 + 1) // 2 * 2
        sum, exponent, up = sum >> min(gone, 31), exponent + gone, up - gone
    total = sum + (epsilon << up if up >= 0 else epsilon >> min(-up, 31))
    lift = (32 - total.bit_length()) // 2 * 2
    root = math.isqrt(total << lift)  # of 16 bits
    return bfp.inverse(root), (lift - exponent) // 2 - 30


def kernel(call: Call, features: frozenset[str]) -> str:
    return "edge_rms_norm_bfp"


def statement(call: Call, features: frozenset[str], c: Mapping[str, str]) -> str:
    numbers = {"bits": square_bits(call), **{k: int(v) for k, v in call.attributes.items()}}
    shape = ", ".join(f".{name} = {number}" for name, number in numbers.items())
    gain = f".gain = {c['gain']}, .count = {call.constants['gain'].size}"
    return f"{kernel(call, features)}({c['in0']}, {c['out0']}, &(edge_bfp_norm){{{gain}, {shape}}}, {c['count']});"


def constants(gain: Array, epsilon: float) -> tuple[dict[str, Array], dict[str, int]]:
    """What a call of rms_norm becomes: constants and attributes."""
    gains, gain_exponent = bfp.constant(gain.astype(np.float64) * math.sqrt(gain.size), bfp.FULL)
    epsilons, epsilon_exponent = bfp.constant(np.array([epsilon * gain.size]), 16)
    attributes = {
        "gain_exponent": gain_exponent,
        "epsilon": int(epsilons[0]),
        "epsilon_exponent": epsilon_exponent,
    }
    return {"gain": gains.astype(np.int16)}, attributes


def work(call: Call, sizes: Mapping[str, int], position: int) -> dict[str, float]:
    return {"call": 1, "element": sizes["out0"]}
