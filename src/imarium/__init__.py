"""imarium: the user-space half of Linux integrity measurement."""

__all__ = ["__version__"]

__version__ = "0.1.0"
