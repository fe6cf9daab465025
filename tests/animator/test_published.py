"""Published checkpoints: what they are made of is found, what is wrong with them is said."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import (
    LIP_VERTICES,
    LIPS,
    TEMPLATE,
    VERTICES,
    Published,
    State,
    old_spelling,
    speech,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from selftalk_blender import cli
from selftalk_blender.animator import SelfTalk, load_animator, published
from selftalk_blender.animator.animate import BUNDLED
from selftalk_blender.animator.network import Layout
from selftalk_blender.core.errors import SelfTalkError

MAP = "audio_feature_map.weight"
STATE: State = Published().state_dict()
ANIMATES: State = {
    name: value
    for name, value in STATE.items()
    if name.startswith(("audio_", "transformer_decoder.", "vertice_map_r."))
}


def write(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "vocaset.pth"


def refused(path: Path) -> str:
    """The sentence in which a file is refused as an animator."""
    with pytest.raises(SelfTalkError) as error:
        load_animator(path, "cpu", TEMPLATE)
    said = str(error.value)
    assert str(path) in said and "\n" not in said and len(said) < 400
    return said


# --- What it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ["large", "base"])
@pytest.mark.parametrize("stack", [1, 2])
def test_gives_what_the_papers_network_gives(file: Path, stack: int, flavour: str) -> None:
    """Rival: `transformers` and torch's own modules, put together as the paper says."""
    rival = Published(stack, flavour)
    animator = load_animator(write(file, rival.state_dict()), "cpu", TEMPLATE)
    samples = speech(2.3)
    own, wanted = animator.animate(samples, 16000).vertices(), rival.vertices(samples)
    assert own.shape == wanted.shape
    assert np.abs(own - wanted).max() < 2e-6
    assert wanted.std(0).max() > 0.01  # the rival moves
    assert animator.fps == (30 if stack == 1 else 25)


def test_layout_is_read_off_the_shapes(file: Path) -> None:
    model = published.read_vertex_model(write(file, STATE))
    assert model.layout == Layout(30.0, "convolutions", 1, VERTICES, LIPS)
    model = published.read_vertex_model(write(file, Published(2, hidden=64).state_dict()))
    assert model.layout == Layout(25.0, "", 2, VERTICES, LIPS)
    assert model.encoder.model.config.num_attention_heads == 1


def variants(state: State) -> dict[str, tuple[Any, dict[str, Any]]]:
    return {
        "old weight norm": (old_spelling(state), {}),
        "no masked_spec_embed": (
            {k: v for k, v in state.items() if "masked_spec_embed" not in k}, {},
        ),
        "animator alone": ({k: v for k, v in state.items() if k in ANIMATES}, {}),
        "several GPUs": ({f"module.{name}": value for name, value in state.items()}, {}),
        "wrapped": ({"state_dict": state, "epoch": 100}, {}),
        "float64": ({name: value.double() for name, value in state.items()}, {}),
        "before PyTorch 1.6": (state, {"_use_new_zipfile_serialization": False}),
    }  # fmt: skip


@pytest.mark.parametrize("stack", [1, 2])
@pytest.mark.parametrize("variant", variants(STATE))
def test_is_the_same_animator_however_it_was_saved(file: Path, variant: str, stack: int) -> None:
    rival = Published(stack)
    content, options = variants(rival.state_dict())[variant]
    animator = load_animator(write(file, content, **options), "cpu", TEMPLATE)
    wanted = rival.vertices(speech(1.0))
    assert np.abs(animator.animate(speech(1.0), 16000).vertices() - wanted).max() < 2e-6


# --- What is wrong with it -----------------------------------------------------------------------


def test_each_missing_key_is_named(file: Path) -> None:
    for state in (ANIMATES, old_spelling(ANIMATES)):
        chosen = list(state)[::3] + [n for n in state if "extractor" in n or "pos_conv" in n]
        for name in chosen:
            if not name.endswith("masked_spec_embed"):
                write(file, {n: value for n, value in state.items() if n != name})
                assert name in refused(file)


