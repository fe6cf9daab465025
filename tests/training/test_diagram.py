"""Training on a folder of faces: it learns, is resumed, and its file animates."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import constants as hub_constants
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from selftalk_blender.animator import load_animator
from selftalk_blender.animator.network import (
    AnimatorConfig,
    FacialAnimator,
    Layout,
    LipReader,
    MelEncoder,
    ReaderConfig,
    SelfTalk,
    SpeechEncoder,
    WaveEncoder,
    lengths_of,
)
from selftalk_blender.animator.pretrained import load_recogniser
from selftalk_blender.animator.published import NAMES
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.training import examples, train
from selftalk_blender.training.config import FolderConfig, load_config
from selftalk_blender.training.diagram import AnimatorTask, Clips, FolderRun, letter_error_rate
from selftalk_blender.training.loop import Loop, Team, read_checkpoint
from selftalk_blender.training.teacher import Teacher, identity, word_separator

V, FPS, LIPS = 12, 30.0, (0, 1, 2, 3, 4)
WAVE = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
    "vocab_size": 6, "layerdrop": 0.0,
}  # fmt: skip
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
NEUTRAL = np.random.default_rng(0).normal(size=(V, 3)).astype(np.float32)


def talk(seed: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Sound (L,) of loud and quiet stretches, and a face (T, V, 3) that opens with them."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.random(20) > 0.4, 2400)[: int(seconds * 16000)]
    loud = np.convolve(loud, np.ones(800) / 800, "same")
    sound = (0.3 * loud * rng.normal(size=len(loud))).astype(np.float32)
    face = np.tile(NEUTRAL, (round(seconds * FPS), 1, 1))
    opening = loud[(np.arange(len(face)) / FPS * 16000).astype(int)]
    face[:, :3, 1] -= 0.01 * opening[:, None]
    return sound, face


def write_folder(folder: Path, scale: float = 1.0) -> Path:
    """Eight clips of other lengths, as `selftalk prepare` leaves them."""
    for place in ("wav", "vertices_npy"):
        (folder / place).mkdir(parents=True)
    names = [f"anna_{i}" for i in range(8)]
    for i, name in enumerate(names):
        sound, face = talk(i, 1.0 + 0.1 * i)
        soundfile.write(folder / f"wav/{name}.wav", sound, 16000)
        np.save(folder / f"vertices_npy/{name}.npy", scale * face.reshape(len(face), -1))
    np.savez(folder / "templates.npz", anna=scale * NEUTRAL)
    np.save(folder / "lips.npy", np.array(LIPS))
    card = {
        "format": 1, "fps": FPS, "unit": "metre", "mm_per_unit": 1000.0 / scale,
        "split": {"train": names[:6], "val": names[6:], "test": []},
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser in the layout of transformers; its encoder is the animator's, too."""
    folder = tmp_path_factory.mktemp("wave")
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**WAVE, **LARGE))
    torch.nn.init.normal_(model.lm_head.weight)  # so that it says something
    model.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({"<pad>": 0, "|": 4, "a": 1}))
    return folder


@pytest.fixture
def config(tmp_path: Path, wave: Path) -> FolderConfig:
    return FolderConfig(
        data=str(write_folder(tmp_path / "data")), output=str(tmp_path / "run"),
        encoder=str(wave), recogniser=str(wave), width=16, heads=2, batch=2, epochs=12,
        reader_layers=1, reader_epochs=2, learning_rate=1e-2, validate_every=4, average=0.9,
    )  # fmt: skip


