"""Where networks run."""

from __future__ import annotations

import torch

from ..core.errors import SelfTalkError
from .memory import out_of_memory


def usable_device(name: str | None) -> torch.device:
    """The device of that name, tried; None takes CUDA where there is one.

    One whose memory is all taken is there, too: see `memory.with_less`.

    Raises:
        SelfTalkError: this machine, or this PyTorch, has no such device.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        if out_of_memory(error):
            return device
        first = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise SelfTalkError(f"The device {name} cannot be used ({first}); choose CPU.") from error
    return device
