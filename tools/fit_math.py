"""Fit the constants of `src_c/kernels/vmath_f32.h` and `vmath_f64.h`.

Each array is a polynomial whose relative error, as an approximation of a function on a reduced range, is the smallest possible,

    f(x) ~ sum_i c_i x^p_i        minimise  max |sum_i c_i x^p_i - f(x)| / |f(x)|

found by the Remez exchange: at one point more than there are unknowns the error has to be E with alternating signs, which is a
linear system in c and E; the points then move to where the error is largest. The first coefficients are fixed at 1, to keep
exp(0) = 1, tanh(x) ~ x and atanh(x) ~ x exact. The others are rounded to the target precision one after the other, highest power
first, each time fitting the remaining ones anew, so that lower powers make good the rounding of higher ones.

`python tools/fit_math.py` prints the constants as they stand in the headers, with the attained errors; `--check` instead
compares the headers with the fit and exits with status 1 if they differ.

References
----------
E. Ya. Remez, "Sur le calcul effectif des polynomes d'approximation de Tchebichef", C. R. Acad. Sci. 199 (1934).
W. J. Cody, W. Waite, "Software Manual for the Elementary Functions" (1980): ln 2 in two parts for an exact reduction.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np

Real = Any  # mpmath.mpf, which carries no type annotations
Coefficients = dict[int, Real]  # by power of x

KERNELS = Path(__file__).resolve().parents[1] / "src_c" / "kernels"
BITS = {"f32": 24, "f64": 53}
GRID = 600  # the error between grid points is larger by less than 1e-4 of itself
DIGITS = 50


@dataclass
class Constants:
    """What one header holds, by name, and the relative errors of its polynomials."""

    values: dict[str, list[Real]]
    errors: dict[str, Real]


def evaluate(coefficients: Coefficients, x: Real) -> Real:
    """The polynomial at x."""
    return sum((c * x**power for power, c in coefficients.items()), mp.mpf(0))


def relative_errors(f: Callable[[Real], Real], coefficients: Coefficients, xs: list[Real]) -> list[Real]:
    """Error at each point, relative to |f|."""
    return [(evaluate(coefficients, x) - f(x)) / abs(f(x)) for x in xs]


def alternating_peaks(errors: list[Real]) -> list[int]:
    """Index of the largest error within each run of one sign."""
    peaks, start = [], 0
    for i in range(1, len(errors) + 1):
        if i == len(errors) or (errors[i] > 0) != (errors[start] > 0):
            peaks.append(max(range(start, i), key=lambda j: abs(errors[j])))
            start = i
    return peaks


def solve(f: Callable[[Real], Real], xs: list[Real], fixed: Coefficients, free: list[int]) -> Coefficients:
    """Coefficients whose relative error has one size and alternating signs at the points, one more than are free."""
    matrix, right = mp.matrix(len(xs), len(xs)), mp.matrix(len(xs), 1)
    for row, x in enumerate(xs):
        size = abs(f(x))
        for column, power in enumerate(free):
            matrix[row, column] = x**power / size
        matrix[row, len(free)] = (-1) ** row
        right[row] = (f(x) - evaluate(fixed, x)) / size
    solution = mp.lu_solve(matrix, right)
    return fixed | {power: solution[i] for i, power in enumerate(free)}


def exchange(f: Callable[[Real], Real], grid: list[Real], fixed: Coefficients, free: list[int]) -> Coefficients:
    """Remez exchange on the grid, which has to be dense where extrema crowd.

    Beside fixed, rounded coefficients the error may have more extrema than the reference holds; the exchange can then go round in
    circles close to the optimum, so the best polynomial met is what counts.
    """
    k = len(free) + 1
    reference = [(len(grid) - 1) * (2 * i + 1) // (2 * k) for i in range(k)]
    seen: list[list[int]] = []
    best, least = fixed, mp.inf
    while reference not in seen:
        seen.append(reference)
        found = solve(f, [grid[i] for i in reference], fixed, free)
        errors = relative_errors(f, found, grid)
        if (error := max(abs(e) for e in errors)) < least:
            best, least = found, error
        peaks = alternating_peaks(errors)
        if len(peaks) < k:
            raise ArithmeticError("the error does not alternate often enough")
        while len(peaks) > k:
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
        reference = peaks
    return best


def round_to(x: Real, bits: int) -> Real:
    """x rounded to a significand of that many bits."""
    with mp.workprec(bits):
        return +x


def fit(
    f: Callable[[Real], Real], grid: list[Real], fixed: Coefficients, free: list[int], bits: int
) -> tuple[list[Real], Real]:
    """Rounded coefficients, lowest power first, and the error of the polynomial that has them."""
    left = sorted(free)
    while left:
        power = left[-1]
        fixed = fixed | {power: round_to(exchange(f, grid, fixed, left)[power], bits)}
        left.pop()
    error = max(abs(e) for e in relative_errors(f, fixed, grid))
    return [fixed[power] for power in sorted(fixed)], error


def symmetric(limit: Real) -> list[Real]:
    """Chebyshev points of [-limit, limit], without 0."""
    return [-limit * mp.cos(mp.pi * i / (GRID - 1)) for i in range(GRID)]


def positive(limit: Real) -> list[Real]:
    """The upper half of such points, (0, limit]: enough for an odd function."""
    return [limit * mp.sin(mp.pi * i / (2 * GRID)) for i in range(1, GRID + 1)]


def mills(x: Real) -> Real:
    """The upper tail of the normal distribution without its exponential: (1 - Phi(x)) exp(x^2 / 2)."""
    return mp.exp(x * x / 2) * mp.erfc(x / mp.sqrt(2)) / 2


def fit_normal(dtype: str) -> tuple[list[Real], Real]:
    """`mills` over s = 4 / (4 + x) in powers of s, for all x >= 0 whose tail is not zero: from there on nothing matters."""
    bits, largest, degree = {"f32": (24, mp.mpf("14.5"), 9), "f64": (53, mp.mpf("38.7"), 22)}[dtype]
    low = 4 / (4 + largest)
    grid = [(1 + low) / 2 + (1 - low) / 2 * x for x in symmetric(mp.mpf(1))]
    return fit(lambda s: mills(4 / s - 4) / s, grid, {}, list(range(degree + 1)), bits)


def constants(dtype: str) -> Constants:
    """Fit everything for one dtype.

    The reduced ranges, |x| <= ln 2 / 2 for exp and half that for tanh, are widened by the rounding of the multiple of ln 2; that of
    atanh, |x| <= 1 / 3, by the rounding of a quotient.
    """
    sizes = {"f32": (24, 9, 6, 3, 6), "f64": (53, 11, 11, 7, 12)}
    bits, exponent_bits, exp_degree, tanh_terms, atanh_terms = sizes[dtype]
    one, ln2 = mp.mpf(1), mp.log(2)
    limit = ln2 / 2 * mp.mpf("1.00001")
    exp, exp_error = fit(mp.exp, symmetric(limit), {0: one, 1: one}, list(range(2, exp_degree + 1)), bits)
    odd = [2 * i + 1 for i in range(1, tanh_terms)]
    tanh, tanh_error = fit(mp.tanh, positive(limit / 2), {1: one}, odd, bits)
    odd = [2 * i + 1 for i in range(1, atanh_terms)]
    atanh, atanh_error = fit(mp.atanh, positive(mp.mpf(1) / 3 * mp.mpf("1.00001")), {1: one}, odd, bits)
    normal, normal_error = fit_normal(dtype)
    high = round_to(ln2, bits - exponent_bits)
    values = {
        "LOG2E": [round_to(1 / ln2, bits)],
        "LN2_SPLIT": [high, round_to(ln2 - high, bits)],
        "EXP": exp,
        "TANH": tanh,
        "ATANH": atanh,
        "NORMAL": normal,
    }
    if dtype == "f32":
        values["LN2"] = [round_to(ln2, bits)]
    return Constants(values, {"EXP": exp_error, "TANH": tanh_error, "ATANH": atanh_error, "NORMAL": normal_error})


def literal(x: Real, dtype: str) -> str:
    """Shortest decimal form that reads back as the same number."""
    return f"{np.float32(float(x))!s}f" if dtype == "f32" else repr(float(x))


def declaration(name: str, values: list[Real], dtype: str) -> str:
    """A C definition of the constant or array."""
    texts = [literal(x, dtype) for x in values]
    if len(texts) == 1:
        return f"static const real {name} = {texts[0]};"
    text = f"static const real {name}[] = {{{', '.join(texts)}}};"
    return textwrap.fill(text, width=120, subsequent_indent="    ")


def read_header(dtype: str) -> dict[str, list[str]]:
    """Literals of the header's constants by name."""
    text = (KERNELS / f"vmath_{dtype}.h").read_text(encoding="utf-8")
    found = re.findall(r"^static const real (\w+)(?:\[\])? = \{?([^;}]*)\}?;", text, re.MULTILINE)
    return {name: [value.strip() for value in values.split(",")] for name, values in found}


