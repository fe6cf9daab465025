"""SelfTalk's network: the whole of it, top to bottom.

After Peng et al. 2023 (arXiv 2306.10799). Three modules that a commutative diagram binds:

    audio ──speech recogniser (frozen)──────────────────▶ text
    audio ──facial animator──▶ face ──lip reader────────▶ text

The facial animator is a pretrained speech encoder, a linear map, transformer decoder layers whose
memory is their own input, and a head. It comes in two forms, chosen by `AnimatorConfig`:

- the published one: wav2vec 2.0, one decoder layer that attends to the whole clip, 3 V offsets;
- the bundled one: Whisper's lower layers, local attention with relative positions (a frame's
  motion depends on what is said around it, not on where a window begins), and weights of the
  head's shapes.

B clips, L samples, T frames of motion, S frames of the encoder (50 per second), C = width of
features, D = width of the decoder, V vertices, n lip vertices, K shapes, N classes of text.
"""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from ..core.frontend import MEL_BANDS, Loudness, mel_stream
from ..core.windows import windowed

ENCODER_FPS = 50.0  # frames per second of every speech encoder here
# Attention to what does not count. Softmax makes 0 of it even in half precision; -inf would make
# nan of a frame beyond its own clip, which sees nothing.
HIDDEN = -3e4


