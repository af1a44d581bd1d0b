"""Recorded quotes, lists and event logs of real hardware, which lie beside the project."""

from pathlib import Path

VECTORS = Path(__file__).parents[2] / "shared" / "vectors"


def vector_path(name: str) -> Path:
    """Where one of them is; a test that needs one which is missing fails."""
    path = VECTORS / name
    assert path.is_file(), f"{path} is missing: put the shared test vectors beside the project"
    return path


def vector(name: str) -> bytes:
    """What is in one of them."""
    return vector_path(name).read_bytes()
