"""A character's own .blend: its face is found, speaks, and all else of the file stays."""

from dataclasses import replace
from pathlib import Path

import bpy
import characters
import numpy as np
import pytest
from scenes import play
from test_bake import Talks, no_news, one, run, with_settings

from selftalk_blender.batch.task import Task
from selftalk_blender.blender import bake, bundled_head, character, compat, lines
from selftalk_blender.core.errors import SelfTalkError

__all__ = ["one"]


def save(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return str(path)


@pytest.fixture
def ann(one, tmp_path) -> Task:
    """The task for a rigged character with a picture, a second scene, and frames from 101 on."""
    head = characters.jaw_rig()
    head.name = "Ann"
    cube = bpy.data.objects.new("Cube", bpy.data.meshes.new("Cube"))
    bpy.context.collection.objects.link(cube)
    scene = bpy.context.scene
    scene.render.fps, scene.frame_start = 25, 101
    bpy.data.scenes.new("Other")
    picture = bpy.data.images.new("skin", 4, 4)
    picture.filepath_raw, picture.file_format = str(tmp_path / "cast" / "skin.png"), "PNG"
    (tmp_path / "cast").mkdir()
    picture.save()
    picture.use_fake_user = True
    picture.filepath = "//skin.png"
    bpy.context.window_manager.windows[0].scene = scene
    path = tmp_path / "cast" / "ann.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), relative_remap=False)
    return with_settings(replace(one, mesh=str(path)), formats=("blend", "fbx"))


def test_a_character_speaks_and_keeps_all_else(ann, tmp_path) -> None:
    done = run(
        with_settings(ann, controls={"strength": 1.5, "blinks": 0.5, "head": 0.0, "seed": 3})
    )
    assert [output.path for output in done.outputs] == ["act/one.blend", "act/one.fbx"]
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "out" / "act" / "one.blend"))
    scene, target = bpy.context.scene, bpy.data.objects["Ann"]
    assert (scene.render.fps, scene.frame_start, scene.frame_end) == (25, 101, 113)
    assert {"Cube", "Rig"} <= set(bpy.data.objects.keys()) and "Other" in bpy.data.scenes
    picture = bpy.path.abspath(bpy.data.images["skin"].filepath)
    assert Path(picture).resolve() == tmp_path / "cast" / "skin.png"
    settings = target.selftalk.controls
    assert (settings.strength, settings.seed) == (1.5, 3)
    assert settings.use_blinks and settings.blinks == 0.5 and not settings.use_head
    (line,) = target.selftalk.lines
    assert line.key_range[0] <= 101 < line.key_range[1]
    assert np.abs(play(target, 105) - play(target, 101)).max() > 1e-3
    if compat.HAS_SOUND:
        (strip,) = compat.editor_strips(scene.sequence_editor)
        assert Path(bpy.path.abspath(strip.sound.filepath)).resolve() == Path(ann.clip)


def test_its_own_file_is_not_touched_and_its_scripts_do_not_run(ann, tmp_path) -> None:
    bpy.ops.wm.open_mainfile(filepath=ann.mesh)
    script = bpy.data.texts.new("run.py")
    script.write(f"open({str(tmp_path / 'ran')!r}, 'w')")
    script.use_module = True
    save(Path(ann.mesh))
    before = Path(ann.mesh).read_bytes()
    done = run(ann)
    assert Path(ann.mesh).read_bytes() == before and not (tmp_path / "ran").exists()
    assert any("holds scripts, which are not run" in warning for warning in done.warnings)
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    bundled_head.add_head(bpy.context, (0.0, 0.0, 0.0))
    assert character.open_character(save(tmp_path / "clean.blend"))[1] == []


def test_a_file_left_in_pose_mode(ann) -> None:
    bpy.ops.wm.open_mainfile(filepath=ann.mesh)
    bpy.context.view_layer.objects.active = bpy.data.objects["Rig"]
    bpy.ops.object.mode_set(mode="POSE")
    save(Path(ann.mesh))
    assert run(ann).error is None


def test_its_face_is_found_or_the_candidates_are_told(ann, tmp_path) -> None:
    target, warnings = character.open_character(ann.mesh)
    assert target.name == "Ann" and not warnings
    second = bundled_head.add_head(bpy.context, (2.0, 0.0, 0.0))
    second.name = "Bob"
    two = save(tmp_path / "two.blend")
    with pytest.raises(SelfTalkError, match="More than one .*--object: (Ann, Bob|Bob, Ann)"):
        character.open_character(two)
    assert character.open_character(two, "Bob")[0].name == "Bob"
    with pytest.raises(SelfTalkError, match=r"no object Eve in .*two\.blend\. Choose by --object"):
        character.open_character(two, "Eve")
    bpy.context.scene.selftalk.face = bpy.data.objects["Bob"]  # as chosen in the panel
    save(Path(two))
    assert character.open_character(two)[0].name == "Bob"
    bpy.data.objects.remove(bpy.data.objects["Ann"])
    stored = bpy.data.objects["Bob"]
    stored.use_fake_user = True
    for collection in stored.users_collection:
        collection.objects.unlink(stored)
    save(Path(two))
    with pytest.raises(SelfTalkError, match="No mesh in .* Bob is in no scene. Link it into one"):
        character.open_character(two)
    bpy.data.objects.remove(bpy.data.objects["Bob"])
    save(Path(two))
    with pytest.raises(SelfTalkError, match="No mesh in .* can talk"):
        character.open_character(two)