def show(dtype: str, fitted: Constants) -> None:
    """Print the declarations and the errors."""
    for name, values in fitted.values.items():
        print(declaration(name, values, dtype))
    for name, error in fitted.errors.items():
        print(f"// {name} {dtype}: relative error {mp.nstr(error, 3)} = 2^{mp.nstr(mp.log(error, 2), 4)}")


def differences(dtype: str, fitted: Constants) -> list[str]:
    """One line for each constant that is not in the header as fitted."""
    header = read_header(dtype)
    return [
        f"vmath_{dtype}.h: {name} should be: {declaration(name, values, dtype)}"
        for name, values in fitted.values.items()
        if header.get(name) != [literal(x, dtype) for x in values]
    ]


def main() -> int:
    """Print or check the constants of both headers."""
    parser = argparse.ArgumentParser(description="Fit the constants of src_c/kernels/vmath_*.h.")
    parser.add_argument("--check", action="store_true", help="compare the headers with the fit")
    check: bool = parser.parse_args().check
    mp.mp.dps = DIGITS
    wrong: list[str] = []
    for dtype in BITS:
        fitted = constants(dtype)
        if check:
            wrong += differences(dtype, fitted)
        else:
            show(dtype, fitted)
    print("\n".join(wrong), end="\n" if wrong else "")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
