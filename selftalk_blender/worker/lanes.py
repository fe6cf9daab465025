"""Which of the two lanes animates: PyTorch where this Python has it, else numpy alone.

Both give the same motion. Nothing heavy is imported before an animator is asked for.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from ..animator import Animator as TorchAnimator
    from ..animator import VertexAnimator
    from ..runtime.animate import Animator as NumpyAnimator

    AnyAnimator = TorchAnimator | VertexAnimator | NumpyAnimator


def load_animator(
    path: str | None = None, device: str | None = None, template: np.ndarray | None = None
) -> AnyAnimator:
    """The bundled animator, or one from a file, in the faster lane that there is.

    Args:
        path: an animator that SelfTalk trained; with PyTorch also a published checkpoint.
        device: "cpu", "cuda", ...; None takes CUDA where PyTorch finds it.
        template: (V, 3), the neutral face that a published checkpoint moves.

    Raises:
        SelfTalkError: the file is missing or damaged, the template is missing or does not fit,
            the device is not there, or file or device need PyTorch.
        ImportError: not even numpy is there.
    """
    try:
        from ..animator import load_animator as load
    except Exception as error:  # a broken installation fails in many ways
        broken = torch_is_there()
        return _without_torch(path, device, template, reason(error) if broken else "")
    return load(path, device, template=template)


def torch_is_there() -> bool:
    """Whether this Python has a PyTorch, working or not; nothing is imported."""
    return importlib.util.find_spec("torch") is not None


def _without_torch(
    path: str | None, device: str | None, template: np.ndarray | None, broken: str
) -> NumpyAnimator:
    """Args: broken: why the PyTorch that is there cannot be used; "" where there is none."""
    from ..animator.audio import open_sound
    from ..core.errors import SelfTalkError
    from ..core.inference import refuse_template
    from ..runtime.animate import Animator
    from ..runtime.tensors import is_numpy_animator

    why = f"cannot load ({broken})" if broken else "lacks"
    hint = (
        f"which this Python {why}: {sys.executable}. In Blender's preferences of SelfTalk, install "
        "PyTorch or choose a Python that has it"
    )
    if device not in (None, "cpu"):
        raise SelfTalkError(f"The device {device} needs PyTorch, {hint}; or choose the CPU.")
    if path is not None and Path(path).is_file() and not is_numpy_animator(path):
        raise SelfTalkError(f"{path} needs PyTorch, {hint}.")
    remark = (
        f"PyTorch is installed but cannot be loaded ({broken}): animated without it, which gives "
        "the same motion and takes longer."
    )
    animator = Animator(path, open_sound, remark if broken else "")
    refuse_template(path, template)
    return animator


def reason(error: Exception) -> str:
    """Why PyTorch, or what stands on it, cannot be imported, in a few words."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    words = first[:200].rstrip(".")
    torch, other = (sys.modules.get(name) for name in ("torch", "transformers"))
    if torch is None or other is None:
        return words
    # PyTorch itself came: mostly the two do not fit each other.
    versions = (getattr(module, "__version__", "") for module in (torch, other))
    return "PyTorch {} with transformers {}: ".format(*versions) + words
