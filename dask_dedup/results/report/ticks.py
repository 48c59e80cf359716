"""Choose round numbers for the ticks of an axis, the bins of a histogram and a scale bar."""

from __future__ import annotations

import math

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def round_step(least: float, *, steps: tuple[float, ...] = _STEPS) -> float:
    """Return the smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `least`.

    Examples
    --------
    >>> round_step(3), round_step(0.21), round_step(25)
    (5.0, 0.25, 25.0)
    """
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in steps if step * power >= least * (1 - 1e-9))


def make_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return at least three and about `most` round numbers from `low` to `high`.

    Examples
    --------
    >>> make_ticks(0, 250)
    [0.0, 50.0, 100.0, 150.0, 200.0, 250.0]
    >>> make_ticks(0.31, 0.92, 4)
    [0.4, 0.6, 0.8]
    """
    step = round_step((high - low) / most)
    while True:
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        if last - first >= 2:
            return [float(f"{number * step:.12g}") for number in range(first, last + 1)]
        step = round_step(step / 2.6)


def show(value: float) -> str:
    """Format a number of an axis, with commas and without needless digits.

    Examples
    --------
    >>> show(10000.0), show(0.25), show(-3.0)
    ('10,000', '0.25', '-3')
    """
    return f"{value:,.12g}" if abs(value) < 1e6 else f"{value:,.0f}"


def figures(value: float, digits: int = 3) -> str:
    """Format a measured number with some significant digits.

    Examples
    --------
    >>> figures(41.27, 2), figures(0.08871, 2), figures(1234.5), figures(100.0)
    ('41', '0.089', '1,234', '100')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
