"""The bundled animator's two networks in plain numpy: what `animator/network.py` does in torch.

Read side by side: same names, same order, same shapes. T frames at 50 per second, C = width of
features, D = width of the decoder, K shapes, H heads of d numbers each, R = reach. Dropout does
nothing when animating and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.frontend import MEL_BANDS
from .product import product

Tensors = Mapping[str, np.ndarray]
EPSILON = np.float32(1e-5)
HIDDEN = np.float32(-3e4)  # attention to what does not count


def turned(tensors: Tensors) -> Tensors:
    """Tensors by name, those of linear maps (B, A) turned to (A, B), as `linear` wants them."""
    return {
        name: np.ascontiguousarray(value.T) if value.ndim == 2 and "weight" in name else value
        for name, value in tensors.items()
    }


# --- Functions of tensors, as torch.nn.functional defines them ------------------------------------


def linear(values: np.ndarray, tensors: Tensors, name: str) -> np.ndarray:
    """(T, A) -> (T, B); Whisper's keys have no bias."""
    result = product(values, tensors[f"{name}.weight"])
    bias = tensors.get(f"{name}.bias")
    if bias is not None:
        result += bias
    return result


def normalised(values: np.ndarray) -> np.ndarray:
    """(T, C) -> each frame with mean 0 and variance 1."""
    centred = values - values.mean(-1, keepdims=True)
    centred /= np.sqrt(np.square(centred).mean(-1, keepdims=True) + EPSILON)
    return centred


def layer_norm(values: np.ndarray, tensors: Tensors, name: str) -> np.ndarray:
    """(T, C) -> (T, C)."""
    result = normalised(values)
    result *= tensors[f"{name}.weight"]
    result += tensors[f"{name}.bias"]
    return result


def gelu(values: np.ndarray) -> np.ndarray:
    """x (1 + erf(x / sqrt 2)) / 2.

    erf to 1.5e-7 after Abramowitz and Stegun 1964, 7.1.26.
    """
    scaled = np.abs(values) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * scaled)
    series = np.float32(1.061405429) * t
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series += np.float32(factor)
        series *= t
    np.square(scaled, out=scaled)
    np.negative(scaled, out=scaled)
    np.exp(scaled, out=scaled)
    series *= scaled  # 1 - erf of |x|
    # x - x/2 (1 - erf) for x > 0, and x/2 (1 - erf) below
    series *= np.float32(0.5) * np.abs(values)
    return np.maximum(values, 0) - series


def softmax(scores: np.ndarray) -> np.ndarray:
    """Over the last axis, in place."""
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return scores


def convolution(values: np.ndarray, tensors: Tensors, name: str, stride: int) -> np.ndarray:
    """(T, A) -> (T / stride, B), kernel 3, zeros beyond the ends."""
    weight = tensors[f"{name}.weight"]  # (B, A, 3)
    flat_weight = weight.reshape(len(weight), -1).T  # (3 A, B)
    padded = np.pad(values, ((1, 1), (0, 0)))
    near = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=0)[::stride]  # (T', A, 3)
    flat = product(near.reshape(len(near), -1), flat_weight)
    flat += tensors[f"{name}.bias"]
    return flat


# --- Speech encoder -------------------------------------------------------------------------------


