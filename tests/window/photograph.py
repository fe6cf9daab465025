"""Run this to take docs/panel.png anew: a window in which the sample clip has just been animated.

    .venv/bin/python tests/window/photograph.py

Needs Debian's packages blender (3.4), xvfb, xdotool and imagemagick.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CLIP = ROOT / "selftalk_blender" / "assets" / "sample.ogg"
DISPLAY = ":83"
TAB = (1044, 250)  # where the tab SelfTalk is
VIEW = "1057x782+0+28"  # the 3D View and the timeline


def main() -> None:
    """Open the window, click the tab, wait until the face talks, and take the picture."""
    environment = {**os.environ, "DISPLAY": DISPLAY, "LIBGL_ALWAYS_SOFTWARE": "1"}
    environment.setdefault("SELFTALK_PYTHON", sys.executable)

    def do(*command: str) -> None:
        subprocess.run(command, env=environment, check=True)

    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(["Xvfb", DISPLAY, "-screen", "0", "1280x800x24"]) as screen,
    ):
        time.sleep(1)
        report = Path(folder) / "report.json"
        command = ["blender", "--factory-startup", "-p", "0", "0", "1280", "800"]
        command += ["-P", str(HERE / "talk.py"), "--", str(report), str(CLIP), "show"]
        with subprocess.Popen(command, env=environment) as blender:

            def asked(what: str) -> Path:
                while not (question := Path(f"{report}.{what}?")).exists():
                    assert blender.poll() is None, "Blender is gone"
                    time.sleep(0.5)
                return question.with_suffix(f".{what}")

            answer = asked("clicked")
            # The window draws what the mouse comes by.
            for x, y in ((600, 400), (930, 300), TAB):
                do("xdotool", "mousemove", str(x), str(y))
                time.sleep(3)
            do("xdotool", "click", "1")
            time.sleep(3)
            answer.touch()
            answer = asked("photographed")
            for x in (900, 930, 600):
                do("xdotool", "mousemove", str(x), "650")
                time.sleep(3)
            picture = ROOT / "docs" / "panel.png"
            picture.parent.mkdir(exist_ok=True)
            do(
                "import",
                "-window",
                "root",
                "-crop",
                VIEW,
                "+repage",
                "-strip",
                "+dither",
                "-colors",
                "128",
                f"PNG8:{picture}",
            )
            answer.touch()
        screen.terminate()


if __name__ == "__main__":
    main()
