"""Elementary functions of float32 as the device computes them; the numpy twin of `runtime/elementary.h`.

Every step is one IEEE float32 operation or one on integers, so that C and numpy give the same bits whatever the
machine. The polynomials are those of Cephes (S. Moshier, single precision) or were fitted here; errors are in ulps of
the result unless said otherwise, and tests/test_elementary.py holds them against double precision:

    exp 1   expm1 4   log 1   tanh 1.5   logistic 2   sin, cos 1e-6 up to |x| = 100,000, NaN beyond   erfc 3e-7
    power 1 + 1.2 |y log2 x|

exp, log and their kin take and give subnormal numbers and infinities as C's library does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
F = np.float32

LOG2_E = F(1.44269504)
LN2_HIGH, LN2_LOW = F(0.693359375), F(-2.12194440e-4)  # their sum is ln 2; the first times an exponent is exact
EXP_MOST, EXP_LEAST = F(88.8), F(-104.0)  # beyond them: infinity and zero
EXP = tuple(map(F, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)))
SQRT_HALF = F(0.707106781)
LOG = tuple(
    map(
        F,
        (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1)
        + (-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
    )
)
TANH = tuple(map(F, (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)))
SINE = tuple(map(F, (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)))
COSINE = tuple(map(F, (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)))
TWO_OVER_PI = F(0.636619772)
HALF_PI = tuple(map(F, (1.5703125, 4.837512969970703125e-4, 7.54978995489188216e-8)))  # their sum is pi / 2
LARGEST_ANGLE = F(100000.0)
ERF_NEAR = tuple(
    map(
        F,
        (
            7.854024443e-5,
            -8.010247257e-4,
            5.188334268e-3,
            -2.685381658e-2,
            1.128358543e-1,
            -3.761262596e-1,
            1.128379107,
        ),
    )
)  # erf(x) / x in x^2 up to 1
ERF_FAR = tuple(
    map(F, (-2.308016866e-1, 6.366800666e-1, -6.446067989e-2, 3.968020976e-1, 2.597005963e-1, 1.822483027e-3))
)
LOGISTIC_MOST, LOGISTIC_LEAST = F(16.619047164916992), F(-9.0)  # TFLite's: 1 above, exp(x) below


def polynomial(coefficients: Sequence[np.float32], x: Floats) -> Floats:
    """Highest power first, by Horner's rule."""
    result = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result


def power_of_two(exponent: NDArray[np.int32]) -> Floats:
    """2^exponent, exponents in -126 … 127."""
    bits: Floats = ((exponent + 127) << 23).astype(np.int32).view(np.float32)
    return bits


def _reduced(x: Floats) -> tuple[Floats, Floats, NDArray[np.int32]]:
    """(r, e^r - 1, n) with x = n ln 2 + r; x within EXP_LEAST … EXP_MOST."""
    n = np.rint(x * LOG2_E)
    r = x - n * LN2_HIGH
    r = r - n * LN2_LOW
    return r, polynomial(EXP, r) * (r * r) + r, n.astype(np.int32)


def exp(x: Floats) -> Floats:
    """e^x; 0 below -104, infinity above 88.8."""
    inside = np.minimum(np.maximum(x, EXP_LEAST), EXP_MOST)
    _, minus_one, n = _reduced(np.where(np.isnan(x), F(0), inside).astype(np.float32))
    half = n >> 1
    with np.errstate(over="ignore", under="ignore"):
        y = (minus_one + F(1)) * power_of_two(half) * power_of_two(n - half)
    return np.where(np.isnan(x), x, y).astype(np.float32)


def expm1(x: Floats) -> Floats:
    """e^x - 1, exact near 0."""
    inside = np.minimum(np.maximum(np.where(np.isnan(x), F(0), x), EXP_LEAST), EXP_MOST).astype(np.float32)
    _, minus_one, n = _reduced(inside)
    return np.where(n == 0, np.where(np.isnan(x), x, minus_one), exp(x) - F(1)).astype(np.float32)


