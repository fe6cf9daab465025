"""A child process without Blender: each clip's name says what becomes of it.

With FAKE_AHEAD it listens to the next clip before this one is written, as Blender does; one called
poison crashes it then, and also when it is baked. FAKE_TOGETHER is a folder: see `together`.
"""

import json
import os
import select
import signal
import sys
import time
from pathlib import Path

from selftalk_blender.batch.manifest import output_of, read_of
from selftalk_blender.batch.task import Done, Task
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.files import atomic_path


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def bake(task: Task) -> Done:
    name = Path(task.clip).stem
    say("step", place=task.place, done=0.5, text="Writing", patience=0.5)
    path = task.path("fbx")
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        once = Path(task.clip).with_suffix(".once")
        if name.startswith("crash") or (name.startswith("faint") and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGSEGV if name.startswith("crash") else signal.SIGKILL)
        if name.startswith("poison"):
            os.kill(os.getpid(), signal.SIGSEGV)
        if name.startswith("hang"):
            time.sleep(1000)
        if name.startswith("bad"):
            raise SelfTalkError(f"{name} is no sound.")
        time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
        temporary.write_text(f"{name} {sorted(task.settings.controls.items())}")
    return Done(
        task.clip,
        task.place,
        (output_of(Path(task.out), path),),
        blender="5.0.1",
        read=(read_of(str(Path(task.clip).with_suffix(".library"))),),
        duration=1.0,
        times={"writing": 0.1},
    )


def ahead() -> str | None:
    """The next line, where it comes soon and we look for it."""
    if "FAKE_AHEAD" not in os.environ:
        return None
    say("ready")
    line = sys.stdin.readline() if select.select([sys.stdin], [], [], 0.3)[0] else None
    if line and Path(json.loads(line)["clip"]).name.startswith("poison"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return line


def together(folder: Path) -> None:
    """Wait until three of us are there, in vain where one is started after the other."""
    (folder / str(os.getpid())).touch()
    until = time.monotonic() + 10
    while len(list(folder.iterdir())) < 3:
        if time.monotonic() > until:
            sys.exit("alone")
        time.sleep(0.02)


def main() -> None:
    print("Blender 5.0.1, says hello")
    if "FAKE_START" in os.environ:
        if os.environ["FAKE_START"] == "no":
            sys.exit("no bpy")
        if not Path(os.environ["FAKE_START"]).exists():
            Path(os.environ["FAKE_START"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if "FAKE_TOGETHER" in os.environ:
        together(Path(os.environ["FAKE_TOGETHER"]))
    say("ready")
    following = None
    while line := following or sys.stdin.readline():
        task = Task.from_json(json.loads(line))
        following = ahead()
        try:
            done = bake(task)
        except SelfTalkError as error:
            done = Done(task.clip, task.place, error=str(error))
        say("done", result=done.to_json())
        if "FAKE_AHEAD" not in os.environ:
            say("ready")


main()
