"""Pretrained speech models in the layout of `transformers`, from folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import speech
from transformers import (
    BertConfig,
    HubertConfig,
    HubertForCTC,
    HubertModel,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMForCTC,
    WavLMModel,
    WhisperConfig,
    WhisperModel,
)

from selftalk_blender.animator.network import (
    AnimatorConfig,
    FacialAnimator,
    Layout,
    MelEncoder,
    WaveEncoder,
)
from selftalk_blender.animator.pretrained import load_recogniser, load_speech_encoder
from selftalk_blender.animator.published import VertexModel, read_vertex_model, save_vertex_model
from selftalk_blender.core.errors import SelfTalkError

SMALL = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4,
    "vocab_size": 20,
}  # fmt: skip
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
WAVES = {
    "wav2vec2": (Wav2Vec2Model, Wav2Vec2ForCTC, Wav2Vec2Config(**SMALL)),
    "wav2vec2-large": (Wav2Vec2Model, Wav2Vec2ForCTC, Wav2Vec2Config(**SMALL, **LARGE)),
    "hubert": (HubertModel, HubertForCTC, HubertConfig(**SMALL)),
    "wavlm": (WavLMModel, WavLMForCTC, WavLMConfig(**SMALL)),
}
WHISPER = WhisperConfig(
    d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32,
    decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32, vocab_size=50,
    pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
)  # fmt: skip


def kept(model: PreTrainedModel, folder: Path) -> Path:
    model.half().save_pretrained(folder)
    model.float()
    return folder


@pytest.mark.parametrize("kind", WAVES)
def test_wave_encoders_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder_class, recogniser_class, config = WAVES[kind]
    rival = encoder_class(config)
    encoder = load_speech_encoder(kept(rival.eval(), tmp_path / "encoder")).eval()
    assert isinstance(encoder, WaveEncoder)
    clips = [torch.from_numpy(speech(seconds)) for seconds in (1.5, 0.7)]
    with torch.inference_mode():
        features, mask = encoder([encoder.listen(clip) for clip in clips])
        assert features.dtype == torch.float32 and mask is not None
        for number, clip in enumerate(clips):
            alone = rival(clip[None]).last_hidden_state[0]
            assert int(mask[number].sum()) == len(alone)
            assert torch.allclose(features[number, : len(alone)], alone, atol=1e-4)

    recogniser = load_recogniser(kept(recogniser_class(config).eval(), tmp_path / "ctc"))
    recogniser.train()
    assert not any(module.training for module in recogniser.modules())
    assert not any(parameter.requires_grad for parameter in recogniser.parameters())
    _, logits = recogniser(clips[:1])
    assert torch.allclose(logits, recogniser.model(clips[0][None]).logits, atol=1e-5)


def test_a_whisper_is_cut_to_its_first_layers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = kept(WhisperModel(WHISPER), tmp_path / "whisper")
    encoder = load_speech_encoder(folder)
    assert isinstance(encoder, MelEncoder) and len(encoder.layers) == 2
    features, mask = encoder([encoder.listen(encoder.prepare(speech(1.5)))])
    assert features.shape == (1, 75, 32 + 160) and mask is None
    shorter = load_speech_encoder(folder, layers=1)
    assert len(shorter.layers) == 1
    with pytest.raises(SelfTalkError):
        load_speech_encoder(folder, layers=3)


@pytest.mark.parametrize("kind", [*WAVES, "whisper"])
def test_an_animator_of_any_encoder_is_saved_and_read(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    if kind == "whisper":
        encoder = load_speech_encoder(kept(WhisperModel(WHISPER), tmp_path / "whisper"), layers=1)
    else:
        encoder_class, _, config = WAVES[kind]
        encoder = WaveEncoder(encoder_class(config))
    animator = FacialAnimator(
        AnimatorConfig(encoder.width, width=16, layers=1, reach=None, vertices=4)
    )
    torch.nn.init.normal_(animator.head.weight)
    model = VertexModel(Layout(60.0, "features", 1, 4, 0), encoder, animator).eval()
    path = tmp_path / "own.safetensors"
    save_vertex_model(path, model)
    again = read_vertex_model(path)
    assert again.layout == model.layout
    samples = speech(1.0)
    with torch.inference_mode():
        own, read = (
            m.animator(m.encoder([m.encoder.listen(m.encoder.prepare(samples))])[0])
            for m in (model, again)
        )
    assert torch.equal(own, read)
    assert np.ptp(own.numpy(), axis=1).max() > 0


def test_folders_that_hold_something_else(tmp_path: Path) -> None:
    for load in (load_speech_encoder, load_recogniser):
        with pytest.raises(SelfTalkError, match="Give a folder of this machine, or allow"):
            load("facebook/wav2vec2-base-960h-not-here")  # without asking the network
        with pytest.raises(SelfTalkError, match="No speech model"):
            load(tmp_path / "nowhere")
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(SelfTalkError, match="is a bert; speech encoders can be"):
        load_speech_encoder(tmp_path / "bert")
    folder = kept(Wav2Vec2Model(Wav2Vec2Config(**SMALL)), tmp_path / "broken")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(SelfTalkError, match="No speech model could be read"):
        load_speech_encoder(folder)
    weights.unlink()
    with pytest.raises(SelfTalkError, match="No speech model could be read"):
        load_speech_encoder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(SelfTalkError, match="No speech model could be read"):
        load_speech_encoder(folder)
