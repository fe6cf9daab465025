"""The one exception that a person, not a programmer, is meant to read."""

import re

SYSTEM = re.compile(r"^\w+: \[(Errno|WinError) \d+\] ")  # how Python begins what a system says


class SelfTalkError(Exception):
    """Something the user can put right.

    Its text is one or two sentences: what is wrong and the next thing to do. The
    interface and the command line show the text alone; the log keeps the traceback.
    """


def operator_reason(error: RuntimeError) -> str:
    """Why one of Blender's operators failed, as a clause: the last line that says so.

    Its text begins with "Error: "; that of an operator in Python holds a traceback, and ends with
    a line "Location: " that names Blender's own file.
    """
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Location: ")]
    if not said:
        return "Blender does not say why"
    return SYSTEM.sub("", said[-1].removeprefix("Error: ")).rstrip(".")
