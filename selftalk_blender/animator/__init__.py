"""Sound to motion, with torch: encoders, the network, checkpoint files, windowed inference."""

from .animate import Animator, load_animator
from .network import SelfTalk
from .vertices import VertexAnimator

__all__ = ["Animator", "SelfTalk", "VertexAnimator", "load_animator"]
