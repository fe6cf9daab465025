"""A real animator of the right kind, but tiny and untrained: quick, and there at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tiny_animator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an animator that opens the jaw somehow."""
    torch = pytest.importorskip("torch")
    from selftalk_blender.animator.checkpoint import save_animator
    from selftalk_blender.animator.network import AnimatorConfig, FacialAnimator, SpeechEncoder
    from selftalk_blender.core import bundled_template

    torch.manual_seed(0)
    encoder = SpeechEncoder(
        {
            "d_model": 16, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
            "num_mel_bins": 80, "max_source_positions": 1500, "activation_function": "gelu",
        },
        1,
    )  # fmt: skip
    config = AnimatorConfig(176, ("jawOpen", "mouthClose"), width=16, layers=1, heads=2, reach=5)
    network = FacialAnimator(config)
    torch.nn.init.normal_(network.head.weight)
    path = tmp_path_factory.mktemp("animator") / "tiny.safetensors"
    save_animator(path, encoder, network, bundled_template().digest, 400)
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of noise, 16 kHz."""
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path_factory.mktemp("clips") / "noise with spaces & ümlaut.wav"
    samples = np.random.default_rng(0).normal(size=48000) * 0.1
    soundfile.write(path, samples.astype(np.float32), 16000)
    return path
