"""A recording in, moving vertices out: files, parts of them, long clips, and odd sound."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from checkpoints import TEMPLATE, VERTICES, Published, speech

from selftalk_blender.animator import SelfTalk, VertexAnimator, load_animator, published, vertices
from selftalk_blender.animator.network import (
    AnimatorConfig,
    FacialAnimator,
    Layout,
    MelEncoder,
    SpeechEncoder,
)
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.training import losses

PARITY = Path(os.environ.get("SELFTALK_SHARED", "../shared")).absolute() / "parity"


@pytest.fixture(scope="module", params=[1, 2], ids=["vocaset", "biwi"])
def animator(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> VertexAnimator:
    path = tmp_path_factory.mktemp("tiny") / "tiny.pth"
    torch.save(Published(request.param).state_dict(), path)
    return load_animator(path, "cpu", TEMPLATE)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """4 s, 44.1 kHz, stereo."""
    path = tmp_path / "clip.wav"
    samples = speech(4.0, rate=44100)
    soundfile.write(path, np.stack([samples, 0.2 * samples], axis=1), 44100, subtype="FLOAT")
    return path


def test_a_file_gives_what_its_samples_give(animator: VertexAnimator, clip: Path) -> None:
    samples = soundfile.read(clip, dtype="float32")[0]
    motion = animator.animate_file(clip)
    assert np.abs(motion.dense - animator.animate(samples, 44100).dense).max() < 1e-6
    mono = soxr.resample(samples.mean(1), 44100, 16000)
    # The last tenth below 8 kHz is another resampler's own affair; these weights are not trained.
    apart = np.abs(motion.dense - animator.animate(mono, 16000).dense).max()
    assert apart < 0.05 * np.ptp(motion.dense, axis=0).max()
    assert motion.fps == animator.fps and len(motion) == 4 * animator.fps - 1
    assert motion.vertices().shape == (len(motion), VERTICES, 3)
    assert np.array_equal(motion.template.vertices, TEMPLATE)
    # Frames behind the end of their file are nobody's; the level of a recording does not matter.
    louder = animator.animate(2 * mono, 16000)
    assert np.abs(louder.dense - animator.animate(mono, 16000).dense).max() < 1e-3


def test_a_part_of_a_file_is_that_part_of_its_motion(animator: VertexAnimator, clip: Path) -> None:
    whole = animator.animate_file(clip)
    fps = int(animator.fps)
    for start, stop, frames in ((1.0, 3.0, 2 * fps), (0.0, 1.0, fps), (2.0, None, 2 * fps - 1)):
        part = animator.animate_file(clip, start, stop)
        assert len(part) == frames
        first = round(start * fps)
        assert np.abs(part.dense - whole.dense[first : first + frames]).max() < 1e-6
    between = animator.animate_file(clip, 1.0 + 0.5 / fps, 2.0)
    middle = (whole.dense[fps : fps + 5] + whole.dense[fps + 1 : fps + 6]) / 2
    assert np.abs(between.dense[:5] - middle).max() < 1e-5
    for start, stop in ((9.0, None), (2.0, 2.0), (3.0, 1.0)):
        with pytest.raises(SelfTalkError, match="no sound in this part"):
            animator.animate_file(clip, start, stop)


def test_progress_rises_to_the_end(animator: VertexAnimator, clip: Path) -> None:
    told: list[float] = []
    animator.animate_file(clip, progress=lambda done, stage: told.append(done))
    assert len(told) > 2 and told == sorted(told) and told[-1] == 1
    told.clear()
    animator.animate(speech(1.0), 16000)
    assert told == []  # nobody listens any more


@pytest.mark.parametrize(
    ("frames", "vocaset", "biwi"), [(205, 122, 102), (204, 122, 102), (2, 1, 1)]
)
def test_frames_are_counted_as_published(
    animator: VertexAnimator, frames: int, vocaset: int, biwi: int
) -> None:
    """205 encoder frames give 122 at 30 fps, not 123: int(205 / 50.0 * 30)."""
    samples = speech(5.0)[: 400 + 320 * (frames - 1)]
    if frames == 2:
        samples = samples[:720]
    assert len(animator.animate(samples, 16000)) == (vocaset if animator.fps == 30 else biwi)


def test_another_face_is_moved_without_loading_again(animator: VertexAnimator) -> None:
    other = animator.with_template(TEMPLATE + 1)
    one, two = (a.animate(speech(1.0), 16000) for a in (animator, other))
    assert np.abs(two.vertices() - one.vertices() - 1).max() < 1e-5
    assert np.array_equal(animator.template.vertices, TEMPLATE)
    with pytest.raises(SelfTalkError, match=r"shape is \(11, 3\)"):
        animator.with_template(TEMPLATE[1:])


def test_odd_sound(animator: VertexAnimator) -> None:
    silent = animator.animate(np.zeros(32000, np.float32), 16000)
    assert np.isfinite(silent.dense).all() and len(silent) == 2 * animator.fps - 1
    for samples, words in (
        (speech(1.0)[:719], "44.9 ms of sound; this animator needs 45.0 ms"),
        (np.zeros(0, np.float32), "0.0 ms of sound"),
        (np.full(16000, np.nan, np.float32), "not numbers"),
        (np.zeros(16000, np.int16), "int16"),
    ):
        with pytest.raises(SelfTalkError, match=words):
            animator.animate(samples, 16000)


# --- Long clips ----------------------------------------------------------------------------------


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vertices, "LONGEST", 12.0)
    monkeypatch.setattr(vertices, "WINDOW", 6.0)
    monkeypatch.setattr(vertices, "CONTEXT", 4.0)


@pytest.mark.parametrize("stack", [1, 2])
def test_windows_of_a_long_clip_fit_together(
    stack: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """An animator whose frames depend on their neighbours alone gives the whole clip's motion."""
    rival = Published(stack)
    for name, value in rival.named_parameters():
        if "out_proj" in name:
            torch.nn.init.zeros_(value)  # attention says nothing
    torch.save(rival.state_dict(), tmp_path / "local.pth")
    animator = load_animator(tmp_path / "local.pth", "cpu", TEMPLATE)
    clips = [speech(seconds) for seconds in (12.5, 16.01, 22.0, 25.3)]
    wholes = [animator.animate(clip, 16000) for clip in clips]
    assert animator.notices == []
    request.getfixturevalue("short_windows")
    for clip, whole in zip(clips, wholes, strict=True):
        windowed = animator.animate(clip, 16000)
        assert "windows of 6 s with 4 s around" in animator.notices[0]
        assert len(windowed) == len(whole)
        # Torch finds the places of 30 fps in single precision: in the whole clip they are off by
        # its length * 2**-24, and that is what differs here. A frame's slip would be of 1.
        assert np.abs(windowed.dense - whole.dense).max() < (1e-3 if stack == 1 else 1e-5)
        assert np.abs(np.diff(whole.dense, axis=0)).max() > 1
    animator.animate(speech(1.0), 16000)
    assert animator.notices == []


