"""The tables of docs/architecture.md name every module, and none that is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_module_is_in_a_table_and_the_tables_name_no_others() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    told = {Path(name).name for name in re.findall(r"`([\w/]+\.py)`", text)}
    there = {path.name for path in (ROOT / "selftalk_blender").rglob("*.py")}
    assert told == there
