"""Tables of checks."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.conformance.bench import Bench


class Checks(dict[str, Callable[[Bench], Any]]):
    """Checks by name. As a decorator it adds a function under its own name."""

    def __call__(self, function: Callable[[Bench], Any]) -> Callable[[Bench], Any]:
        self.add(function.__name__, function)
        return function

    def add(self, name: str, function: Callable[..., Any], *arguments: Any) -> None:
        """Add a check that is made with more arguments."""
        if name in self:
            raise ValueError(f"two checks are called {name}")
        self[name] = partial(_arguments_last, function, arguments) if arguments else function


def _arguments_last(function: Callable[..., Any], arguments: tuple[Any, ...], bench: Bench) -> Any:
    return function(bench, *arguments)
