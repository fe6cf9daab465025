"""Settings kept in the .blend: face and sound in `Scene.selftalk`, output in `Object.selftalk`."""

from __future__ import annotations

import bpy

from . import compat, controls, export, lines, preferences, strips, targets


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
    owner, name = compat.all_strips(editor) if editor is not None else (None, "")
    listed = getattr(owner, name)[settings.listed_strip] if owner is not None else None
    if listed is not None and listed.type == "SOUND":
        settings.sound_strip = listed.name


def _play_lines(settings: FaceSettings, context: bpy.types.Context) -> None:
    lines.arrange(settings.id_data)


class StripSettings(bpy.types.PropertyGroup):
    """Of a sound strip, by its name: which face it drives, where the user has said so."""

    face: bpy.props.PointerProperty(
        name="Face", description="The face that says this strip", type=bpy.types.Object
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
        update=_file_chosen,
    )
    start_frame: bpy.props.IntProperty(
        name="Start Frame",
        description="The scene frame at which the sound file begins",
        default=1,
    )
    export_format: bpy.props.EnumProperty(
        name="Format",
        description="The kind of file that Export writes",
        items=[(name, known.label, known.description) for name, known in export.FORMATS.items()],
    )
    export_preset: bpy.props.EnumProperty(
        name="For",
        description="The program that reads the FBX: its unit, axes and names",
        items=[(name, known.label, known.description) for name, known in export.PRESETS.items()],
        default="BLENDER",
    )
    export_frames: bpy.props.EnumProperty(
        name="Frames",
        description="Which frames of the scene are in the file",
        items=(
            ("LINES", "Lines", "From the first to the last frame of the face's lines"),
            ("SCENE", "Scene", "The scene's frame range, or its preview range"),
        ),
    )
    export_parts: bpy.props.BoolProperty(
        name="Parts and Armature",
        description=(
            "Also the meshes that follow the face or hang on it, and the armature that bends them"
        ),
        default=True,
    )
    export_sound: bpy.props.BoolProperty(
        name="Sound",
        description=(
            "Also what is heard in these frames: in a .usdz itself, else as a WAV file beside it"
        ),
        default=True,
    )
    strips: bpy.props.CollectionProperty(type=StripSettings)
    listed_strip: bpy.props.IntProperty(
        name="Strip", description="The strip that is chosen in the list", update=_strip_listed
    )


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
    )
    animator: bpy.props.StringProperty(
        name="Animator",
        description=(
            "What animates this face: a published checkpoint (vocaset.pth, BIWI.pth) or one "
            "converted or trained by SelfTalk (.safetensors). Where empty, the bundled animator, "
            "which knows SelfTalk's head and MakeHuman"
        ),
        subtype="FILE_PATH",
    )
    template: bpy.props.StringProperty(
        name="Template",
        description=(
            "The neutral face of this mesh that the checkpoint was trained on or that it shall "
            "move: .ply, .obj, .npy, .npz, or templates.pkl"
        ),
        subtype="FILE_PATH",
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
    lines: bpy.props.CollectionProperty(type=lines.Line)
    use_nla: bpy.props.BoolProperty(
        name="Lines as NLA Strips",
        description=(
            "Each line becomes a strip in the NLA at its sound's place, so that it can be moved. "
            "Two or more lines always do"
        ),
        update=_play_lines,
    )
    controls: bpy.props.PointerProperty(type=controls.ControlSettings)
    mapping: bpy.props.CollectionProperty(
        name="Mapping",
        description="What moves what; where empty, the face is analysed each time",
        type=targets.MappingItem,
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
    *lines.CLASSES,
    *controls.CLASSES,
    targets.MappingItem,
    StripSettings,
    SceneSettings,
    FaceSettings,
)


def attach() -> None:
    bpy.types.Scene.selftalk = bpy.props.PointerProperty(type=SceneSettings)
    bpy.types.Object.selftalk = bpy.props.PointerProperty(type=FaceSettings)


def attached() -> bool:
    return "selftalk" in bpy.types.Object.bl_rna.properties


def detach() -> None:
    for owner in (bpy.types.Object, bpy.types.Scene):
        if "selftalk" in owner.bl_rna.properties:
            del owner.selftalk
