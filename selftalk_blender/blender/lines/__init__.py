"""Lines: what a face says, strip by strip, each an action of its own.

A line is kept three times, each made from the one before:
- its take, what the animator gave: bytes in the face's custom property TAKES, by the line's id;
- its entry in `Object.selftalk.lines`: from which strip it is, and where it stands;
- its curves: an action `<face> · <strip>` that carries our marks, with a slot for each thing
  that the face's drive moves (Blender 4.2 has no slots: there each has an action of its own).
`rebake` makes the curves again from the takes, without the animator.

How lines play:
- One line of a face is the active action, as if the artist had keyed it. Its values are the
  channels' own; before and after it they are held, and its ends are the face at rest.
- With more than one line, where the user wants it (`Object.selftalk.use_nla`), or where the
  artist's own action is active, all lines are strips in NLA tracks of ours, each at its place.
  They add up: a strip holds how far the face is from rest, blends by ADD, and is nothing outside
  of itself. Below them lies one strip that holds the face at rest.
- A mesh cache is one for all lines, which add up in it in the same way.

The artist's actions, tracks, strips and curves stay, also curves that were added to our actions:
such a curve keeps its channel from us. What has drivers or is keyed in the artist's own active
action is no channel of a drive in the first place (`targets`).
"""

from ..properties import Line
from .actions import REST_LINE, curves, places_of, places_of_line
from .copies import Copies
from .entries import (
    Spoken,
    change,
    find,
    find_id,
    has_take,
    is_lost,
    line_of,
    reaches,
    spoken,
    take_of,
)
from .playing import TRACK, arrange, check_lines
from .renewing import (
    EDITED,
    changed_by,
    lose,
    moving,
    rebake,
    rebaking,
    removing,
    take_to_move,
    written_frames,
)
from .seals import is_edited, is_unplayed, mark_reduced, touched, touched_lines, touching
from .turning import head, modifier_armature
from .values import head_angles, speaking
from .writing import New, check, keep_dense, write, write_cache

__all__ = [
    "EDITED",
    "REST_LINE",
    "TRACK",
    "Copies",
    "Line",
    "New",
    "Spoken",
    "arrange",
    "change",
    "changed_by",
    "check",
    "check_lines",
    "curves",
    "find",
    "find_id",
    "has_take",
    "head",
    "head_angles",
    "is_edited",
    "is_lost",
    "is_unplayed",
    "keep_dense",
    "line_of",
    "lose",
    "mark_reduced",
    "modifier_armature",
    "moving",
    "places_of",
    "places_of_line",
    "reaches",
    "rebake",
    "rebaking",
    "removing",
    "speaking",
    "spoken",
    "take_of",
    "take_to_move",
    "touched",
    "touched_lines",
    "touching",
    "write",
    "write_cache",
    "written_frames",
]
