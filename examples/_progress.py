"""What one sees while an example runs, and how one ends it early: a line on the terminal, Ctrl-C."""

from __future__ import annotations

import math
import signal
import sys
import time
from types import FrameType, TracebackType
from typing import Any, final

__all__ = ["ProgressBar", "StopRequest", "clock"]


@final
class ProgressBar:
    """One line on stderr: tqdm's bar if it is installed, else the percentage alone.

    It is drawn ten times a second at most, and every 5 seconds if stderr is not a terminal.
    """

    def __init__(self) -> None:
        self._interval = 0.1 if sys.stderr.isatty() else 5.0
        self._drawn = -math.inf
        self._width = 0
        self._bar = _tqdm_bar()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._width:
            print(file=sys.stderr)

    def show(self, fraction: float, text: str) -> None:
        """Draw the line, unless that was done just before."""
        now = time.monotonic()
        if now - self._drawn < self._interval and fraction < 1:
            return
        self._drawn = now
        if self._bar is not None:
            self._bar.n = fraction
            self._bar.set_description_str(text)
        else:
            self._write(f"{fraction:4.0%} {text}")

    def say(self, line: str) -> None:
        """Print a line of its own above the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
            return
        self._write(line)
        print(file=sys.stderr)
        self._width = 0

    def _write(self, line: str) -> None:
        """Write over the line that is there."""
        print("\r" + line.ljust(self._width), end="", file=sys.stderr, flush=True)
        self._width = len(line)


def _tqdm_bar() -> Any:
    """Return tqdm's bar for fractions from 0 to 1, or None without tqdm."""
    try:
        from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        return None
    return tqdm(total=1.0, file=sys.stderr, bar_format="{percentage:3.0f}%|{bar:20}| {desc}")


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


@final
class StopRequest:
    """Within a ``with`` block Ctrl-C only sets `made`; a second one interrupts at once."""

    def __init__(self) -> None:
        self.made = False

    def __enter__(self) -> StopRequest:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.made = True
        signal.signal(signal.SIGINT, self._before)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)