def test_windows_of_a_whisper_are_of_one_level(request: pytest.FixtureRequest) -> None:
    """A clip that grows louder gives the same motion in windows as in one piece."""
    torch.manual_seed(0)
    sizes = {"d_model": 16, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
    encoder = MelEncoder(SpeechEncoder(sizes, 1))
    config = AnimatorConfig(2 * encoder.width, width=16, layers=1, reach=5, vertices=VERTICES)
    network = FacialAnimator(config)
    torch.nn.init.normal_(network.head.weight)
    with torch.no_grad():  # of what is heard, the log-mel frames alone
        network.audio_map.weight.unflatten(1, (2, -1))[..., :16] = 0
    model = published.VertexModel(Layout(25.0, "", 2, VERTICES, 0), encoder, network)
    animator = VertexAnimator(model, TEMPLATE, torch.device("cpu"))
    clip = speech(25.3) * np.linspace(0.1, 1, round(25.3 * 16000), dtype=np.float32) ** 2
    whole = animator.animate(clip, 16000)
    request.getfixturevalue("short_windows")
    windowed = animator.animate(clip, 16000)
    assert animator.notices and len(windowed) == len(whole)
    assert np.abs(windowed.dense - whole.dense).max() < 1e-4
    assert np.abs(np.diff(whole.dense, axis=0)).max() > 0.1


@pytest.mark.usefixtures("short_windows")
def test_memory_of_a_long_clip_does_not_grow(
    animator: VertexAnimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No run of the network hears more than a window with its contexts."""
    heard: list[int] = []
    original = VertexAnimator._offsets

    def listen(self: VertexAnimator, listened: torch.Tensor, frames: Any) -> torch.Tensor:
        heard.append(len(listened))
        return original(self, listened, frames)

    monkeypatch.setattr(VertexAnimator, "_offsets", listen)
    motion = animator.animate(speech(61.7), 16000)
    rate = 30 if animator.fps == 30 else 50  # of what the transformer attends to
    assert max(heard) <= 14 * rate and min(heard) > 4 * rate
    assert len(motion) == int(animator.fps * ((61.7 * 16000 - 400) // 320 + 1) / 50)


# --- The published network's own numbers ---------------------------------------------------------


def tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, PARITY / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["vocaset", "BIWI"])
def parity(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """A checkpoint of the published size but two encoder layers, and how to compare."""
    if not PARITY.is_dir():
        pytest.skip("needs the recipe for checkpoints: SELFTALK_SHARED names its folder")
    make: ModuleType = tool("make_weights")
    name = request.param
    shapes = json.loads((PARITY / f"shapes_{name}_small.json").read_text())
    if name == "BIWI":  # one with the old keys, one with the new and without the needless one
        shapes.pop("audio_encoder.masked_spec_embed")
    arrays = make.arrays(shapes, weight_norm="new" if name == "BIWI" else "old")
    path = tmp_path_factory.mktemp("parity") / f"{name}.pth"
    torch.save({key: torch.from_numpy(array) for key, array in arrays}, path)
    size, lips = {"vocaset": (5023, 254), "BIWI": (23370, 4996)}[name]
    yield {
        "path": path, "make": make, "compare": tool("compare").check, "name": name,
        "predicted": PARITY / f"predict_{name}_small_synth4.npz",
        "template": make.template(3 * size).reshape(size, 3), "lips": make.synth_lip(size, lips),
    }  # fmt: skip
    path.unlink()


def test_parity_of_motion(parity: dict[str, Any], tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, parity["make"].synth_audio(), 16000, subtype="PCM_16")
    animator = load_animator(parity["path"], "cpu", parity["template"])
    motion = animator.animate_file(clip)
    assert parity["compare"](parity["predicted"], vertices=motion.vertices())["vertices"] < 2e-6


def test_parity_of_converted_files(parity: dict[str, Any], tmp_path: Path) -> None:
    samples = parity["make"].synth_audio().astype(np.float32) / np.float32(32768)
    for half in (False, True) if parity["name"] == "vocaset" else (False,):
        target = tmp_path / f"{half}.safetensors"
        published.convert(parity["path"], target, half)
        motion = load_animator(target, "cpu", parity["template"]).animate(samples, 16000)
        # The motion itself is of 7e-3 metres.
        scale = 100 if half else 1
        parity["compare"](parity["predicted"], tol_scale=scale, vertices=motion.vertices())
        target.unlink()


def test_parity_of_all_modules_and_losses(parity: dict[str, Any]) -> None:
    make = parity["make"]
    whole = SelfTalk.from_checkpoint(parity["path"], parity["lips"])
    audio = torch.from_numpy(make.normalise(make.synth_audio().astype("f4") / np.float32(32768)))
    template = torch.from_numpy(parity["template"]).reshape(1, -1)
    with torch.inference_mode():
        predicted = whole.predict(audio[None], template)
        parity["compare"](
            parity["predicted"],
            vertices=predicted.vertices[0].unflatten(1, (-1, 3)).numpy(),
            lip_features=predicted.lip_features[0].numpy(),
            logits=predicted.lip_logits[0].numpy(),
        )
        if parity["name"] == "BIWI":
            return  # there are no reference outputs of its training graph
        reference = PARITY / "forward_vocaset_small_synth4.npz"
        frames = len(np.load(reference)["vertice_out"])
        target = torch.from_numpy(make.target(template.numpy(), frames))
        diagram = whole.forward(audio[None], template, target)
        terms = losses.diagram_losses(diagram, target)
    parity["compare"](
        reference,
        vertices=diagram.vertices[0].unflatten(1, (-1, 3)).numpy(),
        lip_features=diagram.lip_features[0].numpy(),
        text_features=diagram.text_features[0].numpy(),
        lip_logits=diagram.lip_logits[0].numpy(),
        text_logits=diagram.text_logits[0].numpy(),
    )
    # The four losses of the published training graph, to 1e-4 as its folder asks.
    assert list(terms) == ["vertices", "velocity", "latent", "text"]
    found = [float(term) for term in terms.values()]
    np.testing.assert_allclose(found, np.load(reference)["losses"][:4], rtol=1e-4)
