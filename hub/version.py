"""The version of this installation."""

from __future__ import annotations


def version() -> str:
    """As the package's metadata have it; a checkout that was not installed has none."""
    from importlib import metadata  # slow to load, and mostly not needed

    try:
        return metadata.version("tuttihub")
    except metadata.PackageNotFoundError:
        return "0+unknown"
