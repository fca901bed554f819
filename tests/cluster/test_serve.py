"""`kuueri serve` on a cluster, as a user runs it."""

import subprocess
from pathlib import Path

from tests.acceptance.caller import Project, after, post, register, state_name
from tests.acceptance.served import PATIENCE_S, command, environment
from tests.acceptance.targets import listening
from tests.cluster.nodes import Cluster
from tests.cluster.projects import PARTITIONS, projects_on_all_nodes
from tests.outages.calls import assert_each_ran_once, subscribe_all
from tests.outages.servers import serving

ENVIRONMENT = {"TASKS_WORKERS": "2", "TASKS_DATABASE__PARTITIONS": str(PARTITIONS)}
HOUR_MS = 3_600_000


async def test_tasks_on_every_primary_run_once(
    cluster_url: str, valkey_cluster: Cluster, tmp_path: Path
) -> None:
    async with serving(tmp_path / "server", cluster_url, ENVIRONMENT) as (_, channel), listening() as target:
        for node, project in (await projects_on_all_nodes(valkey_cluster, channel)).items():
            path = f"/{node.port}"
            tasks = await subscribe_all(project, target, path, 40, delay_ms=200)

            await assert_each_ran_once(project, target, path, tasks)

            listed = await project.list(page_size=100)
            assert sorted(task.task_id for task in listed.tasks) == sorted(tasks)
            await commands_hold(project)


async def commands_hold(project: Project) -> None:
    task = await project.subscribe(post("https://example.com/", schedule=after(HOUR_MS)))
    assert state_name(await project.pause(task.task_id)) == "PAUSED"
    assert state_name(await project.resume(task.task_id)) == "SCHEDULED"
    assert state_name(await project.cancel(task.task_id)) == "CANCELED"
    await project.purge(task.task_id)
    assert task.task_id not in {left.task_id for left in (await project.list(page_size=100)).tasks}


async def test_instances_are_found_through_any_node(
    cluster_url: str, valkey_cluster: Cluster, tmp_path: Path
) -> None:
    async with serving(tmp_path / "server", cluster_url, ENVIRONMENT) as (_, channel):
        await register(channel)
        for node in (valkey_cluster.primaries[2], valkey_cluster.replicas[0]):
            listed = subprocess.run(  # noqa: ASYNC221 - nothing else happens meanwhile
                [command("kuueri"), "instances", "--redis-url", f"redis+cluster://{node.address}"],
                env=environment(tmp_path),
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=True,
            ).stdout
            assert listed.count("api,scheduler") == 2, listed
