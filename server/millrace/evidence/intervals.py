"""Exact bounds of a rate that was counted (Clopper and Pearson 1934).

They are quantiles of beta distributions, which are found by bisection on the regularised incomplete beta function. That
is computed by its continued fraction (DLMF 8.17.22). Counts need not be whole: those of a weighted sample are not.
"""

import math

_TINY, _ENOUGH = 1e-300, 1e-12
_STEPS, _HALVINGS = 500, 60


def lower(count: float, of: float, tail: float) -> float:
    """Return the bound below which the rate lies in `tail` of all cases at most."""
    return 0.0 if count <= 0 else _quantile(tail, count, of - count + 1)


def upper(count: float, of: float, tail: float) -> float:
    """Return the bound above which the rate lies in `tail` of all cases at most."""
    return 1.0 if count >= of else _quantile(1 - tail, count + 1, of - count)


def _quantile(share: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _incomplete_beta(middle, a, b) < share else (low, middle)
    return (low + high) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the share of a beta distribution that is below x."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):  # there the fraction of the other side converges faster
        return 1 - front * _fraction(1 - x, b, a) / b
    return front * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction by Lentz's method."""
    c, d = 1.0, _away_from_zero(1 - (a + b) * x / (a + 1))
    d = 1 / d
    value = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            change = c * d
            value *= change
        if abs(change - 1) < _ENOUGH:
            break
    return value


def _away_from_zero(number: float) -> float:
    return number if abs(number) > _TINY else _TINY
