"""Everything that imports bpy: what is on screen, and the way from and to the scene."""

import importlib.util
import sys
import types
from typing import Any

# What works only when asked to is imported by its first use, so that enabling the add-on takes
# milliseconds. What is on screen uses it as modules (`from . import lines`, then `lines.find`),
# never while classes are made, and first in Blender's own thread: in the Python of Blender 4.2
# two threads would collide.
LATER = (
    "..worker.client",
    "..core.landmarks",
    "..core.surface",
    ".strips",
    ".neutral",
    ".face",
    ".bundled_head",
    ".artist",
    ".parts",
    ".rigs",
    ".targets",
    ".shape_keys",
    ".mesh_cache",
    ".controls",
    ".reducing",
    ".lines",
    ".sound",
    ".animate",
    ".casting",
    ".dialogue",
    ".landmark_empties",
    ".face_shapes",
    ".export",
)


class _Later(types.ModuleType):
    """A module that is imported when something of it is first asked for.

    What Python notes about each module can be asked without: Blender's preferences look through
    `sys.modules` for the files, and must not have more of them imported meanwhile, as Python's own
    lazy modules would be.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _use(self)
        return getattr(self, name)


def _import_later(name: str) -> types.ModuleType:
    full = importlib.util.resolve_name(name, __name__)
    if full in sys.modules:
        return sys.modules[full]
    spec = importlib.util.find_spec(full)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _Later
    sys.modules[full] = module
    package, _, own = full.rpartition(".")
    setattr(sys.modules[package], own, module)
    return module


def _use(module: types.ModuleType) -> None:
    """Import a module of LATER that was not used yet."""
    spec = module.__spec__
    assert spec is not None and spec.loader is not None
    module.__class__ = types.ModuleType
    try:
        spec.loader.exec_module(module)
    except BaseException:
        module.__class__ = _Later  # so that the next use meets the same error
        raise


_later = [_import_later(name) for name in LATER]


def used(module: types.ModuleType) -> bool:
    """Whether a module of LATER was used; asking is no use of it."""
    return type(module) is types.ModuleType


def use_next() -> bool:
    """Import another of LATER; False where none is left."""
    for module in _later:
        if not used(module):
            _use(module)
            return True
    return False


def register() -> None:
    """Make our classes, operators and settings known to Blender."""
    from . import interface

    interface.register()


def unregister() -> None:
    """Take all of it back, also from jobs that are running. May run twice."""
    from . import interface

    interface.unregister()
