"""The options in a root of trust's name: ``PLACE,key=value,...`` behind the driver's name and its colon."""

from collections.abc import Collection

from imarium.errors import UsageError

__all__ = ["split_options"]


def split_options(driver: str, argument: str, known: Collection[str]) -> tuple[str, dict[str, str]]:
    """The place, which may be empty, and the options. Raises UsageError for one that is unknown, empty or twice."""
    place, *rest = argument.split(",")
    if "=" in place:
        place, rest = "", [place, *rest]
    options: dict[str, str] = {}
    for part in rest:
        key, _, value = part.partition("=")
        if key not in known or not value or key in options:
            listed = ", ".join(f"{name}=..." for name in known) or "none"
            raise UsageError(f"{driver}: {part!r} is not an option, or empty, or there twice; options are {listed}")
        options[key] = value
    return place, options
