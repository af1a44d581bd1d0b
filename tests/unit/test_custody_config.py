"""The service's configuration: read, checked as a whole, and described by its example to the last key."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel
from tests.unit.custody_kernel import records

from imarium.cli.keep_check import problems_around
from imarium.custody import Store
from imarium.custody.config import Problem, ServiceConfig, SourceEntry, load_config, read_config
from imarium.errors import MalformedInput, MissingComponent, UsageError
from imarium.securityfs.client import DIRECTORIES

EXAMPLE = Path(__file__).resolve().parents[2] / "packaging" / "keep.toml"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "keep.toml"
    path.write_text(text)
    return path


def problems(tmp_path: Path, text: str) -> list[tuple[str, int]]:
    return [(problem.key, problem.status) for problem in load_config(written(tmp_path, text))[1]]


def test_an_empty_file_keeps_the_kernels_list(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, ""))
    (source,) = config.source
    assert (source.name, source.directory, source.method) == ("kernel", None, "auto")
    assert (source.schedule.interval, source.schedule.records, source.schedule.bytes) == (60.0, 1000, None)
    assert (config.api.listen, config.metrics.file, config.log.format) == ((), None, "json")


def test_the_example_has_the_defaults_and_every_key() -> None:
    text = EXAMPLE.read_text()
    assert read_config(EXAMPLE) == ServiceConfig()
    given = re.sub(r"(?m)^#([a-z_]+ = )", r"\1", text)
    shown = {key for line in given.splitlines() if (key := line.partition(" = ")[0]) and " = " in line}
    tables = {name: field.annotation for name, field in ServiceConfig.model_fields.items()}
    for name, model in tables.items():
        assert f"[{name}]" in text, name
        if isinstance(model, type) and issubclass(model, BaseModel):
            assert set(model.model_fields) <= shown, name
    assert set(SourceEntry.model_fields) <= shown


def test_each_key_of_the_example_has_its_own_words() -> None:
    lines = EXAMPLE.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#?[a-z_]+ = ", line) and not line.startswith(("#listen", "#key", "#clients")):
            assert lines[number - 1].startswith("# "), line


def test_several_sources(tmp_path: Path) -> None:
    text = "".join(
        f'[[source]]\nname = "{name}"\ndirectory = "/run/{name}"\nstore = "/srv/{name}"\nrecords = 0\n'
        for name in ("a", "b")
    )
    config = read_config(written(tmp_path, text))
    assert [(source.name, source.schedule.records) for source in config.source] == [("a", None), ("b", None)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nonsense", [("", 3)]),
        ("a = 1", [("a", 3)]),
        ('[log]\nlevel = "loud"\nform = "x"', [("log.level", 3), ("log.form", 3)]),
        ('[[source]]\nmethod = "steal"', [("source.0.method", 3)]),
        ('[[source]]\nstore = "here"', [("source.0.store", 3)]),
        ("[[source]]\ninterval = -1", [("source.0.interval", 3)]),
        ("[[source]]\ninterval = inf", [("source.0.interval", 3)]),
        ('[[source]]\nname = "a\\nb"', [("source.0.name", 3)]),
        ("source = []", [("source", 2)]),
        ("[[source]]\ninterval = 0.5", [("source.0", 2)]),
        ('[[source]]\nname = "a"\n[[source]]\nname = "b"', [("source", 2), ("source", 2)]),
        ('[[source]]\nstore = "/a\\u0000"', [("source.0.store", 3)]),
        ("[[source]]\nwait = 61", [("source.0.wait", 3)]),
        ("[api]\nlisten = 'unix:/a'", [("api.listen", 3)]),
    ],
)
def test_everything_wrong_is_said_with_its_key_and_status(
    tmp_path: Path, text: str, found: list[tuple[str, int]]
) -> None:
    assert problems(tmp_path, text) == found


def test_one_place_by_two_names_is_one_place(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "loop").symlink_to("loop")
    for key, other in (("directory", "store"), ("store", "directory")):
        text = "".join(
            f'[[source]]\nname = "{name}"\n{key} = "{tmp_path / name}"\n{other} = "/srv/{name}"\n' for name in "ab"
        )
        assert load_config(written(tmp_path, text))[1] == (
            Problem("source", f"two have the same {key}; each needs its own", 2),
        )
    assert problems(tmp_path, f'[[source]]\nstore = "{tmp_path}/loop"') == []
    text = f'[[source]]\nname = "a"\nstore = "/srv/a"\n[[source]]\nname = "b"\ndirectory = "{DIRECTORIES[0]}"'
    assert problems(tmp_path, text) == [("source", 2)]


def test_a_store_may_be_a_file_system_of_its_own_and_no_other_directory_that_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "ima").mkdir()
    (tmp_path / "ima" / "binary_runtime_measurements").write_bytes(records("boot_aggregate"))
    (tmp_path / "own" / "lost+found").mkdir(parents=True)
    (tmp_path / "other" / "files").mkdir(parents=True)
    text = f'[[source]]\ndirectory = "{tmp_path}/ima"\nstore = "{tmp_path}/'
    own, other = (read_config(written(tmp_path, f'{text}{name}"\n')) for name in ("own", "other"))
    assert list(problems_around(own)) == []
    assert [problem.key for problem in problems_around(other)] == ["source.0.store"]
    Store(tmp_path / "own", create=True)
    assert list(problems_around(own)) == []


def test_reading_raises_for_the_first_problem_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        MalformedInput, match=r"keep.toml: .*log.level: .* \(and 1 more; 'imarium keep --check' says all\)$"
    ):
        read_config(written(tmp_path, '[log]\nlevel = "loud"\nform = "x"'))
    with pytest.raises(UsageError, match="source: there is none to keep"):
        read_config(written(tmp_path, "source = []"))
    with pytest.raises(MissingComponent, match="cannot be read"):
        read_config(tmp_path / "none")


def test_a_file_is_bounded_and_text(tmp_path: Path) -> None:
    assert problems(tmp_path, "#" * (1 << 20) + "\n") == [("", 3)]
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe")
    assert [problem.status for problem in load_config(path)[1]] == [3]
    assert problems(tmp_path, "a = " + "[" * 100_000) == [("", 3)]


def test_the_environment_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, '[log]\nlevel = "info"\nformat = "text"')
    monkeypatch.setenv("IMARIUM_CONFIG_LOG__LEVEL", "debug")
    config = read_config(path)
    assert (config.log.level, config.log.format) == ("debug", "text")
    monkeypatch.setenv("IMARIUM_CONFIG_SOURCE", "{")
    assert [problem.status for problem in load_config(path)[1]] == [3]


def test_the_example_is_toml_that_any_reader_takes() -> None:
    assert set(tomllib.loads(EXAMPLE.read_text())) == set(ServiceConfig.model_fields)
