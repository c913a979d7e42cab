"""Derive the constants of `src_c/kernels/winograd_transform.h` from the points, in exact fractions.

Winograd's convolution F(m, r) finds m outputs of a filter of r taps at alpha = m + r - 1 points p, the last of them infinity:

    y = A^T [(G g) * (B^T d)]       A^T_ip = p^i         G_pj = p^j / f_p         f_p = prod over other finite q of (p - q)
                                    row p of B^T: the coefficients of prod over other finite q of (x - q)

For infinity: A^T has 1 in the last row, G in the last column, and B^T the product over all finite points. With the points 0 and
pairs +-q these are polynomials in x^2, which is the form the header holds.

`python tools/winograd_points.py` prints the constants; `--check` instead compares the header with them, proves every F(m, r) of
the library in fractions, and exits with status 1 if anything differs.

References
----------
S. Winograd, "Arithmetic Complexity of Computations" (1980). A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural
Networks" (CVPR 2016).
"""

from __future__ import annotations

import argparse
import re
import sys
from fractions import Fraction
from itertools import product
from pathlib import Path

HEADER = Path(__file__).resolve().parents[1] / "src_c" / "kernels" / "winograd_transform.h"
# The pairs +-q beside 0 and infinity, chosen by the error against float64: {0, +-1, +-2} has twice that of the first set, and
# the powers of the second are exact.
PAIRS = {6: (Fraction(2, 3), Fraction(3, 2)), 8: (Fraction(1, 2), Fraction(1), Fraction(2))}
OUTPUTS = {6: (2, 3, 4), 8: (4, 5, 6)}
POWERS = 6

Matrix = list[list[Fraction]]


def times(a: list[Fraction], b: list[Fraction]) -> list[Fraction]:
    """The product of two polynomials, lowest power first."""
    result = [Fraction(0)] * (len(a) + len(b) - 1)
    for (i, x), (j, y) in product(enumerate(a), enumerate(b)):
        result[i + j] += x * y
    return result


def polynomial(roots: list[Fraction]) -> list[Fraction]:
    """The polynomial with these roots and leading coefficient 1."""
    result = [Fraction(1)]
    for root in roots:
        result = times(result, [-root, Fraction(1)])
    return result


def constants(alpha: int) -> dict[str, list[list[Fraction]]]:
    """The tables of the header for one number of points."""
    pairs = PAIRS[alpha]
    squares = [q * q for q in pairs]
    others = [[square for square in squares if square != squares[i]] for i in range(len(pairs))]
    scale = [1 / polynomial(squares)[0]]
    scale += [1 / (2 * q * q * polynomial_at(others[i], q * q)) for i, q in enumerate(pairs)]
    return {
        "power": [[q**j for j in range(POWERS)] for q in pairs],
        "zero": [polynomial(squares)],
        "pair": [polynomial(rest) for rest in others],
        "scale": [scale],
    }


def polynomial_at(roots: list[Fraction], x: Fraction) -> Fraction:
    """The polynomial with these roots at x."""
    result = Fraction(1)
    for root in roots:
        result *= x - root
    return result


def matrices(alpha: int, m: int) -> tuple[Matrix, Matrix, Matrix]:
    """A^T, G and B^T of F(m, alpha - m + 1), from the tables as the kernels combine them."""
    tables, r, h = constants(alpha), alpha - m + 1, len(PAIRS[alpha])
    gather = [[Fraction(i == 0)] + [Fraction(0)] * (alpha - 2) + [Fraction(i == m - 1)] for i in range(max(m, r))]
    bt = [[Fraction(0)] * alpha for _ in range(alpha)]
    for k, c in enumerate(tables["zero"][0]):
        bt[0][2 * k], bt[alpha - 1][2 * k + 1] = c, c
    for i in range(h):
        for j in range(max(m, r)):
            gather[j][1 + 2 * i] = tables["power"][i][j]
            gather[j][2 + 2 * i] = (-1) ** j * tables["power"][i][j]
        for sign in (1, -1):
            row = bt[1 + 2 * i + (sign < 0)]
            for k, c in enumerate(tables["pair"][i]):
                row[2 * k + 2] = c
                row[2 * k + 1] = sign * tables["power"][i][1] * c
    scale = tables["scale"][0]
    factors = [scale[0]] + [scale[1 + i // 2] for i in range(2 * h)]
    g = [[gather[j][p] * factors[p] for j in range(r)] for p in range(alpha - 1)]
    g.append([Fraction(j == r - 1) for j in range(r)])
    return gather[:m], g, bt


def is_convolution(alpha: int, m: int) -> bool:
    """Whether sum_p A^T[i][p] G[p][j] B^T[p][k] is 1 where k = i + j, else 0: the algorithm is exact."""
    at, g, bt = matrices(alpha, m)
    cells = product(range(m), range(alpha - m + 1), range(alpha))
    return all(sum(at[i][p] * g[p][j] * bt[p][k] for p in range(alpha)) == (k == i + j) for i, j, k in cells)


def in_header(name: str) -> list[float]:
    """The numbers of one array of the header, in order, zeros left out."""
    found = re.search(rf"winograd_{name}\[[^=]*= (.*?);", HEADER.read_text(), re.DOTALL)
    if found is None:
        raise SystemExit(f"{HEADER}: no array winograd_{name}")
    return [value for value in map(float, re.findall(r"-?\d+(?:\.\d+)?", found[1])) if value]


def check() -> int:
    """Return 1 if the header differs, or a transform is not exact."""
    wrong = [
        f"F({m}, {alpha - m + 1}) is no convolution"
        for alpha, ms in OUTPUTS.items()
        for m in ms
        if not is_convolution(alpha, m)
    ]
    for name in ("power", "zero", "pair", "scale"):
        exact = [float(c) for alpha in PAIRS for row in constants(alpha)[name] for c in row if c]
        if in_header(name) != exact:
            wrong.append(f"winograd_{name} differs: {exact}")
    print("\n".join(wrong) or "the header agrees")
    return 1 if wrong else 0


def main() -> int:
    """Print or check."""
    parser = argparse.ArgumentParser(description="The constants of src_c/kernels/winograd_transform.h")
    parser.add_argument("--check", action="store_true", help="compare the header instead of printing")
    if parser.parse_args().check:
        return check()
    for alpha in PAIRS:
        for name, rows in constants(alpha).items():
            print(f"{alpha} points, {name}:", *("{" + ", ".join(f"{float(c):.17g}" for c in row) + "}" for row in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
