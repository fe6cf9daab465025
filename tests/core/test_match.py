"""A mesh is moved by a template's motion if its vertices are the template's, in whatever pose."""

from __future__ import annotations

import time

import numpy as np
import pytest

from selftalk_blender.core import bundled_template
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.match import match_template

TEMPLATE = bundled_template()
VERTICES = TEMPLATE.vertices
QUADS = TEMPLATE.polygons.tolist()
COUNT = len(VERTICES)
RANDOM = np.random.default_rng(0)
ORDER = RANDOM.permutation(COUNT)  # vertex i of a shuffled mesh is vertex ORDER[i]
Z_TO_Y = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def edges_of(faces) -> np.ndarray:
    pairs = {
        tuple(sorted(pair))
        for face in faces
        for pair in zip(face, [*face[1:], face[0]], strict=True)
    }
    return np.array(sorted(pairs))


def triangles(other_way: bool = False) -> list[list[int]]:
    """Each quad cut along one of its diagonals."""
    a, b, c, d = np.array(QUADS).T
    cuts = ((b, c, d), (b, d, a)) if other_way else ((a, b, c), (a, c, d))
    return np.concatenate([np.stack(cut, 1) for cut in cuts]).tolist()


EDGES = edges_of(QUADS)


def somebody_else() -> np.ndarray:
    """A face as different as people are: wider, with a long nose."""
    face = VERTICES * [1.15, 1.0, 0.95]
    near = np.exp(-(((face - face[face[:, 1].argmin()]) / 0.015) ** 2).sum(1))
    return face - near[:, None] * [0, 0.02, 0]


@pytest.mark.parametrize("faces", [QUADS, None])
@pytest.mark.parametrize("scale", [1.0, 0.01, 1000.0])
def test_the_templates_own_mesh_fits_in_any_axes_and_units(faces, scale) -> None:
    turn = np.linalg.qr(RANDOM.normal(size=(3, 3)))[0]
    for linear in (np.eye(3), Z_TO_Y, turn, turn @ np.diag([1.0, 1.0, -1.0])):
        fit = match_template(VERTICES, faces, VERTICES @ linear.T * scale + [1, 2, 3], EDGES)
        offsets = TEMPLATE.shape_deltas[24]
        assert np.abs(fit.offsets(offsets) - offsets @ linear.T * scale).max() < 1e-7 * scale
        assert fit.notice == ""


def test_another_number_of_vertices_is_refused_with_both() -> None:
    with pytest.raises(SelfTalkError, match=f"has {COUNT - 1} vertices .* template {COUNT}"):
        match_template(VERTICES, QUADS, VERTICES[:-1], EDGES)


@pytest.mark.parametrize("with_edges", [True, False])
def test_the_templates_shape_in_another_order_is_matched_by_place(with_edges) -> None:
    """As an importer leaves it, rounded to six decimals, turned, in centimetres."""
    mesh = (VERTICES @ Z_TO_Y.T)[ORDER].round(6) * 100
    back = np.argsort(ORDER)
    faces, edges = (QUADS, back[EDGES]) if with_edges else (None, np.empty((0, 2), int))
    fit = match_template(VERTICES, faces, mesh, edges)
    offsets = TEMPLATE.shape_deltas[24]
    assert np.abs(fit.offsets(offsets) - (offsets @ Z_TO_Y.T)[ORDER] * 100).max() < 1e-4
    assert "another order" in fit.notice


def test_two_vertices_that_changed_places_are_put_right() -> None:
    mesh = VERTICES.copy()
    mesh[[10, 11]] = mesh[[11, 10]]
    for faces in (QUADS, None):
        fit = match_template(VERTICES, faces, mesh, EDGES)
        assert fit.target_index[[10, 11]].tolist() == [11, 10] and fit.notice


def test_somebody_elses_face_of_the_same_topology_fits() -> None:
    """Also without faces to go by; and a monster, where the edges prove the order."""
    face = somebody_else()
    assert match_template(VERTICES, QUADS, face, EDGES).notice == ""
    fit = match_template(VERTICES, None, face, EDGES)
    assert np.array_equal(fit.target_index, np.arange(COUNT))
    monster = face.copy()
    monster[face[:, 2] > 0.15] *= [1.0, 1.0, 1.7]
    match_template(VERTICES, QUADS, monster @ Z_TO_Y.T * 7, EDGES)
    with pytest.raises(SelfTalkError, match="not in its order or not in its shape"):
        match_template(VERTICES, None, monster, EDGES)


@pytest.mark.parametrize("template_faces", [QUADS, triangles()])
@pytest.mark.parametrize("mesh_faces", [QUADS, triangles(), triangles(other_way=True)])
def test_quads_cut_or_dissolved_do_not_matter(template_faces, mesh_faces) -> None:
    match_template(VERTICES, template_faces, somebody_else(), edges_of(mesh_faces))


def test_ngons_and_filled_holes_do_not_matter() -> None:
    lacking = EDGES[RANDOM.random(len(EDGES)) < 0.8]
    across = RANDOM.choice(COUNT, (200, 2), replace=False)
    for edges in (lacking, np.vstack([EDGES, across])):
        match_template(VERTICES, triangles(), somebody_else(), edges)


@pytest.mark.parametrize("faces", [QUADS, triangles()])
def test_somebody_else_in_another_order_is_refused(faces) -> None:
    back = np.argsort(ORDER)
    with pytest.raises(SelfTalkError, match=r"another order: \d+ of them .* Import the template's"):
        match_template(VERTICES, faces, somebody_else()[ORDER], back[edges_of(faces)])
    with pytest.raises(SelfTalkError, match="not in its order or not in its shape"):
        match_template(VERTICES, None, somebody_else()[ORDER], EDGES)


@pytest.mark.parametrize("faces", [QUADS, triangles()])
def test_somebody_else_with_two_neighbours_changed_is_refused(faces) -> None:
    """The least that an importer could get wrong."""
    a, b = EDGES[5000]
    order = np.arange(COUNT)
    order[[a, b]] = b, a
    with pytest.raises(SelfTalkError, match="have other neighbours"):
        match_template(VERTICES, faces, somebody_else()[order], order[edges_of(faces)])


def test_a_mesh_without_shape_is_refused() -> None:
    for face in (np.zeros((COUNT, 3)), np.full((COUNT, 3), np.nan), RANDOM.normal(size=(COUNT, 3))):
        for faces in (QUADS, None):
            with pytest.raises(SelfTalkError):
                match_template(VERTICES, faces, face, EDGES)


def test_vertices_in_one_place_are_not_guessed() -> None:
    double = VERTICES.copy()
    double[4000:4100] = double[3000:3100]
    with pytest.raises(SelfTalkError, match="another order"):
        match_template(double, QUADS, double[ORDER], np.argsort(ORDER)[EDGES])
    match_template(double, QUADS, double, EDGES)  # in order there is nothing to guess


def test_the_published_sizes_take_a_moment() -> None:
    vertices = RANDOM.normal(size=(23370, 3)).astype(np.float32)
    order = RANDOM.permutation(23370)
    begun = time.process_time()
    fit = match_template(vertices, None, vertices[order], np.empty((0, 2), int))
    assert time.process_time() - begun < 2.0
    assert np.array_equal(vertices[order][fit.target_index], vertices)
