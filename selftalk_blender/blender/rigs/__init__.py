"""The bones and sliders of a face: which there are, how far each goes for each shape, the drive."""

from .calibrating import calibrate, is_measured
from .driving import by_keys, drive, with_rig
from .finding import Found, deforming_armature, find, judge, summary

__all__ = [
    "Found",
    "by_keys",
    "calibrate",
    "deforming_armature",
    "drive",
    "find",
    "is_measured",
    "judge",
    "summary",
    "with_rig",
]
