"""The `BacklogReader` port: what waits in the store, summed over its partitions."""

from kuueri_grpc.ports import Backlog
from kuueri_grpc.store.scripts import ScriptRunner
from kuueri_grpc.store.settings import StoreSettings

#: Queues that are looked into per partition, the first due ones. With more the sums are lower bounds: no
#: script may take longer the more tenants there are.
_QUEUES_PER_PARTITION = 100


class RedisBacklogReader:
    """`ports.BacklogReader`: one short script per partition, all in one round trip."""

    def __init__(self, runner: ScriptRunner, settings: StoreSettings) -> None:
        self._runner = runner
        self._partitions = settings.partitions

    async def read(self) -> Backlog:
        """See `ports.BacklogReader`."""
        arguments = (_QUEUES_PER_PARTITION,)
        answers = await self._runner.run_many("backlog", [(p, arguments) for p in range(self._partitions)])
        return Backlog(
            waiting=sum(waiting for _, waiting, *_ in answers),
            due=sum(due for _, _, due, *_ in answers),
            oldest_due_ms=max((now - oldest for now, _, _, oldest, *_ in answers if oldest >= 0), default=0),
            leased=sum(leases for *_, leases, _ in answers),
            queues=sum(queues for *_, queues in answers),
            exact=all(queues <= _QUEUES_PER_PARTITION for *_, queues in answers),
        )
