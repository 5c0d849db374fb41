"""What `status.json` and `manifest.json` hold, as every reader may count on; they may hold more."""

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, Meta(ge=0, lt=1e12)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Meta(pattern="^[a-z_]+$")]
State = Literal["running", "interrupted", "finished", "diverged", "failed"]


class Status(TypedDict):
    """How far a run has come."""

    status: State
    step: Count
    steps: Count
    wall_seconds: NotRequired[Seconds]
    message: NotRequired[str]
    broke: NotRequired[str]  # where, of a run that diverged
    log: NotRequired[str]  # of one that has not ended: the file that keeps what its process printed
    degenerate: NotRequired[list[str]]
    control: NotRequired[list[str]]
    updated: NotRequired[str]


class Parameters(TypedDict):
    """How many parameters a net has."""

    body: Count
    connection: Count
    total: Count


class Session(TypedDict):
    """One process that trained a run; the code it ran is here when it said more than its commit."""

    commit: str
    dirty: NotRequired[bool | None]
    diff_sha256: NotRequired[str | None]
    from_step: Count


class Manifest(TypedDict):
    """What made a run."""

    run_id: NotRequired[str]
    data_sha256: NotRequired[str]
    nature: NotRequired[dict[str, bool]]
    protocol_version: Count
    commit: str
    dirty: bool | None
    diff_sha256: NotRequired[str | None]
    versions: NotRequired[dict[str, str]]
    fingerprint: dict[str, str | int | float | bool | None]
    parameters: Parameters
    sessions: Annotated[list[Session], Meta(min_length=1)]
    exact: NotRequired[bool]
    tables: NotRequired[dict[Name, Digest]]  # the sha256 of each table, once they are finished
