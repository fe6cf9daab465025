"""Sound to motion, with torch: encoders, the network, checkpoint files, windowed inference."""

from .animate import Animator, load_animator

__all__ = ["Animator", "load_animator"]
