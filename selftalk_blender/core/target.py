"""What a mesh is to SelfTalk, and how it can be made to talk."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .errors import SelfTalkError
from .names import Names, recognise
from .retarget import match_by_index
from .template import bundled_template

KINDS = ("TEMPLATE", "ARKIT", "VISEMES", "RIG", "UNKNOWN")


@dataclass(frozen=True)
class Analysis:
    """What a mesh is.

    Attributes:
        kind: of KINDS. TEMPLATE has the bundled head's vertices, so that shapes that it lacks can
            be made; ARKIT speaks by ARKit's names; VISEMES by mouths for sounds;
            RIG by bones or sliders alone.
        line: one line for the panel.
        reasons: sentences on why it is that, or is not more.
    """

    kind: str
    line: str
    reasons: tuple[str, ...] = ()

    @property
    def talks(self) -> bool:
        """Whether the mesh can be animated as it is."""
        return self.kind != "UNKNOWN"


def analyse(vertices: np.ndarray, shape_names: Iterable[str]) -> Analysis:
    """Say what a mesh is.

    Args:
        vertices: (V, 3) at rest, in any axes and unit.
        shape_names: of its shape keys, without the Basis.
    """
    problem = ""
    try:
        match_by_index(bundled_template(), vertices)
    except SelfTalkError as error:
        problem = str(error)
    return judge(len(vertices), tuple(shape_names), problem)


@functools.lru_cache(maxsize=32)
def judge(count: int, shape_names: tuple[str, ...], problem: str) -> Analysis:
    """As `analyse`, of a mesh of `count` vertices.

    Args:
        problem: why its vertices are not the bundled head's; "" where they are.
    """
    names = recognise(shape_names)
    if problem and shape_names and not (names.arkit or names.visemes):
        problem += (
            " None of its shape keys has a name that SelfTalk knows: if they are of the face, say "
            "under Mapping (+) what moves them."
        )
    if problem:
        return _by_names(names, problem)
    known = len(names.arkit_shapes | set(bundled_template().shape_names) & set(shape_names))
    kind = "Head" if count == len(bundled_template().vertices) else "MakeHuman body"
    plural = "" if known == 1 else "s"
    shapes = f"{known} face shape{plural}" if known else "face shapes will be created"
    return Analysis("TEMPLATE", f"{kind}, {shapes}")


def _by_names(names: Names, problem: str) -> Analysis:
    """A mesh of another topology; `problem` says which."""
    count, total = len(names.arkit_shapes), len(bundled_template().shape_names)
    if names.speaks_arkit or (count and not names.visemes):
        line = f"ARKit shapes, {count} of {total}, by name"
        reasons = []
        if names.visemes:
            reasons.append(f"Its {names.visemes_kind} are not needed and stay as they are.")
        if "jawOpen" not in names.arkit_shapes:
            reasons.append("It has no jawOpen, so the jaw stays as it is.")
        if not names.speaks_arkit:
            reasons.append("It has too few mouth shapes for more than opening and closing.")
        return Analysis("ARKIT", line, tuple(reasons))
    if names.visemes:
        line = f"{names.visemes_kind}, {len(names.visemes)}, solved frame by frame"
        upper = f"Eyes and brows by {count} ARKit shapes." if count else ""
        return Analysis("VISEMES", line, (upper,) if upper else ())
    return Analysis("UNKNOWN", "Another head: Create Face Shapes first", (problem,))
