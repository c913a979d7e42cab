"""Fit the constants of `src_c/kernels/vmath_f32.h` and `vmath_f64.h`.

Each approximation is a minimax fit of its relative error,

    sum_i a_i x^i  /  sum_j b_j x^j   ~   f(x)

found by the Remez exchange. At a reference of as many points as there are unknowns, the error has to be E with alternating
signs. For coefficients a, b up to a common factor that is a linear eigenvalue problem with eigenvalue 1 / E, and the wanted
solution is the one whose denominator has no zero. Coefficients are then rounded to the target precision one after the other,
highest power first, each time fitting the remaining ones anew, so that lower powers make good the rounding of higher ones.
(The other way round would leave x^3, x^4, ... free, whose combinations change sign at 0 and need not alternate.)

`python tools/fit_math.py` prints the constants as they stand in the headers, with the attained errors; `--check` instead
compares the headers with the fit and exits with status 1 if they differ.

References
----------
W. J. Cody, W. Fraser, J. F. Hart, "Rational Chebyshev approximation using linear equations", Numer. Math. 12 (1968).
W. J. Cody, W. Waite, "Software Manual for the Elementary Functions" (1980): splitting ln 2 for an exact reduction.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np

Real = Any  # mpmath.mpf, which carries no type annotations
Key = tuple[str, int]  # ("a", i) for x^i in the numerator, ("b", j) for x^j in the denominator

KERNELS = Path(__file__).resolve().parents[1] / "src_c" / "kernels"
GRID = 400
DIGITS = 50


@dataclass
class Fit:
    """A rational function, some of whose coefficients are already fixed.

    `points` maps an interval length to the grid of that interval, dense where extrema crowd; `free` are the coefficients to
    find, in the order in which they are rounded.
    """

    f: Callable[[Real], Real]
    points: Callable[[Real], list[Real]]
    length: Real
    free: list[Key]
    fixed: dict[Key, Real]
    reference: list[int] = field(default_factory=list)
    error: Real = 0

    def parts(self, x: Real, coefficients: dict[Key, Real]) -> tuple[Real, Real]:
        """Numerator and denominator at x."""
        num = sum((c * x**i for (part, i), c in coefficients.items() if part == "a"), mp.mpf(0))
        den = sum((c * x**j for (part, j), c in coefficients.items() if part == "b"), mp.mpf(0))
        return num, den

    def solve(self, xs: list[Real], fs: list[Real]) -> dict[Key, Real]:
        """Coefficients whose error alternates with one size at the reference, smallest size first.

        (num - f den) / |f| = s E den at each point: column 0 holds the fixed part, the others one free coefficient each.
        """
        k = len(self.free) + 1
        left, right = mp.matrix(k, k), mp.matrix(k, k)
        for row, index in enumerate(self.reference):
            x, f, s = xs[index], fs[index], (-1) ** row
            columns = [self.parts(x, self.fixed)] + [self.parts(x, {key: mp.mpf(1)}) for key in self.free]
            for column, (num, den) in enumerate(columns):
                left[row, column] = (num - f * den) / abs(f)
                right[row, column] = s * den
        values, vectors = mp.eig(mp.inverse(left) * right)
        for index in sorted(range(k), key=lambda i: -abs(values[i])):
            if abs(mp.im(values[index])) > abs(values[index]) * mp.mpf(10) ** -15:
                continue
            vector = [mp.re(vectors[row, index] / vectors[0, index]) for row in range(k)]
            found = self.fixed | dict(zip(self.free, vector[1:], strict=True))
            if all(self.parts(xs[i], found)[1] > 0 for i in self.reference):
                return found
        raise ArithmeticError("no solution without a pole")

    def errors(self, xs: list[Real], fs: list[Real], coefficients: dict[Key, Real]) -> list[Real]:
        """Error relative to |f| on the grid."""
        parts = (self.parts(x, coefficients) for x in xs)
        return [(num / den - f) / abs(f) for f, (num, den) in zip(fs, parts, strict=True)]

    def exchange(self, length: Real) -> dict[Key, Real]:
        """Remez exchange on the interval of that length, from the present reference."""
        xs = [x for x in self.points(length) if x != 0]
        fs = [self.f(x) for x in xs]
        k = len(self.free) + 1
        if len(self.reference) != k:
            self.reference = [(len(xs) - 1) * (i + 1) // k for i in range(k)]
        for _ in range(50):
            found = self.solve(xs, fs)
            errors = self.errors(xs, fs, found)
            peaks = alternating_peaks(errors)
            self.error = max(abs(e) for e in errors)
            if len(peaks) < k:
                raise ArithmeticError("the error does not alternate often enough")
            while len(peaks) > k:
                peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
            if peaks == self.reference or self.error < 1.0001 * min(abs(errors[i]) for i in peaks):
                break
            self.reference = peaks
        return found

    def rounded(self, precision: int) -> dict[Key, Real]:
        """The best fit with all coefficients rounded to `precision` bits; `error` is that of the rounded function.

        Starts on a short interval, where any starting reference converges, and stretches it to the full length.
        """
        length = self.length / 16
        while length < self.length:
            self.exchange(length)
            length *= mp.mpf("1.1")
        while self.free:
            found = self.exchange(self.length)
            key = self.free.pop(0)
            self.fixed[key] = round_to(found[key], precision)
        xs = [x for x in self.points(self.length) if x != 0]
        self.error = max(abs(e) for e in self.errors(xs, [self.f(x) for x in xs], self.fixed))
        return self.fixed


def alternating_peaks(errors: list[Real]) -> list[int]:
    """Index of the largest error within each run of one sign."""
    peaks, start = [], 0
    for i in range(1, len(errors) + 1):
        if i == len(errors) or (errors[i] > 0) != (errors[start] > 0):
            peaks.append(max(range(start, i), key=lambda j: abs(errors[j])))
            start = i
    return peaks


def round_to(x: Real, precision: int) -> Real:
    """x rounded to that many bits."""
    with mp.workprec(precision):
        return +x


def symmetric(length: Real) -> list[Real]:
    """Chebyshev points of [-length, length]."""
    return [-length * mp.cos(mp.pi * i / (GRID - 1)) for i in range(GRID)]


def positive(length: Real) -> list[Real]:
    """The upper half of the Chebyshev points, [0, length]: enough for an odd function."""
    return [length * mp.sin(mp.pi / 2 * i / (GRID - 1)) for i in range(GRID)]


def polynomial(f: Callable[[Real], Real], fixed: dict[Key, Real], degree: int) -> Fit:
    """Fit on the reduced range of exp, |x| <= ln 2 / 2, widened for the rounding of x / ln 2."""
    first = max(i for _, i in fixed) + 1
    free = [("a", i) for i in range(degree, first - 1, -1)]
    return Fit(f, symmetric, mp.log(2) / 2 * mp.mpf("1.0001"), free, fixed | {("b", 0): mp.mpf(1)})


def reduction(precision: int, exponent_bits: int) -> dict[str, list[Real]]:
    """1 / ln 2, and ln 2 in two parts of which the first leaves its product with any exponent exact."""
    high = round_to(mp.log(2), precision - exponent_bits)
    low = round_to(mp.log(2) - high, precision)
    return {"LOG2E": [round_to(1 / mp.log(2), precision)], "LN2": [high, low]}


def saturation(fit: Fit, precision: int) -> Real:
    """Where the fitted tanh has passed 1 by 4 units of its last place, more than its evaluation can lose."""
    target = 1 + mp.mpf(2) ** (3 - precision)

    def excess(x: Real) -> Real:
        num, den = fit.parts(x, fit.fixed)
        return num / den - target

    return round_to(mp.findroot(excess, (fit.length, fit.length * mp.mpf("1.1")), solver="anderson"), precision)


def part(coefficients: dict[Key, Real], name: str) -> list[Real]:
    """Coefficients of the numerator "a" or the denominator "b", lowest power first."""
    return [coefficients[key] for key in sorted(coefficients) if key[0] == name]


def constants_f32() -> tuple[dict[str, list[Real]], dict[str, Real]]:
    """Constants of vmath_f32.h by name, and the errors of the fits."""
    one = mp.mpf(1)
    exp = polynomial(mp.exp, {("a", 0): one, ("a", 1): one}, 6)
    powers: list[Key] = [(name, 2 * i + (name == "a")) for i in range(4, 0, -1) for name in "ab"]
    # 1 - tanh(x) < 2^-25, half a unit in the last place below 1, from x = 13 ln 2 = 9.011 on.
    tanh = Fit(mp.tanh, positive, 13 * mp.log(2), powers, {("a", 1): one, ("b", 0): one})
    names = reduction(24, 9) | {"EXP": part(exp.rounded(24), "a")}
    rational = tanh.rounded(24)
    names |= {"TANH_P": part(rational, "a"), "TANH_Q": part(rational, "b"), "TANH_MAX": [saturation(tanh, 24)]}
    return names, {"EXP": exp.error, "TANH": tanh.error}


def constants_f64() -> tuple[dict[str, list[Real]], dict[str, Real]]:
    """Constants of vmath_f64.h by name, and the errors of the fits."""
    expm1 = polynomial(mp.expm1, {("a", 1): mp.mpf(1)}, 11)
    names = reduction(53, 11) | {"EXPM1": part(expm1.rounded(53), "a")}
    return names, {"EXPM1": expm1.error}


def literal(x: Real, dtype: str) -> str:
    """Shortest decimal form that reads back as the same number."""
    return f"{np.float32(float(x))!s}f" if dtype == "f32" else repr(float(x))


def declaration(name: str, values: list[Real], dtype: str) -> str:
    """A C definition of the constant or array."""
    texts = [literal(x, dtype) for x in values]
    if len(texts) == 1:
        return f"static const real {name} = {texts[0]};"
    return f"static const real {name}[] = {{{', '.join(texts)}}};"


def read_header(dtype: str) -> dict[str, list[str]]:
    """Literals of the header's constants by name."""
    text = (KERNELS / f"vmath_{dtype}.h").read_text()
    found = re.findall(r"^static const real (\w+)(?:\[\])? = \{?([^;}]*)\}?;", text, re.MULTILINE)
    return {name: [value.strip() for value in values.split(",")] for name, values in found}


def main() -> int:
    """Print or check the constants of both headers."""
    parser = argparse.ArgumentParser(description="Fit the constants of src_c/kernels/vmath_*.h.")
    parser.add_argument("--check", action="store_true", help="compare the headers with the fit")
    check: bool = parser.parse_args().check
    mp.mp.dps = DIGITS
    differ = False
    for dtype, fit in (("f32", constants_f32), ("f64", constants_f64)):
        constants, errors = fit()
        header = read_header(dtype) if check else {}
        for name, values in constants.items():
            if not check:
                print(declaration(name, values, dtype))
            elif header.get(name) != [literal(x, dtype) for x in values]:
                differ = True
                print(f"vmath_{dtype}.h: {name} differs; the fit yields\n{declaration(name, values, dtype)}")
        for name, error in errors.items():
            print(f"{dtype} {name}: relative error {mp.nstr(error, 3)} = 2^{mp.nstr(mp.log(error, 2), 4)}")
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
