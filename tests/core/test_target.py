"""What a mesh is, in one line, with reasons."""

import numpy as np
import pytest

from selftalk_blender.core import bundled_template
from selftalk_blender.core.target import analyse

HEAD = bundled_template()
OTHER = np.random.default_rng(0).random((900, 3))
OCULUS = [f"viseme_{v}" for v in "sil PP FF TH DD kk CH SS nn RR aa E I O U".split()]


def body(count: int) -> np.ndarray:
    vertices = np.random.default_rng(0).random((count, 3))
    known = HEAD.source_index < count
    vertices[HEAD.source_index[known]] = HEAD.vertices[known]
    return vertices


@pytest.mark.parametrize(
    "vertices, names, kind, line",
    [
        (HEAD.vertices, HEAD.shape_names, "TEMPLATE", "Head, 52 face shapes"),
        (HEAD.vertices, ["jawOpen"], "TEMPLATE", "Head, 1 face shape"),
        (body(13380), [], "TEMPLATE", "MakeHuman body, face shapes will be created"),
        (body(19158), OCULUS, "TEMPLATE", "MakeHuman body, face shapes will be created"),
        (OTHER, HEAD.shape_names, "ARKIT", "ARKit shapes, 52 of 52, by name"),
        (OTHER, [*HEAD.shape_names, *OCULUS], "ARKIT", "ARKit shapes, 52 of 52, by name"),
        (OTHER, OCULUS, "VISEMES", "Oculus visemes, 15, solved frame by frame"),
        (OTHER, list("AIUEO"), "VISEMES", "VRM vowels, 5, solved frame by frame"),
        (OTHER, ["A", "Old"], "UNKNOWN", "Another head: Create Face Shapes first"),
        (body(19158)[::-1], [], "UNKNOWN", "Another head: Create Face Shapes first"),
    ],
)
def test_one_line(vertices, names, kind, line) -> None:
    analysis = analyse(vertices, names)
    assert (analysis.kind, analysis.line) == (kind, line)
    assert analysis.talks == (kind != "UNKNOWN")


def test_the_reasons_say_why_it_is_not_more() -> None:
    assert "has 900 vertices" in analyse(OTHER, []).reasons[0]
    assert "FLAME" in analyse(np.zeros((5023, 3)), []).reasons[0]
    assert "another order" in analyse(body(19158)[::-1], []).reasons[0]
    assert (
        "Oculus visemes are not needed" in analyse(OTHER, [*HEAD.shape_names, *OCULUS]).reasons[0]
    )
    assert "too few" in analyse(OTHER, ["mouthOpen", "mouthSmile"]).reasons[0]
    jawless = [name for name in HEAD.shape_names if name != "jawOpen"]
    assert "no jawOpen" in analyse(OTHER, jawless).reasons[0]


def test_shapes_of_unknown_names_can_be_mapped_by_hand() -> None:
    vertices = np.zeros((8, 3))
    (reason,) = analyse(vertices, ["Mund_offen", "Kuss"]).reasons
    assert "under Mapping" in reason
    (reason,) = analyse(vertices, []).reasons
    assert "Mapping" not in reason
