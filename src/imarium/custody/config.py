"""The configuration of the service: a TOML file, checked as a whole before anything is done.

Environment variables override it: ``IMARIUM_CONFIG_METRICS__FILE`` is ``file`` in ``[metrics]``. The example file that
is installed with the service describes the keys; what a file does not say has the defaults here.
"""

import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
from pydantic_settings import PydanticBaseSettingsSource as Source

from imarium import durable
from imarium.custody.retention import Retention
from imarium.custody.schedule import Schedule
from imarium.custody.source import WantedMethod
from imarium.custody.store import default_store
from imarium.errors import MalformedInput, MissingComponent, UsageError
from imarium.securityfs import ImaDirectory

__all__ = [
    "ApiConfig",
    "LogConfig",
    "MetricsConfig",
    "Problem",
    "RetentionConfig",
    "ServiceConfig",
    "SourceEntry",
    "load_config",
    "read_config",
]

_MAX_SIZE = 1 << 20


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError("give an absolute path")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Limit = Annotated[int, Field(ge=0, le=1 << 62)]
"""0 stands for none."""
Seconds = Annotated[float, Field(gt=0, le=86400 * 366)]


class _Table(BaseModel):
    """A table of the file. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceEntry(_Table):
    """One ``[[source]]``: a directory of list files and the store for them. ``directory`` None is the kernel's.

    ``tcti`` names the TPM that another directory's records are extended into.
    """

    name: Annotated[str, Field(pattern="^[A-Za-z0-9_.-]{1,64}$")] = "kernel"
    directory: AbsolutePath | None = None
    store: AbsolutePath = Field(default_factory=default_store)
    tcti: Annotated[str, Field(max_length=1024)] | None = None
    method: WantedMethod = "auto"
    interval: Seconds = 60.0
    records: Limit = 1000
    bytes: Limit = 0
    poll: Seconds = 1.0
    wait: Annotated[float, Field(ge=0, le=60)] = 5.0

    @property
    def schedule(self) -> Schedule:
        """When to drain. Raises UsageError for values that contradict each other."""
        return Schedule(self.interval, self.records or None, self.bytes or None, self.poll)


class ApiConfig(_Table):
    """``[api]``: where verifiers ask; nowhere if ``listen`` is empty.

    ``listen`` has places such as ``unix:PATH`` and ``tcp:HOST:PORT``; those over TCP need the three files of TLS.
    ``group`` may use unix sockets. ``quotes`` is whether evidence is made on request, with this machine's TPM and the
    attestation key in ``ak``.
    """

    listen: Annotated[tuple[str, ...], Field(max_length=16)] = ()
    group: Annotated[str, Field(max_length=64)] = ""
    certificate: AbsolutePath | None = None
    key: AbsolutePath | None = None
    clients: AbsolutePath | None = None
    quotes: bool = False
    ak: AbsolutePath | None = None

    @property
    def tls_files(self) -> tuple[Path, Path, Path] | None:
        """Certificate, key and the clients' authorities; None unless all are named."""
        if self.certificate and self.key and self.clients:
            return self.certificate, self.key, self.clients
        return None


class MetricsConfig(_Table):
    """``[metrics]``: a file for the Prometheus node exporter's textfile collector, None for no file."""

    file: AbsolutePath | None = None
    interval: Seconds = 15.0


