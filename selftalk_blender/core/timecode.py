"""Timecodes: hours, minutes, seconds and frames of a scene's frame number."""

from __future__ import annotations

DAY = 24 * 60 * 60  # seconds


def timecode(frame: int, fps: float) -> str:
    """The timecode hh:mm:ss:ff of a frame; frame 0 is 00:00:00:00.

    Frames are counted, not clocked: at 29.97 frames per second a second has 30 of them (non-drop
    timecode). Frames before 0 count back from 24:00:00:00, as on a recorder.
    """
    rate = nominal(fps)
    seconds, part = divmod(frame % (DAY * rate), rate)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}:{part:02}"


def nominal(fps: float) -> int:
    """Frames that a timecode counts as one second: 24 for 23.976, 30 for 29.97."""
    return max(round(fps), 1)
