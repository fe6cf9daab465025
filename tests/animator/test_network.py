"""The network and its file: local, frozen where it says so, and data instead of code."""

import functools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from selftalk_blender.animator import load_animator
from selftalk_blender.animator.checkpoint import read_animator, save_animator
from selftalk_blender.animator.network import (
    AnimatorConfig,
    FacialAnimator,
    LocalAttention,
    SpeechEncoder,
    on_array,
)
from selftalk_blender.animator.pretrained import load_encoder
from selftalk_blender.core import bundled_template
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.windows import in_context

WHISPER = {
    "d_model": 16, "encoder_attention_heads": 2, "encoder_ffn_dim": 32, "num_mel_bins": 80,
    "max_source_positions": 1500, "activation_function": "gelu",
}  # fmt: skip


@pytest.fixture
def encoder() -> SpeechEncoder:
    torch.manual_seed(0)
    return SpeechEncoder(WHISPER, 2)


@pytest.fixture
def network() -> FacialAnimator:
    torch.manual_seed(0)
    network = FacialAnimator(
        AnimatorConfig(176, ("jawOpen", "mouthClose"), width=16, layers=1, heads=2, reach=5)
    ).eval()
    torch.nn.init.normal_(network.head.weight)
    return network


def test_encoder_is_whispers_own(encoder: SpeechEncoder) -> None:
    """On Whisper's 30 s, the hidden states are those of `transformers` (normalised)."""
    mel = torch.randn(1, 80, 3000)
    rival = encoder.whisper(mel, output_hidden_states=True).hidden_states[-1]
    rival = torch.nn.functional.layer_norm(rival, rival.shape[-1:])
    features = encoder(mel)
    assert features.shape == (1, 1500, encoder.width)
    assert torch.allclose(features[..., :16], rival, atol=1e-5)
    assert torch.equal(features[0, 700, 16:], mel[0, :, 1400:1402].T.flatten())


def test_encoder_stays_frozen_and_in_eval_mode(encoder: SpeechEncoder) -> None:
    torch.nn.ModuleDict({"encoder": encoder}).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_a_frame_depends_on_its_surroundings_only(network: FacialAnimator) -> None:
    features = torch.randn(1, 60, 176)
    changed = features.clone()
    changed[:, 40:] += 1
    with torch.inference_mode():
        whole = network(features)
        difference = (whole - network(changed)).abs().amax(dim=(0, 2))
        decode = functools.partial(on_array, network, torch.device("cpu"))
        cut = np.split(features[0].numpy(), range(9, len(features[0]), 9))
        pieces = in_context(cut, decode, network.context)
        assert np.allclose(np.concatenate(list(pieces)), whole[0], atol=1e-5)
    assert (difference[: 40 - network.context] == 0).all()
    assert (difference[40:] > 0).all()


@pytest.mark.parametrize("frames", [1, 4, 5, 6, 11])
def test_attention_in_blocks_is_attention_with_a_band(frames: int) -> None:
    torch.manual_seed(1)
    attention = LocalAttention(16, heads=2, reach=5)
    torch.nn.init.normal_(attention.bias)
    hidden = torch.randn(2, frames, 16)
    query, (key, value) = attention.query(hidden), attention.key_value(hidden).chunk(2, -1)
    query, key, value = (x.unflatten(-1, (2, 8)).transpose(1, 2) for x in (query, key, value))
    distance = torch.arange(frames)[None] - torch.arange(frames)[:, None]
    bias = attention.bias[:, distance.clamp(-5, 5) + 5]
    scores = query @ key.transpose(-1, -2) / 8**0.5 + bias
    scores = scores.masked_fill(distance.abs() > 5, float("-inf"))
    band = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    assert torch.allclose(attention(hidden, hidden, [frames] * 2), attention.out(band), atol=1e-5)


def test_saved_file_gives_the_same_network(
    encoder: SpeechEncoder, network: FacialAnimator, tmp_path
) -> None:
    path = tmp_path / "animator.safetensors"
    save_animator(path, encoder, network, "digest", 500)
    encoder2, network2, settings = read_animator(path)
    assert (settings["template"], settings["window"]) == ("digest", 500)
    mel = torch.randn(1, 80, 200)
    with torch.inference_mode():
        own = network(encoder(mel))
        again = network2(encoder2(mel))
    assert torch.allclose(own, again, atol=0.02)  # half precision


def test_encoder_folder_of_transformers_loads(encoder: SpeechEncoder, tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(WHISPER | {"encoder_layers": 2}))
    state = {name[8:]: t.half() for name, t in encoder.state_dict().items()}
    save_file(state, tmp_path / "encoder.safetensors")
    assert len(load_encoder(tmp_path, 1).whisper.layers) == 1
    with pytest.raises(SelfTalkError, match=r"lacks the tensor whisper\.layers\.2"):
        load_encoder(tmp_path, 3)
    with pytest.raises(SelfTalkError, match="No speech encoder"):
        load_encoder(tmp_path / "nowhere", 1)


def test_wrong_and_damaged_files_are_sentences(
    encoder: SpeechEncoder, network: FacialAnimator, tmp_path
) -> None:
    path = tmp_path / "animator.safetensors"
    with pytest.raises(SelfTalkError, match="no animator file"):
        read_animator(path)
    path.write_bytes(b"PK not safetensors at all")
    with pytest.raises(SelfTalkError, match="not a readable"):
        read_animator(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(SelfTalkError, match="not a SelfTalk animator"):
        read_animator(path)
    save_animator(path, encoder, network, bundled_template().digest, 500)
    tensors = load_file(path)
    settings = json.loads(_metadata(path))
    tensors["animator.head.weight"] = torch.zeros(3, 16)
    save_file(tensors, path, {"selftalk": json.dumps(settings)})
    with pytest.raises(SelfTalkError, match=r"head\.weight is \(3, 16\), but \(2, 16\)"):
        read_animator(path)
    save_file(tensors, path, {"selftalk": json.dumps(settings | {"format": 9})})
    with pytest.raises(SelfTalkError, match="newer"):
        read_animator(path)
    save_animator(path, encoder, network, "another head", 500)
    with pytest.raises(SelfTalkError, match="another head"):
        load_animator(path)


def _metadata(path) -> str:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.metadata()["selftalk"]


def test_absent_device_is_a_sentence(
    encoder: SpeechEncoder, network: FacialAnimator, tmp_path
) -> None:
    path = tmp_path / "animator.safetensors"
    save_animator(path, encoder, network, bundled_template().digest, 500)
    with pytest.raises(SelfTalkError, match="cannot be used"):
        load_animator(path, device="xpu")
    motion = load_animator(path, device="cpu").animate(np.zeros(16000, np.float32), 16000)
    assert len(motion) == 50
