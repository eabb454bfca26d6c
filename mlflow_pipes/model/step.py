"""What should be done: a step's definition and the options that say where and how it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Literal, TypeAlias

from mlflow_pipes.model.environment import Environment, ResolvedEnvironment
from mlflow_pipes.quick_dataclasses import dataclass

ReuseMode: TypeAlias = Literal["content", "never"]


@dataclasses.dataclass(frozen=True, slots=True)  # made by users, who look at its signature
class RetryPolicy:
    """How often and when a failed or lost attempt is tried again.

    Attributes:
        count: further attempts after the first.
        delay_s: wait before the first retry, in seconds; doubles each time (exponential backoff).
        max_delay_s: upper bound of that wait.
        jitter: share of the wait that chance may add or take, 0 to 1.
        on: names of exception classes (``ValueError`` or ``package.module.Error``) that are worth another try,
            matched against the exception's whole MRO; empty means any. A lost worker always is worth one.
        when: a function that is given the exception and tells whether another try is worth it; asked by the worker.
    """

    count: int = 0
    delay_s: float = 1.0
    max_delay_s: float = 300.0
    jitter: float = 0.1
    on: tuple[str, ...] = ()
    when: Callable[[BaseException], bool] | FunctionReference | None = None


@dataclass(frozen=True, slots=True)
class StepOptions:
    """Where and how a step runs; none of it is in its key but what the environment holds (see :class:`StepDefinition`).

    Attributes:
        target: name of a compute target; None lets the run or the workspace choose.
        pipeline_target: the one that the pipeline around the call names.
        cpus: processor cores that an attempt occupies.
        memory_bytes: memory that an attempt occupies, 0 when unknown.
        gpus: graphics processors that an attempt has to itself.
        tokens: how many of each of the workspace's tokens an attempt holds, by name.
        timeout_s: longest time of one attempt, in seconds.
        total_timeout_s: longest time from the first attempt's start, in seconds: all attempts, the waits between
            them, and the calls that the step returned.
        max_parallel: how many of the calls that it maps to, or returned, run at once at most.
        max_depth: how many calls of one step may stand inside each other, each returned by the one around it.
        optional: its failure fails neither the run nor anything else; what needs its output is skipped.
        retries: see :class:`RetryPolicy`.
        priority: larger goes first among what is ready; ties are broken by critical path.
        tags: free labels, kept with the run.
        environment: what it runs with: a name in the configuration, or a declaration; None for the interpreter that
            declares the pipeline.
    """

    target: str | None = None
    pipeline_target: str | None = None
    cpus: float = 1.0
    memory_bytes: int = 0
    gpus: int = 0
    tokens: Mapping[str, float] = field(default_factory=dict)
    timeout_s: float | None = None
    total_timeout_s: float | None = None
    max_parallel: int | None = None
    max_depth: int = 1000
    optional: bool = False
    retries: RetryPolicy = RetryPolicy()
    priority: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    environment: str | Environment | None = None


@dataclass(frozen=True, slots=True)
class ImportedFunction:
    """A function that a worker finds by importing its module.

    Attributes:
        module: dotted name under which the worker imports it (a script's natural name, never ``__main__``).
        qualname: dotted path inside the module.
        file: absolute path of the module's source file.
        root: absolute folder to put on ``sys.path`` (for a package: the folder above it).
        sources: (absolute file, BLAKE3 hash) of all first-party files that the fingerprint read; a worker refuses
            to run the function from other sources, so that no result is stored under a wrong key.
    """

    module: str
    qualname: str
    file: str
    root: str
    sources: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PickledFunction:
    """A function sent by value (notebook, REPL, ``python -c``): cloudpickle bytes."""

    qualname: str
    payload: bytes


FunctionReference: TypeAlias = ImportedFunction | PickledFunction


@dataclass(frozen=True, slots=True)
class CodeLeaf:
    """One thing a step's code reaches.

    Attributes:
        kind: ``function``, ``class``, ``constant``, ``closure``, ``default``, ``distribution``, ``python``,
            ``module``, ``version`` ...
        name: readable and stable, such as ``features.parse_time``; never an absolute path.
        digest: hash of its normalised content; of kinds ``distribution``, ``python`` and ``version`` the
            version itself, which people can read.
        via: names on the shortest way from the step's function to it, the function first.
    """

    kind: str
    name: str
    digest: str
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CodeFingerprint:
    """The code a step reaches.

    Attributes:
        digest: hash over all leaves; what the action key contains.
        leaves: sorted by (kind, name).
        sources: (absolute file, BLAKE3 hash) of the first-party files read.
        warnings: what could not be followed but was let through, each with culprit and remedy.
        distributions: names of third-party distributions reached.
        shape: like *digest*, but without any version, and of modules that are not first-party only which; with the
            versions of another environment it makes the digest of the code there.
    """

    digest: str
    leaves: tuple[CodeLeaf, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    distributions: frozenset[str] = frozenset()
    shape: str = ""


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """A step as declared.

    Every field stands in exactly one of :data:`KEYED` and :data:`NEUTRAL` (a test asserts it).

    Attributes:
        environment: what it runs with, once that is resolved; *code* is then the code as it is in there, so that the
            environment is in the key by that. None for the interpreter that declares the pipeline.
        wants_spark: its parameters or output are Spark's: it must have a Spark session.
    """

    name: str
    code: CodeFingerprint
    function: FunctionReference
    reuse: ReuseMode = "content"
    max_age_s: float | None = None
    options: StepOptions = StepOptions()
    doc: str = ""
    environment: ResolvedEnvironment | None = None
    wants_spark: bool = False


KEYED = frozenset({"code"})
NEUTRAL = frozenset({"name", "function", "reuse", "max_age_s", "options", "doc", "environment", "wants_spark"})
