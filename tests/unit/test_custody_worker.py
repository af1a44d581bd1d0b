"""One source's thread: what shows that it lives."""

import threading
import time
from pathlib import Path

from tests.unit.test_custody_service import Host
from tests.waiting import PATIENCE, until

from imarium.custody.worker import Worker


def test_a_long_step_is_life_as_long_as_it_works(tmp_path: Path) -> None:
    host = Host(tmp_path)
    now, waits, go = [0.0], threading.Event(), threading.Event()

    def long_step(_step: object) -> None:
        while not waits.is_set():
            pass
        assert go.wait(PATIENCE)

    worker = Worker(host.config(hook=long_step), lambda _event: None, clock=lambda: now[0])
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        for now[0] in (1000.0, 2000.0):
            until(lambda: worker.quiet_for() == 0)
        waits.set()
        time.sleep(0.2)
        worker.quiet_for()
        now[0] += 1000
        time.sleep(0.2)
        assert worker.quiet_for() >= 1000
    finally:
        waits.set()
        go.set()
        worker.stop()
        thread.join(PATIENCE)
    assert worker.quiet_for() >= 0
