"""Many clips to files: what is to be done, by whom, and the list of what was done.

Nothing here imports bpy or torch but `child`, and it only when it runs: a supervisor outlives any
Blender that crashes under it, and needs none itself.
"""
