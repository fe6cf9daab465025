"""Who says what: the faces of a scene, and the one that says each sound strip."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import bpy

from ..core.errors import SelfTalkError
from . import lines, strips


def faces_of(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Meshes of a scene that may talk: chosen, animated before, or with shape keys."""
    chosen = {scene.selftalk.face, *(item.face for item in scene.selftalk.strips)}
    return [
        target
        for target in scene.objects
        if target.type == "MESH"
        and (target in chosen or len(target.selftalk.lines) or target.data.shape_keys is not None)
    ]


def face_of(
    sequencer: bpy.types.Scene, strip: Any, scene: bpy.types.Scene
) -> bpy.types.Object | None:
    """The face that says a strip.

    The user's choice; else the face that says it already; else the one whose name the strip's or
    its sound's name contains (the longest such name); else the one that says the other strips of
    its channel; else the face that is chosen.
    """
    return cast(sequencer, scene).get(strip.name)


def cast(sequencer: bpy.types.Scene, scene: bpy.types.Scene) -> dict[str, bpy.types.Object | None]:
    """`face_of` every sound strip, by the strips' names; each strip is looked at once."""
    there, candidates = strips.sound_strips(sequencer), faces_of(scene)
    plain = [(_plain(face.name), face) for face in candidates]
    speaks = {
        line.strip: face
        for face in reversed(candidates)
        for line in face.selftalk.lines
        if line.scene == sequencer.name
    }
    names_there = {strip.name for strip in there}
    renamed = [
        face
        for face in candidates
        if any(
            line.strip and (line.scene != sequencer.name or line.strip not in names_there)
            for line in face.selftalk.lines
        )
    ]
    known: dict[str, bpy.types.Object | None] = {}
    beside: dict[tuple[str, int], Counter[bpy.types.Object]] = {}
    for strip in there:
        item = sequencer.selftalk.strips.get(strip.name)
        face = (item.face if item is not None else None) or speaks.get(strip.name)
        if face is None and renamed:
            face = _says_renamed(sequencer, strip, scene, renamed)
        if face is None:
            names = [_plain(strip.name), _plain(strip.sound.name) if strip.sound else ""]
            named = [f for called, f in plain if any(called in name for name in names)]
            face = max(named, key=lambda face: len(face.name), default=None)
        known[strip.name] = face
        if face is not None:
            beside.setdefault(_channel(strip), Counter())[face] += 1
    for strip in there:
        if known[strip.name] is None:
            others = beside.get(_channel(strip))
            known[strip.name] = others.most_common(1)[0][0] if others else scene.selftalk.face
    return known


def _says_renamed(
    sequencer: bpy.types.Scene, strip: Any, scene: bpy.types.Scene, faces: list[bpy.types.Object]
) -> bpy.types.Object | None:
    """The face that says a strip which, or whose scene, was renamed or copied since."""
    try:
        heard = strips.heard(sequencer, strip, scene)
    except SelfTalkError:
        return None
    said = [(lines.line_of(face, sequencer.name, strip.name, heard), face) for face in faces]
    found = [(line.strip != strip.name, face) for line, face in said if line is not None]
    return min(found, key=lambda one: one[0], default=(None, None))[1]


def _channel(strip: Any) -> tuple[str, int]:
    meta = strip.parent_meta()
    return meta.name if meta is not None else "", strip.channel


def _plain(name: str) -> str:
    """A name as people recognise it: "Anna.001" and "anna 001" are the same."""
    return re.sub(r"[\W_]", "", name).lower()


def assign(sequencer: bpy.types.Scene, strip: str, face: bpy.types.Object | None) -> None:
    """Choose the face that says a strip; None for the face that goes without saying."""
    _item(sequencer, strip).face = face


def _item(sequencer: bpy.types.Scene, strip: str) -> Any:
    item = sequencer.selftalk.strips.get(strip)
    if item is None:
        item = sequencer.selftalk.strips.add()
        item.name = strip
    return item
