"""Clips become files that play by themselves; what came before a clip does not matter."""

import hashlib
import os
import shutil
import wave
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from scenes import play, talking

from selftalk_blender.batch import table, task
from selftalk_blender.batch.task import Done, Settings, Task
from selftalk_blender.blender import (
    bake,
    compat,
    controls,
    export,
    hearing,
    mesh_cache,
    preview,
)
from selftalk_blender.core.controls import LONGEST_SMOOTHING
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.template import ASSETS
from selftalk_blender.worker.process import AnimatorEndedError


class Talks:
    """An animator's job that is done at once: half a second of talk at 50 fps."""

    finished = True
    started: list[str] = []

    def __init__(self, clip, *_, animator=None, **__) -> None:
        self.clip, self.notices = Path(clip), [f"Spoken by {animator}."]
        self.loudness = np.zeros(25, np.float32)

    def start(self) -> None:
        self.started.append(self.clip.name)
        if "broken" in self.clip.name:
            raise SelfTalkError(f"{self.clip.name} is no sound.")

    def poll(self) -> list:
        return []

    def result(self):
        return talking(25, 50.0)

    def cancel(self) -> None:
        pass


@pytest.fixture
def one(tmp_path, monkeypatch) -> Task:
    """A task whose sound needs no animator."""
    monkeypatch.setattr(hearing, "AnimateJob", Talks)
    monkeypatch.setattr(Talks, "started", [])
    folder = tmp_path / "clips"
    folder.mkdir()
    sound = np.random.default_rng(0).integers(-9000, 9000, 8000, np.int16).tobytes()
    for name in ("one.wav", "broken.wav"):  # which Blender does not read for the animator
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(sound)
    return Task(str(folder / "one.wav"), str(tmp_path / "out"), "act/one", Settings(task.USUAL))


def no_news() -> None:
    pass


def run(todo: Task, listening=None, steps: list | None = None) -> Done:
    work = bake.bake(todo, listening)
    while True:
        try:
            step = next(work)
        except StopIteration as end:
            return end.value
        if steps is not None:
            steps.append(step)


def with_settings(todo: Task, **changes) -> Task:
    return replace(todo, settings=replace(todo.settings, **changes))


def test_every_format_is_written_and_told_of(one, tmp_path) -> None:
    me = tmp_path / "me.safetensors"
    me.touch()
    steps = []
    done = run(with_settings(one, formats=task.FORMATS, animator=str(me), fps=24.0), steps=steps)
    assert {output.path for output in done.outputs} == {f"act/one.{x}" for x in task.FORMATS}
    for output in done.outputs:
        path = tmp_path / "out" / output.path
        assert output.size == path.stat().st_size > 1000
        assert output.changed == path.stat().st_mtime_ns and len(output.sha256) == 64
    assert done.blender == "{}.{}.{}".format(*bpy.app.version) and not done.read
    assert done.animator == hashlib.sha256(b"").hexdigest()  # of the empty file
    assert done.duration == pytest.approx(0.5) and done.times["writing"] > 0
    assert done.warnings[0] == f"Spoken by {me}."
    assert {p.name for p in (tmp_path / "out" / "act").iterdir()} == {
        f"one.{x}" for x in task.FORMATS
    }
    shares = [step.done for step in steps]
    assert shares == sorted(shares) and shares[0] >= 0 and shares[-1] <= 1
    heard = [step.heard for step in steps]
    assert heard == sorted(heard) and not heard[0] and heard[-1]


def test_what_the_command_line_knows_is_what_there_is() -> None:
    assert set(task.FORMATS) == {"blend", *export.FORMATS}
    assert {name.upper() for name in task.FBX_PRESETS} == set(export.PRESETS)
    known = controls.ControlSettings.bl_rna.properties
    for name, limits in table.CONTROLS.items():
        assert (known[name].hard_min, known[name].hard_max) == pytest.approx(limits), name
    assert known["smoothing"].hard_max == LONGEST_SMOOTHING