class SpeechEncoder:
    """The first layers of a Whisper encoder; windows of up to 30 s."""

    def __init__(self, tensors: Tensors, settings: Mapping[str, Any]) -> None:
        self.tensors = turned(tensors)
        self.layers = int(settings["layers"])
        self.heads = int(settings["config"]["encoder_attention_heads"])
        width, count = (settings["config"][name] for name in ("d_model", "max_source_positions"))
        self.positions = sinusoids(int(count), int(width))

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        """(80, 2 T) log-mel -> (T, C) features of one window."""
        pairs = np.ascontiguousarray(mel.T)  # (2 T, 80)
        hidden = gelu(convolution(pairs, self.tensors, "whisper.conv1", 1))  # (2 T, 512)
        hidden = gelu(convolution(hidden, self.tensors, "whisper.conv2", 2))  # (T, 512)
        hidden += self.positions[: len(hidden)]
        for number in range(self.layers):
            hidden = self._layer(hidden, f"whisper.layers.{number}")
        return np.concatenate([normalised(hidden), pairs.reshape(-1, 2 * MEL_BANDS)], axis=1)

    def _layer(self, hidden: np.ndarray, name: str) -> np.ndarray:
        normed = layer_norm(hidden, self.tensors, f"{name}.self_attn_layer_norm")
        hidden = hidden + self._attention(normed, f"{name}.self_attn")
        normed = layer_norm(hidden, self.tensors, f"{name}.final_layer_norm")
        grown = gelu(linear(normed, self.tensors, f"{name}.fc1"))
        hidden += linear(grown, self.tensors, f"{name}.fc2")
        return hidden

    def _attention(self, hidden: np.ndarray, name: str) -> np.ndarray:
        frames, width = hidden.shape
        query, key, value = (
            linear(hidden, self.tensors, f"{name}.{part}_proj")
            .reshape(frames, self.heads, -1)
            .transpose(1, 0, 2)  # (H, T, d)
            for part in "qkv"
        )
        scale = np.float32((width // self.heads) ** -0.5)
        shares = softmax(product(query * scale, key.transpose(0, 2, 1)))  # (H, T, T)
        mixed = product(shares, value).transpose(1, 0, 2).reshape(frames, width)
        return linear(mixed, self.tensors, f"{name}.out_proj")


def sinusoids(count: int, width: int) -> np.ndarray:
    """(count, width) fixed positions of Whisper: sines, then cosines, of 1 to 1/10000 radians."""
    rate = np.exp(-np.log(10000) / (width // 2 - 1) * np.arange(width // 2))
    angle = np.arange(count)[:, None] * rate
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


# --- Facial animator ------------------------------------------------------------------------------


class FacialAnimator:
    """Features of speech -> weights of a face's shapes."""

    def __init__(self, tensors: Tensors, config: Mapping[str, Any]) -> None:
        self.tensors = turned(tensors)
        self.shape_names = tuple(str(name) for name in config["shape_names"])
        self.layers, self.heads = int(config["layers"]), int(config["heads"])
        self.reach, self.kernel = int(config["reach"]), int(config["kernel"])

    @property
    def context(self) -> int:
        """Frames on each side that a frame's result depends on."""
        return self.layers * (self.kernel // 2 + self.reach) + self.reach

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(T, C) -> (T, K) weights, not yet clamped."""
        hidden = linear(features, self.tensors, "audio_map")  # (T, D)
        memory = layer_norm(hidden, self.tensors, "memory_norm")
        for number in range(self.layers):
            hidden = self._layer(hidden, memory, f"decoder.{number}")
        hidden = layer_norm(hidden, self.tensors, "head_norm")
        return linear(hidden, self.tensors, "head")  # (T, K)

    def _layer(self, hidden: np.ndarray, memory: np.ndarray, name: str) -> np.ndarray:
        """Neighbour convolution, self attention, attention to the memory, feed-forward."""
        near = layer_norm(hidden, self.tensors, f"{name}.conv_norm")
        hidden = hidden + gelu(self._neighbours(near, f"{name}.conv"))
        normed = layer_norm(hidden, self.tensors, f"{name}.self_norm")
        hidden += self._attention(normed, normed, f"{name}.self_attention")
        normed = layer_norm(hidden, self.tensors, f"{name}.cross_norm")
        hidden += self._attention(normed, memory, f"{name}.cross_attention")
        normed = layer_norm(hidden, self.tensors, f"{name}.feed_norm")
        grown = gelu(linear(normed, self.tensors, f"{name}.feed_forward.0"))
        hidden += linear(grown, self.tensors, f"{name}.feed_forward.3")
        return hidden

    def _neighbours(self, values: np.ndarray, name: str) -> np.ndarray:
        """(T, D) -> (T, D): each channel convolved by itself, zeros beyond the ends."""
        weight = self.tensors[f"{name}.weight"][:, 0]  # (D, kernel)
        padded = np.pad(values, ((self.kernel // 2,) * 2, (0, 0)))
        result = np.tile(self.tensors[f"{name}.bias"], (len(values), 1))
        for shift in range(self.kernel):
            result += padded[shift : shift + len(values)] * weight[:, shift]
        return result

    def _attention(self, hidden: np.ndarray, memory: np.ndarray, name: str) -> np.ndarray:
        """Within `reach` frames, with a learned bias per head and distance."""
        frames, width = hidden.shape
        reach, heads = self.reach, self.heads
        blocks = -(-frames // reach)
        fill = blocks * reach - frames
        query = np.pad(linear(hidden, self.tensors, f"{name}.query"), ((0, fill), (0, 0)))
        query = query.reshape(blocks, reach, heads, -1).transpose(0, 2, 1, 3)  # (blocks, H, R, d)
        both = linear(memory, self.tensors, f"{name}.key_value")  # (T, 2 D)
        both = np.pad(both, ((reach, reach + fill), (0, 0)))
        # Each block looks at itself and its two neighbours.
        both = np.stack([both[b * reach : (b + 3) * reach] for b in range(blocks)])
        key, value = (
            part.reshape(blocks, 3 * reach, heads, -1).transpose(0, 2, 1, 3)  # (blocks, H, 3 R, d)
            for part in np.split(both, 2, axis=2)
        )
        scale = np.float32((width // heads) ** -0.5)
        scores = product(query * scale, key.transpose(0, 1, 3, 2))  # (blocks, H, R, 3 R)
        scores += self._mask(frames, blocks, f"{name}.bias")
        mixed = product(softmax(scores), value)  # (blocks, H, R, d)
        mixed = mixed.transpose(0, 2, 1, 3).reshape(blocks * reach, width)[:frames]
        return linear(mixed, self.tensors, f"{name}.out")

    def _mask(self, frames: int, blocks: int, name: str) -> np.ndarray:
        """(blocks, H, R, 3 R): the bias of each distance, HIDDEN beyond reach or clip."""
        reach = self.reach
        key = np.arange(3 * reach) - reach  # from the block's start
        distance = key - np.arange(reach)[:, None]  # (R, 3 R)
        near = self.tensors[name][:, np.clip(distance, -reach, reach) + reach]  # (H, R, 3 R)
        place = np.arange(blocks)[:, None] * reach + key  # (blocks, 3 R)
        outside = (place < 0) | (place >= frames)
        hidden = outside[:, None, None] | (np.abs(distance) > reach)
        return np.where(hidden, HIDDEN, near)