def test_a_folder_is_trained_on_and_its_animator_animates(
    config: FolderConfig, tmp_path: Path, monkeypatch, capsys
) -> None:
    """The command, from a TOML file; interrupted in both stages, it ends bit by bit the same."""
    table = {k: v for k, v in config.to_dict().items() if k not in ("loss", "output")}
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]

    def command(name: str) -> Path:
        path = tmp_path / f"{name}.toml"
        output = f'kind = "folder"\noutput = "{tmp_path / name}"\n'
        path.write_text(output + "\n".join(lines) + "\n[loss]\nsilence = 0.1\n")
        assert train.main([str(path)]) == 0
        return tmp_path / name / "animator.safetensors"

    whole = command("whole")
    told = capsys.readouterr().out
    assert "6 clips to train on, 2 for validation" in told and "Letters misread" in told
    card = json.loads(whole.with_suffix(".json").read_text())
    error = card["animator on held-out clips"]["lip vertex error, mm"]
    still = np.mean(
        [1000 * np.abs(talk(i, 1 + 0.1 * i)[1] - NEUTRAL).max((1, 2)).mean() for i in (6, 7)]
    )
    assert error < 0.6 * still
    assert card["lip reader on held-out recorded lips"]["letter error rate"] >= 0
    assert len(list((whole.parent / "pictures").glob("*.png"))) == 2

    animator = load_animator(whole, template=NEUTRAL)
    sound, face = talk(7, 1.7)
    motion = animator.animate(sound, 16000)
    assert animator.fps == FPS and motion.dense.shape[1:] == (V, 3)
    opening = np.interp(np.arange(len(motion)), np.arange(len(face)), NEUTRAL[0, 1] - face[:, 0, 1])
    assert np.corrcoef(-motion.dense[:, 0, 1], opening)[0, 1] > 0.7

    original, stops = Loop.advance, [("Lip reader", 3), ("Animator", 13)]

    def interrupt(self: Loop) -> object:
        if stops and (self.title, self.step) == stops[0]:
            stops.pop(0)
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(Loop, "advance", interrupt)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            command("halves")
    assert command("halves").read_bytes() == whole.read_bytes()


def test_the_unit_of_the_vertices_does_not_matter(config: FolderConfig, tmp_path: Path) -> None:
    """Metres and tenths of millimetres give the same losses and the same motion."""
    other = str(write_folder(tmp_path / "large", 1e4))
    told, moved = [], []
    for data, output in ((config.data, "one"), (other, "two")):
        run = FolderRun(
            dataclasses.replace(
                config, data=data, output=str(tmp_path / output), epochs=1, upper_lips=(0,),
                lower_lips=(1,), loss=dataclasses.replace(config.loss, closure=0.1),
            ),
            Team(),
        )  # fmt: skip
        run.network.lip_reader.requires_grad_(False)
        clips = Clips(run.network, run.examples, run.train, run.config, torch.device("cpu"))
        task = AnimatorTask(run.network, clips, run.held_out, run.config, run.facts)
        loop = Loop(task, run.settings(1, 6), tmp_path / output, {})
        told += [[float(term) for term in loop.advance().values()] for _ in range(3)][-1:]
        run.network.eval()
        with torch.no_grad():
            moved.append(task.animate(clips.batch(0))[0])
    np.testing.assert_allclose(told[0], told[1], rtol=1e-3)
    assert moved[0].any()
    torch.testing.assert_close(1e4 * moved[0], moved[1], rtol=1e-2, atol=1e-2)


def still(network: torch.nn.Module) -> None:
    """No dropout."""
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0


def test_speech_without_faces_teaches_through_its_text(
    config: FolderConfig, tmp_path: Path
) -> None:
    """And a step over faces and speech in parts is the step in one piece."""
    (tmp_path / "speech/deep").mkdir(parents=True)
    for i in range(2):
        soundfile.write(tmp_path / f"speech/deep/{i}.wav", talk(50 + i, 1.2 + i)[0], 16000)
    config = dataclasses.replace(
        config, speech=str(tmp_path / "speech"),
        loss=dataclasses.replace(config.loss, silence=0.5),
    )  # fmt: skip
    run = FolderRun(config, Team())
    assert [clip.name for clip in run.speech] == ["deep/0.wav", "deep/1.wav"]
    still(run.network)
    run.network.train()
    clips = Clips(run.network, run.examples, run.speech, config, torch.device("cpu"))
    task = AnimatorTask(run.network, clips, run.held_out, config, run.facts)
    batch = clips.batch(0)
    counts, terms = task.counts(batch), task.losses(batch)
    assert counts["vertices"] == counts["velocity"] == 0
    assert set(terms) == {"latent", "text", "silence"}
    (terms["latent"] + terms["text"]).backward()
    assert run.network.animator.head.weight.grad.abs().sum() > 0

    gradients = []
    for size, parts in ((8, 1), (2, 4)):
        settings = dataclasses.replace(config, batch=size, accumulate=parts)
        everything = [*run.train, *run.speech]
        clips = Clips(run.network, run.examples, everything, settings, torch.device("cpu"))
        task = AnimatorTask(run.network, clips, run.held_out, settings, run.facts)
        state = {n: t.clone() for n, t in run.network.state_dict().items()}
        loop = Loop(task, dataclasses.replace(run.settings(1, 8), accumulate=parts), tmp_path, {})
        loop.advance()
        gradients.append([p.grad.clone() for p in loop.trained.values() if p.grad is not None])
        run.network.load_state_dict(state)
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-6)


