"""Every difference between Blender 4.2 and 5.2 that SelfTalk meets. No other file asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

import addon_utils
import bpy

# Actions have slots, layers and channel bags since 4.4, and nothing else since 5.0.
SLOTTED_ACTIONS = bpy.app.version >= (4, 4, 0)
# A render writes stills, layers or a film by its media type since 5.0.
MEDIA_TYPES = bpy.app.version >= (5, 0, 0)
# The times of strips have new names since 5.2; the old ones go in 6.0.
NEW_STRIP_NAMES = bpy.app.version >= (5, 2, 0)
# `SequenceEditor.sequences` became `strips` in 4.4 and is gone in 5.0.
NEW_STRIPS = bpy.app.version >= (4, 4, 0)
# Workspaces may edit the sequencer of another scene than the one on view since 5.0.
SEQUENCER_SCENES = bpy.app.version >= (5, 0, 0)
# Paths of ours that may begin with "//" have to say so in newer Blenders (4.5); in older all might.
RELATIVE_PATH: set[str] = (
    {"PATH_SUPPORTS_BLEND_RELATIVE"}
    if "is_path_supports_blend_relative" in bpy.types.Property.bl_rna.properties
    else set()
)
# The wheel of 4.2 is built without sound; every Blender with a window has it.
HAS_SOUND: bool = bpy.app.build_options.audaspace
# Files (by their names in `formats.FORMATS`) that it is built without, as Debian's is.
NOT_BUILT = frozenset(
    name
    for name, there in (
        ("abc", bpy.app.build_options.alembic),
        ("usd", bpy.app.build_options.usd),
    )
    if not there
)
# Debian's Blender plays sound, but its Python has no module for it.
try:
    import aud as _  # noqa: F401
except ImportError:
    READS_SOUND = False
else:
    READS_SOUND = True


def use_nodes(block: bpy.types.Material | bpy.types.World) -> bpy.types.NodeTree:
    """The nodes of a new material or world, which has them from the start since 5.0."""
    if bpy.app.version < (5, 0, 0):
        block.use_nodes = True
    return block.node_tree


def add_shape_key(target: bpy.types.Object, name: str) -> bpy.types.ShapeKey:
    """A new shape key at value 0 (Blender's own default is 1 since 5.0), as the mesh at rest."""
    key = target.shape_key_add(name=name, from_mix=False)
    key.value = 0.0
    return key


def playing_curves(owner: bpy.types.ID) -> list[bpy.types.FCurve]:
    """The F-curves that animate `owner` now; nothing is made, so that panels may ask."""
    data = owner.animation_data
    return strip_curves(data) if data is not None else []


def strip_curves(user: bpy.types.AnimData | bpy.types.NlaStrip) -> list[bpy.types.FCurve]:
    """The F-curves that animation data, or an NLA strip, plays; nothing is made."""
    if user.action is None:
        return []
    if not SLOTTED_ACTIONS:
        return list(user.action.fcurves)
    bags = [
        strip.channelbag(user.action_slot)
        for layer in user.action.layers
        for strip in layer.strips
        if user.action_slot is not None
    ]
    return [curve for bag in bags if bag is not None for curve in bag.fcurves]


def slot_number(user: bpy.types.AnimData | bpy.types.NlaStrip) -> int:
    """The slot in which animation data or an NLA strip plays its action; 0 where none are."""
    return user.action_slot_handle if SLOTTED_ACTIONS else 0


def add_slot(action: bpy.types.Action, owner: bpy.types.ID) -> int:
    """Make an action fit for an owner; the number of its slot, 0 where there are none."""
    if not SLOTTED_ACTIONS:
        action.id_root = owner.id_type
        return 0
    return action.slots.new(id_type=owner.id_type, name=owner.name).handle


def slot_curves(action: bpy.types.Action, number: int) -> Any:
    """The F-curves of a slot, with find(path, index=), new(path, index=) and remove(curve)."""
    if not SLOTTED_ACTIONS:
        return action.fcurves
    layer = action.layers[0] if action.layers else action.layers.new("Layer")
    strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
    return strip.channelbag(_slot_of(action, number), ensure=True).fcurves


def _slot_of(action: bpy.types.Action, number: int) -> Any:
    return next(slot for slot in action.slots if slot.handle == number)


def keep_slots(action: bpy.types.Action, numbers: Collection[int]) -> None:
    """Remove all slots of an action but these, with their curves."""
    if SLOTTED_ACTIONS:
        for slot in [slot for slot in action.slots if slot.handle not in numbers]:
            action.slots.remove(slot)


def drop_slots(action: bpy.types.Action, numbers: Collection[int]) -> None:
    """Remove those of some slots of an action that nothing plays, with their curves."""
    if SLOTTED_ACTIONS:
        for slot in [s for s in action.slots if s.handle in numbers and not s.users()]:
            action.slots.remove(slot)


def play_action(
    user: bpy.types.AnimData | bpy.types.NlaStrip, action: bpy.types.Action, number: int
) -> None:
    """Have animation data, or an NLA strip, play a slot of an action."""
    user.action = action
    if SLOTTED_ACTIONS:
        user.action_slot = _slot_of(action, number)


@contextlib.contextmanager
def enabled_addon(module: str) -> Iterator[None]:
    """Have one of Blender's own add-ons (the FBX exporter, say) for the length of a block."""
    _, loaded = addon_utils.check(module)
    if not loaded:
        addon_utils.enable(module, default_set=False)
    try:
        yield
    finally:
        if not loaded:
            addon_utils.disable(module, default_set=False)


@contextlib.contextmanager
def fbx_frames(first: int, last: int) -> Iterator[None]:
    """Have the FBX exporter, enabled already, write these frames.

    It asks the scene, which has none below 0; the files themselves hold any time.
    """
    from io_scene_fbx import export_fbx_bin

    write = export_fbx_bin.fbx_animations_do

    def write_ours(data: Any, what: Any, start: float, end: float, *more: Any, **rest: Any) -> Any:
        if what is not None:  # nothing in particular means the scene
            return write(data, what, start, end, *more, **rest)
        # It adds a hair to the last frame so as not to lose it, too little where the first is
        # below 0.
        made = write(data, what, first, last + 1e-3, *more, **rest)
        return (*made[:-1], last) if made is not None else None

    export_fbx_bin.fbx_animations_do = write_ours
    try:
        yield
    finally:
        export_fbx_bin.fbx_animations_do = write


def set_film_output(render: bpy.types.RenderSettings) -> None:
    """Make a scene's render an H.264 film in an .mp4, with AAC sound where Blender has sound."""
    if MEDIA_TYPES:
        render.image_settings.media_type = "VIDEO"
    render.image_settings.file_format = "FFMPEG"
    render.ffmpeg.format = "MPEG4"
    render.ffmpeg.codec = "H264"
    render.ffmpeg.constant_rate_factor = "HIGH"
    render.ffmpeg.audio_codec = "AAC" if HAS_SOUND else "NONE"


def editor_strips(editor: bpy.types.SequenceEditor) -> Any:
    """The strips of a sequence editor that lie in no meta strip."""
    return editor.strips if NEW_STRIPS else editor.sequences


def all_strips(editor: bpy.types.SequenceEditor) -> tuple[bpy.types.SequenceEditor, str]:
    """Where a list finds all strips, also those inside metas: an owner and its property."""
    return editor, "strips_all" if NEW_STRIPS else "sequences_all"


def meta_strips(meta: Any) -> Any:
    """The strips right inside a meta strip."""
    return meta.strips if NEW_STRIPS else meta.sequences


def sequencer_scene(context: bpy.types.Context) -> bpy.types.Scene:
    """The scene whose strips are edited: since 5.0 a workspace may have one of its own."""
    chosen = context.workspace.sequencer_scene if SEQUENCER_SCENES and context.workspace else None
    return chosen or context.scene


@contextlib.contextmanager
def as_sequencer_scene(context: bpy.types.Context, scene: bpy.types.Scene) -> Iterator[None]:
    """Have operators of the sequencer work on a scene for the length of a block."""
    workspace = context.workspace if SEQUENCER_SCENES else None
    before = workspace.sequencer_scene if workspace is not None else None
    if workspace is not None:
        workspace.sequencer_scene = scene
    try:
        with context.temp_override(scene=scene):
            yield
    finally:
        if workspace is not None:
            workspace.sequencer_scene = before


def strip_place(strip: Any) -> tuple[float, float, int, int]:
    """Where a strip stands, of any kind.

    Returns:
        Scene frame at which its content would begin untrimmed, frames cut off the content
        itself (effects, such as colours and texts, have none), first scene frame, and the scene
        frame after the last.
    """
    name = "content_trim_start" if NEW_STRIP_NAMES else "animation_offset_start"
    trim = getattr(strip, name) if name in strip.bl_rna.properties else 0
    if NEW_STRIP_NAMES:
        return strip.content_start, trim, strip.left_handle, strip.right_handle
    return strip.frame_start, trim, strip.frame_final_start, strip.frame_final_end


def sound_strip_offset(strip: Any) -> float:
    """Seconds by which a strip's sound is heard late; a Blender without sound cannot say."""
    return strip.sound_offset if "sound_offset" in strip.bl_rna.properties else 0.0


def retiming_frames(strip: Any) -> list[int]:
    """Scene frames of a sound strip's retiming keys (another speed somewhere); mostly none."""
    if "retiming_keys" not in strip.bl_rna.properties:
        return []
    return [key.timeline_frame for key in strip.retiming_keys]


def strip_volume(strip: Any) -> float:
    """The volume of a sound strip, or of a meta strip, which has one since 5.1."""
    return strip.volume if "volume" in strip.bl_rna.properties else 1.0


def volume_curve(scene: bpy.types.Scene, strip: Any) -> bpy.types.FCurve | None:
    """The F-curve of a strip's volume."""
    path = f"{strip.path_from_id()}.volume"
    return next((c for c in playing_curves(scene) if c.data_path == path), None)


def usd_knows_units() -> bool:
    """Whether the USD exporter notes the scene's unit scale; newer ones call each unit a metre."""
    return "convert_scene_units" not in bpy.ops.wm.usd_export.get_rna_type().properties


def usd_textures(copied: bool) -> dict[str, str | bool]:
    """Settings of the USD exporter for textures: copied beside the file, or left where they are."""
    if bpy.app.version >= (4, 3, 0):
        return {"export_textures_mode": "NEW" if copied else "KEEP"}
    return {"export_textures": copied}
