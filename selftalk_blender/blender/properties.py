"""Settings kept in the .blend: face and sound in `Scene.selftalk`, output in `Object.selftalk`."""

from __future__ import annotations

from typing import Any

import bpy

from ..core.template import bundled_template
from . import compat, controls, formats, lines, preferences, strips
from .paragraph import OURS

FORMAT_ITEMS = tuple(
    (name, known.label, known.description) for name, known in formats.FORMATS.items()
)


def _is_mesh_here(settings: SceneSettings, candidate: bpy.types.Object) -> bool:
    return candidate.type == "MESH" and settings.id_data.objects.get(candidate.name) == candidate


def _strip_names(settings: SceneSettings, context: bpy.types.Context, typed: str) -> list[str]:
    return [strip.name for strip in strips.sound_strips(compat.sequencer_scene(context))]


def _face_chosen(settings: SceneSettings, context: bpy.types.Context) -> None:
    if settings.face is not None:
        preferences.warm_up(context)


def _strip_chosen(settings: SceneSettings, context: bpy.types.Context) -> None:
    if settings.sound_strip:
        settings.source = "STRIP"
        preferences.warm_up(context)


def _file_chosen(settings: SceneSettings, context: bpy.types.Context) -> None:
    if settings.sound_file:
        settings.source = "FILE"
        preferences.warm_up(context)


def _strip_listed(settings: SceneSettings, context: bpy.types.Context) -> None:
    """A click in the list chooses the strip to animate from."""
    editor = compat.sequencer_scene(context).sequence_editor
    if editor is None:
        return
    owner, name = compat.all_strips(editor)
    listed = getattr(owner, name)[settings.listed_strip :][:1]
    if listed and listed[0].type == "SOUND":
        settings.sound_strip = listed[0].name


def _play_lines(settings: FaceSettings, context: bpy.types.Context) -> None:
    lines.arrange(settings.id_data)


class StripSettings(bpy.types.PropertyGroup):
    """Of a sound strip, by its name: which face it drives, where the user has said so."""

    face: bpy.props.PointerProperty(
        name="Face", description="The face that says this strip", type=bpy.types.Object
    )


class ExportOptions:
    """What can be chosen of an export, in the panel as in the file browser."""

    preset: bpy.props.EnumProperty(
        name="For",
        description="The program that reads the FBX: its unit, axes and names",
        items=[(name, known.label, known.description) for name, known in formats.PRESETS.items()],
        default="BLENDER",
    )
    frames: bpy.props.EnumProperty(
        name="Frames",
        description="Which frames of the scene are in the file",
        items=(
            ("LINES", "Lines", "From the first to the last frame of the face's lines"),
            ("SCENE", "Scene", "The scene's frame range, or its preview range"),
        ),
        translation_context=OURS,
    )
    with_parts: bpy.props.BoolProperty(
        name="Parts and Armature",
        description=(
            "Also the meshes that follow the face or hang on it, and the armature that bends them"
        ),
        default=True,
    )
    with_sound: bpy.props.BoolProperty(
        name="Sound",
        description=(
            "Also what is heard in these frames: in a .usdz itself, else as a WAV file beside it"
        ),
        default=True,
    )


class ExportSettings(ExportOptions, bpy.types.PropertyGroup):
    """`Scene.selftalk.export`: what the panel Export writes."""

    file_format: bpy.props.EnumProperty(
        name="Format",
        description="The kind of file that Export writes",
        items=FORMAT_ITEMS,
    )


