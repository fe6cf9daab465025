"""Everything that imports bpy: what is on screen, and the way from and to the scene."""


def register() -> None:
    """Make our classes, operators and settings known to Blender."""
    from . import interface

    interface.register()


def unregister() -> None:
    """Take all of it back, also from jobs that are running. May run twice."""
    from . import interface

    interface.unregister()
