"""Words that follow a number."""

from selftalk_blender.core.words import counted, listed


def test_one_is_no_plural() -> None:
    assert [counted(n, "frame") for n in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
    assert counted(1, "vertex", "vertices") == "1 vertex"
    assert counted(5, "vertex", "vertices") == "5 vertices"


def test_a_long_list_is_cut_short() -> None:
    assert listed(["a"]) == "a" and listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
