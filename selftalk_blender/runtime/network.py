"""The bundled animator's two networks in plain numpy: what `animator/network.py` does in torch.

Read side by side: same names, same order, same shapes. What takes long and is done to each frame,
head or block of frames alone is a function of its own, which threads share (`in_parts`).

T frames at 50 per second, C = width of features, D = width of the decoder, K shapes, H heads of d
numbers each, R = reach. Dropout does nothing when animating and is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.frontend import MEL_BANDS
from .product import in_parts, product

Tensors = Mapping[str, np.ndarray]
EPSILON = np.float32(1e-5)
HIDDEN = np.float32(-3e4)  # attention to what does not count
PIECE = 1 << 18  # numbers that `gelu` works on at once: they stay in the cache


def turned(tensors: Tensors) -> dict[str, np.ndarray]:
    """Tensors by name; weights (B, A), or (B, A, kernel) of convolutions, as (A.., B) matrices."""
    return {
        name: np.ascontiguousarray(value.reshape(len(value), -1).T)
        if value.ndim > 1 and name.endswith("weight")
        else value
        for name, value in tensors.items()
    }


# --- Functions of tensors, as torch.nn.functional defines them ------------------------------------


def linear(values: np.ndarray, tensors: Tensors, name: str) -> np.ndarray:
    """(T, A) -> (T, B)."""
    result = product(values, tensors[f"{name}.weight"])
    result += tensors[f"{name}.bias"]
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
    """x (1 + erf(x / sqrt 2)) / 2; writes over the values.

    erf to 1.5e-7 after Abramowitz and Stegun 1964, 7.1.26.
    """
    flat = values.reshape(-1)
    for first in range(0, len(flat), PIECE):
        piece = flat[first : first + PIECE]
        size = np.abs(piece)
        t = np.float32(0.3275911 * np.sqrt(0.5)) * size
        t += 1
        np.reciprocal(t, out=t)
        rest = np.float32(1.061405429) * t
        for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            rest += np.float32(factor)
            rest *= t
        np.square(size, out=t)
        t *= np.float32(-0.5)
        np.exp(t, out=t)
        rest *= t  # 1 - erf of |x|
        size -= np.multiply(size, rest, out=rest)  # |x| erf of |x|
        piece += size
        piece *= np.float32(0.5)
    return flat.reshape(values.shape)


def softmax(scores: np.ndarray, axis: int) -> np.ndarray:
    """Over an axis; writes over the scores."""
    scores -= scores.max(axis, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis, keepdims=True)
    return scores


def convolution(values: np.ndarray, tensors: Tensors, name: str, stride: int) -> np.ndarray:
    """(T, A) -> `gelu` of (T / stride, B), kernel 3, zeros beyond the ends."""
    padded = np.pad(values, ((1, 1), (0, 0)))
    near = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=0)[::stride]  # (T', A, 3)
    return in_parts(lambda part: gelu(linear(part.reshape(len(part), -1), tensors, name)), near)


# --- Speech encoder -------------------------------------------------------------------------------


class SpeechEncoder:
    """The first layers of a Whisper encoder; windows of up to 30 s."""

    def __init__(self, tensors: Tensors, settings: Mapping[str, Any]) -> None:
        self.tensors = turned(tensors)
        self.layers = int(settings["layers"])
        self.heads = int(settings["config"]["encoder_attention_heads"])
        width, count = (settings["config"][name] for name in ("d_model", "max_source_positions"))
        self.positions = sinusoids(int(count), int(width))
        for number in range(self.layers):
            self._join(f"whisper.layers.{number}.self_attn")

    def _join(self, name: str) -> None:
        """Make one map of those to queries, keys (which have no bias) and values: it is quicker."""
        found = [self.tensors.pop(f"{name}.{part}_proj.weight") for part in "qkv"]
        self.tensors[f"{name}.qkv.weight"] = np.concatenate(found, axis=1)  # (512, 3 * 512)
        query, value = (self.tensors.pop(f"{name}.{part}_proj.bias") for part in "qv")
        self.tensors[f"{name}.qkv.bias"] = np.concatenate([query, np.zeros_like(query), value])

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        """(80, 2 T) log-mel -> (T, C) features of one window."""
        pairs = np.ascontiguousarray(mel.T)  # (2 T, 80)
        hidden = convolution(pairs, self.tensors, "whisper.conv1", 1)  # (2 T, 512)
        hidden = convolution(hidden, self.tensors, "whisper.conv2", 2)  # (T, 512)
        hidden += self.positions[: len(hidden)]
        for number in range(self.layers):
            hidden = self._layer(hidden, f"whisper.layers.{number}")
        return np.concatenate([normalised(hidden), pairs.reshape(-1, 2 * MEL_BANDS)], axis=1)

    def _layer(self, hidden: np.ndarray, name: str) -> np.ndarray:
        """(T, 512) -> (T, 512)."""
        frames, width = hidden.shape
        asked = in_parts(functools.partial(self._asked, name), hidden)
        asked = asked.reshape(frames, 3, self.heads, -1).transpose(1, 2, 3, 0)  # (3, H, d, T)
        mixed = in_parts(self._attention, *asked).reshape(width, frames).T
        return in_parts(functools.partial(self._answered, name), hidden, mixed)

    def _asked(self, name: str, hidden: np.ndarray) -> np.ndarray:
        """(T, 512) -> queries, keys and values (T, 3 * 512)."""
        normed = layer_norm(hidden, self.tensors, f"{name}.self_attn_layer_norm")
        return linear(normed, self.tensors, f"{name}.self_attn.qkv")

    @staticmethod
    def _attention(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        """(H, d, T) each -> (H, d, T); frames last, for the products' sake."""
        scale = np.float32(query.shape[1] ** -0.5)
        scores = product(key.transpose(0, 2, 1), query * scale)  # (H, T of keys, T)
        return product(value, softmax(scores, -2))

    def _answered(self, name: str, hidden: np.ndarray, mixed: np.ndarray) -> np.ndarray:
        """(T, 512), (T, 512) -> (T, 512)."""
        hidden = hidden + linear(mixed, self.tensors, f"{name}.self_attn.out_proj")
        normed = layer_norm(hidden, self.tensors, f"{name}.final_layer_norm")
        grown = gelu(linear(normed, self.tensors, f"{name}.fc1"))
        hidden += linear(grown, self.tensors, f"{name}.fc2")
        return hidden


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
        hidden = self._linear(features, "audio_map")  # (T, D)
        memory = layer_norm(hidden, self.tensors, "memory_norm")
        for number in range(self.layers):
            hidden = self._layer(hidden, memory, f"decoder.{number}")
        hidden = layer_norm(hidden, self.tensors, "head_norm")
        return self._linear(hidden, "head")  # (T, K)

    def _linear(self, values: np.ndarray, name: str) -> np.ndarray:
        return in_parts(lambda part: linear(part, self.tensors, name), values)

    def _layer(self, hidden: np.ndarray, memory: np.ndarray, name: str) -> np.ndarray:
        """Neighbour convolution, self attention, attention to the memory, feed-forward."""
        near = layer_norm(hidden, self.tensors, f"{name}.conv_norm")
        hidden = hidden + gelu(self._neighbours(near, f"{name}.conv"))
        normed = layer_norm(hidden, self.tensors, f"{name}.self_norm")
        hidden += self._attention(normed, normed, f"{name}.self_attention")
        normed = layer_norm(hidden, self.tensors, f"{name}.cross_norm")
        hidden += self._attention(normed, memory, f"{name}.cross_attention")
        normed = layer_norm(hidden, self.tensors, f"{name}.feed_norm")
        grown = gelu(self._linear(normed, f"{name}.feed_forward.0"))
        hidden += self._linear(grown, f"{name}.feed_forward.3")
        return hidden

    def _neighbours(self, values: np.ndarray, name: str) -> np.ndarray:
        """(T, D) -> (T, D): each channel convolved by itself, zeros beyond the ends."""
        weight = self.tensors[f"{name}.weight"]  # (kernel, D)
        padded = np.pad(values, ((self.kernel // 2,) * 2, (0, 0)))
        result = np.tile(self.tensors[f"{name}.bias"], (len(values), 1))
        for shift in range(self.kernel):
            result += padded[shift : shift + len(values)] * weight[shift]
        return result

    def _attention(self, hidden: np.ndarray, memory: np.ndarray, name: str) -> np.ndarray:
        """Within `reach` frames, with a learned bias per head and distance."""
        frames, width = hidden.shape
        reach = self.reach
        blocks = -(-frames // reach)
        fill = blocks * reach - frames
        query = np.pad(self._linear(hidden, f"{name}.query"), ((0, fill), (0, 0)))
        both = np.pad(self._linear(memory, f"{name}.key_value"), ((reach, reach + fill), (0, 0)))
        # Each block looks at itself and its two neighbours.
        place = np.arange(blocks)[:, None] * reach + np.arange(3 * reach)  # (blocks, 3 R)
        mask = np.where((place < reach) | (place >= reach + frames), HIDDEN, np.float32(0))
        mixed = in_parts(
            functools.partial(self._attention_in_blocks, name),
            query.reshape(blocks, reach, width),
            both[place],
            mask,
        )
        return self._linear(mixed.reshape(-1, width)[:frames], f"{name}.out")

    def _attention_in_blocks(
        self, name: str, query: np.ndarray, both: np.ndarray, mask: np.ndarray
    ) -> np.ndarray:
        """(blocks, R, D), keys and values (blocks, 3 R, 2 D), (blocks, 3 R) -> (blocks, R, D)."""
        blocks, reach, width = query.shape
        scale = np.float32((width // self.heads) ** -0.5)
        query = (query * scale).reshape(blocks, reach, self.heads, -1).transpose(0, 2, 1, 3)
        both = both.reshape(blocks, 3 * reach, 2, self.heads, -1)
        key, value = both.transpose(2, 0, 3, 1, 4)  # (blocks, H, 3 R, d)
        scores = product(query, key.transpose(0, 1, 3, 2))  # (blocks, H, R, 3 R)
        scores += self._near(f"{name}.bias")
        scores += mask[:, None, None]
        mixed = product(softmax(scores, -1), value)  # (blocks, H, R, d)
        return mixed.transpose(0, 2, 1, 3).reshape(blocks, reach, width)

    def _near(self, name: str) -> np.ndarray:
        """(H, R, 3 R): the bias of each distance, HIDDEN beyond reach."""
        reach = self.reach
        distance = np.arange(-reach, 2 * reach) - np.arange(reach)[:, None]  # (R, 3 R)
        near = self.tensors[name][:, np.clip(distance, -reach, reach) + reach]
        return np.where(np.abs(distance) > reach, HIDDEN, near)
