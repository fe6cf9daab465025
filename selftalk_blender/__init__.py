"""SelfTalk: a talking face from speech, in Blender and outside it.

Blender calls `register`; importing the package brings in neither bpy nor torch.
"""


def register() -> None:
    """Enable the add-on: called by Blender."""
    from . import blender

    blender.register()


def unregister() -> None:
    """Disable the add-on, without a trace; called by Blender. May run twice."""
    from . import blender

    blender.unregister()