class SceneSettings(bpy.types.PropertyGroup):
    """`Scene.selftalk`: the face and the sound."""

    face: bpy.props.PointerProperty(
        name="Face",
        description=(
            "The mesh that talks: SelfTalk's head, a MakeHuman or MPFB character, a character with "
            "face shapes of its own, or the mesh of a checkpoint of yours"
        ),
        type=bpy.types.Object,
        poll=_is_mesh_here,
        update=_face_chosen,
        translation_context=OURS,
    )
    source: bpy.props.EnumProperty(
        name="Sound",
        description="Where the voice comes from; the one chosen last counts",
        items=(
            ("STRIP", "Strip", "A sound strip of the sequencer; the motion stands where it stands"),
            ("FILE", "File", "A sound file; it is added to the sequencer"),
        ),
    )
    sound_strip: bpy.props.StringProperty(
        name="Strip",
        description="The sound strip to animate from, by name",
        search=_strip_names,
        update=_strip_chosen,
    )
    sound_file: bpy.props.StringProperty(
        name="File",
        description="The sound file, or video with sound, to animate from",
        subtype="FILE_PATH",
        options=compat.RELATIVE_PATH,
        update=_file_chosen,
    )
    start_frame: bpy.props.IntProperty(
        name="Start Frame",
        description="The scene frame at which the sound file begins",
        default=1,
    )
    export: bpy.props.PointerProperty(type=ExportSettings)
    strips: bpy.props.CollectionProperty(type=StripSettings)
    listed_strip: bpy.props.IntProperty(
        name="Strip",
        description="The strip that is chosen in the list",
        min=0,
        update=_strip_listed,
    )


def _changed(settings: ControlSettings, context: bpy.types.Context) -> None:
    controls.bake_soon(settings.id_data)


def _factor(name: str, description: str) -> Any:
    """A control that is a factor, 1 as spoken."""
    return bpy.props.FloatProperty(
        name=name,
        description=description,
        default=1.0,
        min=0.0,
        max=5.0,
        soft_max=2.0,
        update=_changed,
    )


class ControlSettings(bpy.types.PropertyGroup):
    """`Object.selftalk.controls`; as made, the motion is what the animator gave."""

    strength: _factor(
        "Strength", "Size of the whole motion about the face at rest, as a factor. 1: as spoken"
    )
    closure: bpy.props.FloatProperty(
        name="Lip Closure",
        description=(
            "Millimetres by which lips are pressed together that come near each other, as at p, b "
            "and m, until they are sealed. 0: as spoken. Measured on SelfTalk's head"
        ),
        default=0.0,
        min=0.0,
        max=5.0,
        soft_max=3.0,
        step=10,
        update=_changed,
    )
    smoothing: bpy.props.FloatProperty(
        name="Smoothing",
        description="Seconds that are averaged. Lips that met still meet",
        default=0.0,
        min=0.0,
        max=1.0,  # core.controls.LONGEST_SMOOTHING
        soft_max=0.2,
        step=1,
        precision=3,
        unit="TIME_ABSOLUTE",
        update=_changed,
    )
    offset: bpy.props.FloatProperty(
        name="Offset",
        description="Frames by which the mouth comes later than the sound; negative for earlier",
        default=0.0,
        soft_min=-5.0,
        soft_max=5.0,
        min=-100.0,
        max=100.0,
        step=10,
        update=_changed,
    )
    jaw: _factor("Jaw", "Size of the jaw's motion, as a factor. Lips that met still meet")
    mouth: _factor("Lips", "Size of all other mouth shapes' motion, as a factor")
    cheeks: _factor("Cheeks", "Size of the cheeks' and nose's motion, as a factor")
    tongue: _factor(
        "Tongue", "How far the tongue comes out, as a factor; it stays behind closed lips"
    )
    eyes: _factor(
        "Eyes", "Size of what the animator moves around the eyes, as a factor; not of blinks"
    )
    brows: _factor("Brows", "Size of the brows' motion, as a factor")
    upper_face: _factor(
        "Upper Face", "Size of the motion above the mouth, brow raises included, as a factor"
    )
    use_blinks: bpy.props.BoolProperty(
        name="Blinks",
        description="Blink about 17 times a minute in silence and 26 in speech, where phrases end",
        update=_changed,
    )
    blinks: bpy.props.FloatProperty(
        name="Blinks",
        description="How far a blink closes the eyes, as a factor. 1: fully",
        default=1.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        update=_changed,
    )
    use_brow_raises: bpy.props.BoolProperty(
        name="Brow Raises", description="Raise the brows a little with stress", update=_changed
    )
    brow_raises: bpy.props.FloatProperty(
        name="Brow Raises",
        description="How far stress raises the brows, as a factor",
        default=1.0,
        min=0.0,
        max=3.0,
        update=_changed,
    )
    use_head: bpy.props.BoolProperty(
        name="Head Motion",
        description=(
            "Nod with stress and drift slowly while speaking: a rigged face by its head bone, "
            "any other by the object's Delta Rotation about its origin"
        ),
        update=_changed,
    )
    head: _factor("Head Motion", "Size of the head's motion, as a factor; a few degrees at 1")
    head_bone: bpy.props.StringProperty(
        name="Bone",
        description="The bone that turns the head; where empty, one that is called so",
        update=_changed,
    )
    seed: bpy.props.IntProperty(
        name="Seed",
        description="Another number places blinks, brow raises and nods otherwise",
        min=0,
        update=_changed,
    )
    problem: bpy.props.StringProperty(
        options={"HIDDEN"}, description="Why the controls could not be heard the last time"
    )


