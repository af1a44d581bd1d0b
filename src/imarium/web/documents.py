"""The JSON documents of the custody API, for its description and its clients."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from imarium.chain import ChainState
from imarium.custody import Log
from imarium.web.shelf import Standing

__all__ = [
    "CheckpointDocument",
    "DrainDocument",
    "LogDocument",
    "LogList",
    "QuoteRequest",
    "RecordDocument",
    "RecordsDocument",
    "StatusDocument",
    "log_document",
]

Registers = dict[str, dict[str, str]]


class LogDocument(BaseModel):
    """One log: the kept records of one life of the registers."""

    log: int
    identity: str = Field(description="Tells this log from every other: 32 hexadecimal digits.")
    begun: str
    boot_id: str
    byte_order: Literal["little", "big"]
    start: Literal["reset", "unknown"] = Field(description="unknown: records before record 0 are missing.")
    start_reason: str
    padded: list[str] = Field(description="Banks that the kernel extends with SHA-1 digests and zeros behind them.")
    records: int
    bytes: int
    still_in_kernel: int = Field(description="How many of the last bytes the kernel may have too.")
    closed: bool = Field(description="Another log was begun since: this one gets no more records.")
    proved_by: list[int] = Field(description="Registers that proved the log when they were last read.")


class LogList(BaseModel):
    """Some of the logs of a store, oldest first."""

    logs: list[LogDocument]
    unreadable: list[int] = Field(description="Numbers of logs that are there and damaged: ask for one to be told why.")
    next: int | None = Field(description="What to ask for as after to get more; null if these are the last.")


class StatusDocument(BaseModel):
    """What the service does."""

    version: str
    sources: list[str]
    logs: int
    newest: LogDocument | None
    waiting: int = Field(description="How many requests wait for new records.")
    quotes: bool = Field(description="Whether evidence can be asked for.")
    service: dict[str, object] | None = Field(description="The service's own status; null if nothing is drained here.")


class CheckpointDocument(BaseModel):
    """The registers after a number of records, by replay: custody's claim, until a quote proves it."""

    model_config = ConfigDict(title="Checkpoint")

    type: Literal["imarium-state"] = "imarium-state"
    version: Literal[1] = 1
    records: int
    registers: Registers
    log: int
    identity: str
    offset: int = Field(description="The byte of the list at which the next record begins.")

    @classmethod
    def of(cls, log: Log, state: ChainState, offset: int) -> "CheckpointDocument":
        """The registers that ``log`` leads to after the records before ``offset``."""
        document = state.to_document()
        return cls.model_validate(
            {**document, "log": log.number, "identity": log.meta.identity.hex(), "offset": offset}
        )


class RecordDocument(BaseModel):
    """One record, as the list claims it."""

    record: int
    offset: int
    pcr: int
    template_digest: str
    template: str
    violation: bool
    digest_is_good: bool
    fields: dict[str, str]


class RecordsDocument(BaseModel):
    """Records ``from`` to before ``to``."""

    first: int = Field(alias="from")
    last: int = Field(alias="to")
    bank: str
    records: list[RecordDocument]


class QuoteRequest(BaseModel):
    """What evidence is asked for."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    nonce: str = Field(pattern=r"^([0-9a-f]{2}){8,64}$", description="The verifier's nonce in hexadecimal.")
    first: int = Field(0, alias="from", ge=0, lt=1 << 53, description="Send the records from this number on.")


class DrainDocument(BaseModel):
    """What a drain did."""

    model_config = ConfigDict(extra="allow")

    verdict: Literal["proven", "unproven", "refused"]
    reason: str


def log_document(standing: Standing) -> LogDocument:
    """A log at one moment."""
    log: Log = standing.log
    return LogDocument(
        log=log.number,
        identity=log.meta.identity.hex(),
        begun=log.meta.created,
        boot_id=log.boot_id,
        byte_order=log.meta.byte_order,
        start=log.meta.start,
        start_reason=log.meta.reason,
        padded=sorted(bank.name for bank in log.meta.padded),
        records=standing.records,
        bytes=standing.bytes,
        still_in_kernel=max(0, standing.bytes - log.base),
        closed=standing.closed,
        proved_by=list(log.proved_by),
    )
