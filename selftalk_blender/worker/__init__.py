"""The process that runs the animator beside Blender, so that torch never enters Blender's own.

`client` (numpy alone) starts it, `server` (torch) is it. What they say to each other:

- The client starts `python -c ENTRY CLIP --start S --stop S --output OUT.npz ...` and keeps
  the process's input open. When that input ends, the client is gone and the process ends itself.
- The process prints one JSON object per line: any number of {"stage": str, "done": 0..1}, then
  {"result": OUT.npz, "notices": [str, ...]} or {"error": sentence}.
- Everything else that the process or its libraries print goes to its error output: the log.
"""

# What the first stage is called: until it is over nothing is animated yet.
STARTING = "Starting the animator"
