"""A tiny speech recogniser with the interface of the real one, for tests."""

import json
from pathlib import Path

import numpy as np

from selftalk_blender.training.recogniser import FEATURES, MODEL, VOCABULARY

TOKENS = ["<pad>", "b", "ɑ", "f", "u", "s"]


def write_recogniser(folder: Path) -> Path:
    """Frames of 20 ms are told apart by how loud they are; loud is "ɑ", faint is the blank."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir()
    (folder / VOCABULARY).write_text(json.dumps({"decoder": TOKENS}))
    rng = np.random.default_rng(0)
    classes = len(TOKENS) + 2
    head = np.zeros((16, classes), np.float32)
    head[0, 2] = 50.0
    constants = {
        "axis": np.array([1], np.int64),
        "loud": np.full((16, 1, 320), 1 / 320, np.float32),
        "scale": np.concatenate([[1.0], rng.normal(size=15)]).astype(np.float32),
        "head": head,
        "bias": np.eye(classes, dtype=np.float32)[-1] * 5,
    }
    nodes = [
        helper.make_node("Abs", ["waveform"], ["rectified"]),
        helper.make_node("Unsqueeze", ["rectified", "axis"], ["channel"]),
        helper.make_node("Conv", ["channel", "loud"], ["power"], strides=[320]),
        helper.make_node("Transpose", ["power"], ["frames"], perm=[0, 2, 1]),
        helper.make_node("Mul", ["frames", "scale"], [FEATURES]),
        helper.make_node("MatMul", [FEATURES, "head"], ["scores"]),
        helper.make_node("Add", ["scores", "bias"], ["biased"]),
        helper.make_node("LogSoftmax", ["biased"], ["log_probs"], axis=-1),
        helper.make_node("Identity", ["waveform_lengths"], ["out_lengths"]),
    ]
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["b", "n"]),
         helper.make_tensor_value_info("waveform_lengths", TensorProto.INT64, ["b"])],
        [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, ["b", "t", classes]),
         helper.make_tensor_value_info("out_lengths", TensorProto.INT64, ["b"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / MODEL)
    return folder
