"""A package, so that a `tests` which another package has installed is not taken for ours."""
