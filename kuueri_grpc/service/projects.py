"""`ProjectService`: a project's registration and its credentials."""

from typing import Any, TypeAlias

import grpc.aio

from kuueri_grpc.engine.projects import Projects
from kuueri_grpc.pb import project_service_pb2 as pb
from kuueri_grpc.pb.project_service_pb2_grpc import ProjectServiceServicer
from kuueri_grpc.service import project_requests as requests
from kuueri_grpc.service import tokens as page_tokens
from kuueri_grpc.service.auth import access, caller, caller_or_operator
from kuueri_grpc.service.convert import to_access_token, to_project
from kuueri_grpc.service.times import DAY_MS, to_timestamp

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

DEFAULT_SECRET_GRACE_MS = DAY_MS


class ProjectService(ProjectServiceServicer):
    """The project that calls, or the operator. Errors are those that the contract names at each call."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects

    async def Register(  # noqa: N802  the names of methods are the contract's, here and below
        self, request: pb.RegisterRequest, context: Context
    ) -> pb.RegisterResponse:
        """Make a project."""
        made = await self._projects.register(*requests.read_register(request))
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
        """Make a new full token and let the others run out."""
        grace_ms, request_id = requests.read_rotation(request)
        made = await self._projects.rotate_token(access(), grace_ms, request_id)
        return pb.RotateTokenResponse(
            token=made.token, old_token_expire_time=to_timestamp(made.old_expire_time_ms)
        )

    async def CreateToken(  # noqa: N802
        self, request: pb.CreateTokenRequest, context: Context
    ) -> pb.CreateTokenResponse:
        """Make one more token."""
        wanted = requests.read_create_token(request)
        project_id = requests.read_subject(request.project_id, caller_or_operator())
        made = await self._projects.create_token(project_id, wanted.scope, wanted.display_name, wanted.ttl_ms)
        return pb.CreateTokenResponse(access_token=to_access_token(made.credential), token=made.token)

    async def ListTokens(  # noqa: N802
        self, request: pb.ListTokensRequest, context: Context
    ) -> pb.ListTokensResponse:
        """List the valid tokens."""
        tokens = await self._projects.tokens(caller())
        return pb.ListTokensResponse(access_tokens=[to_access_token(token) for token in tokens])

    async def RevokeToken(  # noqa: N802
        self, request: pb.RevokeTokenRequest, context: Context
    ) -> pb.RevokeTokenResponse:
        """End a token at once."""
        await self._projects.revoke_token(caller(), requests.read_key_id(request.key_id))
        return pb.RevokeTokenResponse()

    async def RotateSigningSecret(  # noqa: N802
        self, request: pb.RotateSigningSecretRequest, context: Context
    ) -> pb.RotateSigningSecretResponse:
        """Make a new signing secret and let the other one run out."""
        grace = request.grace if request.HasField("grace") else None
        grace_ms = requests.read_grace(grace, DEFAULT_SECRET_GRACE_MS)
        made = await self._projects.rotate_signing_secret(caller(), grace_ms)
        return pb.RotateSigningSecretResponse(
            signing_secret=made.signing_secret,
            old_signing_secret_expire_time=to_timestamp(made.old_expire_time_ms),
        )

    async def DeleteProject(  # noqa: N802
        self, request: pb.DeleteProjectRequest, context: Context
    ) -> pb.DeleteProjectResponse:
        """Remove the project with all that it has."""
        await self._projects.delete(requests.read_subject(request.project_id, caller_or_operator()))
        return pb.DeleteProjectResponse()

    async def SetProjectLimits(  # noqa: N802
        self, request: pb.SetProjectLimitsRequest, context: Context
    ) -> pb.SetProjectLimitsResponse:
        """Set what a project may have; the operator calls."""
        project_id, limit = requests.read_limits(request)
        return pb.SetProjectLimitsResponse(
            project=to_project(await self._projects.set_task_limit(project_id, limit))
        )

    async def ListProjects(  # noqa: N802
        self, request: pb.ListProjectsRequest, context: Context
    ) -> pb.ListProjectsResponse:
        """List the projects, or find one by its address; the operator calls."""
        email, page_size = requests.read_projects(request)
        cursor = page_tokens.read_projects_token(request.page_token)
        if email:
            found = await self._projects.find(email)
            return pb.ListProjectsResponse(projects=[] if found is None else [to_project(found)])
        page = await self._projects.list(page_size, cursor)
        token = "" if page.cursor is None else page_tokens.projects_token(page.cursor)
        return pb.ListProjectsResponse(projects=map(to_project, page.projects), next_page_token=token)