def test_two_encoder_frames_are_one_of_motion_in_biwis_layout(
    config: FolderConfig, tmp_path: Path
) -> None:
    """Sound and motion end where the shorter of them does; the file animates at 25 fps."""
    card = Path(config.data, "dataset.json")
    card.write_text(card.read_text().replace("30.0", "25.0"))
    config = dataclasses.replace(config, resample="none", stack=2, epochs=1, reader_epochs=1)
    run = FolderRun(config, Team())
    batch = Clips(run.network, run.examples, run.train, config, torch.device("cpu")).batch(0)
    assert batch.text_frames == [2 * count for count in batch.frames]
    path = run.train_animator(run.train_reader())
    motion = load_animator(path, template=NEUTRAL).animate(talk(0, 1.0)[0], 16000)
    assert (motion.fps, len(motion)) == (25.0, 24)


def test_a_frozen_encoder_hears_each_clip_once(config: FolderConfig, monkeypatch) -> None:
    """Its weights stay; what is read from the disk is what it would hear again."""
    run = FolderRun(dataclasses.replace(config, train_encoder=False, epochs=2), Team())
    before = {name: tensor.clone() for name, tensor in run.network.encoder.state_dict().items()}
    heard = []
    listen = WaveEncoder.listen
    monkeypatch.setattr(WaveEncoder, "listen", lambda *args: heard.append(1) or listen(*args))
    run.train_animator(run.train_reader())
    assert len(heard) == 8  # clips
    after = run.network.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    clips = Clips(run.network, run.examples, run.train, run.config, torch.device("cpu"))
    tasks = [
        AnimatorTask(run.network, clips, run.held_out, run.config, run.facts, cache)
        for cache in (None, next(Path(run.output, "cache").glob("encoder-*")))
    ]
    batch = clips.batch(0)
    with torch.no_grad():
        one, other = (task.animate(batch)[0] for task in tasks)
    for i, count in enumerate(batch.frames):
        assert one[i, :count].any()
        torch.testing.assert_close(one[i, :count], other[i, :count], rtol=0, atol=2e-6)


def test_the_recogniser_is_frozen_and_remembered(wave: Path, tmp_path: Path, monkeypatch) -> None:
    recogniser = load_recogniser(wave)
    before = {name: tensor.clone() for name, tensor in recogniser.state_dict().items()}
    torch.nn.ModuleDict({"teacher": recogniser}).train()
    loaded = []

    def load() -> object:
        loaded.append(1)
        return recogniser

    name = identity(wave)
    teacher = Teacher(name, load, tmp_path, torch.device("cpu"), separator=4)
    sound, _ = talk(0, 1.0)
    lesson = teacher.lesson(sound)
    assert not any(module.training for module in recogniser.modules())
    assert not any(p.requires_grad for p in recogniser.parameters())
    assert all(torch.equal(before[n], t) for n, t in recogniser.state_dict().items())
    normal = torch.from_numpy((sound - sound.mean()) / np.sqrt(sound.var() + 1e-7))
    with torch.no_grad():
        rival = recogniser.model.wav2vec2(normal[None]).last_hidden_state[0]
    np.testing.assert_allclose(lesson.features, rival, atol=2e-3)
    assert lesson.text and 0 not in lesson.text

    again = Teacher(name, lambda: pytest.fail("loaded again"), tmp_path, torch.device("cpu"), 4)
    assert (again.width, again.classes, again.blank) == (16, 6, 0)
    np.testing.assert_array_equal(again.lesson(sound).features, lesson.features)
    assert again.lesson(sound).text == lesson.text and len(loaded) == 1
    changed = tmp_path / "changed"
    shutil.copytree(wave, changed)
    assert identity(changed) == name
    with open(changed / "model.safetensors", "r+b") as file:
        file.seek(-3, 2)
        file.write(b"\1")
    assert identity(changed) != name


