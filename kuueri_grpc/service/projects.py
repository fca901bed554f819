"""`ProjectService`: a project's registration and its credentials."""

from typing import Any, TypeAlias

import grpc.aio

from kuueri_grpc.engine.projects import Projects
from kuueri_grpc.pb import project_service_pb2 as pb
from kuueri_grpc.pb.project_service_pb2_grpc import ProjectServiceServicer
from kuueri_grpc.ports import Clock
from kuueri_grpc.service import requests
from kuueri_grpc.service.auth import caller
from kuueri_grpc.service.convert import to_project
from kuueri_grpc.service.errors import NotImplementedYet
from kuueri_grpc.service.times import DAY_MS, to_timestamp

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

DEFAULT_TOKEN_GRACE_MS = 0
DEFAULT_SECRET_GRACE_MS = DAY_MS


class ProjectService(ProjectServiceServicer):
    """The project that calls. Errors are those that the contract names at each call."""

    def __init__(self, projects: Projects, clock: Clock) -> None:
        self._projects = projects
        self._clock = clock

    async def Register(  # noqa: N802  the names of methods are the contract's, here and below
        self, request: pb.RegisterRequest, context: Context
    ) -> pb.RegisterResponse:
        """Make a project; needs no token."""
        made = await self._projects.register(requests.read_email(request))
        return pb.RegisterResponse(
            project=to_project(made.project), token=made.token, signing_secret=made.signing_secret
        )

    async def GetProject(  # noqa: N802
        self, request: pb.GetProjectRequest, context: Context
    ) -> pb.GetProjectResponse:
        """Read the project."""
        return pb.GetProjectResponse(project=to_project(await self._projects.get(caller())))

    async def RotateToken(  # noqa: N802
        self, request: pb.RotateTokenRequest, context: Context
    ) -> pb.RotateTokenResponse:
        """Make a new token and let the others run out."""
        grace = request.grace if request.HasField("grace") else None
        grace_ms = requests.read_grace(grace, DEFAULT_TOKEN_GRACE_MS)
        token = await self._projects.rotate_token(caller(), grace_ms)
        expire_time = to_timestamp(self._clock.now_ms() + grace_ms)
        return pb.RotateTokenResponse(token=token, old_token_expire_time=expire_time)

    async def RotateSigningSecret(  # noqa: N802
        self, request: pb.RotateSigningSecretRequest, context: Context
    ) -> pb.RotateSigningSecretResponse:
        """Make a new signing secret and let the other one run out."""
        grace = request.grace if request.HasField("grace") else None
        grace_ms = requests.read_grace(grace, DEFAULT_SECRET_GRACE_MS)
        secret = await self._projects.rotate_signing_secret(caller(), grace_ms)
        expire_time = to_timestamp(self._clock.now_ms() + grace_ms)
        return pb.RotateSigningSecretResponse(
            signing_secret=secret, old_signing_secret_expire_time=expire_time
        )

    async def DeleteProject(  # noqa: N802
        self, request: pb.DeleteProjectRequest, context: Context
    ) -> pb.DeleteProjectResponse:
        """Not done by this version."""
        raise NotImplementedYet(
            "this version does not delete projects; Cancel and Purge the tasks, and RotateToken, instead"
        )