def copy(target: bpy.types.Object, name: str) -> bpy.types.Object:
    other = target.copy()
    other.data = target.data.copy()
    other.name = name
    bpy.context.collection.objects.link(other)
    return other


def test_teeth_and_clothes_are_no_second_face(ann, tmp_path) -> None:
    target, _ = character.open_character(ann.mesh)
    shirt = copy(target, "Shirt")  # bent by the same armature, but not by the jaw
    for group in shirt.vertex_groups:
        group.name = f"spine {group.index}"
    assert character.open_character(save(tmp_path / "shirt.blend"))[0].name == "Ann"
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    head = bundled_head.add_head(bpy.context, (0.0, 0.0, 0.0))
    teeth = copy(head, "Teeth")
    teeth.parent = head
    for key in teeth.data.shape_keys.key_blocks[5:]:
        teeth.shape_key_remove(key)
    assert character.open_character(save(tmp_path / "teeth.blend"))[0].name == "SelfTalk Head"


def test_a_face_in_another_scene_speaks_there(ann, tmp_path) -> None:
    character.open_character(ann.mesh)
    bpy.context.window_manager.windows[0].scene = bpy.data.scenes["Other"]
    other = save(tmp_path / "other.blend")
    run(with_settings(replace(ann, mesh=other, object="Ann"), formats=("abc",)))
    assert bpy.context.scene.name == "Scene"


def test_what_it_said_before_is_not_said_again(ann, tmp_path) -> None:
    run(with_settings(ann, formats=("blend",), fps=50.0))
    spoke = str(tmp_path / "out" / "act" / "one.blend")
    target, (warning,) = character.open_character(spoke)
    assert "speaks a line" in warning and not len(target.selftalk.lines)
    assert lines.written_frames(target) is None


@pytest.mark.parametrize(
    ("path", "words"),
    [("none.blend", "There is no file"), ("bad.blend", r"cannot be opened .* \d\.\d or older")],
)
def test_files_that_are_none(tmp_path, path, words) -> None:
    (tmp_path / "bad.blend").write_text("no Blender file")
    with pytest.raises(SelfTalkError, match=words):
        character.open_character(str(tmp_path / path))


def test_a_newer_blenders_file_is_refused(ann, monkeypatch) -> None:
    monkeypatch.setattr(character, "OURS", (3, 6))
    with pytest.raises(SelfTalkError, match=r"saved by Blender .*, and this is 3\.6"):
        character.open_character(ann.mesh)


def test_a_missing_library_is_told(ann, tmp_path) -> None:
    library = save(tmp_path / "props.blend")
    bpy.ops.wm.open_mainfile(filepath=ann.mesh)
    with bpy.data.libraries.load(library, link=True) as (_, wanted):
        wanted.objects = ["Cube"]
    bpy.context.collection.objects.link(wanted.objects[0])
    save(Path(ann.mesh))
    Path(library).unlink()
    done = run(with_settings(ann, formats=("abc",)))
    assert any("props.blend, which is not there" in warning for warning in done.warnings)


def test_a_linked_face_is_named_and_a_missing_one_too(ann, tmp_path) -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    head = bundled_head.add_head(bpy.context, (0.0, 0.0, 0.0))
    head.name = "Eve"
    library = save(tmp_path / "eve.blend")
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    with bpy.data.libraries.load(library, link=True) as (_, wanted):
        wanted.objects = ["Eve"]
    bpy.context.collection.objects.link(wanted.objects[0])
    shot = save(tmp_path / "shot.blend")
    with pytest.raises(SelfTalkError, match=r"Eve is linked from //eve\.blend\. Make it local"):
        character.open_character(shot)
    Path(library).unlink()
    with pytest.raises(SelfTalkError, match=r"eve\.blend, which is not there"):
        character.open_character(shot)


def test_a_hidden_face_is_refused_before_its_clip_is_listened_to(ann) -> None:
    bpy.ops.wm.open_mainfile(filepath=ann.mesh)
    bpy.data.objects["Ann"].hide_set(True)
    save(Path(ann.mesh))
    with pytest.raises(SelfTalkError, match="Ann is hidden in this scene. Show it"):
        run(with_settings(ann, formats=("fbx",)))
    assert not Talks.started


def test_the_face_says_who_animates_it(ann, tmp_path) -> None:
    (tmp_path / "cast" / "own.safetensors").touch()
    bpy.ops.wm.open_mainfile(filepath=ann.mesh)
    bpy.data.objects["Ann"].selftalk.animator = "//own.safetensors"
    save(Path(ann.mesh))
    bake._own.clear()
    assert bake.listen(ann, no_news) is None and not Talks.started  # nobody knows yet
    done = run(with_settings(ann, formats=("abc",)))
    own = tmp_path / "cast" / "own.safetensors"
    assert f"Spoken by {own}." in done.warnings
    assert [file.path for file in done.read] == [str(own)]
    assert bake.listen(ann, no_news) is not None
