"""Pythons for tests of every room."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# A shell that starts the tests in its background has Control-C ignored, and so does all they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def numpy_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has numpy and nothing else."""
    home = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    bare = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([bare, "-c", ask], check=True, capture_output=True, text=True)
    packages, numpy = Path(own.stdout.strip()), Path(np.__file__).parent
    for folder in (numpy, numpy.with_name("numpy.libs"), numpy.with_name(".dylibs")):
        if folder.exists():
            (packages / folder.name).symlink_to(folder, target_is_directory=True)
    return bare
