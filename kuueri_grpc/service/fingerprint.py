"""The digest by which a repeated request id is recognised."""

import hashlib

import msgpack

from kuueri_grpc.domain.content import content_of
from kuueri_grpc.domain.task import TaskSpec

#: Of the form that is digested. Digests are kept for a day: another form needs another number, and makes
#: requests that were accepted under the former one REQUEST_ID_REUSED when they are repeated.
_FORM = 2


def fingerprint(spec: TaskSpec) -> str:
    """Return what calls with the same request id must have in common: a digest of the task as it came."""
    return hashlib.sha256(msgpack.packb((_FORM, spec.task_id, content_of(spec)))).hexdigest()
