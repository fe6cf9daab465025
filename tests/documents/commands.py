"""Finds what the documents tell a reader to type: commands, and scripts for Blender."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "wheels/README.md"]
PROGRAMS = r"(selftalk|blender -c|python[\d.]*|\.venv/bin/python|pip|tensorboard|ray)"
# Within a sentence, a name such as `selftalk bake` is no command to type; with arguments it is.
IN_A_SENTENCE = re.compile(rf"`({PROGRAMS} [^`\n]* [^`\n]*|python[\d.]* -m [^`\n]*)`")


@dataclass(frozen=True)
class Command:
    """A line to type: the document that has it, and the line without remark."""

    document: str
    text: str


def scripts(document: Path) -> list[str]:
    """The document's blocks marked `python`: scripts for Blender."""
    text = document.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(document: Path) -> list[Command]:
    """Lines of the document's blocks marked `sh`, and commands with arguments in its sentences."""
    found: list[str] = []
    language = None
    for line in re.sub(r"\\\n\s*", "", document.read_text(encoding="utf-8")).splitlines():
        fence = re.match(r"\s*```(\w*)", line)
        if fence:
            language = None if language is not None else fence[1]
        elif language == "sh":
            found.append(re.sub(r"(^|\s+)#\s.*", "", line).strip())
        elif language is None:
            found += [match[1] for match in IN_A_SENTENCE.finditer(line)]
    name = document.relative_to(ROOT).as_posix()
    return [Command(name, text) for text in dict.fromkeys(found) if text]
