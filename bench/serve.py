"""Measure what it takes to be served: the first byte at any record, all of a long log, and news for many at once.

    bench/serve.py [RECORDS] [WAITERS]

The service is a process of its own and listens at a unix socket. Times are those of clients: a plain socket for single
ones, one event loop for the many. ``cat`` reads the same file beside it. Ends with status 1 over a limit.
"""

import asyncio
import http.client
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lists import write_list

from imarium.custody import Event, Log, LogMeta, Store
from imarium.custody.indexing import write_index
from imarium.web import Endpoint, Holding, Server, create_app

CHUNK = 100_000
"""How many records are made; a longer list repeats them."""
ROUNDS = 10
NEWS = 10
FIRST_BYTE_LIMIT = 0.05
"""Most seconds until the first byte, in the middle of 100 tries."""
DELIVERY_LIMIT = 3.0
"""Most seconds until 99 of 100 waiters have what is new."""


class Client(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("imarium")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


def make_log(directory: Path, records: int) -> Log:
    """A kept log of so many records, without an index."""
    log = Store(directory / "store", create=True).begin(LogMeta("little", "now", "boot", "reset", "bench"))
    chunk = min(CHUNK, records)
    write_list(directory / "chunk", chunk)
    data = (directory / "chunk").read_bytes()
    with log.list_path.open("wb") as file:
        for _ in range(records // chunk):
            file.write(data)
    log.grow(records // chunk * chunk, len(data) * (records // chunk))
    log.note(Event.KEPT, "boot", base=log.bytes)
    return log


def serve(directory: Path) -> None:
    """The service, in this process, until standard input ends."""
    app = create_app([Holding("bench", Store(directory / "store"))])
    server = Server(app, [Endpoint(path=directory / "socket")])
    server.bind()
    server.start()
    print("listening", flush=True)
    sys.stdin.read()
    server.stop()


@contextmanager
def service(directory: Path) -> Iterator[int]:
    """The service in a process of its own; its number."""
    command = [sys.executable, __file__, "serve", str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"listening\n"
        yield process.pid
        process.stdin.close()


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak(pid: int) -> float:
    """The largest resident size of a process, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def first_bytes(path: Path, records: int) -> list[float]:
    """Seconds from the request to the first byte of the body, at 100 places."""
    times = []
    for _ in range(100):
        client = Client(path)
        client.connect()
        begun = time.perf_counter()
        client.request("GET", f"/v1/logs/newest/records?from={random.randrange(records)}")  # noqa: S311
        client.getresponse().read(1)
        times.append(time.perf_counter() - begun)
        client.close()
    return times


def read_all(path: Path, records: int) -> int:
    """Read the whole log, as many answers as it takes; its bytes."""
    client, size, at = Client(path), 0, 0
    buffer = bytearray(1 << 20)
    while at < records:
        client.request("GET", f"/v1/logs/newest/records?from={at}")
        answer = client.getresponse()
        while count := answer.readinto(buffer):
            size += count
        at = int(answer.headers["Imarium-Next"])
    client.close()
    return size


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes, the better of two."""
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return min(times)


async def waiter(path: Path, at: int, arrivals: list[float], ready: asyncio.Semaphore) -> int:
    """One verifier that waits for what comes next, and notes when it came; the record it stands at then."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET /v1/logs/newest/records?from=%d&wait=60 HTTP/1.1\r\nHost: imarium\r\n\r\n" % at)
    ready.release()
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    body = await reader.readexactly(int(fields[b"content-length"]))
    arrivals.append(time.perf_counter())
    assert body
    writer.close()
    return int(fields[b"imarium-next"])


async def crowd(path: Path, records: int, clients: int) -> tuple[list[float], int]:
    """So many at once, each of whom reads 1,000 records from another one on: seconds for each, and bytes in all."""

    async def one(first: int) -> tuple[float, int]:
        begun = time.perf_counter()
        reader, writer = await asyncio.open_unix_connection(str(path))
        wanted = b"from=%d&to=%d" % (first, first + 1000)
        writer.write(b"GET /v1/logs/newest/records?%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % wanted)
        size = len(await reader.read())
        writer.close()
        return time.perf_counter() - begun, size

    places = (number * (records - 1000) // clients for number in range(clients))
    found = await asyncio.gather(*map(one, places))
    return [seconds for seconds, _ in found], sum(size for _, size in found)


async def news(path: Path, log: Log, waiters: int, pid: int) -> tuple[list[float], float]:
    """Delivery times of new records to all who wait, over several rounds; and the service's processor time for each."""
    data = next(iter(log.blocks(0, log.offset_of(NEWS))))
    delays: list[float] = []
    spent = 0.0
    for _ in range(ROUNDS):
        arrivals: list[float] = []
        ready = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(waiter(path, log.records, arrivals, ready)) for _ in range(waiters)]
        await asyncio.sleep(0.1)
        while waiting(path) < waiters:
            await asyncio.sleep(0.1)
        before = processor_time(pid)
        with log.list_path.open("ab") as file:
            file.write(data)
        log.grow(NEWS, len(data))
        log.note(Event.KEPT, "boot", base=log.bytes)
        kept = time.perf_counter()
        found = await asyncio.gather(*tasks)
        spent += processor_time(pid) - before
        assert set(found) == {log.records}
        delays += [arrival - kept for arrival in arrivals]
    return delays, spent / ROUNDS


def waiting(path: Path) -> int:
    """How many wait."""
    client = Client(path)
    client.request("GET", "/v1/status")
    text = client.getresponse().read().decode()
    client.close()
    return int(text.split('"waiting":')[1].split(",")[0])


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    waiters = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with tempfile.TemporaryDirectory(prefix="imarium-bench-") as name:
        directory = Path(name)
        log = make_log(directory, records)
        size, records = log.bytes, log.records
        begun = time.perf_counter()
        write_index(log)
        taken = time.perf_counter() - begun
        index = log.index_path.stat().st_size
        print(f"a log of {records:,} records, {size / 2**20:,.0f} MiB")
        print(f"its index, {index:,} bytes, made at {records / taken:,.0f} records/s")
        with service(directory) as pid:
            socket_path = directory / "socket"
            first = first_bytes(socket_path, records)
            whole = timed(lambda: read_all(socket_path, records))
            begun = time.perf_counter()
            each, taken_bytes = asyncio.run(crowd(socket_path, records, waiters))
            together = time.perf_counter() - begun
            delays, effort = asyncio.run(news(socket_path, log, waiters, pid))
            memory = peak(pid)
        cat = timed(lambda: subprocess.run(["cat", log.list_path], stdout=subprocess.DEVNULL, check=True))
        pipe = timed(lambda: subprocess.run(f"cat {log.list_path} | cat >/dev/null", shell=True, check=True))  # noqa: S602
    middle = statistics.median(first)
    late = statistics.quantiles(delays, n=100)[98]
    print(f"first byte at record N   {middle * 1e3:8.2f} ms median {max(first) * 1e3:8.2f} ms worst of {len(first)}")
    for what, seconds in (("the service", whole), ("cat", cat), ("cat | cat", pipe)):
        print(f"all of it, {what:12} {size / 2**20 / seconds:10,.0f} MiB/s")
    print(
        f"{waiters:,} at once, each from another record on: {taken_bytes / 2**20:,.0f} MiB in {together:.2f} s, "
        f"{statistics.median(each):.2f} s median {max(each):.2f} s worst"
    )
    print(f"peak memory of the service {memory:8.1f} MiB")
    print(
        f"news to {waiters:,} waiters   {statistics.median(delays) * 1e3:8.1f} ms median {late * 1e3:8.1f} ms for 99 %"
    )
    print(f"                        {max(delays) * 1e3:8.1f} ms worst  {effort:8.2f} s cpu of the service each time")
    if middle > FIRST_BYTE_LIMIT or late > DELIVERY_LIMIT:
        sys.exit(f"over the limits: {FIRST_BYTE_LIMIT} s to the first byte, {DELIVERY_LIMIT} s to 99 % of waiters")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]))
    else:
        main()
