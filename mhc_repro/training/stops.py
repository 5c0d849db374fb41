"""Ctrl-C and SIGTERM are requests: what runs is ended in good order and saved, and nothing new is begun.

A terminal sends a signal to all processes, and the parent of a parallel launcher passes it on: what comes
within a second is the same request. A later one means it, and does what it would have done without us.
No torch here: a process that is still importing it must already listen.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
USUAL = signal.SIG_DFL, signal.SIG_IGN, None
SAME_REQUEST = 1.0  # seconds

_asked_at: float | None = None  # in this process
_asked_by: int = signal.SIGINT
_listeners = 0


class Stopped(BaseException):
    """Ends at once what there is nothing to save of."""


def requested() -> bool:
    """Say whether this process was asked to stop."""
    return _asked_at is not None


def asked_by() -> int:
    """Return the signal that asked this process to stop, 0 for none."""
    return _asked_by if requested() else 0


def hand_over() -> None:
    """Pass a request on to whoever listened for its signal before, and has not heard of it yet."""
    if asked_by() in _others():
        signal.raise_signal(_asked_by)


def ask(number: int) -> None:
    """Ask this process to stop, as the signal `number` would."""
    global _asked_at, _asked_by
    if not requested():
        _asked_at, _asked_by = time.monotonic(), number


def exit_code() -> int:
    """Return what a shell calls a process that a request ended: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + _asked_by


def forget() -> None:
    """Begin anew: whatever was asked before is done with."""
    global _asked_at, _asked_by
    _asked_at, _asked_by = None, signal.SIGINT


@contextmanager
def taken(first: Callable[[int], None] = lambda number: None) -> Iterator[None]:
    """Take the signals as requests while the block runs, and call `first` with the number of the first one."""
    restore = listen(first)
    try:
        yield
    finally:
        restore()


def listen(first: Callable[[int], None] = lambda number: None) -> Callable[[], None]:
    """Take the signals as requests from now on; return what undoes it. Outside the main thread none are taken.

    Who begins to listen while nobody does begins anew; else a request that came before stands.
    """
    global _listeners
    before: dict[signal.Signals, Any] = {}

    def on_signal(number: int, frame: FrameType | None) -> None:
        if _asked_at is None:
            ask(number)
            first(number)
        elif time.monotonic() - _asked_at > SAME_REQUEST:
            restore()
            signal.raise_signal(number)

    def restore() -> None:  # once, by a second request or by whoever listened
        global _listeners
        _listeners -= bool(before)
        while before:
            signal.signal(*before.popitem())

    if not _listeners:
        forget()
    if threading.current_thread() is threading.main_thread():
        _listeners += 1
        before |= {each: signal.signal(each, on_signal) for each in (*SIGNALS, *_others())}
    return restore


def _others() -> list[signal.Signals]:
    """Return the signal with which submitit is told that a job's time is up, where submitit listens for it."""
    return [each for each in (signal.SIGUSR2,) if signal.getsignal(each) not in USUAL]


@contextmanager
def held() -> Iterator[None]:
    """Hold the signals back while the block runs; a process begun in it holds them until it lets go."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_go() -> None:
    """Take the signals that were held back, and those to come."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def leave(number: int) -> None:
    """Stop here and now."""
    raise Stopped


def say(number: int) -> None:
    """Tell that a request came; whoever read this may be gone."""
    with suppress(OSError, RuntimeError):
        print("stopping after this step ...", file=sys.stderr)