def _sources(item: MappingItem, context: bpy.types.Context, typed: str) -> list[str]:
    from ..core.visemes import RECIPES

    return [*bundled_template().shape_names, *RECIPES]


def _paths(item: MappingItem, context: bpy.types.Context, typed: str) -> list[str]:
    target = item.object or item.id_data
    keys = target.data.shape_keys if target.type == "MESH" and item.kind == "KEY" else None
    return list(keys.key_blocks.keys()[1:]) if keys is not None else []


class MappingItem(bpy.types.PropertyGroup):
    """One line of `Object.selftalk.mapping`."""

    source: bpy.props.StringProperty(
        name="Source",
        description="What of the speech moves it: an ARKit shape, or a viseme such as PP or aa",
        search=_sources,
    )
    object: bpy.props.PointerProperty(
        name="Object",
        description="The object that has the shape key, bone or property; this face where empty",
        type=bpy.types.Object,
    )
    kind: bpy.props.EnumProperty(
        name="Kind",
        description="What is moved",
        items=(
            ("KEY", "Shape Key", "A shape key of a mesh"),
            ("BONE", "Bone", "Location, rotation or scale of a pose bone"),
            ("PROPERTY", "Property", "A custom property or any other number"),
        ),
    )
    path: bpy.props.StringProperty(
        name="Moves",
        description="Name of the shape key, or data path on the object",
        search=_paths,
        search_options={"SUGGESTION"},
    )
    index: bpy.props.IntProperty(
        name="Component",
        description="Of a vector: 0 is X; -1 for a single number",
        default=-1,
        translation_context=OURS,
    )
    gain: bpy.props.FloatProperty(
        name="Gain",
        description="Value where the source is at its full strength, in the slider's own unit",
        default=1.0,
        soft_min=-2.0,
        soft_max=2.0,
    )
    offset: bpy.props.FloatProperty(
        name="Offset", description="Added to the value, in the slider's own unit"
    )
    enabled: bpy.props.BoolProperty(
        name="Enabled", description="Whether SelfTalk moves it", default=True
    )


class LinePart(bpy.types.PropertyGroup):
    """An object that a line moves besides the face itself: teeth, an armature, ..."""

    object: bpy.props.PointerProperty(type=bpy.types.Object)


class Line(bpy.types.PropertyGroup):
    """One entry of `Object.selftalk.lines`; see `Spoken` for what the values mean."""

    id: bpy.props.StringProperty()
    name: bpy.props.StringProperty(description="As the strip is called, or the sound file")
    scene: bpy.props.StringProperty(description="Whose sequencer has the strip")
    strip: bpy.props.StringProperty(description="Empty for a sound file without a strip")
    clip: bpy.props.StringProperty(subtype="FILE_PATH")
    sound: bpy.props.StringProperty(description="What tells this sound from others")
    taken: bpy.props.FloatVectorProperty(size=2, description="Seconds of the sound in the take")
    first_frame: bpy.props.IntProperty()
    frames: bpy.props.IntProperty()
    fps: bpy.props.FloatProperty()
    start: bpy.props.FloatProperty()
    pauses: bpy.props.StringProperty(description="As `Spoken.pauses`, such as '3-17 40-52'")
    key_range: bpy.props.IntVectorProperty(
        size=2, description="First and last scene frame with the ways from and to rest"
    )
    parts: bpy.props.CollectionProperty(type=LinePart)


