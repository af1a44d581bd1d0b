"""The options in a root of trust's name: ``PLACE,key=value,...`` behind the driver's name and its colon."""

from collections.abc import Collection

from imarium.errors import UsageError

__all__ = ["split_options"]


def split_options(
    driver: str, argument: str, known: Collection[str], *, commas: bool = False
) -> tuple[str, dict[str, str]]:
    """The place, which may be empty, and the options. Raises UsageError for one that is unknown, empty or twice.

    With ``commas`` the place may have commas, as the name of a TPM has; options are then what is known at the end.
    """
    parts = argument.split(",")
    options: dict[str, str] = {}
    while parts:
        key, equals, value = parts[-1].partition("=")
        if not equals or (commas and key not in known):
            break
        if key not in known or not value or key in options:
            raise _refused(driver, parts[-1], known)
        options[key] = value
        parts.pop()
    if len(parts) > 1 and not commas:
        raise _refused(driver, parts[-1], known)
    return ",".join(parts), options


def _refused(driver: str, part: str, known: Collection[str]) -> UsageError:
    listed = ", ".join(f"{name}=..." for name in known) or "none"
    return UsageError(f"{driver}: {part!r} is not an option, or empty, or there twice; options are {listed}")
