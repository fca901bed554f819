"""What the engine needs of the world, as contracts. `store` and `dispatcher` implement them.

The rules are in the docstrings and hold for every implementation; `tests/store` is the conformance
suite for the store's part. Nothing here knows of Redis, HTTP libraries or gRPC.

Errors: every method of a store may raise `StoreUnavailable`; a call that raised it may or may not have
taken effect, and can be repeated.
"""

from kuueri_grpc.ports.dispatch import Clock, Delivery, Dispatcher, NotStarted, ResourcesLacking
from kuueri_grpc.ports.execution import (
    ANY_ROOM,
    Claim,
    ClaimBatch,
    ExecutionStore,
    Lease,
    LostAttempt,
    ProjectLane,
    Renewal,
    Report,
    Room,
)
from kuueri_grpc.ports.instances import Instance, InstanceRegistry, Sighting
from kuueri_grpc.ports.projects import (
    Credential,
    EndStep,
    EraseStep,
    KeyIdTaken,
    Project,
    ProjectPage,
    ProjectStore,
    RevokedAttempt,
    Rotation,
)
from kuueri_grpc.ports.signals import (
    Changed,
    CredentialsChanged,
    Disconnected,
    Due,
    Reconnected,
    Revoke,
    Revoked,
    Signal,
    SignalBus,
    Spent,
)
from kuueri_grpc.ports.store_probe import StoreIdentity, StoreKind, StoreProbe, UnfitStore
from kuueri_grpc.ports.tasks import (
    Cancelled,
    FeedEvent,
    FeedSlice,
    NewTask,
    TaskFilter,
    TaskPage,
    TaskStore,
    TimelineSlice,
)
from kuueri_grpc.ports.telemetry import NO_TELEMETRY, Backlog, BacklogReader, Telemetry, Throttled, Unfinished

__all__ = [
    "ANY_ROOM",
    "NO_TELEMETRY",
    "Backlog",
    "BacklogReader",
    "Cancelled",
    "Changed",
    "Claim",
    "ClaimBatch",
    "Clock",
    "Credential",
    "CredentialsChanged",
    "Delivery",
    "Disconnected",
    "Dispatcher",
    "Due",
    "EndStep",
    "EraseStep",
    "ExecutionStore",
    "FeedEvent",
    "FeedSlice",
    "Instance",
    "InstanceRegistry",
    "KeyIdTaken",
    "Lease",
    "LostAttempt",
    "NewTask",
    "NotStarted",
    "Project",
    "ProjectLane",
    "ProjectPage",
    "ProjectStore",
    "Reconnected",
    "Renewal",
    "Report",
    "ResourcesLacking",
    "Revoke",
    "Revoked",
    "RevokedAttempt",
    "Room",
    "Rotation",
    "Sighting",
    "Signal",
    "SignalBus",
    "Spent",
    "StoreIdentity",
    "StoreKind",
    "StoreProbe",
    "TaskFilter",
    "TaskPage",
    "TaskStore",
    "Telemetry",
    "Throttled",
    "TimelineSlice",
    "Unfinished",
    "UnfitStore",
]
