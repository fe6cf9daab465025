"""The face over time and the files it is kept in: numpy alone, no Blender, no torch."""

from .motion import Motion
from .template import FaceTemplate, bundled_template

__all__ = ["FaceTemplate", "Motion", "bundled_template"]