def test_word_boundaries_are_known_of_folders_and_of_the_hub(
    wave: Path, tmp_path: Path, monkeypatch
) -> None:
    """A hub's vocabulary lies in the cache of this machine; what is not known stays None."""
    assert word_separator(wave) == 4
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path))
    for name, vocabulary in (("letters", {"|": 7, "a": 1}), ("phones", {"a": 1}), ("list", [1])):
        repository = tmp_path / f"models--someone--{name}"
        (repository / "snapshots/0").mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text("0")
        (repository / "snapshots/0/vocab.json").write_text(json.dumps(vocabulary))
    assert word_separator("someone/letters") == 7
    for unknown in ("someone/phones", "someone/list", "someone/else", tmp_path, "no where"):
        assert word_separator(unknown) is None


ENCODERS = {
    "wav2vec2, norm in each layer": lambda: WaveEncoder(
        Wav2Vec2Model(Wav2Vec2Config(**WAVE, **LARGE))
    ),
    "wav2vec2, norm over the clip": lambda: WaveEncoder(Wav2Vec2Model(Wav2Vec2Config(**WAVE))),
    "hubert": lambda: WaveEncoder(HubertModel(HubertConfig(**WAVE))),
    "wavlm": lambda: WaveEncoder(WavLMModel(WavLMConfig(**WAVE, num_buckets=8))),
    "whisper": lambda: MelEncoder(
        SpeechEncoder({"d_model": 16, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}, 1)
    ),
}


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("head", ["dense, whole clip", "low rank, local"])
def test_batch_mates_do_not_change_a_clip(kind: str, head: str) -> None:
    torch.manual_seed(0)
    encoder = ENCODERS[kind]()
    dense = head.startswith("dense")
    resample = "features" if kind == "whisper" else "convolutions"
    shapes = {"vertices": V} if dense else {"shape_names": ("a", "b"), "layers": 2}
    animator = AnimatorConfig(
        encoder.width, width=16, heads=2, reach=None if dense else 5, **shapes
    )
    network = SelfTalk(
        Layout(FPS, resample, 1, V, len(LIPS)), encoder, FacialAnimator(animator), None,
        LipReader(ReaderConfig(15, 6, 16, 1, 2, 32, reach=None if dense else 5)),
        torch.tensor(LIPS), None if dense else torch.randn(2, 3 * V),
    ).train()  # fmt: skip
    torch.nn.init.normal_(network.animator.head.weight)
    still(network)  # in training mode, for that is where batches are used
    sounds = [encoder.prepare(talk(i, seconds)[0]) for i, seconds in enumerate((0.7, 1.6, 1.1))]
    heard = [encoder.listen(sound) for sound in sounds]

    def run(clips: list[torch.Tensor]) -> list[list[torch.Tensor]]:
        features, mask = network.features(clips)
        offsets = network.offsets(features, mask)
        frames = [len(clip) for clip in clips]
        read = network.read_lips(offsets, mask, frames)
        lengths = lengths_of(mask, *offsets.shape[:2])
        return [
            [offsets[i, :t], read[0][i, :s], read[1][i, :s]]
            for i, (t, s) in enumerate(zip(lengths, frames, strict=True))
        ]

    together = run(heard)
    for clip, mine in zip(heard, together, strict=True):
        for one, other in zip(run([clip])[0], mine, strict=True):
            assert one.shape == other.shape
            torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5)


