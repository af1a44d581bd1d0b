"""Running an engine, for ``imarium engine``: its roots of trust, its policy, what it watches, and its files."""

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from imarium.cli.engine_answers import answers, status_document
from imarium.cli.engine_control import measure_there
from imarium.cli.output import console, emit_json, progress_console
from imarium.engine import (
    BUILTIN_POLICIES,
    Engine,
    EngineOptions,
    Policy,
    PolicyFile,
    Watch,
    WatchOptions,
    builtin_policy,
    is_running,
    serving,
)
from imarium.errors import ImariumError, UsageError
from imarium.formats import ascii_line
from imarium.fuse import mounted, require_mountable
from imarium.hashes import SHA1, HashAlgorithm
from imarium.rot import HasProcesses, RootOfTrust, choose_root
from imarium.securityfs.client import DIRECTORIES
from imarium.securityfs.tree import ImaTree

__all__ = ["EngineRun", "run_engine"]

_LOG = logging.getLogger("imarium.engine")


@dataclass(frozen=True, slots=True)
class Files:
    """Where the kernel's files are to be shown, and which of them."""

    mount: Path
    staging: bool
    nested: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """What is to be watched, how long anybody waits for it, and which processes do not."""

    paths: tuple[Path, ...]
    deadline: float
    exempt: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EngineRun:
    """What was asked for. ``chosen`` says that ``directory`` was named and is not the default one."""

    directory: Path
    chosen: bool
    options: EngineOptions
    roots: tuple[str, ...]
    policy: tuple[str, ...]
    files: Files | None
    watched: Watched | None
    measure: tuple[Path, ...]
    restore: Path | None
    once: bool
    json: bool


def run_engine(run: EngineRun) -> int:
    """Begin, measure, serve until told to end; the exit status."""
    _say_what_happens()
    if run.once and run.measure and not run.restore and is_running(run.directory):
        return measure_there(run.directory, run.measure, json=run.json)
    with ExitStack() as stack:
        directory = run.directory
        if run.once and not run.chosen:  # its list ends with it, and the place of another engine's stays as it is
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imarium-engine-")))
        policy, rules = _policy(run.policy)
        if run.files and not is_running(directory):  # which is refused below
            require_mountable(run.files.mount)
        roots = _roots(stack, run.roots)
        engine = Engine(directory, options=run.options, roots=roots, policy=policy, restore=run.restore)
        watch = _watch(engine, run, roots)
        stack.enter_context(engine)  # which extends the registers: what can be refused before that was
        with ExitStack() as parts:
            with _handing_back(engine, run.restore):
                for path in rules:
                    engine.policy.append(os.fsencode(path.absolute()))
                banks = _banks(roots, run.options.hash_algorithm)
                wait = None if run.once else parts.enter_context(_served(run, engine, watch, banks))
                recorded = [(path, engine.measure_file(path)) for path in run.measure]
            if wait is not None:
                where = f"mounted at {run.files.mount}" if run.files else "running"
                progress_console().print(f"{where}; interrupt to end, or --stop", markup=False)
                with suppress(KeyboardInterrupt):
                    wait()
        if run.once:
            _show_list(engine, recorded, json=run.json)
        elif run.json:
            emit_json(status_document(engine.status()))
    return 0


def _say_what_happens() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("imarium: %(message)s"))
    logging.getLogger("imarium").addHandler(handler)


def _roots(stack: ExitStack, names: Sequence[str]) -> list[RootOfTrust]:
    """The roots of trust that open, closed with ``stack``. What does not is said loudly, and is left out."""
    if names == ("none",):
        return []
    if not names and any(place.exists() for place in DIRECTORIES):
        _LOG.warning("BYPASS: NOTHING IS ANCHORED: this kernel measures too, into the same registers; name a --rot")
        return []
    roots = []
    for name in names or (None,):
        choice = choose_root(name)
        if choice.root is not None:
            stack.callback(choice.root.close)
            roots.append(choice.root)
    return roots


def _policy(names: Sequence[str]) -> tuple[Policy, list[Path]]:
    """The built-in policy, and the files of rules that take its place. Raises UsageError, PolicyRefused."""
    builtin = [name for name in names if name in BUILTIN_POLICIES]
    files = [Path(name) for name in names if name not in BUILTIN_POLICIES]
    for path in files:
        if not path.is_file():
            raise UsageError(f"{path} is neither a built-in policy ({', '.join(BUILTIN_POLICIES)}) nor a file of rules")
        PolicyFile().append(os.fsencode(path.absolute()))
    return builtin_policy(builtin if names else BUILTIN_POLICIES), files


def _banks(roots: Sequence[RootOfTrust], algorithm: HashAlgorithm) -> list[HashAlgorithm]:
    """The algorithms that get lists of their own: SHA-1, those of the registers, and what files are measured with."""
    return list(dict.fromkeys([SHA1, *(bank for root in roots for bank in root.banks()), algorithm]))


def _watch(engine: Engine, run: EngineRun, roots: Sequence[RootOfTrust]) -> Watch | None:
    """The watch that was asked for, which has not begun. Raises UsageError, MissingComponent where it could not."""
    if run.watched is None:
        return None
    own = (process for root in roots if isinstance(root, HasProcesses) for process in root.processes)
    options = WatchOptions(deadline=run.watched.deadline, exempt=(*run.watched.exempt, *own))
    return engine.watch(run.watched.paths, mounts=[run.files.mount] if run.files else [], options=options)


@contextmanager
def _handing_back(engine: Engine, restored: Path | None) -> Iterator[None]:
    """Where the block fails, the registers have gone on from the file of the last engine: go on from it once more."""
    try:
        yield
    except (ImariumError, OSError):
        if restored is not None:
            engine.suspend_to(restored)
            _LOG.warning("nothing of the list is lost: go on from %s, once this is mended", restored)
        raise


@contextmanager
def _served(
    run: EngineRun, engine: Engine, watch: Watch | None, banks: Sequence[HashAlgorithm]
) -> Iterator[Callable[[], object]]:
    """The engine's files, its watch and its socket, while the block runs; what waits until it is to end."""
    ended = threading.Event()
    end: Callable[[], None] = ended.set
    wait: Callable[[], object] = ended.wait
    with ExitStack() as stack:
        if run.files:
            tree = ImaTree(engine.queue, banks, engine.policy, staging=run.files.staging, nested=run.files.nested)
            everyone = os.geteuid() == 0  # as for the kernel's files, their modes say who may
            mount = stack.enter_context(mounted(tree, run.files.mount, fsname="imarium-engine", allow_other=everyone))
            end, wait = mount.end, mount.wait
        else:
            stack.enter_context(_signals(ended))
        if watch is not None:
            stack.enter_context(watch)
        stack.enter_context(serving(engine.directory, answers(engine, end)))
        yield wait


@contextmanager
def _signals(ended: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGHUP end the block in good order."""
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_list(engine: Engine, recorded: Sequence[tuple[Path, bool]], *, json: bool) -> None:
    """The list as the kernel's ASCII file shows it, so that replay can read it."""
    with engine.queue.lock:
        records = engine.queue.current
        lines = [ascii_line(records[number].record(number, SHA1)) for number in range(records.first, records.end)]
    if json:
        shown = [line.decode(errors="backslashreplace").rstrip("\n") for line in lines]
        files = [{"path": str(path), "recorded": found} for path, found in recorded]
        emit_json({**status_document(engine.status()), "files": files, "list": shown})
        return
    out = console()
    out.file.flush()
    out.file.write(b"".join(lines).decode(errors="backslashreplace"))
