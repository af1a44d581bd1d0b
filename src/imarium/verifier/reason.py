"""Why a verdict is negative."""

from dataclasses import dataclass

__all__ = ["Reason"]


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason why a verdict is negative.

    ``code`` is stable and for programs; ``detail`` is one line for people. ``record`` is the number, from 0, of the
    record of the measurement list it is about, where it is about one.
    """

    code: str
    detail: str
    record: int | None = None