class LogConfig(_Table):
    """``[log]``: what is said on standard error, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class RetentionConfig(_Table):
    """``[retention]``: what becomes of logs that are over. The current one is never touched."""

    compress: bool = True
    days: Annotated[int, Field(ge=0, le=366_000)] = 0
    bytes: Limit = 0

    @property
    def wanted(self) -> Retention:
        """What is asked for."""
        return Retention(self.compress, timedelta(days=self.days) if self.days else None, self.bytes or None)


class ServiceConfig(BaseSettings):
    """The whole file."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="IMARIUM_CONFIG_", env_nested_delimiter="__"
    )

    source: Annotated[tuple[SourceEntry, ...], Field(max_length=64)] = Field(default_factory=lambda: (SourceEntry(),))
    api: ApiConfig = ApiConfig()
    metrics: MetricsConfig = MetricsConfig()
    log: LogConfig = LogConfig()
    retention: RetentionConfig = RetentionConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: Source,
        env_settings: Source,
        dotenv_settings: Source,  # noqa: ARG003
        file_secret_settings: Source,  # noqa: ARG003
    ) -> tuple[Source, ...]:
        """Environment variables before what the file says."""
        return env_settings, init_settings


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a configuration. ``key`` says where, such as ``source.0.method``; empty for all of it.

    ``status`` is the exit status: 2 for values that contradict each other, 3 for what is not as the format has it, 4
    for something of the environment that is missing.
    """

    key: str
    detail: str
    status: int

    def __str__(self) -> str:
        return f"{self.key}: {self.detail}" if self.key else self.detail

    def to_document(self) -> dict[str, object]:
        """The problem as a JSON document."""
        return {"key": self.key, "detail": self.detail, "status": self.status}


def load_config(path: Path) -> tuple[ServiceConfig | None, tuple[Problem, ...]]:
    """Read a configuration, and say everything that is wrong with its form and its values; None if it is no good."""
    try:
        if durable.size_of(path) > _MAX_SIZE:
            return None, (_malformed("", f"a configuration has at most {_MAX_SIZE} bytes"),)
        with durable.storage_errors(path):
            text = path.read_bytes().decode()
        config = ServiceConfig(**tomllib.loads(text))
    except MissingComponent:
        return None, (
            Problem("", "cannot be read; see that it is there and give access", MissingComponent.exit_status),
        )
    except ValidationError as error:
        return None, tuple(_problems(error))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        return None, (_malformed("", f"not TOML: {error}"),)
    except SettingsError as error:
        return None, (_malformed("", f"an environment variable is no good: {error}"),)
    return config, tuple(_contradictions(config))


def read_config(path: Path) -> ServiceConfig:
    """Read a configuration. Raises MissingComponent, MalformedInput or UsageError for the first problem."""
    config, problems = load_config(path)
    if config is not None and not problems:
        return config
    worst = problems[0]
    more = f" (and {len(problems) - 1} more; 'imarium keep --check' says all)" if len(problems) > 1 else ""
    if worst.status == MalformedInput.exit_status:
        raise MalformedInput(str(path), offset=0, expected="what its example describes", found=f"{worst}{more}")
    raise (UsageError if worst.status == UsageError.exit_status else MissingComponent)(f"{path}: {worst}{more}")


def _malformed(key: str, detail: str) -> Problem:
    return Problem(key, " ".join(detail.split()), MalformedInput.exit_status)


def _problems(error: ValidationError) -> Iterator[Problem]:
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        detail = "there is no such key" if found["type"] == "extra_forbidden" else found["msg"]
        yield _malformed(".".join(map(str, found["loc"])), detail)


def _contradictions(config: ServiceConfig) -> Iterator[Problem]:
    if not config.source:
        yield Problem("source", "there is none to keep; leave it out for the kernel's", UsageError.exit_status)
    for number, entry in enumerate(config.source):
        try:
            entry.schedule  # noqa: B018 - it raises
        except UsageError as error:
            yield Problem(f"source.{number}", str(error), error.exit_status)
    keys: dict[str, Callable[[SourceEntry], object]] = {
        "name": lambda entry: entry.name,
        "store": lambda entry: os.path.realpath(entry.store),
        "directory": lambda entry: os.path.realpath(ImaDirectory(entry.directory).path),
    }
    for key, of in keys.items():
        values = list(map(of, config.source))
        if len(set(values)) < len(values):
            yield Problem("source", f"two have the same {key}; each needs its own", UsageError.exit_status)