def test_training_goes_on_from_a_published_checkpoint(
    config: FolderConfig, wave: Path, tmp_path: Path
) -> None:
    """With its own recogniser and reader; working in another unit changes nothing it computes."""
    torch.manual_seed(1)
    sizes = WAVE | LARGE | {"hidden_size": 64, "num_attention_heads": 1, "vocab_size": 33}
    whole = torch.nn.ModuleDict(
        {
            "encoder": WaveEncoder(Wav2Vec2Model(Wav2Vec2Config(**sizes))),
            "recogniser": torch.nn.ModuleDict({"model": Wav2Vec2ForCTC(Wav2Vec2Config(**sizes))}),
            "animator": FacialAnimator(
                AnimatorConfig(64, width=64, layers=1, reach=None, vertices=V)
            ),
            "lip_reader": LipReader(ReaderConfig(3 * len(LIPS), 33, 64, 1, 8, 32)),
        }
    )
    torch.nn.init.normal_(whole["animator"].head.weight, std=1e-3)
    state = {}
    for name, tensor in whole.state_dict().items():
        prefix, own = next(pair for pair in NAMES if name.startswith(pair[1]))
        state[prefix + name[len(own) :]] = tensor
    torch.save(state, tmp_path / "vocaset.pth")
    config = dataclasses.replace(
        config, start=str(tmp_path / "vocaset.pth"), encoder="", recogniser="", epochs=1,
        width=64, heads=4, reader_epochs=0, reader="trained", learning_rate=1e-5, average=0.0,
    )  # fmt: skip
    run = FolderRun(config, Team())
    assert run.network.scale < 0.01
    sound = run.network.encoder.prepare(talk(3, 1.0)[0])
    own = SelfTalk.from_checkpoint(tmp_path / "vocaset.pth", LIPS)
    with torch.no_grad():
        results = [
            network.eval().predict([sound], torch.zeros(1, 3 * V)) for network in (own, run.network)
        ]
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    path = run.train_animator(run.train_reader())
    motion = load_animator(path, template=NEUTRAL).animate(talk(3, 1.0)[0], 16000)
    np.testing.assert_allclose(
        motion.dense.reshape(len(motion), -1), results[0].vertices[0], atol=3e-3
    )
    assert not np.array_equal(motion.dense.reshape(len(motion), -1), results[0].vertices[0])

    # Another network than the checkpoint's is not to be had; what it has may be said.
    FolderRun(dataclasses.replace(config, resample="convolutions"), Team())
    wrong = dataclasses.replace(config, encoder=str(wave), stack=2, width=16, reader_layers=3)
    with pytest.raises(SelfTalkError) as refused:
        FolderRun(wrong, Team())
    assert (
        f'encoder = "{wave}", stack = 2 (it has 1), width = 16 (it has 64), reader_layers = 3'
        in str(refused.value)
    )

    # Its reader reads the letters of its own recogniser. That of another one has yet to learn.
    other = dataclasses.replace(
        config, recogniser=str(wave), reader="frozen", output=str(tmp_path / "other")
    )
    runs = [FolderRun(other, Team()) for _ in range(2)]
    with pytest.raises(SelfTalkError, match="never learnt"):
        runs[0].train_reader()
    one, two = (run.network.lip_reader.state_dict() for run in runs)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_reader_is_used_again(config: FolderConfig, tmp_path: Path) -> None:
    """A frozen reader of another run is read, not trained, and reads as it did there."""
    first = FolderRun(config, Team())
    known = first.train_reader()
    file = tmp_path / "run/reader/best.pt"
    assert json.loads(read_checkpoint(file, "cpu")["facts"])["unit"] == "metre"
    card = Path(config.data, "dataset.json")
    split = json.loads(card.read_text())
    split["split"]["train"] = split["split"]["train"][:2]  # whose faces move otherwise
    card.write_text(json.dumps(split))
    second = dataclasses.replace(
        config, output=str(tmp_path / "second"), cache=str(tmp_path / "run/cache"),
        reader_file=str(file), reader_epochs=0,
    )  # fmt: skip
    run = FolderRun(second, Team())
    assert run.network.scale != first.network.scale
    assert run.train_reader()["latent"] == pytest.approx(known["latent"], rel=1e-4)
    assert not any(p.requires_grad for p in run.network.lip_reader.parameters())


