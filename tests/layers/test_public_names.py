"""What `import fastrnn` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fastrnn as fr


def test_every_public_name_is_there() -> None:
    for module in (fr, fr.decode, fr.errors, fr.init, fr.io, fr.layers, fr.losses, fr.optim):
        assert len(set(module.__all__)) == len(module.__all__)
        for name in module.__all__:
            assert getattr(module, name) is not None


def test_version() -> None:
    assert fr.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="module 'fastrnn' has no attribute 'nothing'"):
        _ = fr.nothing


def test_errors_are_those_a_caller_expects() -> None:
    bases = {
        "ArgumentError": ValueError,
        "DTypeError": TypeError,
        "FileFormatError": OSError,
        "GradientError": AssertionError,
        "LengthsError": ValueError,
        "ShapeError": ValueError,
        "StateDictError": KeyError,
        "TokenError": IndexError,
    }
    assert set(fr.errors.__all__) == set(bases)
    for name, base in bases.items():
        error = getattr(fr.errors, name)
        assert issubclass(error, base)
        assert str(error("two\nlines")) == "two\nlines"


def test_import_is_light() -> None:
    """No scipy, torch or safetensors until something needs them."""
    code = "import sys, fastrnn; print(*[n for n in ('scipy', 'torch', 'safetensors') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
