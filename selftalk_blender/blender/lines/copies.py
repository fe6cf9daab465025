"""Copies of a line's actions: to be changed bit by bit, or where others play them, too."""

from __future__ import annotations

from collections.abc import Collection

import bpy

from .. import compat
from ..fcurves import discard
from .actions import Place, places_of_line


def are_shared(places: Collection[Place]) -> bool:
    """Whether others play the actions of these places, too: a duplicate of the face, say."""
    return any(
        place.action.users - place.action.use_fake_user
        > sum(other.action == place.action for other in places)
        for place in places
    )


class Copies:
    """Copies of a line's actions, to be changed bit by bit and played at once."""

    def __init__(self, face: bpy.types.Object, line_id: str) -> None:
        self._face, self._id = face, line_id
        self._places = places_of_line(face, line_id)
        actions = dict.fromkeys(place.action for place in self._places)
        self._copies = {action: action.copy() for action in actions}
        for action, copy in self._copies.items():  # the artist's of related data may lie beside
            compat.keep_slots(copy, self._slots(action))

    def _slots(self, action: bpy.types.Action) -> set[int]:
        return {place.slot for place in self._places if place.action == action}

    @property
    def curves(self) -> list[bpy.types.FCurve]:
        """All of them."""
        bags = [(copy, slot) for a, copy in self._copies.items() for slot in self._slots(a)]
        return [curve for bag in bags for curve in compat.slot_curves(*bag)]

    def find(self, owner: str, path: str, index: int) -> bpy.types.FCurve | None:
        """The copy of an owner's curve; None where there is none."""
        for place in self._places:
            if place.owner.name == owner:
                curves = compat.slot_curves(self._copies[place.action], place.slot)
                found = curves.find(path, index=index)
                if found is not None:
                    return found
        return None

    def swap(self) -> None:
        """Have the copies played in the place of the actions, which go."""
        for place in places_of_line(self._face, self._id):
            user = place.strip or place.owner.animation_data
            compat.play_action(user, self._copies[place.action], place.slot)
        for action, copy in self._copies.items():
            name = action.name
            compat.drop_slots(action, self._slots(action))
            discard(action)
            copy.name = name

    def discard(self) -> None:
        """Remove the copies."""
        for copy in self._copies.values():
            bpy.data.actions.remove(copy)
