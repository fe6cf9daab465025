"""Words that follow a number."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what it counts: "1 frame", "2 frames".

    Args:
        one, many: what there is one of, and what there are others of; `one` with an s by default.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"