@pytest.mark.parametrize("method", task.METHODS)
@pytest.mark.parametrize(("fps", "rate"), [(24.0, (24, 1.0)), (29.97, (30, 1.001))])
def test_the_blend_plays_by_itself_wherever_it_is_moved(one, tmp_path, method, fps, rate) -> None:
    run(with_settings(one, formats=("blend",), method=method, fps=fps))
    shutil.move(tmp_path, tmp_path.with_name(tmp_path.name + "-moved"))
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    bpy.ops.wm.open_mainfile(filepath=str(moved / "out" / "act" / "one.blend"))
    scene = bpy.context.scene
    assert (scene.render.fps, scene.render.fps_base) == (rate[0], pytest.approx(rate[1]))
    assert (scene.frame_start, scene.frame_end) == (1, np.ceil(0.5 * rate[0] / rate[1]))
    assert scene.sync_mode == "AUDIO_SYNC" and scene.camera is not None
    head = bpy.data.objects["SelfTalk Head"]
    spoken = talking(25, 50.0).at(np.arange(12) * rate[1] / rate[0], 24.0).vertices()
    for frame in (1, 9):  # nearer to its end it eases to rest
        assert np.abs(play(head, frame) - spoken[frame - 1]).max() < 1e-5
    assert mesh_cache.plays(head) == (method == "mesh-cache")
    if compat.HAS_SOUND:
        (strip,) = compat.editor_strips(scene.sequence_editor)
        assert strip.sound.filepath.startswith("//")
        assert Path(bpy.path.abspath(strip.sound.filepath)).resolve() == (
            moved / "clips" / "one.wav"
        )
        assert compat.strip_place(strip)[2] == 1


def test_fbx_is_as_its_program_likes_it(one, tmp_path) -> None:
    path = tmp_path / "out" / "act" / "one.fbx"
    run(with_settings(one, formats=("fbx",)))
    assert b"SelfTalk Head" in path.read_bytes()
    run(with_settings(one, formats=("fbx",), fbx_preset="maya"))
    assert b"SelfTalk_Head" in path.read_bytes()


def test_a_preview_stands_beside_the_files(one, tmp_path, monkeypatch) -> None:
    pytest.importorskip("PIL")
    monkeypatch.setattr(preview, "PICTURE", (64, 72))
    monkeypatch.setattr(preview, "FILM_SIZE", (64, 72))
    done = run(with_settings(one, formats=("fbx",), preview=True))
    assert [output.path for output in done.outputs] == ["act/one.fbx", "act/one.png", "act/one.mp4"]
    assert all(output.size > 1000 for output in done.outputs)


