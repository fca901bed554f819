"""Two projects against each other: whatever names and tokens one uses, it reaches nothing of the other.

Hypothesis makes up what both do: any call, with ids, queues, labels and request ids that both have, and page
tokens, resume tokens and key ids that either was given. After each call everything that the store has of the
other project is as it was, bit for bit, and nothing of the other is in the answer. The calls come from the
descriptors of the services: one that is added later fails here until it is covered.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import grpc.aio
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from redis import Redis

from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb import server_service_pb2 as server_pb
from kuueri_grpc.pb import task_pb2, task_service_pb2, token_pb2
from kuueri_grpc.pb import task_service_pb2 as tasks_pb
from kuueri_grpc.service.times import to_duration
from tests.service.edge import Caller, Edge, serving
from tests.service.statuses import refusal_of
from tests.store.raw import Entry, RawStore, read

HOUR_MS = 3_600_000
PATIENCE_S = 30
TASKS = ("t0", "t1", "t2", "nobodys")
QUEUES = ("default", "orders")
#: 16 characters, as RotateToken wants them.
REQUEST_IDS = ("", "request-id-00000", "request-id-11111")

METHODS = {
    f"{service.name}/{method.name}": method
    for module in (task_service_pb2, projects_pb, server_pb)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

_numbers = itertools.count()


@dataclass
class Side:
    """One of the two. `mark` is in everything that it says of itself, and in nothing else."""

    caller: Caller
    mark: str
    email: str
    page_tokens: list[str] = field(default_factory=list)
    resume_tokens: list[str] = field(default_factory=list)
    key_ids: list[str] = field(default_factory=list)

    def learn(self, response: Message) -> None:
        """Note the tokens in an answer."""
        for name, known in (("next_page_token", self.page_tokens), ("resume_token", self.resume_tokens)):
            if token := getattr(response, name, ""):
                known.append(token)
        for made in (getattr(response, "token", ""), *getattr(response, "access_tokens", ())):
            self.key_ids.append(made.split("_")[1] if isinstance(made, str) and made else "")
            if not isinstance(made, str):
                self.key_ids[-1] = made.key_id


@dataclass(frozen=True)
class Choices:
    """What Hypothesis chose for one call; `place` picks among the tokens that there are by then."""

    task_id: str
    queue: str
    request_id: str
    place: int
    flag: bool


@dataclass(frozen=True)
class Call:
    """A call that is about to be made by `me`, beside `other`."""

    choices: Choices
    me: Side
    other: Side

    def task(self) -> task_pb2.Task:
        choices, mark = self.choices, self.me.mark
        task = task_pb2.Task(task_id=choices.task_id, queue=choices.queue, labels={"team": "x"})
        task.http_target.url = f"https://{mark}.example/"
        task.http_target.body = mark.encode()
        task.http_target.headers["x-mark"] = mark
        task.schedule.delay.CopyFrom(to_duration(HOUR_MS))
        return task

    def _any(self, name: str) -> str:
        known = ["", *getattr(self.other, name), *getattr(self.me, name)]
        return str(known[self.choices.place % len(known)])

    @property
    def page_token(self) -> str:
        return self._any("page_tokens")

    @property
    def resume_token(self) -> str:
        return self._any("resume_tokens")

    @property
    def key_id(self) -> str:
        return self._any("key_ids")

    @property
    def project_id(self) -> str:
        sides = ("", self.me.caller.project_id, self.other.caller.project_id)
        return sides[self.choices.place % 3]

    @property
    def email(self) -> str:
        return self.other.email if self.choices.flag else f"{self.me.mark}-{next(_numbers)}@example.com"


def _one(request: Callable[..., Message]) -> Callable[[Call], Message]:
    return lambda call: request(task_id=call.choices.task_id)


def _list(call: Call) -> Message:
    return tasks_pb.ListTasksRequest(
        page_size=1,
        page_token=call.page_token,
        queue=call.choices.queue if call.choices.flag else "",
        labels={"team": "x"} if call.choices.place % 2 else {},
    )


def _watch(call: Call) -> Message:
    request = tasks_pb.WatchRequest(resume_token=call.resume_token)
    scope = ("task_id", "queue", "all")[call.choices.place % 3]
    setattr(request, scope, {"all": True}.get(scope) or getattr(call.choices, scope))
    return request


#: How to make the request of each call.
REQUESTS: Mapping[str, Callable[[Call], Message]] = {
    "TaskService/Subscribe": lambda call: tasks_pb.SubscribeRequest(
        task=call.task(), request_id=call.choices.request_id
    ),
    "TaskService/BatchSubscribe": lambda call: (
        tasks_pb.BatchSubscribeRequest(tasks=[call.task()] * 2, request_id=call.choices.request_id)
        if call.choices.flag
        else tasks_pb.BatchSubscribeRequest(
            requests=[tasks_pb.SubscribeRequest(task=call.task(), request_id=call.choices.request_id)]
        )
    ),
    "TaskService/GetTask": _one(tasks_pb.GetTaskRequest),
    "TaskService/ListTasks": _list,
    "TaskService/Cancel": _one(tasks_pb.CancelRequest),
    "TaskService/Pause": _one(tasks_pb.PauseRequest),
    "TaskService/Resume": _one(tasks_pb.ResumeRequest),
    "TaskService/Purge": _one(tasks_pb.PurgeRequest),
    "TaskService/RunTask": lambda call: tasks_pb.RunTaskRequest(
        task_id=call.choices.task_id, request_id=call.choices.request_id
    ),
    "TaskService/GetTimeline": lambda call: tasks_pb.GetTimelineRequest(
        task_id=call.choices.task_id, page_size=1, page_token=call.page_token
    ),
    "TaskService/Watch": _watch,
    "ProjectService/Register": lambda call: projects_pb.RegisterRequest(
        email=call.email, request_id=call.choices.request_id
    ),
    "ProjectService/GetProject": lambda _: projects_pb.GetProjectRequest(),
    "ProjectService/RotateToken": lambda call: projects_pb.RotateTokenRequest(
        grace=to_duration(HOUR_MS), request_id=call.choices.request_id
    ),
    "ProjectService/CreateToken": lambda call: projects_pb.CreateTokenRequest(
        scope=token_pb2.TOKEN_SCOPE_READ, display_name=call.me.mark, project_id=call.project_id
    ),
    "ProjectService/ListTokens": lambda _: projects_pb.ListTokensRequest(),
    "ProjectService/RevokeToken": lambda call: projects_pb.RevokeTokenRequest(key_id=call.key_id),
    "ProjectService/RotateSigningSecret": lambda _: projects_pb.RotateSigningSecretRequest(),
    "ProjectService/DeleteProject": lambda call: projects_pb.DeleteProjectRequest(project_id=call.project_id),
    "ProjectService/ListProjects": lambda call: projects_pb.ListProjectsRequest(
        email=call.email, page_token=call.page_token
    ),
    "ServerService/GetServerInfo": lambda _: server_pb.GetServerInfoRequest(),
    "ProjectService/SetProjectLimits": lambda call: projects_pb.SetProjectLimitsRequest(
        project_id=(call.other if call.choices.flag else call.me).caller.project_id, task_in_queue_limit=7
    ),
}


def test_every_call_of_the_services_is_covered() -> None:
    assert REQUESTS.keys() == METHODS.keys()


async def make(edge: Edge, name: str, request: Message, caller: Caller) -> tuple[list[Message], bytes]:
    """Make a call; return the messages of its answer, and all that was said as bytes."""
    service, _, method_name = name.partition("/")
    stubs = {"TaskService": edge.tasks, "ProjectService": edge.projects, "ServerService": edge.info}
    method = getattr(stubs[service], method_name)
    answers: list[Message] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            if METHODS[name].server_streaming:
                async for message in method(request, metadata=caller.metadata):
                    answers.append(message)
                    if message.HasField("synced"):
                        break  # what follows is live
            else:
                answers.append(await method(request, metadata=caller.metadata))
    except grpc.aio.AioRpcError as error:
        refused = refusal_of(error)
        assert refused.reason != "INTERNAL", refused
        return answers, repr((refused.text, refused.details)).encode()
    return answers, b"".join(answer.SerializeToString() for answer in answers)


def kept_of(raw: RawStore, project_id: str) -> dict[tuple[object, ...], object]:
    """Return all that the store has of a project, in keys of its own and in those that all share."""
    found: dict[tuple[object, ...], object] = {}
    for db, key in raw.names():
        entry = raw.databases[db][key]
        if project_id in key or entry.text == project_id.encode():
            found[db, key] = entry
        else:
            found |= {(db, key, member): score for member, score in _members(entry) if project_id in member}
    return found


def _members(entry: Entry) -> list[tuple[str, object]]:
    members = [(item.decode(errors="replace"), True) for item in entry.items or ()]
    return [*members, *(entry.scores or {}).items()]


async def enter(edge: Edge, mark: str) -> Side:
    """Register a project that has something of everything."""
    email = f"{mark}-{next(_numbers)}@example.com"
    made = await edge.projects.Register(projects_pb.RegisterRequest(email=email))
    side = Side(Caller(made.project.project_id, made.token), mark, email)
    side.learn(made)
    nothing = Choices("", "", "", 0, flag=False)
    for n, queue in ((0, "default"), (1, "orders"), (2, "default")):
        choices = Choices(f"t{n}", queue, REQUEST_IDS[n], 0, flag=False)
        await make(edge, "TaskService/Subscribe", _subscribe(choices, side), side.caller)
    for name, task_id in (("Pause", "t1"), ("Cancel", "t2")):
        request = REQUESTS[f"TaskService/{name}"](Call(Choices(task_id, "", "", 0, flag=False), side, side))
        await make(edge, f"TaskService/{name}", request, side.caller)
    for name, request in (
        ("ListTasks", tasks_pb.ListTasksRequest(page_size=1)),
        ("GetTimeline", tasks_pb.GetTimelineRequest(task_id="t1", page_size=1)),
        ("Watch", tasks_pb.WatchRequest(task_id="t1")),
        ("Watch", tasks_pb.WatchRequest(queue="orders")),
        ("Watch", tasks_pb.WatchRequest(all=True)),
    ):
        answers, _ = await make(edge, f"TaskService/{name}", request, side.caller)
        side.learn(answers[-1])
    request = REQUESTS["ProjectService/CreateToken"](Call(nothing, side, side))
    answers, _ = await make(edge, "ProjectService/CreateToken", request, side.caller)
    side.learn(answers[-1])
    assert len(side.page_tokens) == 2
    assert len(side.resume_tokens) == 3
    return side


def _subscribe(choices: Choices, side: Side) -> Message:
    return REQUESTS["TaskService/Subscribe"](Call(choices, side, side))


choices = st.builds(
    Choices,
    task_id=st.sampled_from(TASKS),
    queue=st.sampled_from(QUEUES),
    request_id=st.sampled_from(REQUEST_IDS),
    place=st.integers(0, 11),
    flag=st.booleans(),
)
steps = st.tuples(st.integers(0, 1), st.sampled_from(sorted(METHODS)), choices)


@pytest.mark.one_server
@settings(
    max_examples=30,
    deadline=None,
    # Ids and secrets differ from run to run: a failure is not made shorter.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(steps, min_size=10, max_size=40))
async def test_neither_reaches_anything_of_the_other(
    store_url: str, story: list[tuple[int, str, Choices]]
) -> None:
    with Redis.from_url(store_url) as client:
        client.flushall()
    async with serving(store_url) as edge:
        sides = [await enter(edge, "alpha-mark-7f3"), await enter(edge, "omega-mark-9c1")]
        for actor, name, chosen in story:
            me, other = sides[actor], sides[1 - actor]
            request = REQUESTS[name](Call(chosen, me, other))
            before = kept_of(read(store_url), other.caller.project_id)

            answers, said = await make(edge, name, request, me.caller)

            assert kept_of(read(store_url), other.caller.project_id) == before, (name, request)
            sent = request.SerializeToString()
            for secret in (other.mark, other.caller.project_id):
                assert secret.encode() not in said or secret.encode() in sent, (name, request, said)
            for answer in answers:
                me.learn(answer)
            if name == "ProjectService/DeleteProject" and answers:
                assert not kept_of(read(store_url), me.caller.project_id)
                sides[actor] = await enter(edge, me.mark)
            if name == "ProjectService/RotateToken" and answers:
                sides[actor].caller = Caller(me.caller.project_id, answers[0].token)  # type: ignore[attr-defined]


async def watched(edge: Edge, caller: Caller, in_force: asyncio.Semaphore) -> list[str]:
    """Watch all of a project until its task `last` is there; return whose events came before."""
    task_ids = []
    async for message in edge.tasks.Watch(tasks_pb.WatchRequest(all=True), metadata=caller.metadata):
        if message.HasField("synced"):
            in_force.release()
        if message.event.task_id == "last":
            break
        if message.HasField("event"):
            task_ids.append(message.event.task_id)
    return task_ids


async def act(edge: Edge, caller: Caller, task_ids: list[str]) -> None:
    """Make tasks, two events each."""
    for task_id in task_ids:
        choices = Choices(task_id, "default", "", 0, flag=False)
        for name in ("TaskService/Subscribe", "TaskService/Pause"):
            request = REQUESTS[name](Call(choices, Side(caller, "m", ""), Side(caller, "m", "")))
            answers, said = await make(edge, name, request, caller)
            assert answers, said


async def test_a_watch_of_all_hears_of_its_own_alone(edge: Edge, owner: Caller, stranger: Caller) -> None:
    """Both do the same at the same time."""
    in_force = asyncio.Semaphore(0)
    mine, others = ([f"{prefix}{n}" for n in range(20)] for prefix in "os")
    async with asyncio.timeout(PATIENCE_S):
        watches = [asyncio.create_task(watched(edge, caller, in_force)) for caller in (owner, stranger)]
        for _ in watches:
            await in_force.acquire()
        await asyncio.gather(act(edge, owner, mine), act(edge, stranger, others))
        await asyncio.gather(*(act(edge, caller, ["last"]) for caller in (owner, stranger)))
        heard = await asyncio.gather(*watches)
    assert heard == [[task_id for task_id in ids for _ in range(2)] for ids in (mine, others)]
