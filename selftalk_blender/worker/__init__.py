"""The process that runs the animator beside Blender, so that torch never enters Blender's own.

`client` (numpy alone) starts it and keeps it warm, `server` (torch) is it, `protocol` is what
they say to each other, `log` is where it writes down what happens. When the process's input ends,
the client is gone and the process ends.
"""

# What the stages are called in which nothing is animated yet.
STARTING = "Starting the animator"
WAITING = "Waiting"
