"""A whole training run on a small corpus: it learns, resumes bit by bit, and refuses nonsense."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from selftalk_blender.animator import load_animator
from selftalk_blender.animator.network import SpeechEncoder
from selftalk_blender.core import bundled_template
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.training.config import TrainConfig, load_config
from selftalk_blender.training.loop import Loop
from selftalk_blender.training.train import Run, main

ROOT = Path(__file__).parents[2]
HEAD = bundled_template()
PHONES = [["SIL", 0, 0.3], ["B", 0.3, 0.4], ["AA", 0.4, 0.8], ["SIL", 0.8, 3.0]]


def babble(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.random(30), 1600)
    return (rng.normal(0, 0.2, 48000) * loud).astype(np.float32)


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    """A corpus of noises that has the layout of the real one, and a tiny random encoder."""
    data, encoder = tmp_path / "data", tmp_path / "encoder"
    for folder in ("grid_s1/audio", "tts", "librispeech", "makehuman"):
        (data / folder).mkdir(parents=True)
    faces = {}
    for i in range(4):
        soundfile.write(data / f"grid_s1/audio/g{i}.flac", babble(i), 16000)
        faces[f"g{i}"] = np.zeros((75, 52), np.float16)
        faces[f"g{i}"][:, HEAD.shape_names.index("jawOpen")] = np.linspace(0.0, 0.1 * i + 0.1, 75)
    np.savez(data / "makehuman/grid_s1_weights.npz", **faces)
    card = {"shape_names": HEAD.shape_names, "excluded": ["g3"]}
    (data / "makehuman/grid_s1.json").write_text(json.dumps(card))
    (data / "grid_s1/phones.json").write_text(json.dumps(dict.fromkeys(faces, PHONES)))
    for i, voice in enumerate(("af_one", "af_two")):
        soundfile.write(data / f"tts/{i}_{voice}.ogg", babble(10 + i), 16000)
        (data / f"tts/{i}_{voice}.json").write_text(json.dumps({"voice": voice, "phones": PHONES}))
    for i in range(2):
        soundfile.write(data / f"librispeech/{i}-0-0.flac", babble(20 + i), 16000)
    (data / "librispeech/transcripts.json").write_text(
        json.dumps({f"{i}-0-0": {"phones": PHONES} for i in range(2)})
    )
    encoder.mkdir()
    whisper = {"d_model": 16, "encoder_attention_heads": 2, "encoder_ffn_dim": 32}
    (encoder / "config.json").write_text(json.dumps(whisper))
    torch.manual_seed(0)
    state = SpeechEncoder(whisper, 1).state_dict()
    save_file(
        {name[8:]: t.contiguous() for name, t in state.items()}, encoder / "encoder.safetensors"
    )
    return TrainConfig(
        data=str(data), encoder=str(encoder), output=str(tmp_path / "run"), encoder_layers=1,
        held_out_voices=("af_two",), validation_clips=1, validation_readers=1, variants=1,
        window=100, crop=50, batch=4, steps=(6, 6), warmup=2, width=16, layers=1, heads=2,
        reach=5, checkpoint_every=2, validate_every=100,
    )  # fmt: skip


def test_interrupted_run_ends_bit_by_bit_like_a_whole_one(
    config: TrainConfig, tmp_path, monkeypatch
) -> None:
    whole = Run(config).run()
    animator = load_animator(whole)
    assert len(animator.animate(babble(0), 16000)) == 150
    card = json.loads(whole.with_suffix(".json").read_text())
    assert card["validation"]["grid clips"] == 1

    other = dataclasses.replace(config, output=str(tmp_path / "other"))
    original = Loop.advance

    def interrupt(self):
        if (self.task.round, self.step) == stop_at:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(Loop, "advance", interrupt)
    for stop_at in ((0, 5), (1, 3)):  # noqa: B007 - read by interrupt
        with pytest.raises(KeyboardInterrupt):
            Run(other).run()
    stop_at = None
    assert Run(other).run().read_bytes() == whole.read_bytes()

    changed = dataclasses.replace(other, batch=3)
    with pytest.raises(SelfTalkError, match="another configuration"):
        Run(changed).run()


def test_a_contact_sheet_shows_held_out_clips(config: TrainConfig) -> None:
    """The speaker's gap and the animator's over the sound, of a recorded and a synthetic voice."""
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    from selftalk_blender.training.plots import COLOURS

    Run(dataclasses.replace(config, steps=(2,), output=config.output + "-drawn")).run()
    (sheet,) = Path(config.output + "-drawn").glob("round-0/pictures/*.png")
    picture = imread(sheet)[..., :3]
    assert picture.shape[:2] == (2 * 5 * 80, 12 * 80)
    grid, tts = np.split(picture, 2)

    def shows(part: np.ndarray, colour: str) -> bool:
        return (np.abs(part - to_rgb(colour)).max(-1) < 0.03).sum() > 50

    assert shows(grid, COLOURS[0]) and shows(tts, COLOURS[0])
    assert shows(grid, "black")


def test_loss_falls_and_held_out_clips_are_not_used(config: TrainConfig) -> None:
    run = Run(dataclasses.replace(config, steps=(150,), learning_rate=1e-2))
    run.run()
    names = [run.corpus[n].name for w in run.variants for n in np.unique(w.utterance) if n >= 0]
    assert names
    assert not {u.name for u in run.corpus if u.held_out} & set(names)
    assert "g3" not in {u.name for u in run.corpus}
    batch = run.batch(np.random.default_rng(0), 0)
    with torch.no_grad():
        trained = sum(run.losses(batch).values())
        untrained = Run(run.config).network
        run.network.load_state_dict(untrained.state_dict())
        assert trained < 0.9 * sum(run.losses(batch).values())


def test_the_diagram_teaches_speech_without_faces(config: TrainConfig, tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    from recognisers import write_recogniser

    config = dataclasses.replace(
        config, recogniser=str(write_recogniser(tmp_path / "tiny")), reader_steps=2, steps=(3,),
        loss=dataclasses.replace(config.loss, latent=1.0, text=0.5, contact=1.0),
    )  # fmt: skip
    run = Run(config)
    run.run()
    assert len(list(run.output.glob("reader-*.safetensors"))) == 1
    assert not run.reader.network.training
    kinds = {run.corpus[n].kind for n in np.unique(run.variants[0].utterance) if n >= 0}
    assert kinds == {"grid", "tts", "libri"}
    torch.nn.init.normal_(run.network.head.weight)
    faceless = set()
    for number in range(20):
        batch = run.batch(np.random.default_rng(number), number)
        faceless |= set((batch.mask.sum(1) == 0).tolist())
        terms = run.losses(batch)
        assert set(terms) == set(run.counts(batch))
    assert True in faceless
    run.network.zero_grad()
    (terms["latent"] + terms["text"]).backward()
    assert run.network.audio_map.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in run.reader.network.parameters())

    alone = Run(dataclasses.replace(config, speech=False))
    alone.prepare()
    for number in range(20):
        assert alone.batch(np.random.default_rng(number), number).mask.mean(1).min() >= 0.5
    with pytest.raises(SelfTalkError, match="need a recogniser"):
        Run(dataclasses.replace(config, recogniser="")).prepare()


def test_a_run_can_start_from_an_animator(config: TrainConfig, tmp_path) -> None:
    first = Run(config).run()
    second = Run(
        dataclasses.replace(config, start=str(first), steps=(0, 2), output=str(tmp_path / "b"))
    )
    state = load_animator(first)._network.state_dict()
    for name, tensor in second.network.state_dict().items():
        assert torch.equal(tensor, state[name])
    second.run()
    # Speech without faces was labelled by the first, not by a random network.
    assert list((tmp_path / "b/cache").glob("faces-round-1-*.npz"))


def test_configuration_refuses_what_it_does_not_know(tmp_path) -> None:
    path = tmp_path / "c.toml"
    good = 'data = "a"\nencoder = "b"\noutput = "c"\n'
    path.write_text(good + "learning_rate = 1\n[loss]\ngap = 2\n")
    assert load_config(path).learning_rate == 1.0
    assert load_config(path).loss.gap == 2.0
    for extra, said in (
        ("batchsize = 3", "unknown key batchsize"),
        ("batch = 'many'", "an? int is needed"),
        ("[loss]\nlips = 1", "unknown key lips"),
        ("[", "cannot be read"),
    ):
        path.write_text(good + extra)
        with pytest.raises(SelfTalkError, match=said):
            load_config(path)
    path.write_text('data = "a"')
    with pytest.raises(SelfTalkError, match="lacks the key encoder"):
        load_config(path)


def test_command_says_where_data_is_missing(tmp_path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'data = "{tmp_path}/none"\nencoder = "b"\noutput = "c"\n')
    with pytest.raises(SelfTalkError, match="no training data"):
        main([str(path)])


def test_a_configuration_is_in_utf_8_whatever_the_system_is_in(tmp_path) -> None:
    (tmp_path / "c.toml").write_text('data = "声"\nencoder = "b"\noutput = "c"\n', "utf-8")
    code = (
        "from selftalk_blender.training.config import load_config; "
        "print(load_config('c.toml').data.endswith(chr(0x58f0)))"
    )
    # As on Windows, whose own encoding is another; here it is ASCII.
    ascii_alone = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **ascii_alone},
    )  # fmt: skip
    assert done.stdout == "True\n", done.stderr
