"""Clips become files that play by themselves; a bad clip does not stop the others."""

import shutil
from pathlib import Path

import bpy
import numpy as np
import pytest
from scenes import play, talking

from selftalk_blender.blender import animate, bake, compat, preview, writers
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.template import ASSETS

SAMPLE = ASSETS / "sample.ogg"


class Talks:
    """An animator's job that is done at once: half a second of talk at 50 fps."""

    finished = True

    def __init__(self, clip, *_, animator=None, **__) -> None:
        self.clip, self.notices = Path(clip), [f"Spoken by {animator}."]
        self.loudness = np.zeros(25, np.float32)

    def start(self) -> None:
        if "broken" in self.clip.name:
            raise SelfTalkError(f"{self.clip.name} is no sound.")

    def poll(self) -> list:
        return []

    def result(self):
        return talking(25, 50.0)

    def cancel(self) -> None:
        pass


@pytest.fixture
def clips(tmp_path, monkeypatch) -> list[Path]:
    monkeypatch.setattr(animate, "AnimateJob", Talks)
    folder = tmp_path / "clips"
    folder.mkdir()
    paths = [folder / name for name in ("one.ogg", "broken.ogg", "two.ogg")]
    for path in paths:
        shutil.copy(SAMPLE, path)
    return paths


def test_a_bad_clip_is_reported_and_the_rest_goes_on(clips, tmp_path) -> None:
    told = []
    me = tmp_path / "me.safetensors"
    me.touch()
    results = bake.bake(
        clips, tmp_path / "out", fps=24.0, progress=lambda *p: told.append(p), animator=str(me)
    )
    assert [result.clip for result in results] == clips
    assert [result.error for result in results] == [None, "broken.ogg is no sound.", None]
    for result in (results[0], results[2]):
        name = result.clip.stem
        assert [path.name for path in result.files] == [
            f"{name}.{x}" for x in ("abc", "fbx", "blend")
        ]
        assert all(path.stat().st_size > 10_000 for path in result.files)
        assert result.duration == pytest.approx(0.5) and result.seconds > 0
        assert result.notices[0] == f"Spoken by {me}."
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        path.name for result in results for path in result.files
    )
    done = [part for part, _ in told]
    assert done == sorted(done) and done[0] >= 0 and done[-1] <= 1


@pytest.mark.parametrize("output", ["SHAPE_KEYS", "MESH_CACHE"])
@pytest.mark.parametrize(("fps", "rate"), [(24.0, (24, 1.0)), (29.97, (30, 1.001))])
def test_the_blend_plays_by_itself_wherever_it_is_moved(clips, tmp_path, output, fps, rate) -> None:
    bake.bake(clips[:1], tmp_path / "out", ("blend",), output, fps)
    shutil.move(tmp_path, tmp_path.with_name(tmp_path.name + "-moved"))
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    bpy.ops.wm.open_mainfile(filepath=str(moved / "out" / "one.blend"))
    scene = bpy.context.scene
    assert (scene.render.fps, scene.render.fps_base) == (rate[0], pytest.approx(rate[1]))
    assert (scene.frame_start, scene.frame_end) == (1, np.ceil(0.5 * rate[0] / rate[1]))
    assert scene.sync_mode == "AUDIO_SYNC" and scene.camera is not None
    head = bpy.data.objects["SelfTalk Head"]
    spoken = talking(25, 50.0).at(np.arange(12) * rate[1] / rate[0], 24.0).vertices()
    for frame in (1, 9):  # nearer to its end it eases to rest
        assert np.abs(play(head, frame) - spoken[frame - 1]).max() < 1e-5
    assert writers.has_cache(head) == (output == "MESH_CACHE")
    if compat.HAS_SOUND:
        (strip,) = compat.editor_strips(scene.sequence_editor)
        assert strip.sound.filepath.startswith("//")
        assert Path(bpy.path.abspath(strip.sound.filepath)).resolve() == (
            moved / "clips" / "one.ogg"
        )
        assert compat.strip_place(strip)[2] == 1


def test_a_preview_stands_beside_the_files(clips, tmp_path, monkeypatch) -> None:
    pytest.importorskip("PIL")
    monkeypatch.setattr(preview, "PICTURE", (64, 72))
    monkeypatch.setattr(preview, "FILM_SIZE", (64, 72))
    (result,) = bake.bake(clips[:1], tmp_path / "out", ("fbx",), preview=True)
    assert result.error is None
    assert [path.name for path in result.files] == ["one.fbx", "one.png", "one.mp4"]
    assert all(path.stat().st_size > 1000 for path in result.files)


def test_what_cannot_be_had_is_refused(clips, tmp_path) -> None:
    with pytest.raises(SelfTalkError, match="FBX cannot hold a mesh cache"):
        bake.bake(clips, tmp_path / "out", output="MESH_CACHE")
    (tmp_path / "file").write_text("")
    (result,) = bake.bake(clips[:1], tmp_path / "file" / "out")
    assert "Cannot write" in result.error
    (result,) = bake.bake([tmp_path / "none.wav"], tmp_path / "out")
    assert "none.wav" in result.error and not (tmp_path / "out").exists()


def test_interrupting_leaves_nothing_half_written(clips, tmp_path) -> None:
    def interrupt(done: float, text: str) -> None:
        if text == "Writing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bake.bake(clips, tmp_path / "out", ("blend",), "MESH_CACHE", progress=interrupt)
    assert not (tmp_path / "out").exists()
