"""The facial animator: speech in, weights of a face's shapes out. The whole network, top to bottom.

After SelfTalk (Peng et al. 2023, arXiv 2306.10799): a pretrained speech encoder, a linear map,
transformer decoder layers whose memory is their own input, and a head. Two things differ from
the paper. The head is low-rank: it gives weights of the template's shapes instead of 3 V
offsets. And attention is local with learned relative positions, so that a frame's motion
depends on what is said around it and not on where a window of inference begins.

B clips, T frames (50 per second), C = features of a frame, D = width, K = shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> SpeechEncoder:
        """Frozen means frozen: no dropout when the rest of the network trains."""
        return super().train(False)

    @property
    def width(self) -> int:
        """C: the encoder's own width and two log-mel frames."""
        return int(self.whisper.config.d_model) + 2 * MEL_BANDS

    def forward(self, mel: Tensor) -> Tensor:
        """(B, 80, 2 T) log-mel -> (B, T, C) features of one window of at most 30 s.

        A feature is the encoder's hidden state (zero mean, unit variance) and the log-mel frames
        it was made of, which say what the encoder abstracts from: how loud, and exactly when.
        """
        hidden = functional.gelu(self.whisper.conv1(mel))  # (B, 512, 2 T)
        hidden = functional.gelu(self.whisper.conv2(hidden)).transpose(1, 2)  # (B, T, 512)
        hidden = hidden + self.whisper.embed_positions.weight[: hidden.shape[1]]
        for layer in self.whisper.layers:
            hidden = layer(hidden, attention_mask=None)
        hidden = functional.layer_norm(hidden, hidden.shape[-1:])
        pairs = mel.transpose(1, 2).reshape(*hidden.shape[:2], 2 * MEL_BANDS)  # (B, T, 160)
        return torch.cat([hidden, pairs], dim=-1)


@dataclass(frozen=True)
class AnimatorConfig:
    """Sizes of the animator.

    Attributes:
        feature_width: C, `SpeechEncoder.width`.
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


class LocalAttention(nn.Module):
    """Attention within `reach` frames, with a learned bias per head and distance.

    Queries go in blocks of `reach` frames that look at their own block and its two neighbours,
    so that time and memory grow with T and not with T squared.
    """

    def __init__(self, config: AnimatorConfig) -> None:
        super().__init__()
        self.heads, self.reach = config.heads, config.reach
        self.query = nn.Linear(config.width, config.width)
        self.key_value = nn.Linear(config.width, 2 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.bias = nn.Parameter(torch.zeros(config.heads, 2 * config.reach + 1))

    def mask(self, frames: int, blocks: int) -> Tensor:
        """(blocks, H, R, 3 R): the bias of each distance, -inf beyond the reach or the clip."""
        reach = self.reach
        key = torch.arange(3 * reach, device=self.bias.device) - reach  # from the block's start
        distance = key[None] - torch.arange(reach, device=key.device)[:, None]  # (R, 3 R)
        near = self.bias[:, distance.clamp(-reach, reach) + reach]  # (H, R, 3 R)
        place = torch.arange(blocks, device=key.device)[:, None] * reach + key  # (blocks, 3 R)
        outside = ((place < 0) | (place >= frames))[:, None, None]
        return near.masked_fill(outside | (distance.abs() > reach), float("-inf"))

    def forward(self, hidden: Tensor, memory: Tensor) -> Tensor:
        """(B, T, D) queries, (B, T, D) memory -> (B, T, D)."""
        batch, frames, width = hidden.shape
        reach, depth = self.reach, width // self.heads
        blocks = -(-frames // reach)
        fill = blocks * reach - frames
        query = functional.pad(self.query(hidden), (0, 0, 0, fill))
        query = query.view(batch, blocks, reach, self.heads, depth).transpose(2, 3)
        key_value = functional.pad(self.key_value(memory), (0, 0, reach, reach + fill))
        key_value = key_value.unfold(1, 3 * reach, reach)  # (B, blocks, 2 D, 3 R)
        key, value = (
            part.unflatten(2, (self.heads, depth)).transpose(-1, -2)  # (B, blocks, H, 3 R, d)
            for part in key_value.chunk(2, dim=2)
        )
        # Queries beyond the clip see its last frame at least (no row of -inf) and are cut off.
        mask = self.mask(frames, blocks)[None]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = mixed.transpose(2, 3).reshape(batch, blocks * reach, width)[:, :frames]
        return self.out(mixed)


class DecoderLayer(nn.Module):
    """Neighbour convolution, self attention, attention to the memory, feed-forward; pre-norm."""

    def __init__(self, config: AnimatorConfig) -> None:
        super().__init__()
        width = config.width
        self.conv_norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, config.kernel, padding=config.kernel // 2, groups=width)
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

    def forward(self, hidden: Tensor, memory: Tensor) -> Tensor:
        """(B, T, D), (B, T, D) -> (B, T, D)."""
        near = self.conv(self.conv_norm(hidden).transpose(1, 2)).transpose(1, 2)
        hidden = hidden + functional.gelu(near)
        normed = self.self_norm(hidden)
        hidden = hidden + self.self_attention(normed, normed)
        hidden = hidden + self.cross_attention(self.cross_norm(hidden), memory)
        return hidden + self.feed_forward(self.feed_norm(hidden))


class FacialAnimator(nn.Module):
    """Features of speech -> weights of the face's shapes."""

    def __init__(self, config: AnimatorConfig) -> None:
        super().__init__()
        self.config = config
        self.audio_map = nn.Linear(config.feature_width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.memory_norm = nn.LayerNorm(config.width)
        self.decoder = nn.ModuleList([DecoderLayer(config) for _ in range(config.layers)])
        self.head_norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, len(config.shape_names))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def context(self) -> int:
        """Frames on each side that a frame's result depends on."""
        config = self.config
        return config.layers * (config.kernel // 2 + config.reach) + config.reach

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, K) weights, not yet clamped."""
        hidden = self.dropout(self.audio_map(features))  # (B, T, D)
        memory = self.memory_norm(hidden)
        for layer in self.decoder:
            hidden = layer(hidden, memory)
        return self.head(self.head_norm(hidden))  # (B, T, K)
