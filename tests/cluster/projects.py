"""Projects on every primary of a cluster."""

import grpc.aio

from kuueri_grpc.store import keys
from tests.acceptance.caller import Project, register
from tests.cluster.nodes import Cluster, Node

PARTITIONS = 64


def node_of(made: Cluster, project_id: str) -> Node:
    """Return the primary that was given a project's partition when the cluster was made."""
    return made.owner(f"{{{keys.partition_of(project_id, PARTITIONS)}}}")


async def projects_on_all_nodes(made: Cluster, channel: grpc.aio.Channel) -> dict[Node, Project]:
    """Register projects until each primary has one."""
    projects: dict[Node, Project] = {}
    while len(projects) < len(made.primaries):
        project = await register(channel)
        projects.setdefault(node_of(made, project.project_id), project)
    return projects