def test_sound_and_motion_of_other_lengths() -> None:
    sound, motion = np.zeros(16000, np.float32), np.zeros((30, 3), np.float32)
    assert [len(x) for x in examples.aligned(sound, motion, 30.0)] == [16000, 30]
    assert [len(x) for x in examples.aligned(sound[:15000], motion, 30.0)] == [15000, 30]
    assert [len(x) for x in examples.aligned(sound, motion[:15], 30.0)] == [8000, 15]
    assert [len(x) for x in examples.aligned(sound[:8000], motion, 30.0)] == [8000, 15]


def test_silence_is_what_is_quiet_around_a_frame() -> None:
    rng = np.random.default_rng(0)
    sound = rng.normal(size=32000).astype(np.float32)
    sound[8000:24000] *= 1e-3
    silent = examples.silent_frames(sound, 60, 30.0)
    assert np.flatnonzero(silent).tolist() == list(range(18, 42))
    sound[8000:24000] *= 50.0  # a room at -26 dB
    assert np.array_equal(examples.silent_frames(sound, 60, 30.0), silent)
    assert not examples.silent_frames(rng.normal(size=32000), 60, 30.0).any()
    assert examples.silent_frames(np.zeros(16000, np.float32), 30, 30.0).all()


def test_letters_are_counted_over_all_clips() -> None:
    assert letter_error_rate([[1, 2], []], [[1, 3], [4, 4]]) == 0.75
    assert np.isnan(letter_error_rate([[1]], [[]]))


def test_what_does_not_fit_is_a_sentence(config: FolderConfig, tmp_path: Path, capsys) -> None:
    path = tmp_path / "c.toml"
    good = 'kind = "folder"\ndata = "a"\noutput = "b"\nencoder = "c"\nrecogniser = "d"\n'
    path.write_text(good + 'layout = "biwi"\nupper_lips = [1]\nlower_lips = [2]\n')
    read = load_config(path)
    assert isinstance(read, FolderConfig)
    assert (read.resample, read.stack, read.width, read.upper_lips) == ("none", 2, 1024, (1,))
    for text, said in (
        (good + "batchsize = 3", "unknown key batchsize"),
        (good + "[loss]\nlips = 1", "unknown key lips"),
        (good + 'reader = "none"', "choose from frozen, trained"),
        (good + "batch = 0", "batch is 0"),
        (good + "upper_lips = [1]", "must be pairs"),
        (good.replace('encoder = "c"\n', ""), "lacks the key encoder, or start"),
        (good.replace('recogniser = "d"\n', ""), "lacks the key recogniser"),
        (good.replace("folder", "mesh"), "choose from folder, bundled"),
    ):
        path.write_text(text)
        with pytest.raises(SelfTalkError, match=said):
            load_config(path)
    Path(config.data, "lips.npy").unlink()
    with pytest.raises(SelfTalkError, match="needs to know the lips"):
        FolderRun(config, Team())
    alone = dataclasses.replace(config.loss, latent=0.0, text=0.0, closure=1.0)
    config = dataclasses.replace(config, recogniser="", loss=alone)
    run = FolderRun(config, Team())
    assert run.network.lip_reader is None and run.train_reader() == {}
    assert "closure term is left out" in capsys.readouterr().out
    np.save(Path(config.data, "inner_lips.npy"), [0, 3, 1, 4])
    pairs = FolderRun(config, Team()).config
    assert (pairs.upper_lips, pairs.lower_lips, pairs.loss.closure) == ((0, 1), (3, 4), 1.0)
    assert "left out" not in capsys.readouterr().out
    given = dataclasses.replace(config, upper_lips=(2,), lower_lips=(5,))
    assert FolderRun(given, Team()).config.upper_lips == (2,)
    for changes, said in (
        ({"resample": "none", "stack": 2}, "30 frames per second times stack = 2 is not 50"),
        ({"encoder": "nowhere"}, "No speech model"),
        ({"encoder_layers": 3}, "encoder_layers is for Whisper alone"),
        ({"data": "nowhere"}, "no folder"),
    ):
        with pytest.raises(SelfTalkError, match=said):
            FolderRun(dataclasses.replace(config, **changes), Team())