@dataclass(frozen=True)
class Layout:
    """All that tells one kind of published SelfTalk from another.

    Attributes:
        fps: frames of motion per second.
        resample: where the encoder's 50 frames per second become `fps`, by linear interpolation:
            "convolutions" (between its convolutions and its transformer; VOCASET), "features"
            (behind it; Whisper, whose convolutions listen to pictures of sound), or "" (nowhere).
        stack: frames of the encoder that are joined for a frame of motion (BIWI: 2).
        vertices: V.
        lip_vertices: n, how many of them the lip reader reads.
    """

    fps: float
    resample: str
    stack: int
    vertices: int
    lip_vertices: int

    def frames(self, encoder_frames: int) -> int:
        """T for a clip of S encoder frames, when nobody says how many are wanted.

        In floating point as published: 205 encoder frames give 122, not 123.
        """
        if self.resample:
            return int(encoder_frames / ENCODER_FPS * self.fps)
        return encoder_frames // self.stack

    def matched(self, encoder_frames: int, frames: int) -> tuple[int, int]:
        """T and the frames of text of a clip that has S encoder frames and T recorded ones."""
        if self.resample:
            return frames, encoder_frames
        frames = min(encoder_frames // self.stack, frames)
        return frames, min(encoder_frames, self.stack * frames)

    def text_frames(self, frames: int) -> int:
        """Frames that the lip reader makes of T frames of motion, when no text is at hand."""
        return int(frames / self.fps * ENCODER_FPS)


# --- Batches -------------------------------------------------------------------------------------


def padded(clips: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Clips (T_i, C) -> (B, T, C) and the mask (B, T), true in a clip; None if all are as long."""
    lengths = torch.tensor([len(clip) for clip in clips], device=clips[0].device)
    batch = pad_sequence(clips, batch_first=True)
    if bool((lengths == batch.shape[1]).all()):
        return batch, None
    return batch, torch.arange(batch.shape[1], device=batch.device) < lengths[:, None]


def lengths_of(mask: Tensor | None, batch: int, frames: int) -> list[int]:
    """How long each clip of a batch is."""
    return [frames] * batch if mask is None else [int(count) for count in mask.sum(1)]


def resampled(clip: Tensor, frames: int) -> Tensor:
    """(T, C) -> (frames, C), linear between frames; first and last stay where they are."""
    if len(clip) == frames or not len(clip):
        return clip
    channels = clip.T[None]
    return functional.interpolate(channels, frames, mode="linear", align_corners=True)[0].T


def on_array(module: nn.Module, device: torch.device, clip: np.ndarray) -> np.ndarray:
    """What a module of batches (on a device) makes of one clip (...) -> (T, C), both float32."""
    with torch.inference_mode():
        result: Tensor = module(torch.from_numpy(clip).to(device)[None])[0]
        return result.float().cpu().numpy()


# --- Speech encoders -----------------------------------------------------------------------------


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

    def settings(self) -> dict[str, Any]:
        """What `SpeechEncoder` needs to be built again."""
        names = (
            "d_model encoder_attention_heads encoder_ffn_dim num_mel_bins max_source_positions "
            "activation_function"
        ).split()
        config = {name: getattr(self.whisper.config, name) for name in names}
        return {"config": config, "layers": self.whisper.config.encoder_layers}

    @property
    def width(self) -> int:
        """C: the encoder's own width and two log-mel frames."""
        return int(self.whisper.config.d_model) + 2 * MEL_BANDS

    def forward(self, mel: Tensor) -> Tensor:
        """(B, 80, 2 S) log-mel -> (B, S, C) features of one window of at most 30 s.

        A feature is the encoder's hidden state (zero mean, unit variance) and the log-mel frames
        it was made of, which say what the encoder abstracts from: how loud, and exactly when.
        """
        hidden = functional.gelu(self.whisper.conv1(mel))  # (B, 512, 2 S)
        hidden = functional.gelu(self.whisper.conv2(hidden)).transpose(1, 2)  # (B, S, 512)
        hidden = hidden + self.whisper.embed_positions.weight[: hidden.shape[1]]
        for layer in self.whisper.layers:
            hidden = layer(hidden, attention_mask=None)
        hidden = functional.layer_norm(hidden, hidden.shape[-1:])
        pairs = mel.transpose(1, 2).reshape(*hidden.shape[:2], 2 * MEL_BANDS)  # (B, S, 160)
        return torch.cat([hidden, pairs], dim=-1)


class MelEncoder(nn.Module):
    """A `SpeechEncoder` that hears whole clips, as `WaveEncoder` does."""

    def __init__(self, encoder: SpeechEncoder, window: int = 500) -> None:
        super().__init__()
        self.encoder, self.window = encoder, window

    def settings(self) -> dict[str, Any]:
        """What the encoder needs to be built again."""
        return {"model_type": "whisper", **self.encoder.settings()}

    @property
    def width(self) -> int:
        """C."""
        return self.encoder.width

    @property
    def layers(self) -> list[nn.Module]:
        """Of the transformer, in order."""
        return list(self.encoder.whisper.layers)

    def prepare(self, samples: np.ndarray) -> Tensor:
        """Recorded samples (L,) -> at the level that is wanted, by one gain for the whole clip."""
        loudness = Loudness()
        loudness.add(samples)
        return torch.from_numpy((samples * loudness.gain).astype(np.float32))

    @torch.no_grad()
    def listen(self, clip: Tensor) -> Tensor:
        """Samples (L,) of a prepared clip, or of a part of it -> log-mel frames (S, 160)."""
        mel = np.concatenate(list(mel_stream([clip.cpu().numpy()])), axis=1)
        return torch.from_numpy(mel.T.reshape(-1, 2 * MEL_BANDS)).to(clip.device)

    @torch.no_grad()
    def forward(self, clips: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Clips (S_i, 160) that were listened to -> features (B, S, C) and mask (B, S) or None."""
        features = []
        for clip in clips:
            mel = clip.reshape(-1, MEL_BANDS).T.cpu().numpy()
            encode = functools.partial(on_array, self.encoder, clip.device)
            windows = [np.zeros((0, self.width), np.float32), *windowed([mel], encode, self.window)]
            features.append(torch.from_numpy(np.concatenate(windows)).to(clip.device))
        return padded(features)


class WaveEncoder(nn.Module):
    """wav2vec 2.0, HuBERT or WavLM, which listen to samples; its convolutions are frozen.

    Convolutions and interpolation run clip by clip (their norms and their ends see the whole
    clip), the transformer on the padded batch: a clip's features do not depend on its mates.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        model.feature_extractor.requires_grad_(False)

    @property
    def width(self) -> int:
        """C."""
        return int(self.model.config.hidden_size)

    @property
    def layers(self) -> list[nn.Module]:
        """Of the transformer, in order."""
        return list(self.model.encoder.layers)

    def prepare(self, samples: np.ndarray) -> Tensor:
        """Recorded samples (L,) -> zero mean and unit variance over the whole clip.

        As `Wav2Vec2FeatureExtractor` with do_normalize, its epsilon included.
        """
        normal = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        return torch.from_numpy(normal.astype(np.float32))

    def settings(self) -> dict[str, Any]:
        """What the model needs to be built again."""
        return dict(self.model.config.to_diff_dict())

    def listen(self, clip: Tensor) -> Tensor:
        """Samples (L,), normalised -> (S, 512); S = 0 where the clip is too short for a frame."""
        config = self.model.config
        count = len(clip)
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            count = (count - kernel) // stride + 1
            if count < 1:
                return clip.new_zeros(0, config.conv_dim[-1])
        with torch.no_grad():
            frames: Tensor = self.model.feature_extractor(clip[None])[0].T
        return frames

    def forward(self, clips: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Clips (S_i, 512) that were listened to -> features (B, S, C) and mask (B, S) or None."""
        frames, mask = padded(clips)  # (B, S, 512)
        projected = self.model.feature_projection(frames)  # wav2vec 2.0 and WavLM give a pair
        hidden = projected[0] if isinstance(projected, tuple) else projected  # (B, S, C)
        if not hidden.shape[1]:
            return hidden, None
        return self.model.encoder(hidden, attention_mask=mask).last_hidden_state, mask


# --- Facial animator -----------------------------------------------------------------------------


@dataclass(frozen=True)
class AnimatorConfig:
    """Sizes of the animator.

    Attributes:
        feature_width: C, width of the features that it hears.
        shape_names: the K shapes that the head moves; the others stay at 0. Empty: a dense head.
        vertices: V of a dense head.
        width: D, width of the decoder.
        layers, heads: of the decoder.
        reach: frames that attention sees to each side; None: the paper's layer, which sees all.
        kernel: frames of the convolution that mixes neighbours before each local attention.
        dropout: share, in training only.
    """

    feature_width: int
    shape_names: tuple[str, ...] = ()
    width: int = 256
    layers: int = 2
    heads: int = 4
    reach: int | None = 50
    kernel: int = 9
    dropout: float = 0.1
    vertices: int = 0

    @property
    def outputs(self) -> int:
        """Numbers per frame: K weights or 3 V offsets."""
        return len(self.shape_names) or 3 * self.vertices


class LocalAttention(nn.Module):
    """Attention within `reach` frames, with a learned bias per head and distance.

    Queries go in blocks of `reach` frames that look at their own block and its two neighbours,
    so that time and memory grow with T and not with T squared.
    """

    def __init__(self, width: int, heads: int, reach: int) -> None:
        super().__init__()
        self.heads, self.reach = heads, reach
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(heads, 2 * reach + 1))

    def mask(self, lengths: list[int], blocks: int) -> Tensor:
        """(1 or B, blocks, H, R, 3 R): the bias of each distance, HIDDEN beyond reach or clip."""
        reach = self.reach
        key = torch.arange(3 * reach, device=self.bias.device) - reach  # from the block's start
        distance = key[None] - torch.arange(reach, device=key.device)[:, None]  # (R, 3 R)
        near = self.bias[:, distance.clamp(-reach, reach) + reach]  # (H, R, 3 R)
        place = torch.arange(blocks, device=key.device)[:, None] * reach + key  # (blocks, 3 R)
        ends = torch.tensor(lengths[:1] if len(set(lengths)) == 1 else lengths)
        outside = (place < 0) | (place >= ends.to(key.device)[:, None, None])  # (B, blocks, 3 R)
        far = distance.abs() > reach
        return near.masked_fill(outside[:, :, None, None] | far, HIDDEN)

    def forward(self, hidden: Tensor, memory: Tensor, lengths: list[int]) -> Tensor:
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
        mask = self.mask(lengths, blocks)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = mixed.transpose(2, 3).reshape(batch, blocks * reach, width)[:, :frames]
        return self.out(mixed)


class DecoderLayer(nn.Module):
    """Neighbour convolution, self attention, attention to the memory, feed-forward; pre-norm."""

    def __init__(self, width: int, heads: int, reach: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.conv_norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = LocalAttention(width, heads, reach)
        self.cross_norm = nn.LayerNorm(width)
        self.cross_attention = LocalAttention(width, heads, reach)
        self.feed_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, hidden: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D), (B, T, D), (B, T) or None -> (B, T, D)."""
        lengths = lengths_of(mask, *hidden.shape[:2])
        near = self.conv_norm(hidden)
        if mask is not None:  # beyond a clip the convolution finds zeros, as beyond a lone one
            near = near * mask[..., None]
        near = self.conv(near.transpose(1, 2)).transpose(1, 2)
        hidden = hidden + functional.gelu(near)
        normed = self.self_norm(hidden)
        hidden = hidden + self.self_attention(normed, normed, lengths)
        hidden = hidden + self.cross_attention(self.cross_norm(hidden), memory, lengths)
        return hidden + self.feed_forward(self.feed_norm(hidden))


class WholeClipLayer(nn.TransformerDecoderLayer):
    """The paper's decoder layer: every frame attends to every other, positions unknown."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads, 2 * width, batch_first=True)

    def forward(self, hidden: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:  # type: ignore[override]
        """(B, T, D), (B, T, D), (B, T) or None -> (B, T, D)."""
        hide = None if mask is None else ~mask
        return super().forward(
            hidden, memory, tgt_key_padding_mask=hide, memory_key_padding_mask=hide
        )


class FacialAnimator(nn.Module):
    """Features of speech -> weights of a face's shapes, or offsets of its vertices."""

    def __init__(self, config: AnimatorConfig) -> None:
        super().__init__()
        self.config = config
        width, reach = config.width, config.reach
        self.audio_map = nn.Linear(config.feature_width, width)
        self.dropout: nn.Module = nn.Identity()
        self.memory_norm: nn.Module = nn.Identity()
        self.head_norm: nn.Module = nn.Identity()
        layers: list[nn.Module]
        if reach is None:
            layers = [WholeClipLayer(width, config.heads) for _ in range(config.layers)]
        else:
            layers = [
                DecoderLayer(width, config.heads, reach, config.kernel, config.dropout)
                for _ in range(config.layers)
            ]
            self.dropout = nn.Dropout(config.dropout)
            self.memory_norm, self.head_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.decoder = nn.ModuleList(layers)
        self.head = nn.Linear(width, config.outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def context(self) -> int:
        """Frames on each side that a frame's result depends on."""
        config = self.config
        if config.reach is None:
            return sys.maxsize
        return config.layers * (config.kernel // 2 + config.reach) + config.reach

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, K) weights, not yet clamped, or (B, T, 3 V) offsets.

        Args:
            mask: (B, T), true in a clip; None where all are of one length.
        """
        hidden = self.dropout(self.audio_map(features))  # (B, T, D)
        memory = self.memory_norm(hidden)
        for layer in self.decoder:
            hidden = layer(hidden, memory, mask)
        out: Tensor = self.head(self.head_norm(hidden))  # (B, T, K) or (B, T, 3 V)
        return out


# --- Lip reader ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReaderConfig:
    """Sizes of the lip reader; the defaults are the paper's.

    Attributes:
        lip_width: 3 n, numbers per frame that it reads.
        classes: N, of text.
        width: of its transformer and of the recogniser's features.
        layers: of the encoder and of the decoder each; of the whole where reach is given.
        heads, feed_forward: of the transformer.
        reach: frames that attention sees to each side, with their order; None: the paper's
            transformer, which sees the whole clip and not the order.
    """

    lip_width: int
    classes: int = 33
    width: int = 1024
    layers: int = 6
    heads: int = 8
    feed_forward: int = 2048
    reach: int | None = None
    kernel: int = 9
    dropout: float = 0.1


class LipReader(nn.Module):
    """Moving lips -> features and logits of text."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.config = config
        width, layers, heads = config.width, config.layers, config.heads
        self.lip_map = nn.Linear(config.lip_width, width)
        self.transformer: nn.Module
        if config.reach is None:
            self.transformer = nn.Transformer(
                width, heads, layers, layers, config.feed_forward, batch_first=True
            )
            # Nested tensors know no gradients and warn; padded batches are as good.
            self.transformer.encoder.use_nested_tensor = False
        else:
            self.transformer = nn.ModuleList(
                DecoderLayer(width, heads, config.reach, config.kernel, config.dropout)
                for _ in range(layers)
            )
        self.head = nn.Linear(width, config.classes)

    def forward(
        self, lips: Tensor, mask: Tensor | None, frames: list[int]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Read lips.

        Args:
            lips: (B, T, 3 n).
            mask: (B, T), true in a clip, or None.
            frames: per clip how many frames of text are wanted.

        Returns:
            Features (B, S, C), logits (B, S, N), and the mask (B, S) or None.
        """
        mapped = self.lip_map(lips)  # (B, T, D)
        lengths = lengths_of(mask, *lips.shape[:2])
        hidden, mask = padded(
            [
                resampled(clip[:length], count)
                for clip, length, count in zip(mapped, lengths, frames, strict=True)
            ]
        )  # (B, S, D)
        if not hidden.shape[1]:
            return hidden, self.head(hidden), mask
        if isinstance(self.transformer, nn.ModuleList):
            memory = hidden
            for layer in self.transformer:
                hidden = layer(hidden, memory, mask)
        else:
            hide = None if mask is None else ~mask
            hidden = self.transformer(
                hidden, hidden, src_key_padding_mask=hide, tgt_key_padding_mask=hide,
                memory_key_padding_mask=hide,
            )  # fmt: skip
        return hidden, self.head(hidden), mask


# --- Speech recogniser ---------------------------------------------------------------------------


class SpeechRecogniser(nn.Module):
    """A pretrained wav2vec 2.0 (HuBERT, WavLM) with its CTC head: the teacher, frozen for good.

    It stays in evaluation mode whatever the rest does, and gives no gradients: a teacher with
    dropout and masked frames teaches noise.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model  # a ...ForCTC
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> SpeechRecogniser:
        """Never."""
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, clips: list[Tensor], frames: list[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hear samples (L_i,), normalised.

        Args:
            frames: per clip how many encoder frames count; all by default.

        Returns:
            Features (B, S, C) and logits (B, S, N).
        """
        encoder = WaveEncoder(self.model.base_model)
        features, mask = encoder([encoder.listen(clip) for clip in clips])
        lengths = lengths_of(mask, *features.shape[:2])
        wanted = lengths if frames is None else frames
        features, _ = padded([clip[:count] for clip, count in zip(features, wanted, strict=True)])
        return features, self.model.lm_head(features)


def greedy_text(logits: Tensor, blank: int = 0, separator: int | None = None) -> list[int]:
    """The CTC greedy path of one clip (S, N): repeats collapsed, blanks removed.

    Args:
        separator: class of word boundaries, taken off both ends; None where there is none.
    """
    path = logits.argmax(-1)
    kept = path[torch.cat([path.new_ones(1, dtype=torch.bool), path[1:] != path[:-1]])]
    text = [int(token) for token in kept if token != blank]
    while text and text[0] == separator:
        text.pop(0)
    while text and text[-1] == separator:
        text.pop()
    return text


# --- The whole -----------------------------------------------------------------------------------


class Prediction(NamedTuple):
    """What `SelfTalk.predict` gives."""

    vertices: Tensor  # (B, T, 3 V)
    lip_features: Tensor  # (B, S, C)
    lip_logits: Tensor  # (B, S, N)


class Diagram(NamedTuple):
    """Both ways round the commutative diagram; `frames` and `text_frames` count per clip."""

    vertices: Tensor  # (B, T, 3 V)
    lip_features: Tensor  # (B, S, C)
    text_features: Tensor  # (B, S, C)
    lip_logits: Tensor  # (B, S, N)
    text_logits: Tensor  # (B, S, N)
    frames: list[int]  # T of each clip
    text_frames: list[int]  # S of each clip


class SelfTalk(nn.Module):
    """Facial animator (encoder and animator), speech recogniser, lip reader."""

    lip_vertices: Tensor
    basis: Tensor | None

    def __init__(
        self,
        layout: Layout,
        encoder: WaveEncoder | MelEncoder,
        animator: FacialAnimator,
        recogniser: SpeechRecogniser | None,
        reader: LipReader | None,
        lip_vertices: Tensor,
        basis: Tensor | None = None,
    ) -> None:
        """Put the three modules together.

        Args:
            recogniser: None where its features and texts are known without it.
            reader: None where nobody reads lips.
            lip_vertices: (n,) indices of what the lip reader reads.
            basis: (K, 3 V) offsets of the shapes that a low-rank head moves; None: a dense head.
        """
        super().__init__()
        self.layout = layout
        self.encoder = encoder
        self.animator = animator
        self.recogniser = recogniser
        self.lip_reader = reader
        self.scale = 1.0
        self.register_buffer("lip_vertices", lip_vertices, persistent=False)
        self.register_buffer("basis", basis, persistent=False)

    @classmethod
    def from_checkpoint(
        cls, path: str | os.PathLike[str], lip_vertices: Any, device: str | None = None
    ) -> SelfTalk:
        """The whole of a published checkpoint; see `published.read_selftalk`."""
        from .published import read_selftalk

        return read_selftalk(path, lip_vertices, device)

    @torch.no_grad()
    def work_in(self, scale: float) -> None:
        """Let the head give, and the lip reader take, offsets in another unit.

        What the network computes stays the same; what a step of the optimiser changes does not.

        Args:
            scale: the unit, in units of the vertices; 1 as published.
        """
        factor = self.scale / scale
        self.animator.head.weight.mul_(factor)
        self.animator.head.bias.mul_(factor)
        if self.lip_reader is not None:
            self.lip_reader.lip_map.weight.div_(factor)
        self.scale = scale

    def features(
        self, heard: list[Tensor], frames: list[int] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Clips that were listened to -> features (B, T, C) per frame of motion, mask (B, T)."""
        return clip_features(self.layout, self.encoder, heard, frames)

    def offsets(self, features: Tensor, mask: Tensor | None) -> Tensor:
        """Features (B, T, C) -> offsets (B, T, 3 V)."""
        out: Tensor = self.animator(features, mask)
        moved = out if self.basis is None else out @ self.basis
        return moved * self.scale

    def read_lips(
        self, offsets: Tensor, mask: Tensor | None, frames: list[int]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Offsets (B, T, 3 V) -> what `LipReader` reads on their lips."""
        if self.lip_reader is None:
            raise ValueError("this SelfTalk has no lip reader")
        lips = offsets.unflatten(-1, (-1, 3))[:, :, self.lip_vertices].flatten(2)  # (B, T, 3 n)
        return self.lip_reader(lips / self.scale, mask, frames)

    def predict(self, audio: Tensor | list[Tensor], template: Tensor) -> Prediction:
        """Animate, and read the lips of it.

        Args:
            audio: (B, L), or B clips (L_i,); 16 kHz, zero mean and unit variance.
            template: (B, 3 V) or (1, 3 V), neutral faces.
        """
        features, mask = self.features([self.encoder.listen(clip) for clip in audio])
        offsets = self.offsets(features, mask)  # (B, T, 3 V)
        counts = lengths_of(mask, *offsets.shape[:2])
        read = self.read_lips(offsets, mask, [self.layout.text_frames(t) for t in counts])
        return Prediction(offsets + template[:, None], *read[:2])

    def forward(
        self,
        audio: Tensor | list[Tensor],
        template: Tensor,
        target: Tensor,
        frames: list[int] | None = None,
    ) -> Diagram:
        """Go round the diagram both ways.

        Args:
            audio: (B, L), or B clips (L_i,); 16 kHz, zero mean and unit variance.
            template: (B, 3 V) or (1, 3 V), neutral faces.
            target: (B, T, 3 V), recorded faces; they give the number of frames.
            frames: per clip how many frames of the target count; all by default.
        """
        if self.recogniser is None:
            raise ValueError("this SelfTalk has no speech recogniser")
        heard = [self.encoder.listen(clip) for clip in audio]
        frames = frames or [target.shape[1]] * len(heard)
        pairs = [self.layout.matched(len(h), t) for h, t in zip(heard, frames, strict=True)]
        frames, text = [t for t, _ in pairs], [s for _, s in pairs]
        features, mask = self.features(heard, frames)
        offsets = self.offsets(features, mask)  # (B, T, 3 V)
        lip_features, lip_logits, _ = self.read_lips(offsets, mask, text)
        text_features, text_logits = self.recogniser(list(audio), text)
        return Diagram(
            offsets + template[:, None], lip_features, text_features, lip_logits, text_logits,
            frames, text,
        )  # fmt: skip


def clip_features(
    layout: Layout,
    encoder: WaveEncoder | MelEncoder,
    heard: list[Tensor],
    frames: list[int] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Clips that were listened to -> features (B, T, stack * C) per frame of motion, mask (B, T).

    Args:
        frames: per clip how many frames of motion are wanted; `Layout.frames` by default.
    """
    frames = frames or [layout.frames(len(clip)) for clip in heard]
    if layout.resample == "convolutions":
        heard = [resampled(clip, count) for clip, count in zip(heard, frames, strict=True)]
    hidden, mask = encoder(heard)  # (B, S, C)
    if layout.resample == "convolutions":
        return hidden, mask
    lengths = lengths_of(mask, *hidden.shape[:2])
    if layout.resample == "features":
        clips = [
            resampled(clip[:length], count)
            for clip, length, count in zip(hidden, lengths, frames, strict=True)
        ]
    else:  # what is left over at the end was heard, but moves nothing
        clips = [
            clip[: layout.stack * count].unflatten(0, (count, layout.stack)).flatten(1)
            for clip, count in zip(hidden, frames, strict=True)
        ]
    return padded(clips)
