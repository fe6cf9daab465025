"""Checkpoints in the published layout, tiny and untrained, and what the paper's network makes of
them, written down once more from `transformers` and torch's own modules."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2Model

VERTICES, LIPS, CLASSES = 12, 5, 33
LIP_VERTICES = np.array([7, 0, 11, 3, 4])
TEMPLATE = np.random.default_rng(0).normal(size=(VERTICES, 3)).astype(np.float32)
State = dict[str, Tensor]


class Published(nn.Module):
    """Its state_dict is a published checkpoint; `stack` is 1 (VOCASET) or 2 (BIWI)."""

    def __init__(self, stack: int = 1, flavour: str = "large", hidden: int = 128) -> None:
        super().__init__()
        torch.manual_seed(stack)
        large = flavour == "large"
        config = Wav2Vec2Config(
            vocab_size=CLASSES, hidden_size=hidden, num_hidden_layers=2, intermediate_size=96,
            num_attention_heads=hidden // 64, conv_dim=(16,) * 7, num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=4, conv_bias=large, do_stable_layer_norm=large,
            feat_extract_norm="layer" if large else "group",
        )  # fmt: skip
        self.stack = stack
        self.audio_encoder = Wav2Vec2Model(config)
        self.text_encoder = Wav2Vec2ForCTC(config)
        self.audio_feature_map = nn.Linear(stack * hidden, 32)
        layer = nn.TransformerDecoderLayer(32, 4, 64, batch_first=True)
        self.transformer_decoder = nn.TransformerDecoder(layer, 1)
        self.vertice_map_r = nn.Linear(32, 3 * VERTICES)
        self.lip_map = nn.Linear(3 * LIPS, hidden)
        self.transformer = nn.Transformer(hidden, 8, 2, 2, 64, batch_first=True)
        self.lm_head = nn.Linear(hidden, CLASSES)
        for name, value in self.named_parameters():  # nothing may hide behind zeros and ones
            norm = value.ndim == 1 and name.endswith("weight")
            scale = 0.1 if value.ndim == 1 else (3 / value[0].numel()) ** 0.5
            nn.init.uniform_(value, norm - scale, norm + scale)
        self.eval()

    @torch.inference_mode()
    def vertices(self, samples: np.ndarray, template: np.ndarray = TEMPLATE) -> np.ndarray:
        """Samples (L,) -> (T, V, 3)."""
        normal = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        heard = self.audio_encoder.feature_extractor(torch.from_numpy(normal)[None])  # (1, C, S)
        if self.stack == 1:
            frames = int(heard.shape[2] / 50.0 * 30)
            heard = functional.interpolate(heard, frames, mode="linear", align_corners=True)
        hidden, _ = self.audio_encoder.feature_projection(heard.transpose(1, 2))
        hidden = self.audio_encoder.encoder(hidden).last_hidden_state
        if self.stack == 2:
            hidden = hidden[:, : hidden.shape[1] // 2 * 2].reshape(1, -1, 2 * hidden.shape[2])
        mapped = self.audio_feature_map(hidden)
        offsets = self.vertice_map_r(self.transformer_decoder(mapped, mapped))[0]
        return offsets.reshape(-1, VERTICES, 3).numpy() + template

    @torch.inference_mode()
    def read_lips(self, offsets: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Offsets (T, V, 3) -> features (1, frames, C) and logits (1, frames, N)."""
        lips = self.lip_map(offsets[None, :, LIP_VERTICES].flatten(2))
        lips = functional.interpolate(
            lips.transpose(1, 2), frames, mode="linear", align_corners=True
        ).transpose(1, 2)
        features = self.transformer(lips, lips)
        return features, self.lm_head(features)


def old_spelling(state: State) -> State:
    """As weight norm was saved before torch 2.1."""
    return {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in state.items()
    }


def speech(seconds: float, seed: int = 0, rate: int = 16000) -> np.ndarray:
    """A buzz with gaps, as loud as speech; (N,) float32."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(0, 0.02, len(time))
    buzz = np.sin(700 * time + 40 * np.sin(9 * time + seed)) * np.clip(np.sin(11 * time), 0, 1)
    return (0.2 * buzz + noise).astype(np.float32)
