"""Sound to motion, with torch: encoders, the network, checkpoint files, windowed inference.

Torch is imported with the first of these names: `audio` alone does without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .animate import Animator, load_animator
    from .network import SelfTalk
    from .vertices import VertexAnimator

__all__ = ["Animator", "SelfTalk", "VertexAnimator", "load_animator"]

_HOMES = {
    "Animator": "animate",
    "SelfTalk": "network",
    "VertexAnimator": "vertices",
    "load_animator": "animate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
