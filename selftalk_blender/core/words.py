"""Words that follow a number, and lists of names."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what it counts: "1 frame", "2 frames".

    Args:
        one, many: what there is one of, and what there are others of; `one` with an s by default.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str]) -> str:
    """Names in a row, no more than three of them: "a, b, c and 2 more"."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
