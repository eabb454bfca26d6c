"""The workers of a Dask cluster, as far as is decided by them: who fits, who is near an attempt's inputs."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mlflow_pipes.model.artifact import Artifact, Leaf
from mlflow_pipes.model.attempt import Assignment

NEAR_BYTES = 1 << 20
"""Inputs smaller than this are no reason to prefer a worker."""

_MOST_REMEMBERED = 100_000


class Member(NamedTuple):
    """A worker of the cluster.

    Attributes:
        memory_bytes: 0 for no limit.
        resources: Dask's abstract ones, by name.
    """

    address: str
    threads: int
    memory_bytes: int
    resources: Mapping[str, float]

    def fits(self, assignment: Assignment) -> bool:
        """Tell whether it could do an attempt when it has nothing else to do."""
        return (
            assignment.cpus <= self.threads
            and (not self.memory_bytes or assignment.memory_bytes <= self.memory_bytes)
            and len(assignment.gpus) <= self.resources.get("GPU", 0)
        )


def members_of(info: Mapping[str, Any]) -> dict[str, Member]:
    """Return the workers that a scheduler's identity tells of, by address."""
    return {
        address: Member(address, one["nthreads"], one.get("memory_limit") or 0, one.get("resources") or {})
        for address, one in info["workers"].items()
        if one.get("status", "running") in {"running", "init"}
    }


class Wanted(NamedTuple):
    """What Dask is told of where a task may run; attempts that want the same are sent together.

    Attributes:
        workers: addresses; empty for any.
        others_too: any other will do when none of them can.
        resources: what it occupies of a worker's abstract resources.
    """

    workers: tuple[str, ...] = ()
    others_too: bool = False
    resources: tuple[tuple[str, float], ...] = ()


def wanted(assignment: Assignment, members: Mapping[str, Member], near: str | None) -> Wanted:
    """Return where an attempt may run.

    Args:
        assignment: the attempt.
        members: the workers that are there now.
        near: the worker that has its inputs.
    """
    resources = (("GPU", float(len(assignment.gpus))),) if assignment.gpus else ()
    fitting = [address for address, member in members.items() if member.fits(assignment)]
    if near in fitting:
        return Wanted((near,), others_too=True, resources=resources)
    if fitting and len(fitting) < len(members) and not resources:
        return Wanted(tuple(fitting), resources=resources)
    return Wanted(resources=resources)


def shortage(assignment: Assignment, members: Mapping[str, Member]) -> str:
    """Return why no worker fits an attempt; empty when one does."""
    if any(member.fits(assignment) for member in members.values()):
        return ""
    asks = [f"cpus={assignment.cpus:g}"]
    asks += [f"memory={assignment.memory_bytes:,} bytes"] if assignment.memory_bytes else []
    asks += [f"gpus={len(assignment.gpus)}"] if assignment.gpus else []
    if not members:
        return f"asks for {', '.join(asks)}, and the cluster has no workers"
    threads = max(member.threads for member in members.values())
    memory = max(member.memory_bytes for member in members.values())
    gpus = max(member.resources.get("GPU", 0) for member in members.values())
    return (
        f"asks for {', '.join(asks)}; the largest of {len(members)} worker{'s' if len(members) > 1 else ''} has "
        f"{threads} threads, {f'{memory:,} bytes of memory' if memory else 'no limit of memory'} and {gpus:g} of the "
        "resource GPU"
    )


def gave_up(short: str, where: str, waited_s: float) -> str:
    """Return why an attempt fails for want of a worker."""
    return (
        f"no worker of the Dask cluster ({where}) fits it: it {short}. Waited no_workers_timeout={waited_s:g} s: ask "
        "for less, or add a larger worker"
    )


class Load:
    """How many attempts each worker has that are not answered, and how many are sent that any may take.

    Args:
        members: the workers that are there.
        places: for each of those attempts the worker that has it, or was preferred for it; None for any.
    """

    def __init__(self, members: Mapping[str, Member], places: Iterable[str | None]) -> None:
        self._members = members
        self._counts = Counter(places)

    def preferred(self, near: str | None) -> str | None:
        """Return the worker that has an attempt's inputs if it should do it; None when another one stands idle for it.

        Dask itself takes a while until it has an idle worker steal what was meant for another.
        """
        member = self._members.get(near) if near is not None else None
        if member is None:
            return None
        idle = (
            sum(max(0, one.threads - self._counts[one.address]) for one in self._members.values()) - self._counts[None]
        )
        return near if self._counts[near] < member.threads or idle <= 0 else None

    def add(self, place: str | None) -> None:
        """Count one more."""
        self._counts[place] += 1


class Nearness:
    """Which worker made which artifact."""

    def __init__(self) -> None:
        self._makers: OrderedDict[str, str] = OrderedDict()

    def made(self, artifact: Artifact, address: str) -> None:
        """Note the worker that made an artifact."""
        if size_bytes(artifact) < NEAR_BYTES:
            return
        for leaf in leaves(artifact):
            self._makers[leaf.identity] = address
        while len(self._makers) > _MOST_REMEMBERED:
            self._makers.popitem(last=False)

    def nearest(self, assignment: Assignment) -> str | None:
        """Return the worker that made most of an attempt's inputs, by size; None when it is not worth a preference."""
        if not self._makers:
            return None
        weights: dict[str, int] = {}
        for artifact in assignment.arguments.values():
            for leaf in leaves(artifact):
                maker = self._makers.get(leaf.identity)
                if maker is not None:
                    weights[maker] = weights.get(maker, 0) + leaf.digest.size_bytes
        best = max(weights, key=lambda address: weights[address], default=None)
        return best if best is not None and weights[best] >= NEAR_BYTES else None


def leaves(artifact: Artifact) -> Iterator[Leaf]:
    """Yield the single values of an artifact."""
    if isinstance(artifact, Leaf):
        yield artifact
    else:
        for item in artifact.items:
            yield from leaves(item)


def size_bytes(artifact: Artifact) -> int:
    """Return the bytes of an artifact's root blobs."""
    return sum(leaf.digest.size_bytes for leaf in leaves(artifact))
