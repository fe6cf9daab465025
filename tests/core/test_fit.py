"""The bundled head is laid onto another head; the solver below it agrees with scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from heads import ICT_LANDMARKS, TEMPLATE, TRIANGLES, VERTICES, finer, ict_head, result

from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.fit import fit_template
from selftalk_blender.core.landmarks import template_landmarks
from selftalk_blender.core.sparse import Sparse
from selftalk_blender.core.steps import at_last
from selftalk_blender.core.surface import edges_of, islands_of, nearest, weld_borders

PLACES = VERTICES[template_landmarks()]


def test_its_own_head_is_met_exactly_though_the_landmarks_are_not() -> None:
    turn = 30 * np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    marks = (PLACES + np.random.default_rng(0).normal(0, 0.0008, (10, 3))) @ turn.T + 7
    fit = result(fit_template(VERTICES @ turn.T + 7, TRIANGLES, marks))
    apart = np.linalg.norm(fit.laid - fit.placed, axis=1)
    assert apart[TEMPLATE.regions["lips"]].max() < 5e-5 and np.median(apart) < 1e-5
    assert np.abs(fit.linear - turn).max() < 0.01


def test_another_person_is_met_within_a_millimetre() -> None:
    vertices, triangles, _ = ict_head()
    lips = [5708, 6213, 5702, 5711, 6216, 6207, 6470, 5966]  # corners and the line between
    fit = result(fit_template(vertices, triangles, vertices[ICT_LANDMARKS]))
    near = nearest(fit.placed[lips], fit.laid[TEMPLATE.regions["lips"]])
    apart = fit.placed[lips] - fit.laid[TEMPLATE.regions["lips"][near]]
    assert np.linalg.norm(apart, axis=1).max() < 0.0015


def test_landmarks_on_the_wrong_sides_are_refused() -> None:
    wrong = np.random.default_rng(0).permutation(PLACES)
    with pytest.raises(SelfTalkError, match="wrong side"):
        result(fit_template(VERTICES, TRIANGLES, wrong))


def test_the_solver_gives_what_scipy_gives() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    linalg = pytest.importorskip("scipy.sparse.linalg")
    vertices, triangles, _ = finer(1)
    count, edges = len(vertices), edges_of(triangles)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(edges))
    rows = np.concatenate([edges[:, 0], edges[:, 1], np.arange(count), edges.ravel()])
    columns = np.concatenate([edges[:, 1], edges[:, 0], np.arange(count), edges.ravel()])
    values = np.concatenate([-weights, -weights, np.full(count, 0.1), np.repeat(weights, 2)])
    reference = sparse.coo_matrix((values, (rows, columns)), (count, count)).tocsc()
    right = np.random.default_rng(1).normal(size=(count, 5))
    system = Sparse(count, rows, columns, values)
    assert np.allclose(system @ right, reference @ right)
    solved = at_last(system.solve(right, tolerance=1e-8))
    assert np.allclose(solved, linalg.splu(reference).solve(right), atol=1e-6)


def test_a_surface_split_along_seams_is_one_part_and_touching_lips_are_two() -> None:
    split = VERTICES[TRIANGLES[:3000]].reshape(-1, 3)  # each triangle with corners of its own
    triangles = np.arange(len(split)).reshape(-1, 3)
    joined = weld_borders(split, triangles)[triangles]
    parts = len(np.unique(islands_of(len(split), edges_of(joined))[joined]))
    whole = TRIANGLES[:3000]
    assert parts == len(np.unique(islands_of(len(VERTICES), edges_of(whole))[whole]))
    # Two closed surfaces that touch in a vertex have no open edges there.
    twice = np.concatenate([VERTICES, VERTICES])
    closed = np.concatenate([TRIANGLES, TRIANGLES + len(VERTICES)])
    stands = weld_borders(twice, closed)
    lips = TEMPLATE.regions["lips"]
    assert np.array_equal(stands[lips], lips)
    assert np.array_equal(stands[lips + len(VERTICES)], lips + len(VERTICES))