def test_what_cannot_be_had_is_refused(one, tmp_path) -> None:
    with pytest.raises(SelfTalkError, match="mesh cache"):
        run(with_settings(one, method="mesh-cache", formats=("fbx",)))
    (tmp_path / "file").write_text("")
    with pytest.raises(SelfTalkError, match="Cannot write"):
        run(replace(one, out=str(tmp_path / "file" / "out")))
    with pytest.raises(SelfTalkError, match=r"none\.wav"):
        run(replace(one, clip=str(tmp_path / "none.wav"), out=str(tmp_path / "new")))
    with pytest.raises(SelfTalkError, match=r"broken\.wav is no sound"):
        run(replace(one, clip=one.clip.replace("one", "broken"), out=str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()


def test_ending_early_leaves_nothing_half_written(one, tmp_path) -> None:
    for text in ("Writing", "Writing one.fbx"):
        work = bake.bake(with_settings(one, method="shape-keys", formats=("fbx",)))
        assert any(step.text == text for step in work)
        work.close()
        assert not list((tmp_path / "out").rglob("*.*"))


@pytest.mark.skipif(os.name == "nt", reason="names as Windows has none")
@pytest.mark.parametrize("name", [b"back\\slash.wav", b"no text \xff.wav"])
def test_names_that_blender_cannot_open(one, name) -> None:
    clip = Path(one.clip).with_name(os.fsdecode(name))
    shutil.copyfile(one.clip, clip)
    with pytest.raises(SelfTalkError, match="Blender cannot open"):
        run(replace(one, clip=str(clip)))
    out = one.out + os.fsdecode(name)
    assert run(replace(with_settings(one, formats=("abc", "blend")), out=out)).error is None
    cached = with_settings(one, formats=("abc",), method="mesh-cache")
    with pytest.raises(SelfTalkError, match="Blender cannot open .*selftalk_cache"):
        run(replace(cached, out=out))
    with pytest.raises(SelfTalkError, match="Blender cannot open"):
        run(replace(one, mesh=str(clip)))


def test_the_next_clip_is_listened_to_ahead(one, monkeypatch) -> None:
    """And what is wrong with it is told when its turn comes."""

    def full(*_, **__):
        raise OSError("the disk is full")
        yield

    listening = bake.listen(one, no_news)
    assert Talks.started == ["one.wav"]
    assert run(with_settings(one, formats=("csv",)), listening).error is None
    assert Talks.started == ["one.wav"]
    broken = replace(one, clip=one.clip.replace("one", "broken"))
    listening = bake.listen(broken, no_news)
    with pytest.raises(SelfTalkError, match="is no sound"):
        run(broken, listening)
    monkeypatch.setattr(hearing, "listen", full)
    listening = bake.listen(one, no_news)
    with pytest.raises(OSError, match="full"):
        run(one, listening)


def test_a_clip_over_which_the_animator_ends_has_a_second_try(one, monkeypatch) -> None:
    """Also where it was listened to ahead; a third it has not."""
    ends = [AnimatorEndedError("Ended.")]

    def result(self):
        if ends:
            raise ends.pop()
        return talking(25, 50.0)

    monkeypatch.setattr(Talks, "result", result)
    only = with_settings(one, formats=("csv",))
    done = run(only, bake.listen(only, no_news))
    assert Talks.started == ["one.wav"] * 2
    assert "It was animated in a second attempt. At the first: Ended." in done.warnings
    ends += [AnimatorEndedError("Ended again."), AnimatorEndedError("Ended.")]
    with pytest.raises(SelfTalkError, match="Ended again"):
        run(only)


@pytest.mark.skipif(not compat.READS_SOUND, reason="this Blender decodes no sound")
def test_there_are_signs_of_life_while_the_next_clip_is_decoded(one) -> None:
    signs: list[int] = []
    long = replace(one, clip=str(ASSETS / "sample.ogg"))
    bake.listen(long, lambda: signs.append(len(Talks.started)))
    assert len(signs) > 1 and not any(signs) and Talks.started == ["sound.wav"]


def test_the_order_of_the_formats_does_not_matter(one, tmp_path) -> None:
    """A .blend gets a camera and lights, which are in no other file; nor is there another file."""
    cache = with_settings(one, method="mesh-cache")
    bytes_of = []
    for formats in (("blend", "usd", "mdd", "csv"), ("csv", "mdd", "usd", "blend")):
        out = tmp_path / formats[0]
        done = run(replace(with_settings(cache, formats=formats), out=str(out)))
        made = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
        assert made == {output.path for output in done.outputs}
        bytes_of.append({o.path: o.sha256 for o in done.outputs if not o.path.endswith(".blend")})
    assert bytes_of[0] == bytes_of[1]


def test_the_same_bytes_whatever_came_before(one, tmp_path) -> None:
    """Of what Blender's memory has no part in; tests/blender/test_batch.py has the rest."""
    formats = tuple(name for name in task.FORMATS if name not in ("blend", "abc"))
    first = with_settings(one, formats=formats, fps=25.0)
    done = run(first)
    run(with_settings(one, formats=("fbx",), fps=60.0, controls={"jaw": 3.0}))
    other = run(replace(first, out=str(tmp_path / "elsewhere")))
    assert [(o.path, o.sha256) for o in done.outputs] == [(o.path, o.sha256) for o in other.outputs]