def log(x: Floats) -> Floats:
    """The natural logarithm; -infinity at 0, NaN below."""
    tiny = x < F(1.17549435e-38)
    bits = np.where(tiny, x * F(8388608.0), x).astype(np.float32).view(np.int32)
    e = ((bits >> 23) & 255) - 126 - np.where(tiny, 23, 0)
    m = ((bits & 0x7FFFFF) | 0x3F000000).astype(np.int32).view(np.float32)  # 0.5 … 1
    low = m < SQRT_HALF
    m = np.where(low, m + m, m) - F(1)
    n = (e - low).astype(np.float32)
    z = m * m
    y = polynomial(LOG, m.astype(np.float32)) * z * m
    y = y + n * LN2_LOW
    y = y - z * F(0.5)
    y = (m + y) + n * LN2_HIGH
    y = np.where(x == F(np.inf), x, y)
    y = np.where(x == 0, F(-np.inf), y)
    return np.where((x < 0) | np.isnan(x), F(np.nan), y).astype(np.float32)


def tanh(x: Floats) -> Floats:
    size = np.abs(x)
    z = x * x
    small = polynomial(TANH, np.minimum(z, F(1))) * z * x + x
    with np.errstate(over="ignore"):
        large = F(1) - F(2) / (exp(np.minimum(size, F(10)) * F(2)) + F(1))
    y = np.where(size < F(0.625), small, np.copysign(large, x))
    return np.where(np.isnan(x), x, y).astype(np.float32)


def logistic(x: Floats) -> Floats:
    """1 / (1 + e^-x), with TFLite's ends: 1 above 16.6, e^x below -9."""
    y = F(1) / (F(1) + exp(-np.maximum(x, LOGISTIC_LEAST)))
    y = np.where(x > LOGISTIC_MOST, F(1), y)
    return np.where(x < LOGISTIC_LEAST, exp(x), np.where(np.isnan(x), x, y)).astype(np.float32)


def _circle(x: Floats, turn: int) -> Floats:
    """sin(x + turn * pi / 2)."""
    inside = np.abs(x) <= LARGEST_ANGLE
    angle = np.where(inside, x, F(0)).astype(np.float32)
    n = np.rint(angle * TWO_OVER_PI)
    r = angle
    for part in HALF_PI:
        r = r - n * part
    z = r * r
    sine = polynomial(SINE, z) * z * r + r
    cosine = polynomial(COSINE, z) * z * z - z * F(0.5) + F(1)
    quadrant = (n.astype(np.int32) + turn) & 3
    y = np.where(quadrant & 1, cosine, sine)
    return np.where(inside, np.where(quadrant & 2, -y, y), F(np.nan)).astype(np.float32)


def sin(x: Floats) -> Floats:
    return _circle(x, 0)


def cos(x: Floats) -> Floats:
    return _circle(x, 1)


def erfc(x: Floats) -> Floats:
    """1 - erf(x): a polynomial in x^2 up to 1, then e^(-x^2) times one in 1 / (1 + x / 2)."""
    size = np.abs(x)
    near = polynomial(ERF_NEAR, np.minimum(x * x, F(1))) * x
    far = exp(-(size * size)) * polynomial(ERF_FAR, F(1) / (F(1) + F(0.5) * size))
    y = np.where(size <= F(1), F(1) - near, np.where(x < 0, F(2) - far, far))
    return np.where(np.isnan(x), x, y).astype(np.float32)


def power(x: Floats, y: Floats) -> Floats:
    """x^y: e^(y log |x|), with the sign of x where y is odd and NaN where x < 0 and y is no integer; 1 where y is 0."""
    size = np.abs(x)
    with np.errstate(over="ignore", invalid="ignore"):
        result = exp(log(size) * y)
    whole = np.abs(y) >= F(8388608.0)
    integer = whole | (np.trunc(np.where(whole, F(0), y)) == y)
    odd = ~whole & integer & ((np.where(whole | ~integer, F(0), y).astype(np.int32) & 1) == 1)
    negative = np.signbit(x)
    result = np.where(negative & odd, -result, result)
    result = np.where(negative & ~integer & (x != 0), F(np.nan), result)
    result = np.where(y == F(1), x, np.where(y == F(2), x * x, result))
    return np.where((y == 0) | (x == F(1)), F(1), result).astype(np.float32)
