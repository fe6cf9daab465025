"""Which SelfTalk this is; the same number stands in pyproject.toml and blender_manifest.toml."""

VERSION = "0.1.0"
