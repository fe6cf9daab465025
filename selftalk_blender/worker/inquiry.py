"""What a Python has for the animator, asked in a process of its own. No torch here."""

from __future__ import annotations

import json
import subprocess
import threading

from .python import LIBRARIES, Python, process_settings

LONGEST = 60.0  # seconds; torch comes slowly from a slow disk

# Whatever the libraries print, the last line is ours.
_QUESTION = """
import importlib.util, json, sys
sys.path[:0] = sys.argv[2:]
said = {"python": "%d.%d" % sys.version_info[:2]}
try:
    import numpy
except Exception as error:
    said["numpy"] = str(error)
try:
    missing = [n for n in sys.argv[1].split() if importlib.util.find_spec(n) is None]
    if missing:
        said["missing"] = missing
    else:
        import torch
        said["torch"] = torch.__version__
        # It refuses an old PyTorch only where something is asked of it.
        from transformers.models.whisper.modeling_whisper import WhisperEncoder
        if torch.cuda.is_available():
            said["cuda"] = torch.cuda.get_device_name()
except Exception as error:
    said["broken"] = "%s: %s" % (type(error).__name__, error)
print("\\n" + json.dumps(said))
"""


class Inquiry:
    """A question to a Python; begins at once and holds nobody up.

    Attributes:
        python: who is asked.
        answered: whether the attributes below are there.
        usable: whether the animator runs in it, with PyTorch or without.
        torch: PyTorch's version; "" where it runs without.
        text: what to tell the user, in a sentence or less.
    """

    def __init__(self, python: Python) -> None:
        self.python = python
        self.answered = self.usable = False
        self.torch = ""
        self.text = "Asking ..."
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._ask, daemon=True, name="SelfTalk inquiry")
        self._thread.start()

    def wait(self) -> Inquiry:
        """Until it is answered, at most LONGEST seconds."""
        self._thread.join()
        return self

    def stop(self) -> None:
        """Want to know no more; returns at once."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def _ask(self) -> None:
        libraries = [str(folder) for folder in self.python.libraries]
        try:
            self._process = subprocess.Popen(
                [str(self.python.program), "-c", _QUESTION, " ".join(LIBRARIES), *libraries],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                **process_settings(),
            )
        except OSError as error:
            self.text = f"It does not start ({error.strerror or error})"
        else:
            if self._stopped:
                self._process.kill()
            with self._process:  # closes its pipe
                try:
                    said, _ = self._process.communicate(timeout=LONGEST)
                    self._understand(said)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self.text = f"It gave no answer within {LONGEST:.0f} seconds"
        self.answered = True

    def _understand(self, said: str) -> None:
        lines = said.strip().splitlines() or ["it says nothing"]
        try:
            answer = json.loads(lines[-1])
            version = answer["python"]
        except (ValueError, TypeError, KeyError):
            self.text = f"It is no Python that runs here ({lines[-1].strip()[:100]})"
            return
        if "numpy" in answer:
            self.text = f"Python {version} lacks numpy ({answer['numpy'][:100]})"
            return
        self.usable = True
        if "broken" in answer:
            which = f"PyTorch {answer['torch']}" if "torch" in answer else "PyTorch"
            self.text = f"Without {which}, which does not load ({answer['broken'][:100]})"
        elif "torch" in answer:
            self.torch = answer["torch"]
            device = f"CUDA: {answer['cuda']}" if "cuda" in answer else "CPU"
            self.text = f"PyTorch {self.torch}, {device}"
        else:
            self.text = f"Without PyTorch: Python {version} lacks {', '.join(answer['missing'])}"
