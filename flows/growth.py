"""Clusters that grow and shrink with the blocks at hand, where one job of a queue may bring several workers at once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from distributed.deploy.adaptive import Adaptive
from distributed.deploy.spec import SpecCluster
from distributed.scheduler import WorkerState

IDLE = 60  # looks, one a second, at which a worker had nothing to do: a queue that gave it may not soon give another
BLOCK = "200ms"  # of work for each worker, by which even short blocks ask for as many as there are blocks in flight


def suffixes(cluster: SpecCluster) -> tuple[str, ...]:
    """What is added to a job's name in the names of its workers; one empty text where each has its own job."""
    return tuple((cluster.new_spec or {}).get("group", ("",)))


def jobs(cluster: SpecCluster) -> dict[Hashable, Hashable]:
    """The names of all workers that were asked for, each with its job's."""
    ends = suffixes(cluster)
    if ends == ("",):
        return {name: name for name in cluster.worker_spec}
    return {f"{name}{end}": name for name in cluster.worker_spec for end in ends}


@dataclass(frozen=True, slots=True)
class _JobOf:
    """The job's name in the name of a worker; the scheduler is sent this."""

    suffixes: tuple[str, ...]

    def __call__(self, worker: WorkerState) -> Hashable:
        """Of one worker."""
        name = str(worker.name)
        return next((name.removesuffix(end) for end in self.suffixes if end and name.endswith(end)), name)


class ByJobs(Adaptive):  # its annotations are of other types than Dask itself gives: hence each "override" below
    """Dask's own, which counts workers, and cancels a whole job where one of its workers is one too many.

    With a minimum of one and two workers in each job it would cancel each job before its workers come, and ask for it
    again, for ever. This counts jobs instead.
    """

    cluster: SpecCluster

    def __init__(self, cluster: SpecCluster, minimum: int, maximum: int, **more: Any) -> None:  # noqa: ANN401  # Dask's
        ends = suffixes(cluster)
        self.size = len(ends)
        fewest, most = -(-minimum // self.size), max(1, maximum // self.size)
        super().__init__(cluster, minimum=fewest, maximum=max(fewest, most), worker_key=_JobOf(ends), **more)

    @property
    def plan(self) -> set[Hashable]:  # type: ignore[override]
        """Jobs that were asked for."""
        return set(self.cluster.worker_spec)

    @property
    def requested(self) -> set[Hashable]:  # type: ignore[override]
        """Those of them that the queue was told of."""
        return self.plan & set(self.cluster.workers)

    @property
    def observed(self) -> set[Hashable]:  # type: ignore[override]
        """Those of them that have workers."""
        known = jobs(self.cluster)
        return {known[name] for name in self.cluster.observed if name in known}

    async def target(self) -> int:
        """How many jobs there should be."""
        return -(-int(await super().target()) // self.size)  # type: ignore[no-untyped-call]

    async def workers_to_close(self, target: int) -> list[Hashable]:  # type: ignore[override]
        """Jobs whose workers have least to do, beyond so many."""
        known = jobs(self.cluster)
        idle = await super().workers_to_close(target * self.size)
        return list({known[name] for name in idle if name in known})

    async def scale_up(self, n: int) -> None:  # type: ignore[override]
        """Ask for jobs until there are so many."""
        SpecCluster.scale(self.cluster, n)

    async def scale_down(self, workers: list[Hashable]) -> None:  # type: ignore[override]
        """Cancel jobs, their workers retired first."""
        known: Mapping[Hashable, Hashable] = jobs(self.cluster)
        await super().scale_down([name for name, job in known.items() if job in workers])


def grows(cluster: Any, minimum: int, maximum: int) -> None:  # noqa: ANN401  # of any class
    """Have a cluster grow and shrink between so many workers, as there are blocks."""
    if isinstance(cluster, SpecCluster):
        cluster.adapt(Adaptive=ByJobs, minimum=minimum, maximum=maximum, wait_count=IDLE, target_duration=BLOCK)
    else:  # which has its own ways, as Kubernetes has
        cluster.adapt(minimum=minimum, maximum=maximum)
