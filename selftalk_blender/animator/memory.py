"""What to do where a device's memory does not suffice: take less at once, then the CPU."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device's memory ran out."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error)
    )


def with_less(run: Callable[[torch.device, int], T], device: torch.device, notices: list[str]) -> T:
    """Run something with whole windows, with halves, with quarters, and then on the CPU.

    Args:
        run: called with the device and with what to divide windows by; begins anew each time.
        device: where to begin.
        notices: gets a sentence where less than everything had to do.

    Returns:
        What `run` returns.

    Raises:
        RuntimeError: memory runs out on the CPU, too; or `run` fails for another reason.
    """
    for divisor in (1, 2, 4):
        try:
            result = run(device, divisor)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        else:
            if divisor > 1:
                notices.append(
                    f"The graphics card's memory ran out, so the clip was animated in windows of "
                    f"1/{divisor} of the usual length: the motion may be a little less exact. "
                    "Free its memory (end a render, close other programs) for whole ones."
                )
            return result
        # Only here is the error, with all that its frames hold, gone.
        gc.collect()
        torch.cuda.empty_cache()
    notices.append(
        "The graphics card's memory ran out, so the clip was animated on the CPU, which takes "
        "longer. Free its memory (end a render, close other programs), or choose the device CPU."
    )
    return run(torch.device("cpu"), 1)
