"""`blender -c selftalk ...`: the command `selftalk` in a Blender that is installed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import bpy

from ..core.errors import SelfTalkError
from ..worker.python import find_python
from . import preferences

NAME = "selftalk"

_registered: Any = None


def start() -> None:
    """Have Blender know the command."""
    global _registered
    if _registered is None:
        _registered = bpy.utils.register_cli_command(NAME, run)


def stop() -> None:
    """Have Blender forget it."""
    global _registered
    if _registered is not None:
        bpy.utils.unregister_cli_command(_registered)
        _registered = None


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says; returns the exit code.

    Args:
        arguments: what follows `blender -c selftalk`.
    """
    from .. import cli
    from ..batch.process import LIBRARIES

    # The children have no preferences: what these say of the animator goes to them by environment.
    chosen, _ = preferences.animator_settings(bpy.context)
    try:
        python = find_python(chosen)
    except SelfTalkError as error:
        print(f"selftalk: {error}", file=sys.stderr)
        return 1
    if chosen:
        os.environ["SELFTALK_PYTHON"] = str(python.program)
    os.environ[LIBRARIES] = os.pathsep.join(map(str, python.libraries))
    # Blender's own answer to Ctrl-C would leave us running.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return cli.main(arguments, blender=bpy.app.binary_path)
    except SystemExit as end:  # argparse: wrong usage, or --help
        return end.code if isinstance(end.code, int) else 1
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        sys.stdout.flush()