class FaceSettings(bpy.types.PropertyGroup):
    """`Object.selftalk`: how this face is animated, and what came of it the last time."""

    output: bpy.props.EnumProperty(
        name="Output",
        description="What the motion becomes",
        items=(
            (
                "SHAPE_KEYS",
                "Shape Keys",
                "Animated shape keys: small, editable, and for FBX and Alembic. Keys that the "
                "mesh lacks are created",
            ),
            (
                "MESH_CACHE",
                "Mesh Cache",
                "A cache file with each vertex in each frame, played by a modifier: exact, large",
            ),
        ),
    )
    cache_folder: bpy.props.StringProperty(
        name="Cache Folder",
        description=(
            "Where the cache file goes; where empty, the folder in the SelfTalk preferences, or "
            "selftalk_cache beside the .blend"
        ),
        subtype="DIR_PATH",
        options=compat.RELATIVE_PATH,
    )
    animator: bpy.props.StringProperty(
        name="Animator",
        description=(
            "What animates this face: a published checkpoint (vocaset.pth, BIWI.pth) or one "
            "converted or trained by SelfTalk (.safetensors). Where empty, the bundled animator, "
            "which knows SelfTalk's head and MakeHuman"
        ),
        subtype="FILE_PATH",
        options=compat.RELATIVE_PATH,
    )
    template: bpy.props.StringProperty(
        name="Template",
        description=(
            "The neutral face of this mesh that the checkpoint was trained on or that it "
            "should move: .ply, .obj, .npy, .npz, or templates.pkl"
        ),
        subtype="FILE_PATH",
        options=compat.RELATIVE_PATH,
    )
    subject: bpy.props.StringProperty(
        name="Subject",
        description="Whose face, where the template's file holds several",
    )
    rig_share: bpy.props.EnumProperty(
        name="Driven by",
        description="What moves the face where it has both shape keys and a face rig",
        items=(
            (
                "AUTO",
                "Automatic",
                "The shape keys where they open the jaw; else the bones, and beside them the keys "
                "that there are",
            ),
            ("KEYS", "Shape Keys", "The shape keys alone; the rig stays as it is posed"),
            ("BONES", "Bones", "The rig's bones and sliders alone; the shape keys stay"),
            ("BOTH", "Both", "Each shape by its key where there is one, else by the bones"),
        ),
    )
    lines: bpy.props.CollectionProperty(type=Line)
    use_nla: bpy.props.BoolProperty(
        name="Lines as NLA Strips",
        description=(
            "Each line becomes a strip in the NLA at its sound's place, so that it can be moved. "
            "Two or more lines always do"
        ),
        update=_play_lines,
    )
    controls: bpy.props.PointerProperty(type=ControlSettings)
    mapping: bpy.props.CollectionProperty(
        name="Mapping",
        description="What moves what; where empty, the face is analysed each time",
        type=MappingItem,
    )
    mapping_index: bpy.props.IntProperty(name="Line")
    follows: bpy.props.BoolProperty(
        name="Follows",
        description="This mesh moves with the face of its character, by shape keys of one name",
        default=True,
    )
    result: bpy.props.StringProperty(options={"HIDDEN"})
    notices: bpy.props.StringProperty(options={"HIDDEN"}, description="One per line")


CLASSES = (
    LinePart,
    Line,
    ControlSettings,
    MappingItem,
    StripSettings,
    ExportSettings,
    SceneSettings,
    FaceSettings,
)


def attach() -> None:
    """Give scenes and objects our settings."""
    bpy.types.Scene.selftalk = bpy.props.PointerProperty(type=SceneSettings)
    bpy.types.Object.selftalk = bpy.props.PointerProperty(type=FaceSettings)


def attached() -> bool:
    """Whether `attach` was called, and not `detach` since."""
    return "selftalk" in bpy.types.Object.bl_rna.properties


def detach() -> None:
    """Take them back; may be called twice."""
    for owner in (bpy.types.Object, bpy.types.Scene):
        if "selftalk" in owner.bl_rna.properties:
            del owner.selftalk
