"""The pictures show the face as it moves, and leave the scene alone."""

import bpy
import numpy as np
import pytest
from scenes import NEUTRAL, body, own_shapes

from selftalk_blender.blender import compat, dense, face, preview
from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.core.template import ASSETS

SAMPLE = ASSETS / "sample.ogg"


@pytest.fixture
def small(monkeypatch) -> None:
    """Two little pictures, a coarse film."""
    monkeypatch.setattr(preview, "COLUMNS", 2)
    monkeypatch.setattr(preview, "ROWS", 1)
    monkeypatch.setattr(preview, "PICTURE", (64, 72))
    monkeypatch.setattr(preview, "FILM_SIZE", (64, 72))


@pytest.fixture
def opening(head):
    """The head opens its mouth within one second, from frame 1 to 24."""
    weights = np.zeros((24, 52), np.float32)
    weights[:, 24] = np.linspace(0, 1, 24)
    motion = Motion(bundled_template(), 24.0, weights=weights)
    list(dense.write(head, own_shapes(motion), 1, NEUTRAL))
    bpy.context.scene.render.fps = 24
    return head


def all_data() -> dict[str, int]:
    kinds = "scenes objects cameras lights worlds sounds meshes actions".split()
    return {kind: len(getattr(bpy.data, kind)) for kind in kinds}


def test_a_contact_sheet_shows_the_mouth_open_and_shut(opening, small, tmp_path) -> None:
    image = pytest.importorskip("PIL.Image")
    before = all_data()
    steps = list(preview.contact_sheet(opening, tmp_path / "a.png", 1, 24, 24.0, SAMPLE))
    assert steps == sorted(steps) and steps[-1] == 1.0 and all_data() == before
    sheet = image.open(tmp_path / "a.png")
    assert sheet.width == preview.WIDTH
    top = 44 + preview.CAPTION
    shut, opened = (
        np.asarray(sheet.crop((x, top, x + 64, top + 72)), float)
        for x in (2 * preview.GAP, 2 * preview.GAP + 64 + preview.GAP)
    )
    assert shut.std() > 20  # a face, not a plain ground
    difference = np.abs(opened - shut).mean(2)
    assert difference[40:].max() > 60 and difference[:24].mean() < 5  # the mouth alone


def test_frames_are_chosen_where_the_lips_turn() -> None:
    gap = np.array([0, 0, 8, 0.5, 0.6, 0.4, 6, 6.2, 6.1, 9, 0, 0.0])
    assert preview.choose_frames(gap, 5) == [0, 2, 5, 9, 11]
    assert preview.choose_frames(np.zeros(100), 4) == [0, 49, 74, 99]
    assert preview.choose_frames(np.array([0, 0, 3, 9, 5, 4, 3, 2, 1.0]), 4) == [0, 1, 3, 8]
    assert preview.choose_frames(np.array([1.0, 2.0]), 12) == [0, 1]
    assert preview.choose_frames(np.array([1.0]), 12) == [0]


def test_a_sound_that_blender_cannot_read_leaves_the_voice_out(opening, small, tmp_path) -> None:
    pytest.importorskip("PIL")
    (tmp_path / "a.wav").write_text("no sound")
    list(preview.contact_sheet(opening, tmp_path / "a.png", 1, 1, 24.0, tmp_path / "a.wav"))
    assert (tmp_path / "a.png").exists()


def test_the_gap_that_is_shown_is_the_one_that_plays(opening) -> None:
    weights = np.zeros((2, 52), np.float32)
    weights[1, 24] = 1.0
    expected = bundled_template().gap_mm(weights)
    opening.rotation_euler, opening.scale = (1.0, 2.0, 3.0), (2.0, 2.0, 2.0)
    with preview.Stage(opening, (64, 72), samples=1) as stage:
        assert np.allclose(stage.gap_mm(range(1, 25, 23)), expected, atol=0.01)


def test_a_film_lasts_as_long_as_the_speech_and_has_its_sound(opening, small, tmp_path) -> None:
    before, path = all_data(), tmp_path / "take #1.mp4"  # which are no frame numbers
    film = preview.film(opening, path, 1, 24, bpy.context.scene, SAMPLE)
    assert list(film)[-1] == 1.0 and all_data() == before
    movie = bpy.data.movieclips.load(str(path))
    assert tuple(movie.size) == (64, 72)
    assert movie.frame_duration == 12 and movie.fps == pytest.approx(12.0)
    if compat.HAS_SOUND:
        import aud

        assert aud.Sound(str(path)).length / 48000 == pytest.approx(1.0, abs=0.1)


def test_the_camera_finds_the_face_of_a_large_body() -> None:
    target = body(19158, scale=10.0, shift=(0.0, 0.0, 14.0))
    scene = bpy.context.scene
    camera = preview.light(scene, target)[0]
    bpy.context.view_layer.update()
    lips = face.rest_vertices(target)[bundled_template().source_index[520]]
    seen = camera.matrix_world.inverted() @ preview.Vector(lips.tolist())
    assert 0.6 < -seen.z < 0.8 and abs(seen.x) < 0.05 and abs(seen.y) < 0.05  # of the bundled head
