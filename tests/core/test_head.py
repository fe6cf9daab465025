"""The bundled head: right way round, right size, and every part that later work relies on."""

import numpy as np
import pytest

from selftalk_blender.core import bundled_template
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.lips import DEEPEST, rest_weights, symmetric, tidy_lips
from selftalk_blender.core.retarget import match_by_index

HEAD = bundled_template()


def shape(name: str, weight: float = 1.0) -> np.ndarray:
    weights = np.zeros((1, 52), np.float32)
    weights[0, HEAD.shape_names.index(name)] = weight
    return weights


def test_head_stands_on_the_floor_in_metres_facing_minus_y() -> None:
    low, high = HEAD.vertices.min(0), HEAD.vertices.max(0)
    assert 0.25 < high[2] - low[2] < 0.35
    assert abs(low[2]) < 0.03
    left, right = (HEAD.vertices[HEAD.landmarks[f"mouth_corner_{s}"]] for s in ("left", "right"))
    assert left[0] > 0 > right[0]
    assert HEAD.vertices[HEAD.landmarks["inner_upper_lip"]][1] < HEAD.vertices[:, 1].mean()


def test_jaw_opens_the_lips_and_takes_teeth_and_tongue_along() -> None:
    assert HEAD.gap_mm(np.zeros((1, 52)))[0] < 0.2
    assert HEAD.gap_mm(shape("jawOpen"))[0] > 30
    deltas = HEAD.shape_deltas[HEAD.shape_names.index("jawOpen")]
    assert deltas[HEAD.regions["teeth_lower"], 2].mean() < -0.01
    assert deltas[HEAD.regions["tongue"], 2].mean() < -0.005
    assert np.abs(deltas[HEAD.regions["teeth_upper"]]).max() == 0


def test_rest_is_sealed_and_pressed_lips_overlap_little() -> None:
    assert -1.0 < HEAD.gap_mm(rest_weights(HEAD)[None])[0] < 0
    pressed = shape("mouthClose", 0.2) + shape("jawOpen", 0.1) + shape("mouthRollUpper", 1.0)
    assert HEAD.gap_mm(pressed)[0] < -DEEPEST
    assert HEAD.gap_mm(tidy_lips(HEAD, pressed))[0] == pytest.approx(-DEEPEST, abs=1e-3)
    no_close = shape("mouthShrugLower") + shape("mouthRollLower")
    assert HEAD.gap_mm(tidy_lips(HEAD, no_close))[0] == pytest.approx(-DEEPEST, abs=1e-3)
    spoken = shape("jawOpen", 0.3) + shape("tongueOut", 0.3)
    assert np.array_equal(tidy_lips(HEAD, spoken), spoken)
    assert np.array_equal(tidy_lips(HEAD, shape("tongueOut", 0.3)), shape("tongueOut", 0.0))


def test_a_lopsided_mouth_is_made_symmetric() -> None:
    lopsided = shape("mouthSmileLeft", 0.4) + shape("mouthLeft", 0.2) + shape("jawOpen", 0.3)
    even = symmetric(HEAD, lopsided)
    expected = shape("mouthSmileLeft", 0.2) + shape("mouthSmileRight", 0.2)
    expected += shape("mouthLeft", 0.1) + shape("mouthRight", 0.1) + shape("jawOpen", 0.3)
    assert np.allclose(even, expected)


def body(vertices: np.ndarray, count: int) -> np.ndarray:
    """A mesh of the full base topology, whose other vertices are anywhere."""
    full = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    index = HEAD.source_index[HEAD.source_index < count]
    full[index] = vertices[HEAD.source_index < count]
    return full


@pytest.mark.parametrize("count", [4874, 19158, 13380])
def test_motion_arrives_turned_and_scaled(count: int) -> None:
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32) * 10  # Y up, decimetres
    own = HEAD.vertices if count == 4874 else body(HEAD.vertices, count)
    match = match_by_index(HEAD, own @ turn.T + 3)
    offsets = HEAD.shape_deltas[HEAD.shape_names.index("jawOpen")]
    moved = match.offsets(offsets)
    assert moved.shape == (count, 3)
    assert np.allclose(moved[match.target_index], offsets[match.template_index] @ turn.T, atol=1e-4)
    assert np.count_nonzero(np.abs(moved).sum(1)) <= len(match.target_index)


def sides(order: np.ndarray) -> np.ndarray:
    """(E, 2) edges of the head whose vertices were put into an order."""
    quads = np.argsort(order)[HEAD.polygons]
    return np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])


def test_the_order_of_vertices_is_told_by_edges() -> None:
    same = np.arange(len(HEAD.vertices))
    stretched = HEAD.vertices * np.float32([0.8, 1.0, 1.4])
    assert match_by_index(HEAD, stretched, sides(same)).target_vertices == len(same)
    with pytest.raises(SelfTalkError, match="another order"):
        match_by_index(HEAD, stretched)  # without them it cannot be told
    # Neighbours changed places: no misfit shows that.
    mixed = same.copy()
    for a, b in HEAD.polygons[::6, :2]:
        mixed[[a, b]] = mixed[[b, a]]
    match_by_index(HEAD, HEAD.vertices[mixed])
    with pytest.raises(SelfTalkError, match="another order"):
        match_by_index(HEAD, HEAD.vertices[mixed], sides(mixed))


def test_unknown_meshes_are_refused_with_both_counts() -> None:
    with pytest.raises(SelfTalkError, match=r"8 vertices.*4874"):
        match_by_index(HEAD, np.zeros((8, 3)))
    # A larger mesh may be a whole body; if it is none, nothing of it is in another order.
    with pytest.raises(SelfTalkError, match=r"24591 vertices.*4874") as refused:
        match_by_index(HEAD, np.random.default_rng(0).normal(size=(24591, 3)))
    assert "order" not in str(refused.value)
    with pytest.raises(SelfTalkError, match="another order"):
        match_by_index(HEAD, np.random.default_rng(0).permutation(HEAD.vertices))
    with pytest.raises(SelfTalkError, match="another order"):
        match_by_index(HEAD, np.zeros((4874, 3)))
