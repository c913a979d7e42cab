"""Decoding of CTC outputs: by hand, by all paths, and bad input."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastrnn as fr
from fastrnn.errors import ArgumentError, DTypeError, LengthsError, ShapeError, TokenError


def logits_of(*paths: list[int], V: int = 4) -> Any:
    return 9.0 * np.eye(V)[np.array(paths).T]


def test_greedy_by_hand() -> None:
    logits = logits_of([0, 1, 1, 0, 1, 2], [3, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0], [1, 2, 0, 0, 2, 2])
    wanted = [[1, 1, 2], [3], [], [1, 2, 2]]
    for found, labels in zip(fr.ctc_greedy_decode(logits), wanted, strict=True):
        assert found.dtype == np.int64
        assert_array_equal(found, labels)
    assert_array_equal(fr.ctc_greedy_decode(logits, [2, 6, 1, 3])[3], [1, 2])
    assert_array_equal(fr.ctc_greedy_decode(logits, blank=2)[0], [0, 1, 0, 1])


def test_beam_finds_what_the_best_path_misses() -> None:
    # Graves 2006: at both steps blank 0.6 and label 0.4. Best path: nothing, 0.36. Labels (1,): 0.16 + 2 * 0.24 = 0.64.
    logits = np.log(np.full((2, 1, 2), [0.6, 0.4]))
    assert_array_equal(fr.ctc_greedy_decode(logits)[0], [])
    ((first, second),) = fr.ctc_beam_decode(logits, top=2)
    assert_array_equal(first[0], [1])
    assert first[1] == pytest.approx(np.log(0.64))
    assert_array_equal(second[0], [])
    assert second[1] == pytest.approx(np.log(0.36))


def test_a_wide_beam_finds_all_likelihoods(rng: np.random.Generator, dtype: Any) -> None:
    logits = rng.standard_normal((5, 3, 3)).astype(dtype)
    lengths = [5, 2, 4]
    for n, beam in enumerate(fr.ctc_beam_decode(logits, lengths, blank=1, beam_width=500, top=500)):
        total = 0.0
        for labels, log_p in beam:
            loss, _ = fr.ctc_loss(logits[: lengths[n], n].astype(np.float64), labels, blank=1, reduction="sum")
            assert log_p == pytest.approx(-loss, rel=1e-9, abs=1e-9)
            total += np.exp(log_p)
        assert total == pytest.approx(1)
        assert [log_p for _, log_p in beam] == sorted((log_p for _, log_p in beam), reverse=True)


def test_a_narrow_beam_of_one_is_nearly_greedy() -> None:
    for path in product(range(3), repeat=4):
        logits = logits_of(list(path))
        ((found,),) = fr.ctc_beam_decode(logits, beam_width=1)
        assert_array_equal(found[0], fr.ctc_greedy_decode(logits)[0])


def test_nothing() -> None:
    assert fr.ctc_greedy_decode(np.zeros((3, 0, 2))) == []
    assert fr.ctc_beam_decode(np.zeros((3, 0, 2))) == []
    assert fr.ctc_greedy_decode(np.zeros((0, 1, 2)))[0].size == 0
    assert fr.ctc_beam_decode(np.zeros((0, 1, 2)))[0][0][1] == 0


@pytest.mark.parametrize("decode", [fr.ctc_greedy_decode, fr.ctc_beam_decode])
def test_bad_input(decode: Any) -> None:
    logits, name = np.zeros((4, 2, 3)), decode.__name__
    with pytest.raises(ShapeError, match=rf"{name}: 'logits' must have shape \(T, N, V\), got \(4, 2\)"):
        decode(logits[..., 0])
    with pytest.raises(DTypeError, match=f"{name}: 'logits' must have dtype float32 or float64, got int64"):
        decode(logits.astype(int))
    with pytest.raises(LengthsError, match=rf"{name}: 'lengths' must be in 1\.\.T=4, got 5"):
        decode(logits, [5, 1])
    with pytest.raises(TokenError, match=rf"{name}: 'blank' must be in 0\.\.2, got 3"):
        decode(logits, blank=3)
    for option in ("beam_width", "top"):
        with pytest.raises(ArgumentError, match=f"ctc_beam_decode: '{option}' must be a positive int, got 0"):
            fr.ctc_beam_decode(logits, **{option: 0})
