"""Names of the custom properties that say what is ours, and keep what we must know of it.

They are saved in .blend files: once released, a name stays.
"""

# --- Of an action ---

# Of a face whose own animator gives vertices (`dense`): the paths of our curves. Of an object:
# the name of our mesh cache modifier. Not "selftalk": before 5.0 that is where Blender keeps
# Object.selftalk.
MARK = "selftalk_mark"
# Of a line (`lines`): its id; its curves as "slot index path"; the channels' values at rest, curve
# by curve; and whether the curves tell the distance from these.
LINE = "selftalk_line"
CURVES = "selftalk_curves"
REST = "selftalk_rest"
RELATIVE = "selftalk_relative"
SEAL = "selftalk_seal"  # sums of its line's curves when it was written; not there before all are

# --- Of anything a line moves ---

CHANGING = "selftalk_changing"  # when a slider was last about to change it; see `undoing`

# --- Of a face ---

TAKES = "selftalk_takes"  # line id -> take, as bytes
SEALS = "selftalk_seals"  # line id -> sums of its curves
# Ids of the lines that do not follow the controls yet. It is undone and saved with the face, and so
# are they made again then.
WAITING = "selftalk_waiting"
REDUCED = "selftalk_reduced"  # line id -> error of its reduced keys in mm
CALIBRATION = "selftalk_rig"  # what its rig does to it
SHAPES_RESULT = "selftalk_face_shapes"  # what came of Create Face Shapes the last time

# --- Of a mesh's shape keys, and of landmarks ---

MADE_KEYS = "selftalk_made"  # names of those made for one motion
CREATED_KEYS = "selftalk_created"  # names of those that Create Face Shapes made
LANDMARK = "selftalk_landmark"  # of an empty: which landmark it is