def test_each_wrong_shape_is_told_with_its_key(file: Path) -> None:
    """Where a weight decides on the size of others, the sentence may be about these."""
    for name in [n for n in ANIMATES if "encoder" not in n] + list(ANIMATES)[::3]:
        for damaged in (ANIMATES[name][:-1], ANIMATES[name][None], ANIMATES[name][..., :0]):
            write(file, {**ANIMATES, name: damaged.clone()})
            said = refused(file)
            told = name in said and str(tuple(damaged.shape)) in said
            assert told or (name.startswith("audio_encoder") and "audio_" in said)


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (STATE[MAP] * float("nan"), "not finite"),
        (STATE[MAP].double() * 1e300, "not finite"),  # infinite in single precision
        (STATE[MAP].int(), "int32"),
        (STATE[MAP].to_sparse(), "sparse"),
        (STATE[MAP].to("meta"), "meta"),
    ],
    ids=["nan", "too large", "integers", "sparse", "no values"],
)
def test_values_that_cannot_be_used(file: Path, damaged: torch.Tensor, words: str) -> None:
    said = refused(write(file, {**STATE, MAP: damaged}))
    assert MAP in said and words in said


def test_a_layer_too_many_is_another_network(file: Path) -> None:
    more = {
        name.replace("layers.0", "layers.1"): value
        for name, value in STATE.items()
        if name.startswith("transformer_decoder.")
    }
    assert "transformer_decoder.layers.1." in refused(write(file, STATE | more))


