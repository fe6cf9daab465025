"""The folder of a reader of the documents: small files of the names that stand there."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
from commands import ROOT
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

sys.path += [str(ROOT / "tests" / place) for place in ("animator", "training", "worker")]

import checkpoints
import test_diagram
import test_prepare

from selftalk_blender.core.template import ASSETS

SHORTER = {"epochs": 1, "reader_epochs": 1, "width": 32, "batch": 1, "warmup": 1}

CHARACTER = f"""
import bpy, sys
sys.path.insert(0, {str(ROOT)!r})
from selftalk_blender.blender import bundled_head, interface
interface.register()
bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
bundled_head.add_head(bpy.context, (0.0, 0.0, 0.0))
bpy.ops.wm.save_as_mainfile(filepath="character.blend")
"""


def fill(folder: Path) -> None:
    """Put everything there, in a second."""
    (folder / "dialogue/act1").mkdir(parents=True)
    samples, rate = soundfile.read(ASSETS / "sample.ogg")
    for name in ("line.wav", "dialogue/a.wav", "dialogue/act1/b.wav"):
        soundfile.write(folder / name, samples[: rate // 2], rate)
    (folder / "lines.csv").write_text(
        "clip,mesh,object,strength,blinks,format\n"
        'dialogue/act1/b.wav,character.blend,,1.2,1,"fbx,json"\ndialogue/a.wav,,,0.8,,\n'
    )
    subprocess.run([sys.executable, "-c", CHARACTER], cwd=folder, check=True)
    _published(folder)
    _captures(folder)
    _configs(folder)
    for name in ("tools", "selftalk_blender", "benchmarks", "tests"):
        (folder / name).symlink_to(ROOT / name)


def _published(folder: Path) -> None:
    model = checkpoints.Published(1, hidden=1024)
    torch.save(model.state_dict(), folder / "vocaset.pth")
    _ply(folder / "FLAME.ply", checkpoints.TEMPLATE)


def _captures(folder: Path) -> None:
    for make in (test_prepare.voca, test_prepare.biwi, test_prepare.own):
        make.__wrapped__(folder)  # type: ignore[attr-defined]
    (folder / "FLAME_masks.pkl").write_bytes(pickle.dumps({"lips": np.arange(20)}))
    (folder / "lips.txt").write_text("0 1 2 3 4 5 6 7")
    (folder / "template.obj").write_text(
        "".join(f"v {x} {y} {z}\n" for x, y, z in test_prepare.HEAD)
    )


def _configs(folder: Path) -> None:
    """The repository's own configurations, with a speech model of their names, and shorter."""
    (folder / "configs").mkdir()
    for config in (ROOT / "configs").glob("*.toml"):
        text = config.read_text()
        for key, value in SHORTER.items():
            text = re.sub(rf"^{key} = \d+", f"{key} = {value}", text, flags=re.MULTILINE)
        (folder / "configs" / config.name).write_text(text)
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**test_diagram.WAVE, **test_diagram.LARGE))
    for name in ("wav2vec2-base", "wav2vec2-base-960h"):
        model.save_pretrained(folder / "models" / name)
        words = json.dumps({"<pad>": 0, "|": 4, "a": 1})
        (folder / "models" / name / "vocab.json").write_text(words)


def _ply(path: Path, vertices: np.ndarray) -> None:
    head = f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
    path.write_text(head + "".join(f"{x} {y} {z}\n" for x, y, z in vertices))
