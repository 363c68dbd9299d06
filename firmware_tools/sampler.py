"""The sampler of the device in numpy; `runtime/sampler.c` computes the same, bit for bit.

Greedy: the lowest id of the largest logit. With a temperature T token i weighs exp((logit_i - largest) * (1 / T)), and
top-p (nucleus sampling, Holtzman et al. 2019, https://arxiv.org/abs/1904.09751) keeps the most probable tokens, ties by
id, up to and with the one at which their probability reaches top_p. The device finds them without sorting and without
memory: it draws among all tokens; if the weight of the tokens before the drawn one already reaches top_p, the drawn one
is outside, and it draws again among those before it, which hold the whole nucleus. A draw halves the weight left on
average, so that even a small top_p takes few draws. What is drawn within the nucleus has its exact proportions.

All arithmetic is float32, one operation at a time: weights by exp_f32, sums in the order of ids.

Random numbers: xorshift64* (Vigna 2016, https://arxiv.org/abs/1402.6246), the upper 24 bits of a product for each draw;
its state comes from the seed by one step of SplitMix64 (Steele, Lea, Flood 2014, https://doi.org/10.1145/2714064.2660195).

Odd inputs: a logit that is NaN or -inf is never chosen, and where all are, the answer is 0. If the largest is +inf, the
choice is greedy. A temperature below 2^-20, or NaN, is greedy, one above 2^20 is taken as 2^20. top_p <= 0 is greedy,
top_p >= 1 or NaN keeps all tokens. A greedy choice takes no random number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_tools.exp import exp_f32

COOLEST = np.float32(2.0**-20)
HOTTEST = np.float32(2.0**20)
MASK = (1 << 64) - 1

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Sampler:
    """How to choose. temperature 0: greedy. top_p 1: all tokens. seed: of the random numbers, 0 to 2^64 - 1."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class Generator:
    """Chooses token after token; two of the same Sampler choose the same."""

    def __init__(self, sampler: Sampler) -> None:
        self.follow(sampler.temperature, sampler.top_p)
        self._state = _split_mix(sampler.seed) or 1  # the generator stays at 0 for ever

    def follow(self, temperature: float, top_p: float) -> None:
        """Chooses with these from now on; the random numbers go on."""
        self._temperature = np.float32(temperature)
        self._top_p = np.float32(top_p)

    def choose(self, logits: Logits) -> int:
        """The id of the next token; logits: float32 [vocab_size], left as they are."""
        values = np.asarray(logits, np.float32)
        best = int(values.argmax())
        if np.isnan(values[best]):  # argmax stops at the first
            values = np.where(np.isnan(values), -np.inf, values)
            best = int(values.argmax())
        if values[best] == -np.inf:
            return 0
        if not self._temperature >= COOLEST or self._top_p <= 0 or values[best] == np.inf:
            return best
        inverse = np.float32(1) / min(self._temperature, HOTTEST)
        with np.errstate(over="ignore"):  # a difference beyond float32 is -inf, which exp_f32 takes as its lowest
            below = values - values[best]
            below *= inverse
        weights = exp_f32(below)
        weights[values == -np.inf] = 0
        return self._draw(values, weights)

    def _draw(self, logits: Logits, weights: Logits) -> int:
        """A token of the nucleus, in proportion to its weight; a weight of 0 is never drawn."""
        ids = np.arange(len(logits), dtype=np.int32)
        sums = _sums(weights)
        wanted = self._top_p * sums[-1]
        while True:
            # the first at which the sum exceeds the point, else the last that has a weight
            place = int(sums.searchsorted(self._uniform() * sums[-1], "right"))
            if place == len(sums):
                place = int(np.flatnonzero(weights)[-1])
            chosen = int(ids[place])
            if not self._top_p < 1:
                return chosen
            # those before the drawn one alone: what lies outside weighs 0 from now on, and leaves the sums as they are
            before = np.flatnonzero((logits > logits[place]) | ((logits == logits[place]) & (ids < chosen)))
            if not len(before):
                return chosen
            ids, logits, weights = ids[before], logits[before], weights[before]
            sums = _sums(weights)
            if sums[-1] < wanted or sums[-1] <= 0:
                return chosen

    def _uniform(self) -> np.float32:
        """A multiple of 2^-24 in [0, 1)."""
        x = self._state
        x ^= x >> 12
        x ^= x << 25 & MASK
        x ^= x >> 27
        self._state = x
        return np.float32((x * 0x2545F4914F6CDD1D & MASK) >> 40) * np.float32(2.0**-24)


def _sums(weights: Logits) -> Logits:
    """One addition after the other, where numpy's sum adds in pairs."""
    return np.cumsum(weights, dtype=np.float32)


def _split_mix(seed: int) -> int:
    z = (seed + 0x9E3779B97F4A7C15) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31