class Evil:
    """Unpickled by the wrong reader, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_checkpoint_is_not_executed(file: Path, tmp_path: Path) -> None:
    evil = Evil(tmp_path / "executed")
    for content in ({**STATE, MAP: evil}, evil):
        assert "nothing in it was executed" in refused(write(file, content))
        write(file, content, _use_new_zipfile_serialization=False)
        said = refused(file)
        assert "nothing in it was executed" in said
        assert "weights_only" not in said  # torch's advice to execute it after all
    file.write_bytes(pickle.dumps(evil))
    refused(file)
    assert not (tmp_path / "executed").exists()
    pickle.loads(file.read_bytes())
    assert (tmp_path / "executed").exists()  # it could have been


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_that_are_no_checkpoint(file: Path, tmp_path: Path) -> None:
    for legacy in (False, True):
        whole = write(file, STATE, _use_new_zipfile_serialization=not legacy).read_bytes()
        for length in (0, 1, 9, 100, 20000, len(whole) // 2, len(whole) - 1):
            file.write_bytes(whole[:length])
            assert "damaged" in refused(file)
    page = b"<!DOCTYPE html><html><body>Virus scan warning</body></html>"
    for content in (page, pickle.dumps([1]), b"x" * 1000):
        file.write_bytes(content)
        assert "no checkpoint" in refused(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "no checkpoint" in refused(file)
    for content, words in (
        ([1], "holds a list"),
        (STATE[MAP], "holds a Tensor"),
        ({"generator": STATE, "step": 3}, "its key generator holds a"),
        ({}, "lacks the key"),
        ({1: STATE[MAP]}, "lacks the key"),
    ):
        assert words in refused(write(file, content))
    assert "no animator file" in refused(tmp_path / "missing.pth")
    assert "no animator file" in refused(tmp_path)  # a folder


def test_safetensors_that_are_none_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for content in (b"", b"<!DOCTYPE html>", b"\x10\0\0\0\0\0\0\0{not json at all"):
        path.write_bytes(content)
        refused(path)
    save_file({"a": torch.zeros(2)}, path)
    refused(path)
    for settings in ("[]", "{", '{"kind": "vertices"}', '{"kind": "vertices", "format": 1}',
                     '{"kind": "vertices", "format": 1, "layout": {"fps": 1}}',
                     '{"kind": "vertices", "format": 99}'):  # fmt: skip
        save_file({"a": torch.zeros(2)}, path, {"selftalk": settings})
        refused(path)


def test_templates_and_devices_that_do_not_fit(file: Path) -> None:
    write(file, STATE)
    for template in (TEMPLATE[:5], TEMPLATE.T, TEMPLATE[None], np.zeros(0), np.full(36, "x")):
        with pytest.raises(SelfTalkError, match=r"moves 12 vertices, but .*\(12, 3\)"):
            load_animator(file, "cpu", template)
    with pytest.raises(SelfTalkError, match="not finite"):
        load_animator(file, "cpu", TEMPLATE * np.nan)
    with pytest.raises(SelfTalkError, match="moves the 12 vertices of a face that only its owner"):
        load_animator(file, "cpu")
    for device in ("gpu", "cuda:99", "meta", "", "vulkan"):
        with pytest.raises(SelfTalkError, match="cannot be used") as error:
            load_animator(file, device, TEMPLATE)
        assert len(str(error.value)) < 300
    with pytest.raises(SelfTalkError, match="cannot be used"):
        SelfTalk.from_checkpoint(file, LIP_VERTICES, "cuda:99")


@pytest.mark.skipif(not BUNDLED.is_file(), reason="needs the bundled animator")
def test_the_bundled_animator_takes_no_template() -> None:
    for path in (None, BUNDLED):
        with pytest.raises(SelfTalkError, match="takes no template"):
            load_animator(path, "cpu", TEMPLATE)


# --- Conversion ----------------------------------------------------------------------------------


def test_convert_keeps_what_animates(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, old_spelling(STATE))
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    assert cli.main(["convert", str(file), str(full)]) == 0
    assert cli.main(["convert", str(file), str(half), "--half"]) == 0
    out = capsys.readouterr().out
    assert f"{full}: 12 vertices at 30 fps" in out and f"{half}: 12 vertices" in out
    assert half.stat().st_size < 0.6 * full.stat().st_size < 0.3 * file.stat().st_size
    assert {name.partition(".")[0] for name in load_file(full)} == {"encoder", "animator"}

    samples = speech(2.0)
    wanted = load_animator(file, "cpu", TEMPLATE).animate(samples, 16000)
    again = load_animator(full, "cpu", TEMPLATE).animate(samples, 16000)
    assert np.array_equal(again.dense, wanted.dense)
    renamed = full.rename(tmp_path / "renamed.pth")  # what a file is, its content tells
    assert np.array_equal(
        load_animator(renamed, "cpu", TEMPLATE).animate(samples, 16000).dense, wanted.dense
    )
    rough = load_animator(half, "cpu", TEMPLATE).animate(samples, 16000)
    moving = wanted.dense - wanted.dense.mean(0)
    error = np.sqrt(np.square(rough.dense - wanted.dense).mean())
    assert 0 < error < 0.02 * np.sqrt(np.square(moving).mean())  # 11 bits, through four layers


def test_convert_refuses_and_leaves_nothing(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(file, {**STATE, MAP: STATE[MAP] * 1e6})
    before = file.read_bytes()
    for target, options, words in (
        (tmp_path / "a.pth", [], "something.safetensors"),
        (file, [], "something.safetensors"),
        (tmp_path / "a.safetensors", ["--half"], "half precision cannot"),
        (file / "a.safetensors", [], "Cannot write"),
    ):
        assert cli.main(["convert", str(file), str(target), *options]) == 1
        assert words in capsys.readouterr().err
    own = tmp_path / "own.safetensors"
    assert cli.main(["convert", str(file), str(own)]) == 0
    assert cli.main(["convert", str(own), str(own)]) == 1
    assert "another name" in capsys.readouterr().err
    own.unlink()
    assert cli.main(["convert", str(tmp_path / "no.pth"), str(own)]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["vocaset.pth"]
    assert file.read_bytes() == before


# --- All three modules ---------------------------------------------------------------------------


@pytest.mark.parametrize("stack", [1, 2])
def test_predict_and_forward_agree_with_the_papers_modules(file: Path, stack: int) -> None:
    """Rival: as above, the lip reader and the recogniser included."""
    rival = Published(stack)
    whole = SelfTalk.from_checkpoint(write(file, rival.state_dict()), LIP_VERTICES)
    samples = speech(2.0)
    audio = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    audio, template = torch.from_numpy(audio)[None], torch.from_numpy(TEMPLATE).reshape(1, -1)
    vertices = torch.from_numpy(rival.vertices(samples))
    heard = (audio.shape[1] - 400) // 320 + 1
    with torch.inference_mode():
        predicted = whole.predict(audio, template)
        assert torch.allclose(predicted.vertices[0].unflatten(1, (-1, 3)), vertices, atol=2e-6)
        count = int(len(vertices) / whole.layout.fps * 50)
        features, logits = rival.read_lips(vertices - torch.from_numpy(TEMPLATE), count)
        assert torch.allclose(predicted.lip_features, features, atol=5e-5)
        assert torch.allclose(predicted.lip_logits, logits, atol=1e-4)

        diagram = whole.forward(audio, template, vertices.flatten(1)[None])
        count = heard if stack == 1 else min(heard, 2 * len(vertices))
        features, logits = rival.read_lips(vertices - torch.from_numpy(TEMPLATE), count)
        heard_text = rival.text_encoder.wav2vec2(audio).last_hidden_state[:, :count]
        assert diagram.frames == [len(vertices)] and diagram.text_frames == [count]
        assert torch.allclose(diagram.vertices, predicted.vertices, atol=2e-6)
        assert torch.allclose(diagram.lip_features, features, atol=5e-5)
        assert torch.allclose(diagram.lip_logits, logits, atol=1e-4)
        assert torch.allclose(diagram.text_features, heard_text, atol=5e-5)
        text_logits = rival.text_encoder(audio).logits[:, :count]
        assert torch.allclose(diagram.text_logits, text_logits, atol=1e-4)


@pytest.mark.parametrize("stack", [1, 2])
@pytest.mark.parametrize("flavour", ["large", "base"])
def test_a_clip_does_not_depend_on_its_batch_mates(file: Path, stack: int, flavour: str) -> None:
    rival = Published(stack, flavour)
    whole = SelfTalk.from_checkpoint(write(file, rival.state_dict()), LIP_VERTICES)
    clips = [torch.from_numpy(speech(seconds, seed)) for seed, seconds in enumerate((1.31, 0.9))]
    template = torch.from_numpy(TEMPLATE).reshape(1, -1)
    lengths = [whole.layout.frames((len(clip) - 400) // 320 + 1) for clip in clips]
    target = torch.zeros(2, max(lengths), 3 * VERTICES)
    with torch.inference_mode():
        both = whole.predict(clips, template)
        diagram = whole.forward(clips, template, target, lengths)
        for number, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
            lone = whole.predict([clip], template)
            assert lone.vertices.shape[1] == length
            for mine, alone in zip(both, lone, strict=True):
                assert torch.allclose(mine[number, : alone.shape[1]], alone[0], atol=1e-5)
            alone = whole.forward([clip], template, target[:1, :length])
            assert diagram.frames[number] == alone.frames[0]
            assert diagram.text_frames[number] == alone.text_frames[0]
            for mine, single in zip(diagram[:5], alone[:5], strict=True):
                assert torch.allclose(mine[number, : single.shape[1]], single[0], atol=1e-5)


def test_lip_vertices_must_fit(file: Path) -> None:
    write(file, STATE)
    for fits in (LIP_VERTICES.tolist(), LIP_VERTICES.astype(float), torch.tensor(LIP_VERTICES)):
        assert SelfTalk.from_checkpoint(file, fits).lip_vertices.tolist() == LIP_VERTICES.tolist()
    for wrong, words in (
        (LIP_VERTICES[:4], "reads 5 lip vertices of 12; the list has 4"),
        (LIP_VERTICES + 1, "from 1 to 12"),
        (LIP_VERTICES - 1, "from -1 to 10"),
        ([], "the list has 0"),
        (LIP_VERTICES + 0.5, "whole numbers"),
        (None, "whole numbers"),
        ("lips.txt", "whole numbers"),
    ):
        with pytest.raises(SelfTalkError, match=words):
            SelfTalk.from_checkpoint(file, wrong)


def test_what_teaches_is_checked_too(file: Path, tmp_path: Path) -> None:
    names = [n for n in STATE if n.startswith(("text_encoder.", "lip_map", "transformer.", "lm_"))]
    for name in names[::7] + names[-4:]:
        if name.endswith("masked_spec_embed"):
            continue
        write(file, {n: value for n, value in STATE.items() if n != name})
        with pytest.raises(SelfTalkError) as error:
            SelfTalk.from_checkpoint(file, LIP_VERTICES)
        assert name in str(error.value)
        assert load_animator(file, "cpu", TEMPLATE).fps == 30  # which needs none of them
    converted = tmp_path / "a.safetensors"
    published.convert(file, converted, half=False)
    with pytest.raises(SelfTalkError, match="holds the animator alone"):
        SelfTalk.from_checkpoint(converted, LIP_VERTICES)
    with safe_open(converted, "pt") as opened:
        assert published.KIND in opened.metadata()["selftalk"]
