"""OUT/manifest.jsonl: what became of each clip, one line each, written as it ends."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .task import Output


def output_of(out: Path, path: Path) -> Output:
    """A file below the output folder as the manifest has it."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    info = path.stat()
    return Output(path.relative_to(out).as_posix(), info.st_size, digest, info.st_mtime_ns)
