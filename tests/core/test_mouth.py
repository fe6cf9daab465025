"""The lips of any face are found by its own shapes, however it stands and whatever its units."""

import numpy as np
import pytest

from selftalk_blender.core import bundled_template
from selftalk_blender.core.mouth import bundled_features, find_mouth, gaps

HEAD = bundled_template()
SHAPES = dict(zip(HEAD.shape_names, HEAD.shape_deltas, strict=True))


def test_the_bundled_heads_lips_are_where_its_landmarks_are() -> None:
    mouth = find_mouth(HEAD.vertices, SHAPES["jawOpen"], SHAPES["mouthPucker"])
    assert mouth is not None
    assert np.isin(mouth.upper, HEAD.regions["lips"]).mean() > 0.7
    assert not np.isin(mouth.upper, HEAD.regions["teeth"]).any()
    assert np.abs(mouth.axes - [[1, 0, 0], [0, 0, 1], [0, -1, 0]]).max() < 0.15
    ours = mouth.gap(HEAD.shape_deltas) * 1000
    assert np.abs(ours - HEAD.gap_per_weight).max() < 3.0  # of 35 mm
    assert np.corrcoef(ours, HEAD.gap_per_weight)[0, 1] > 0.99


def test_turned_mirrored_and_enlarged_it_has_the_same_mouth() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    for side in (1.0, -1.0):
        matrix = turn * [side, 1.0, 1.0] * 100
        vertices, opening, rounding = (
            a @ matrix.T for a in (HEAD.vertices, SHAPES["jawOpen"], SHAPES["mouthPucker"])
        )
        mouth = find_mouth(vertices + 7, opening, rounding)
        assert mouth is not None
        found = gaps(mouth.features(HEAD.shape_deltas @ matrix.T))
        assert np.abs(found - gaps(bundled_features())).max() < 0.1


def test_a_face_without_clear_lips_has_no_mouth() -> None:
    still = np.zeros_like(HEAD.vertices)
    assert find_mouth(HEAD.vertices, still, SHAPES["mouthPucker"]) is None
    assert find_mouth(HEAD.vertices, SHAPES["jawOpen"], still) is None
    assert find_mouth(HEAD.vertices, SHAPES["browInnerUp"], SHAPES["mouthPucker"]) is None
    assert find_mouth(HEAD.vertices[:5], still[:5], still[:5]) is None


@pytest.mark.parametrize("count", [100_000])
def test_a_large_mesh_is_no_longer_wait(count) -> None:
    import time

    copies = -(-count // len(HEAD.vertices))
    far = np.arange(copies)[:, None, None] * [10.0, 0, 0]
    vertices = (HEAD.vertices + far).reshape(-1, 3)
    only = np.zeros((copies, *HEAD.vertices.shape), np.float32)
    opening, rounding = only.copy(), only.copy()
    opening[0], rounding[0] = SHAPES["jawOpen"], SHAPES["mouthPucker"]
    begun = time.process_time()
    assert find_mouth(vertices, opening.reshape(-1, 3), rounding.reshape(-1, 3)) is not None
    assert time.process_time() - begun < 0.5
