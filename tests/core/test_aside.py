"""Work on a thread beside the caller's."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from selftalk_blender.core.aside import aside
from selftalk_blender.core.steps import at_last, paced


def test_the_caller_goes_on_while_it_works_and_has_the_result() -> None:
    go = threading.Event()
    steps = aside(lambda: go.wait(10.0) and threading.current_thread())
    next(steps), next(steps)
    go.set()
    assert at_last(steps) is not threading.current_thread()


def test_what_is_raised_there_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        at_last(aside(lambda: 1 // 0))


def test_closed_it_ends_steps_early_and_leaves_the_interpreter_as_it_was() -> None:
    usual, ended = sys.getswitchinterval(), threading.Event()

    def work() -> Iterator[None]:
        try:
            while True:
                yield
        finally:
            ended.set()

    steps = paced(aside(work), 0.5)
    assert [next(steps), next(steps)] == [0.5, 0.5]
    steps.close()
    assert ended.wait(10.0)
    assert sys.getswitchinterval() == usual


def test_two_at_once_leave_the_interpreter_as_it_was_in_whatever_order_they_end() -> None:
    usual, go = sys.getswitchinterval(), threading.Event()
    first, second = aside(lambda: go.wait(10.0)), aside(lambda: go.wait(10.0))
    next(first), next(second)
    first.close()
    go.set()
    at_last(second)
    assert sys.getswitchinterval() == usual
