"""What Blender says of a failure, as people read it."""

from selftalk_blender.core.errors import operator_reason


def test_why_an_operator_failed() -> None:
    assert operator_reason(RuntimeError("Error: No space left on device\n")) == (
        "No space left on device"
    )
    python = "Error: Python: Traceback (most recent call last):\n  File x\nOSError: full\n"
    assert operator_reason(RuntimeError(f"{python}Location: /bpy/ops.py:109\n")) == "OSError: full"
    full = f"{python}OSError: [Errno 28] No space left on device\nLocation: /bpy/ops.py:109\n"
    assert operator_reason(RuntimeError(full)) == "No space left on device"
    assert operator_reason(RuntimeError("")) == "Blender does not say why"
