"""The facial animator: speech in, weights of a face's shapes out. The whole network, top to bottom.

After SelfTalk (Peng et al. 2023, arXiv 2306.10799): a pretrained speech encoder, a linear map,
transformer decoder layers whose memory is their own input, and a head. Two things differ from
the paper. The head is low-rank: it gives weights of the template's shapes instead of 3 V
offsets. And attention is local with learned relative positions, so that a frame's motion
depends on what is said around it and not on where a window of inference begins.

B clips, T encoder frames (50 per second), C = encoder width, D = width, K = shapes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from .frontend import MEL_BANDS


class SpeechEncoder(nn.Module):
    """The first layers of a pretrained Whisper encoder, frozen; windows of up to 30 s."""

    def __init__(self, config: dict[str, Any], layers: int) -> None:
        super().__init__()
        whisper = WhisperConfig(**{**config, "encoder_layers": layers, "dtype": "float32"})
        self.whisper = WhisperEncoder(whisper)
        self.whisper.layer_norm = nn.Identity()  # belongs to the last layer, which is not here
        self.width = whisper.d_model
        self.longest = whisper.max_source_positions  # frames
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> SpeechEncoder:
        """Frozen means frozen: no dropout when the rest of the network trains."""
        return super().train(False)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, 80, 2 T) log-mel -> (B, T, C) features, each frame of zero mean and unit variance."""
        hidden = functional.gelu(self.whisper.conv1(mel))  # (B, C, 2 T)
        hidden = functional.gelu(self.whisper.conv2(hidden)).transpose(1, 2)  # (B, T, C)
        hidden = hidden + self.whisper.embed_positions.weight[: hidden.shape[1]]
        for layer in self.whisper.layers:
            hidden = layer(hidden, attention_mask=None)
        return functional.layer_norm(hidden, hidden.shape[-1:])


@dataclass(frozen=True)
class AnimatorConfig:
    """Sizes of the animator.

    Attributes:
        feature_width: C, width of the encoder's frames.
        width: D, width of the decoder.
        layers, heads: of the decoder.
        reach: frames that attention sees to each side.
        kernel: frames of the convolution that mixes neighbours before each attention.
        dropout: share, in training only.
        shape_names: the K shapes that the head moves; the others stay at 0.
    """

    feature_width: int
    shape_names: tuple[str, ...]
    width: int = 256
    layers: int = 2
    heads: int = 4
    reach: int = 50
    kernel: int = 9
    dropout: float = 0.1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class LocalAttention(nn.Module):
    """Attention within `reach` frames, with a learned bias per head and distance."""

    def __init__(self, config: AnimatorConfig) -> None:
        super().__init__()
        self.heads, self.reach = config.heads, config.reach
        self.query = nn.Linear(config.width, config.width)
        self.key_value = nn.Linear(config.width, 2 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.bias = nn.Parameter(torch.zeros(config.heads, 2 * config.reach + 1))

    def mask(self, frames: int) -> Tensor:
        """(heads, T, T): the bias of each distance, -inf beyond the reach."""
        position = torch.arange(frames, device=self.bias.device)
        distance = position[None] - position[:, None]  # (T, T)
        near = self.bias[:, distance.clamp(-self.reach, self.reach) + self.reach]
        return near.masked_fill(distance.abs() > self.reach, float("-inf"))

    def forward(self, hidden: Tensor, memory: Tensor) -> Tensor:
        """(B, T, D) queries, (B, T, D) memory -> (B, T, D)."""
        batch, frames, width = hidden.shape
        split = (batch, frames, self.heads, width // self.heads)
        query = self.query(hidden).view(split).transpose(1, 2)  # (B, H, T, D / H)
        key, value = self.key_value(memory).chunk(2, dim=-1)
        key, value = key.view(split).transpose(1, 2), value.view(split).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=self.mask(frames)[None]
        )
        return self.out(mixed.transpose(1, 2).reshape(batch, frames, width))


class DecoderLayer(nn.Module):
    """Neighbour convolution, self attention, attention to the memory, feed-forward; pre-norm."""

    def __init__(self, config: AnimatorConfig) -> None:
        super().__init__()
        width = config.width
        self.conv_norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(
            width, width, config.kernel, padding=config.kernel // 2, groups=width
        )
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = LocalAttention(config)
        self.cross_norm = nn.LayerNorm(width)
        self.cross_attention = LocalAttention(config)
        self.feed_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(2 * width, width),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, memory: Tensor) -> Tensor:
        """(B, T, D), (B, T, D) -> (B, T, D)."""
        near = self.conv(self.conv_norm(hidden).transpose(1, 2)).transpose(1, 2)
        hidden = hidden + self.dropout(functional.gelu(near))
        normed = self.self_norm(hidden)
        hidden = hidden + self.dropout(self.self_attention(normed, normed))
        hidden = hidden + self.dropout(self.cross_attention(self.cross_norm(hidden), memory))
        return hidden + self.dropout(self.feed_forward(self.feed_norm(hidden)))


class FacialAnimator(nn.Module):
    """Encoder features and log-mel frames -> weights of the face's shapes."""

    def __init__(self, config: AnimatorConfig) -> None:
        super().__init__()
        self.config = config
        # The log-mel frames say what the encoder abstracts from: how loud, and exactly when.
        self.audio_map = nn.Linear(config.feature_width + 2 * MEL_BANDS, config.width)
        self.memory_norm = nn.LayerNorm(config.width)
        self.decoder = nn.ModuleList([DecoderLayer(config) for _ in range(config.layers)])
        self.head_norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, len(config.shape_names))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor, mel: Tensor) -> Tensor:
        """(B, T, C) features, (B, 80, 2 T) log-mel -> (B, T, K) weights, not yet clamped."""
        batch, frames, _ = features.shape
        pairs = mel.transpose(1, 2).reshape(batch, frames, 2 * MEL_BANDS)  # (B, T, 160)
        hidden = self.audio_map(torch.cat([features, pairs], dim=-1))  # (B, T, D)
        memory = self.memory_norm(hidden)
        for layer in self.decoder:
            hidden = layer(hidden, memory)
        return self.head(self.head_norm(hidden))  # (B, T, K)
