"""Evaluation of scripted animators whose right answers are known by construction."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from selftalk_blender.animator import VertexAnimator
from selftalk_blender.animator.network import (
    AnimatorConfig,
    FacialAnimator,
    Layout,
    LipReader,
    ReaderConfig,
    WaveEncoder,
)
from selftalk_blender.animator.published import VertexModel, save_vertex_model
from selftalk_blender.core import FaceTemplate, Motion, bundled_template
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.training import evaluate as module
from selftalk_blender.training.corpus import Utterance
from selftalk_blender.training.evaluate import dense_sums, evaluate, measure, measure_folder
from selftalk_blender.training.reader import TrainedReader
from selftalk_blender.training.report import MEASURES, difference, lines, of, over, summary

pytest.importorskip("torchmetrics")

HEAD = bundled_template()
JAW = HEAD.shape_names.index("jawOpen")
PUCKER = HEAD.shape_names.index("mouthPucker")
# Speech: a mouth that closes for B at 0.5 s and is wide open for AA at 0.75 s.
PHONES = (
    ("SIL", 0.0, 0.4), ("B", 0.48, 0.54), ("AA", 0.7, 0.8), ("F", 0.9, 1.0), ("UW", 1.3, 1.4),
    ("SIL", 1.6, 2.0),
)  # fmt: skip
KNOTS = ([0, 0.4, 0.45, 0.5, 0.55, 0.75, 0.95, 1.35, 1.55, 2], [0, 0, 8, 0, 0, 9, 4, 6, 0, 0])


def jaw(times: np.ndarray) -> np.ndarray:
    """jawOpen as the speaker moves it."""
    return np.interp(times, KNOTS[0], KNOTS[1]) / 30


class Scripted:
    """Opens the jaw as wide as the sound is loud, as the clips here are made; with faults."""

    fps = 50.0
    template = HEAD

    def __init__(self, late: int = 0, gain: float = 1.0) -> None:
        self.late, self.gain, self.calls = late, gain, 0

    def animate(self, samples: np.ndarray, sample_rate: int) -> Motion:
        assert sample_rate == 16000
        self.calls += 1
        loud = np.abs(samples[: len(samples) // 320 * 320]).reshape(-1, 320).mean(1)
        loud = np.concatenate([np.full(self.late, loud[0]), loud[: len(loud) - self.late]])
        weights = np.zeros((len(loud), 52), np.float32)
        weights[:, JAW] = self.gain * loud
        return Motion(HEAD, 50.0, weights)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """3 clips with faces, 2 synthetic ones, and 6 voices for babble."""
    folder = tmp_path_factory.mktemp("clips")
    clips = []
    for i, kind in enumerate(["grid"] * 3 + ["tts"] * 2 + ["libri"] * 6):
        stretch = 1 - 0.03 * i  # no two clips are the same
        path = folder / f"{kind}{i}.wav"
        sound = np.repeat(jaw(np.arange(100) / 50) * stretch, 320) * np.tile([1, -1], 16000)
        soundfile.write(path, sound, 16000, subtype="FLOAT")
        weights = np.zeros((50, 52), np.float32)
        weights[:, JAW] = jaw(np.arange(50) / 25) * stretch
        face = weights if kind == "grid" else None
        clips.append(Utterance(path.stem, kind, f"voice {i}", path, PHONES, face, True))
    return clips


def test_a_perfect_animator(corpus: list[Utterance]) -> None:
    table = evaluate(Scripted(), corpus)
    assert table["grid clips"] == 3
    for row in ("grid gap correlation, all frames", "grid gap correlation, mean of clips",
                "grid amplitude", "grid p/b/m closed", "tts p/b/m closed", "libri p/b/m closed",
                "grid width correlation"):  # fmt: skip
        assert table[row] == pytest.approx(1, abs=1e-3), row
    for row in ("grid lip vertex error, mm", "grid lip vertex error squared, mm^2",
                "grid gap distance after time warping, mm",
                "grid upper-face deviation, absolute, mm", "tts open vowels falsely closed",
                "jitter in digital silence, mm", "tts f/v within 2 mm"):  # fmt: skip
        assert table[row] == pytest.approx(0, abs=1e-2), row
    assert table["grid timing offset, ms"] == pytest.approx(0, abs=0.5)
    assert table["tts gap in pauses, mm"] < 0.5


def test_each_fault_shows_in_its_row(corpus: list[Utterance]) -> None:
    late = evaluate(Scripted(late=2), corpus)
    assert late["grid timing offset, ms"] == pytest.approx(40, abs=4)
    assert late["grid gap correlation, all frames"] < 0.95
    assert late["tts p/b/m closed"] == 1  # within 40 ms
    half = evaluate(Scripted(gain=0.5), corpus)
    assert half["grid amplitude"] == pytest.approx(0.5, abs=1e-3)
    assert half["grid gap correlation, all frames"] == pytest.approx(1, abs=1e-3)
    assert half["grid timing offset, ms"] == pytest.approx(0, abs=0.5)
    assert half["tts gap deviation, mm"] < 3
    shut = evaluate(Scripted(gain=0.0), corpus)
    assert shut["tts open vowels falsely closed"] == 1
    assert np.isnan(shut["grid timing offset, ms"])


def test_noise_is_15_dB_below_the_speech(corpus: list[Utterance]) -> None:
    clean = corpus[0].samples()
    babble = module.make_babble(corpus[5:])
    assert module.make_babble(corpus[6:]) is None  # five voices are too few
    noise = module.in_noise(clean, np.resize(babble, len(clean))) - clean
    assert 20 * np.log10(clean.std() / noise.std()) == pytest.approx(15, abs=0.01)
    table = evaluate(Scripted(), corpus)
    assert 0.5 < table["gap correlation under white noise"] < 1
    assert 0.5 < table["gap correlation under babble"] < 1
    assert "gap correlation under babble" not in evaluate(Scripted(), corpus[:8])


def test_each_clip_is_animated_once(corpus: list[Utterance]) -> None:
    animator = Scripted()
    measure({"a": animator}, corpus, reader=lambda lips: [])
    noisy, silences = 1, 2  # nobody is silent long enough before the first word for a room
    assert animator.calls == len(corpus) + 2 * noisy + silences


def test_f_v_distance_is_measured_at_the_teeth(corpus: list[Utterance]) -> None:
    rows = measure({"a": Scripted()}, corpus[:1])["a"]
    weights = np.zeros(52)
    weights[JAW] = jaw(np.array(0.93))  # the smallest opening from 0.93 to 0.97 s is at 0.95
    weights[JAW] = min(jaw(np.array([0.93, 0.95, 0.97])))
    face = HEAD.vertices + (weights @ HEAD.deltas()).reshape(-1, 3)
    lip, teeth = (face[HEAD.regions[name]] for name in ("lips_lower", "teeth_upper"))
    by_hand = 1000 * np.linalg.norm(lip[:, None] - teeth, axis=-1).min()
    found = over("grid f/v lip to teeth, mm", rows["grid f/v lip to teeth, mm"])
    assert found == pytest.approx(by_hand, abs=0.05)


def test_a_lip_reader_reads_animated_and_real_lips(corpus: list[Utterance]) -> None:
    seen = []

    def read(lips: np.ndarray) -> list[str]:
        seen.append(lips)
        return ["B", "AA", "F"] if np.abs(lips).max() > 1e-3 else []

    table = evaluate(Scripted(gain=0.0), corpus, read)
    assert table["grid lip-reader error"] == table["tts lip-reader error"] == 1
    assert table["grid lip-reader error on the speaker"] == pytest.approx(1 / 4)
    assert {lips.shape for lips in seen} == {(100, len(HEAD.regions["lips"]), 3)}
    assert not any("reader" in row for row in evaluate(Scripted(), corpus))


def test_rounding_is_width_at_oo_minus_ah(corpus: list[Utterance]) -> None:
    motion = Scripted().animate(corpus[3].samples(), 16000)
    motion.weights[65:71, PUCKER] = 1  # 1.3 to 1.4 s
    sums = module.phone_sums(motion, corpus[3])["width at oo/w minus ah, mm"]
    width = HEAD.width_mm(motion.weights)
    times = np.arange(100) / 50
    assert module.difference_sums([1.0], [2.0]).tolist() == [1, 1, 2, 1]
    expected = np.interp(1.35, times, width) - np.interp(0.75, times, width)
    assert sums[0] - sums[2] == pytest.approx(expected) and expected < -5


def test_side_by_side_says_what_is_better(corpus: list[Utterance]) -> None:
    animators = {"one": Scripted(gain=0.7), "two": Scripted(), "same": Scripted(gain=0.7)}
    tables = {name: summary(rows) for name, rows in measure(animators, corpus).items()}
    one, two, same = tables.values()

    def verdict(row: str, first: dict, other: dict) -> str:
        return difference(row, first[row], other[row])["verdict"]

    for row in ("grid lip vertex error, mm", "grid amplitude"):
        assert verdict(row, one, two) == "better"
        assert verdict(row, two, one) == "worse"
        assert verdict(row, one, same) == ""
    assert verdict("tts gap deviation, mm", one, two) == "differs"
    text = lines(tables)
    assert "3 grid, 2 tts, 6 libri clips" in text[0]
    (row,) = [line for line in text if line.startswith("grid amplitude")]
    assert "0.700 [0.700, 0.700]" in row and "+0.300 [+0.300, +0.300] better" in row


def run(arguments: list[str], corpus: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> int:
    animators = {None: Scripted(), "half.safetensors": Scripted(gain=0.5)}
    monkeypatch.setattr(module, "load_animator", lambda path, device: animators[path])
    monkeypatch.setattr(module, "load_config", lambda path: SimpleNamespace(data="."))
    monkeypatch.setattr(module, "load_corpus", lambda config, template: corpus)
    return module.main(["c.toml", *arguments])


def test_command_compares_with_a_stored_evaluation(
    corpus: list[Utterance], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    stored, both = tmp_path / "old.json", tmp_path / "both.json"
    assert run(["--json", str(stored)], corpus, monkeypatch) == 0
    arguments = ["--animator", "half.safetensors", "--against", str(stored), "--json", str(both)]
    capsys.readouterr()
    assert run(arguments, corpus, monkeypatch) == 0
    (row,) = [r for r in capsys.readouterr().out.splitlines() if r.startswith("grid amplitude")]
    assert row.split()[2:4] == ["1.000", "[1.000,"] and row.endswith("worse")
    kept = json.loads(both.read_text())
    assert list(kept["animators"]) == ["half"]
    entry = kept["animators"]["half"]["grid amplitude"]
    assert entry["clips"]["grid1"]["value"] == pytest.approx(0.5, abs=1e-3)
    assert kept["differences"]["half minus bundled"]["grid amplitude"]["verdict"] == "worse"

    with pytest.raises(SelfTalkError, match="of other clips: 8 are in one"):
        run([*arguments, "--clips", "1"], corpus, monkeypatch)
    with pytest.raises(SelfTalkError, match="not an evaluation"):
        stored.write_text("{}")
        run(arguments, corpus, monkeypatch)
    with pytest.raises(SelfTalkError, match="holds no clips out"):
        run([], [], monkeypatch)


def test_command_takes_a_lip_reader(
    corpus: list[Utterance], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    config = ReaderConfig(
        3 * len(HEAD.regions["lips"]), classes=3, width=16, layers=1, heads=2, reach=5
    )
    TrainedReader(LipReader(config), HEAD, ["b", "|", "_"], 2, 1).save(tmp_path / "r.safetensors")
    assert run(["--reader", str(tmp_path / "r.safetensors")], corpus, monkeypatch) == 0
    out = capsys.readouterr().out
    assert "grid lip-reader error on the speaker" in out
    assert "tts lip-reader error" in out


def test_every_row_has_a_form_and_titles_tell_animators_apart(corpus: list[Utterance]) -> None:
    for row in measure({"a": Scripted()}, corpus, reader=lambda lips: [])["a"]:
        assert row.endswith(max((m for m in MEASURES if row.endswith(m)), key=len))
    assert of("grid lip-reader error on the speaker") == ("mean", None)
    assert module.titles(["bundled", "a/x.pth", "b/x.pth", "y.pth"]) == [
        "bundled", "a/x", "b/x", "y",
    ]  # fmt: skip
    assert module.titles(["runs/x.pth"]) == ["x"]
    assert module.titles(["x.pth", "x.safetensors"]) == ["x.pth", "x.safetensors"]


# -- a folder of vertices ----------------------------------------------------------------------

FACE = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
PARTS = {"lips": np.array([0, 1]), "upper_face": np.array([4, 5]), "inner_lips": np.array([0, 1])}


def dense(late: float = 0.0, gain: float = 1.0, fps: float = 30.0, seconds: float = 2.0) -> Motion:
    """Vertex 0 moves away from vertex 1, vertex 4 moves as well; in units of 1/2 mm."""
    apart = (FACE[0] - FACE[1]) / np.linalg.norm(FACE[0] - FACE[1])
    offsets = np.zeros((round(seconds * fps), 6, 3), np.float32)
    wave = 20 * jaw(np.arange(len(offsets)) / fps - late) * gain
    offsets[:, 0] = wave[:, None] * apart
    offsets[:, 4, 1] = wave
    return Motion(FaceTemplate("f", FACE, np.zeros((0, 4), np.int32)), fps, dense=offsets)


def test_vertices_of_any_mesh_are_measured_in_mm_or_in_units() -> None:
    neutral = FACE + 1  # another speaker than the animator's template
    real = neutral + dense().dense
    same = dense_sums(dense(), real, neutral, 30.0, PARTS, per_mm=0.5)
    assert same["lip vertex error, mm"][0] == pytest.approx(0, abs=1e-4)
    late = dense_sums(dense(late=0.04), real, neutral, 30.0, PARTS, per_mm=0.5)
    assert late["timing offset, ms"][0] == pytest.approx(40, abs=4)
    half = dense_sums(dense(gain=0.5), real, neutral, 30.0, PARTS, per_mm=0.5)
    wave = 20 * jaw(np.arange(60) / 30)
    assert half["lip vertex error, mm"][0] == pytest.approx(0.5 * np.mean(wave / 2), rel=1e-4)
    squared = half["lip vertex error squared, mm^2"][0]
    assert squared == pytest.approx(np.mean((0.5 * wave / 2) ** 2), rel=1e-4)
    fdd = half["upper-face deviation (FDD), mm"][0]
    assert fdd == pytest.approx(0.5 * wave.std() / 2 / 2, rel=1e-3)  # one of two vertices moves
    unknown = dense_sums(dense(gain=0.5), real, neutral, 30.0, {"lips": PARTS["lips"]})
    assert unknown["lip vertex error, unit"][0] == pytest.approx(np.mean(wave / 2), rel=1e-4)
    assert not any("gap" in row or "face" in row for row in unknown)
    # Of two pairs of inner-lip vertices, one of which does not move, the gap is the mean.
    two = PARTS | {"inner_lips": np.array([0, 1, 2, 3])}
    both = dense_sums(dense(gain=0.5), real, neutral, 30.0, two, per_mm=0.5)
    row = "gap distance after time warping, mm"
    assert both[row][0] == pytest.approx(half[row][0] / 2, rel=1e-3)


def test_a_folder_gives_rows_of_its_clips_and_refuses_another_mesh(tmp_path: Path) -> None:
    motion = dense(gain=0.5)
    animator = SimpleNamespace(template=motion.template, animate=lambda samples, rate: motion)
    clip = SimpleNamespace(
        name="s_1", subject="s", samples=lambda: np.zeros(32000, np.float32),
        vertices=lambda: (FACE + dense().dense).reshape(60, -1),
    )  # fmt: skip
    corpus = SimpleNamespace(
        path=tmp_path, fps=30.0, vertex_count=6, templates={"s": FACE}, mm_per_unit=None,
        parts=PARTS,
    )  # fmt: skip
    rows = measure_folder({"a": animator}, corpus, [clip])["a"]
    assert list(rows["folder amplitude"]) == ["s_1"]
    corpus.vertex_count = 7
    with pytest.raises(SelfTalkError, match="a moves 6 vertices, but the faces .* have 7"):
        measure_folder({"a": animator}, corpus, [clip])


def test_command_on_a_folder_in_the_fields_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    for name in ("wav", "vertices_npy"):
        (tmp_path / name).mkdir()
    np.savez(tmp_path / "templates.npz", s=FACE)
    np.save(tmp_path / "lips.npy", PARTS["lips"])
    np.save(tmp_path / "inner_lips.npy", PARTS["inner_lips"])
    np.savez(tmp_path / "faces.npz", s=FACE, t=FACE + 1)
    for i in range(3):
        soundfile.write(tmp_path / f"wav/s_{i}.wav", np.zeros(32000), 16000)
        np.save(tmp_path / f"vertices_npy/s_{i}.npy", (FACE + dense().dense).reshape(60, -1))
    split = {"train": ["s_0"], "val": ["s_1"], "test": ["s_2"]}
    card = {"format": 1, "fps": 30, "unit": "half a millimetre", "mm_per_unit": 0.5, "split": split}
    (tmp_path / "dataset.json").write_text(json.dumps(card))
    motion = dense(gain=0.5)
    animator = SimpleNamespace(template=motion.template, animate=lambda samples, rate: motion)

    def load(path: str, device: str | None, template: np.ndarray) -> SimpleNamespace:
        assert path == "vocaset.pth" and np.array_equal(template, FACE)
        return animator

    monkeypatch.setattr(module, "load_animator", load)
    json_file = tmp_path / "out.json"
    arguments = [str(tmp_path), "--animator", "vocaset.pth", "--json", str(json_file)]
    arguments += ["--template", str(tmp_path / "faces.npz")]
    with pytest.raises(SelfTalkError, match=r"faces\.npz"):
        module.main(arguments)
    assert module.main([*arguments, "--subject", "s"]) == 0
    assert "folder amplitude" in capsys.readouterr().out
    table = json.loads(json_file.read_text())["animators"]["vocaset"]
    assert list(table["folder lip vertex error, mm"]["clips"]) == ["s_2"]
    wave = 20 * jaw(np.arange(60) / 30)
    assert table["folder lip vertex error, mm"]["value"] == pytest.approx(0.25 * wave.mean())
    # Half the motion: no warping makes up for all of it.
    assert 0 < table["folder gap distance after time warping, mm"]["value"] <= 0.25 * wave.mean()
    assert table["times real time"]["value"] > 0


@pytest.fixture
def two_speakers(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of two subjects who move exactly as an animator does, and that animator's file."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    network = FacialAnimator(AnimatorConfig(16, width=16, layers=1, reach=None, vertices=6))
    torch.nn.init.normal_(network.head.weight, std=0.1)
    encoder = WaveEncoder(Wav2Vec2Model(config))
    model = VertexModel(Layout(30.0, "convolutions", 1, 6, 2), encoder, network)
    save_vertex_model(tmp_path / "own.safetensors", model)
    folder = tmp_path / "faces"
    for name in ("wav", "vertices_npy"):
        (folder / name).mkdir(parents=True)
    faces = {"s": FACE, "t": 2 * FACE + 1}
    np.savez(folder / "templates.npz", **faces)
    for name, here in PARTS.items():
        np.save(folder / f"{name}.npy", here)
    names = [f"{subject}_{i}" for subject in faces for i in range(2)]
    for i, name in enumerate(names):
        loud = np.repeat(np.random.default_rng(i).random(20), 1600)
        sound = 0.1 * loud * np.random.default_rng(i).normal(size=32000)
        soundfile.write(folder / f"wav/{name}.wav", sound, 16000, subtype="PCM_16")
        animator = VertexAnimator(model, faces[name[0]], torch.device("cpu"))
        recorded = animator.animate_file(folder / f"wav/{name}.wav").vertices()
        np.save(folder / f"vertices_npy/{name}.npy", recorded.reshape(len(recorded), -1))
    split = {"train": names[::2], "val": [], "test": names[1::2]}
    card = {"format": 1, "fps": 30, "unit": "metres", "mm_per_unit": 1000, "split": split}
    (folder / "dataset.json").write_text(json.dumps(card))
    return folder, tmp_path / "own.safetensors"


def test_a_folder_has_the_templates_of_its_subjects(
    two_speakers: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, animator = two_speakers
    moved, animate = [], VertexAnimator.animate

    def spy(self: VertexAnimator, samples: np.ndarray, rate: int) -> Motion:
        moved.append(self.template.vertices)
        return animate(self, samples, rate)

    monkeypatch.setattr(VertexAnimator, "animate", spy)
    arguments = [str(folder), "--animator", str(animator), "--device", "cpu"]
    arguments += ["--plots", str(tmp_path / "plots"), "--json", str(tmp_path / "out.json")]
    assert module.main(arguments) == 0
    pictures = {path.name for path in (tmp_path / "plots").iterdir()}
    assert pictures == {"gap-s_1.png", "gap-t_1.png", "error.png"}
    table = json.loads((tmp_path / "out.json").read_text())["animators"]["own"]
    error = table["folder lip vertex error, mm"]
    assert list(error["clips"]) == ["s_1", "t_1"]
    assert error["value"] == pytest.approx(0, abs=1e-2)
    assert table["folder gap correlation, mean of clips"]["value"] == pytest.approx(1, abs=1e-5)
    assert np.array_equal(moved[0], FACE) and np.array_equal(moved[1], 2 * FACE + 1)
