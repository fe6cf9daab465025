"""Install and remove PyTorch: the buttons of the preferences."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import bpy

from ..core.errors import SelfTalkError
from ..core.progress import Progress
from ..worker import client, pytorch
from . import jobs, preferences


def _do(work: pytorch.Work) -> Generator[Progress, None, pytorch.Work]:
    """Wait for work in its thread; closing the generator cancels it.

    Raises:
        SelfTalkError: why it failed.
    """
    work.start()
    try:
        while work.is_alive():
            yield Progress(work.done, work.stage, waiting=True)
    finally:
        work.cancel()
        if bpy.app.background:  # a script goes on when all is as it was
            work.join()
    if work.error is not None:
        raise work.error
    return work


class _PyTorchOperator(jobs.JobOperator):
    """Work on our own folder alone: the scene may be worked on, and undone, meanwhile."""

    def _blocked(self, event: bpy.types.Event) -> bool:
        return False


class SELFTALK_OT_install_torch(_PyTorchOperator, bpy.types.Operator):
    """Download PyTorch into SelfTalk's own folder, where it serves SelfTalk alone"""

    bl_idname = "selftalk.install_torch"
    bl_label = "Install PyTorch"

    def steps(self, context: bpy.types.Context) -> Generator[Progress, None, pytorch.Work]:
        folder = preferences.torch_folder()
        if folder is None:
            raise SelfTalkError(
                "SelfTalk is not installed as an extension, so it has no folder of its own. "
                "Choose an existing Python."
            )
        if not bpy.app.online_access:
            raise SelfTalkError(
                "Blender may not go online. Allow it in Preferences > System > Network > Allow "
                "Online Access, then press Install PyTorch again."
            )
        build, index = preferences.torch_choice(context)
        return self._install(pytorch.Installation(folder, build, index))

    def _install(self, work: pytorch.Work) -> Generator[Progress, None, pytorch.Work]:
        if pytorch.about(preferences.torch_folder())[0]:
            client.stop_workers()  # of an earlier one, whose files they hold
        yield from _do(work)
        preferences.ask_again()
        return work

    def finish(self, context: bpy.types.Context, work: pytorch.Installation) -> None:
        self.report({"INFO"}, f"Installed: {work.text}")


class SELFTALK_OT_remove_torch(_PyTorchOperator, bpy.types.Operator):
    """Remove the PyTorch that Install PyTorch brought; faces are then animated without"""

    bl_idname = "selftalk.remove_torch"
    bl_label = "Remove PyTorch"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        folder = preferences.torch_folder()
        there = folder is not None and folder.is_dir()
        if not there:
            cls.poll_message_set("Install PyTorch has not been used")
        return there

    def steps(self, context: bpy.types.Context) -> Generator[Progress, None, pytorch.Work]:
        folder = preferences.torch_folder()
        assert folder is not None  # poll
        return self._remove(folder)

    def _remove(self, folder: Path) -> Generator[Progress, None, pytorch.Work]:
        client.stop_workers()
        preferences.ask_again()
        work = yield from _do(pytorch.Removal(folder))
        preferences.ask_again()
        return work

    def finish(self, context: bpy.types.Context, work: pytorch.Removal) -> None:
        self.report({"INFO"}, "PyTorch was removed")


CLASSES = (SELFTALK_OT_install_torch, SELFTALK_OT_remove_torch)
