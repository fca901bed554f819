"""Every key and channel of the store, as functions. No key is spelled anywhere else.

Four databases on a single server: 0 authorisation, 1 execution, 2 execution configuration, 3 timeline.
On a cluster all keys are in database 0; no name occurs in two databases. Every key of a project carries
the hash tag of its partition, `{p}`, so that all keys of one project are in one slot and one script can
change them together, on one server and on a cluster alike.

| db | key                              | type   | what                                               |
|----|----------------------------------|--------|----------------------------------------------------|
| 0  | `kuueri:store`                   | Hash   | epoch, partitions, schema, ids of the keys in use  |
| 0  | `{kuueri}:instances`             | ZSet   | live instances by last heartbeat (ms)              |
| 0  | `{kuueri}:instances:details`     | Hash   | instance -> what it announced (JSON)               |
| 0  | `kuueri:email:<sha256>`          | String | project id that an e-mail address belongs to       |
| 0  | `{p}:project:<project>`          | Hash   | the project, `taskInQueue`, its (sealed) secrets   |
| 0  | `{p}:credentials:<project>`      | Hash   | key id -> token digest, scope, expiry (JSON)       |
| 0  | `{p}:projects`                   | ZSet   | all projects, for ListProjects                     |
| 0  | `{p}:closed`                     | Set    | projects that are being deleted                    |
| 1  | `{p}:due`                        | ZSet   | queues and lanes by when each may dispatch next    |
| 1  | `{p}:leases`                     | ZSet   | claimed tasks by lease expiry                      |
| 1  | `{p}:ended`                      | ZSet   | ended tasks by the instant their history expires   |
| 1  | `{p}:deadlines`                  | ZSet   | tasks that expire unless they start before         |
| 1  | `{p}:queue:<project>/<queue>`    | ZSet   | waiting tasks by due time                          |
| 1  | `{p}:queue:<project>/<queue>~<n>`| ZSet   | those of lane n: their target has no room now      |
| 1  | `{p}:queue:<project>/<queue>~!`  | ZSet   | suspects: one at a time is tried in each process   |
| 1  | `{p}:task:<project>/<task>`      | Hash   | state, counters; the first event of one that waits |
| 1  | `{p}:index:<project>`            | ZSet   | task ids by creation (us), for ListTasks           |
| 1  | `{p}:request:<project>/<id>`     | String | the task that a request_id (`<id>~<place>`) made   |
| 1  | `{p}:request:<project>/<t>/<ms>` | List   | latest events of task t, created at ms and purged  |
| 1  | `{p}:request:<project>/~~<n>`    | List   | request ids of a span of 4 h, for a deletion       |
| 1  | `{p}:claim:~<project>`           | String | the process that deletes a closed project          |
| 1  | `{p}:claim:<instance>`           | String | id of an instance's latest claim                   |
| 2  | `{p}:config:<project>/<task>`    | Hash   | request (sealed), policies, labels                 |
| 3  | `{p}:timeline:<project>/<task>`  | List   | events, oldest first, once there are two; of many, |
|    |                                  |        | the first and the newest                           |
| 3  | `{p}:feed:<project>`             | Stream | the project's latest events, of all its tasks      |

Channels: `{p}:wake` (a new earliest due instant), `{p}:watch:<project>/<task>` (a new event of a task),
`{p}:news:<project>` (a new event of a project), `kuueri:instance:<id>` (messages to one instance),
`kuueri:credentials` (a project of which credentials ended).
"""

import hashlib
import zlib

STORE = "kuueri:store"
INSTANCES = "{kuueri}:instances"
INSTANCE_DETAILS = "{kuueri}:instances:details"

CREDENTIALS_CHANNEL = "kuueri:credentials"
SPENT_CHANNEL = "kuueri:spent"

AUTHORISATION, EXECUTION, CONFIGURATION, TIMELINE = range(4)


def partition_of(project_id: str, partitions: int) -> int:
    """Return the partition (0 .. partitions-1) that all keys of a project are in.

    CRC-32, because it has to be the same for every process, version and language.
    """
    return zlib.crc32(project_id.encode()) % partitions


def email(address: str) -> str:
    """Return the key that makes an e-mail address unique; the address itself is not in it."""
    return f"kuueri:email:{hashlib.sha256(address.lower().encode()).hexdigest()}"


def instance_channel(instance: str) -> str:
    """Return the channel on which an instance is spoken to."""
    return f"kuueri:instance:{instance}"


def wake_channel(partition: int) -> str:
    """Return the channel that announces a new earliest due instant of a partition."""
    return f"{{{partition}}}:wake"


def watch_channel(partition: int, project_id: str, task_id: str) -> str:
    """Return the channel that announces the events of one task."""
    return f"{{{partition}}}:watch:{project_id}/{task_id}"


def news_channel(partition: int, project_id: str) -> str:
    """Return the channel that announces the events of all tasks of a project."""
    return f"{{{partition}}}:news:{project_id}"


def project(partition: int, project_id: str) -> str:
    """Return the key of a project's hash (database 0)."""
    return f"{{{partition}}}:project:{project_id}"


def credentials(partition: int, project_id: str) -> str:
    """Return the key of a project's credentials (database 0)."""
    return f"{{{partition}}}:credentials:{project_id}"


#: What `script_keys` gives, in order: the names that `lua/prelude.lua` binds them to.
SCRIPT_KEY_NAMES = (
    "DUE",
    "LEASES",
    "ENDED",
    "QUEUE",
    "TASK",
    "INDEX",
    "REQUEST",
    "CLAIM",
    "CONFIG",
    "TIMELINE",
    "PROJECT",
    "CREDENTIALS",
    "FEED",
    "WAKE",
    "WATCH",
    "NEWS",
    "CLOSED",
    "DEADLINES",
    "PROJECTS",
)


def script_keys(partition: int) -> list[str]:
    """Return the KEYS of every script on a partition, in the order of SCRIPT_KEY_NAMES.

    A claim cannot know its tasks beforehand, so the scripts get the partition's indexes whole and the
    stems of the others, to which they append `<project>/<task>` and the like. All carry the same hash
    tag, so a cluster routes the script by any of them.
    """
    tag = f"{{{partition}}}"
    return [
        f"{tag}:due",
        f"{tag}:leases",
        f"{tag}:ended",
        f"{tag}:queue:",
        f"{tag}:task:",
        f"{tag}:index:",
        f"{tag}:request:",
        f"{tag}:claim:",
        f"{tag}:config:",
        f"{tag}:timeline:",
        f"{tag}:project:",
        f"{tag}:credentials:",
        f"{tag}:feed:",
        wake_channel(partition),
        f"{tag}:watch:",
        f"{tag}:news:",
        f"{tag}:closed",
        f"{tag}:deadlines",
        f"{tag}:projects",
    ]
