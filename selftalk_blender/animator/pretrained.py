"""Pretrained speech encoders and recognisers, through `transformers`.

They come from folders on this machine; from a hub only where the user allows the network.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCTC, WhisperModel

from ..core.errors import SelfTalkError
from .checkpoint import load_exactly
from .network import MelEncoder, SpeechEncoder, SpeechRecogniser, WaveEncoder
from .published import ENCODERS


def load_encoder(folder: str | os.PathLike[str], layers: int) -> SpeechEncoder:
    """The first `layers` layers of a Whisper encoder kept in the `transformers` layout.

    Args:
        folder: holds config.json and encoder.safetensors (keys of `WhisperEncoder`).

    Raises:
        SelfTalkError: a file is missing or does not fit.
    """
    try:
        config = json.loads((Path(folder) / "config.json").read_text("utf-8"))
        encoder = SpeechEncoder(config, layers)
        state = load_file(Path(folder) / "encoder.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise SelfTalkError(f"No speech encoder could be read from {folder}: {error}.") from error
    own = {f"whisper.{name}": tensor.float() for name, tensor in state.items()}
    wanted = encoder.state_dict()
    load_exactly(encoder, {name: own[name] for name in wanted if name in own}, str(folder))
    return encoder


def load_speech_encoder(
    source: str | os.PathLike[str], layers: int | None = None, network: bool = False
) -> WaveEncoder | MelEncoder:
    """A wav2vec 2.0, HuBERT, WavLM or Whisper encoder that hears whole clips.

    Args:
        source: a folder in the `transformers` layout; a hub name where `network` allows it.
        layers: how many layers of a Whisper are used; all by default.
        network: whether the hub may be asked.

    Raises:
        SelfTalkError: it is not there, is of another kind, or cannot be read.
    """
    if (Path(source) / "encoder.safetensors").is_file():
        count = layers or _whisper_layers(Path(source))
        return MelEncoder(load_encoder(source, count))
    kind = _pretrained(AutoConfig, source, network).model_type
    if kind in ENCODERS:
        return WaveEncoder(_pretrained(AutoModel, source, network))
    if kind == "whisper":
        whisper = _pretrained(WhisperModel, source, network).get_encoder()
        encoder = SpeechEncoder(whisper.config.to_dict(), layers or len(whisper.layers))
        state = {f"whisper.{name}": tensor.float() for name, tensor in whisper.state_dict().items()}
        load_exactly(encoder, state, str(source))
        return MelEncoder(encoder)
    raise SelfTalkError(
        f"{source} is a {kind}; speech encoders can be {', '.join(ENCODERS)} or whisper."
    )


def load_recogniser(source: str | os.PathLike[str], network: bool = False) -> SpeechRecogniser:
    """A wav2vec 2.0, HuBERT or WavLM with a CTC head, frozen.

    Raises:
        SelfTalkError: as `load_speech_encoder`.
    """
    return SpeechRecogniser(_pretrained(AutoModelForCTC, source, network))


def _pretrained(kind: Any, source: str | os.PathLike[str], network: bool) -> Any:
    try:
        # float32 whatever the file says; never code from the hub.
        options = {} if kind is AutoConfig else {"dtype": "float32"}
        return kind.from_pretrained(str(source), local_files_only=not network, **options)
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        hint = "" if network else " Give a folder of this machine, or allow the network."
        raise SelfTalkError(
            f"No speech model could be read from {source}: {first}{hint}"
        ) from error


def _whisper_layers(folder: Path) -> int:
    try:
        return int(json.loads((folder / "config.json").read_text("utf-8"))["encoder_layers"])
    except (OSError, ValueError, KeyError) as error:
        raise SelfTalkError(f"{folder} has no readable config.json: {error}.") from error
