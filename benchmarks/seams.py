"""How much the place of the inference windows shows: prints one table.

.venv/bin/python -m benchmarks.seams CONFIG [--animator FILE]

Held-out speech is strung together to clips of 24 s. Each is animated on the usual grid of
windows, on grids moved by a third and by a half of the way from one window to the next (silence
put before the clip), and in one single window that sees the whole clip. Lips are compared with
the usual grid: root mean square over lip vertices and frames, the worst frame, and how far lips
move from frame to frame where one window fades into the next, over that elsewhere (1: no joint).
"""

import argparse
from pathlib import Path

import numpy as np

from selftalk_blender.animator import Animator, load_animator
from selftalk_blender.core import Motion
from selftalk_blender.core.frontend import FPS, SAMPLE_RATE
from selftalk_blender.core.inference import LEAD
from selftalk_blender.core.windows import step
from selftalk_blender.training.config import load_config
from selftalk_blender.training.corpus import load_corpus


def clips(held_out: list, seconds: float) -> list[np.ndarray]:
    """Strings of utterances of one kind, each `seconds` long."""
    found = []
    for kind in ("grid", "tts", "libri"):
        sounds = [u.samples() for u in held_out if u.kind == kind][:40]
        joined = np.concatenate(sounds)
        size = int(seconds * SAMPLE_RATE)
        found += [joined[i : i + size] for i in range(0, len(joined) - size, size)][:2]
    return found


def lips(motion: Motion, skip: int = 0) -> np.ndarray:
    """(T, n, 3) lip vertices in mm."""
    assert motion.weights is not None
    deltas = motion.template.deltas("lips")
    return 1000 * (motion.weights[skip:] @ deltas).reshape(len(motion) - skip, -1, 3)


def moved(animator: Animator, samples: np.ndarray, frames: int) -> np.ndarray:
    """Lips with the grid moved by `frames` (frames of silence before the clip)."""
    silence = np.zeros(int(frames / FPS * SAMPLE_RATE), np.float32)
    return lips(animator.animate(np.concatenate([silence, samples]), SAMPLE_RATE), frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--animator", type=Path)
    options = parser.parse_args()
    animator = load_animator(options.animator)
    window = animator.window
    held_out = [
        u for u in load_corpus(load_config(options.config), animator.template) if u.held_out
    ]
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for samples in clips(held_out, 24.0):
        usual = lips(animator.animate(samples, SAMPLE_RATE))
        others = {
            "a third": moved(animator, samples, step(window) // 3),
            "a half": moved(animator, samples, step(window) // 2),
        }
        animator.window = 1500
        others["one window"] = lips(animator.animate(samples, SAMPLE_RATE))
        animator.window = window
        steps = np.linalg.norm(np.diff(usual, axis=0), axis=-1).mean(1)
        place = np.arange(len(steps)) + round(LEAD * FPS)  # frames since the first window began
        joints = (place >= step(window)) & (place % step(window) < window - step(window))
        for name, other in others.items():
            distance = np.linalg.norm(usual - other, axis=-1)
            rows.setdefault(name, []).append(
                (
                    float(np.sqrt((distance**2).mean())),
                    float(distance.max()),
                    float(steps[joints].mean() / steps[~joints].mean()),
                )
            )
    print(f"{'grid':16s} {'rms mm':>8s} {'worst rms':>10s} {'worst mm':>9s} {'moves':>6s}")
    for name, values in rows.items():
        rms, worst, moves = np.array(values).T
        print(
            f"{name:16s} {rms.mean():8.3f} {rms.max():10.3f} {worst.max():9.2f} {moves.mean():6.2f}"
        )


if __name__ == "__main__":
    main()
