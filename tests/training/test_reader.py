"""The lip reader learns from real lips what was said, and its file gives the same reader."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from selftalk_blender.core import bundled_template
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.training.corpus import Utterance
from selftalk_blender.training.reader import lip_terms, load_reader, train_reader
from selftalk_blender.training.recogniser import Lessons

HEAD = bundled_template()
TOKENS = ["<pad>", "b", "ɑ", "|", "_"]
CLOSED, OPEN, BLANK = 1, 2, 4


def made_up_corpus() -> tuple[list[Utterance], Lessons]:
    """Mouths that open and shut at random; the recogniser hears "ɑ" where they open, else "b"."""
    rng = np.random.default_rng(0)
    corpus, paths = [], []
    for number in range(8):
        wide = np.repeat(rng.integers(0, 2, 15), 5)  # 75 frames at 25 fps
        weights = np.zeros((75, 52), np.float32)
        weights[:, HEAD.shape_names.index("jawOpen")] = 0.3 * wide
        corpus.append(Utterance(f"u{number}", "grid", "s", Path(), (), weights, number == 7))
        heard = np.repeat(np.where(wide, OPEN, CLOSED), 2)
        heard[4::5] = BLANK
        paths.append(heard.astype(np.uint8))
    path = np.concatenate(paths)
    features = np.eye(16, dtype=np.float16)[path] * 4 - 0.25
    lengths = np.full(8, 150)
    lessons = Lessons(features, path, np.cumsum(lengths) - lengths, lengths, 5, BLANK, 3)
    return corpus, lessons


def test_reader_learns_to_read_and_survives_its_file(tmp_path) -> None:
    corpus, lessons = made_up_corpus()
    told: list[float] = []
    reader = train_reader(
        HEAD, corpus, lessons, TOKENS, 150, 0, "fp32", lambda text, done: told.append(done)
    )
    assert told[-1] == 1.0
    seen = HEAD.shape_deltas[HEAD.shape_names.index("jawOpen")][HEAD.regions["lips"]]
    wide = np.repeat([0, 0, 1, 1, 1, 0, 0, 0, 1, 1], 10)
    lips = (0.3 * wide)[:, None, None].astype(np.float32) * seen
    read = reader(lips)
    assert set(read) == {"B", "AA"}
    assert read[0] == "B"
    assert read[-1] == "AA"

    reader.save(tmp_path / "reader.safetensors")
    assert load_reader(tmp_path / "reader.safetensors", HEAD)(lips) == read
    assert not any(p.requires_grad for p in reader.network.parameters())

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text(json.dumps({}))
    for name in ("other", "text", "missing"):
        with pytest.raises(SelfTalkError, match="not a readable lip reader"):
            load_reader(tmp_path / f"{name}.safetensors", HEAD)


def test_terms_ignore_scale_and_what_is_not_known() -> None:
    torch.manual_seed(0)
    heard = functional.layer_norm(torch.randn(2, 4, 32), (32,))
    known = torch.ones(2, 4)
    known[0, 2] = 0
    read = heard * 7 + 2
    read[0, 2] = torch.randn(32)
    logits = torch.randn(2, 4, 5)
    terms = lip_terms(read, logits, heard, known, [[1, 2], []], BLANK)
    assert terms["latent"] == pytest.approx(0, abs=1e-4)
    assert lip_terms(-read, logits, heard, known, [[], []], BLANK)["latent"] > 3.9
    said = functional.ctc_loss(
        logits[:1].log_softmax(-1).transpose(0, 1), torch.tensor([[1, 2]]), [4], [2], BLANK,
        reduction="sum",
    )  # fmt: skip
    silent = -logits[1].log_softmax(-1)[:, BLANK].sum()
    assert terms["text"] == pytest.approx(float(said / 2 + silent) / 2, rel=1e-4)
