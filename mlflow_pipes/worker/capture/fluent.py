"""MLflow's own state in a worker process: set aside when an attempt begins, put back when it ends.

Everything here that is private to MLflow is named in this file alone; ``tests/integration/tracking`` holds the
installed MLflow to it. MLflow is never imported from here: only a loaded one is touched, and one that a step loads
gets its two adjustments at the end of its import.
"""

from __future__ import annotations

import copy
import functools
import importlib.machinery
import inspect
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

from mlflow_pipes.worker.capture import registering
from mlflow_pipes.worker.capture.location import SCHEME, Location
from mlflow_pipes.worker.capture.plugin import capture_store, flush_stores

_FLUENT = "mlflow.tracking.fluent"
_TRACKING = "mlflow.tracking._tracking_service.utils"
_REGISTRY = "mlflow.tracking._model_registry.utils"
_AUTOLOGGING = "mlflow.utils.autologging_utils"

# Module-level values of MLflow that a step may change: (module, name, what a fresh MLflow has).
_GLOBALS: tuple[tuple[str, str, Any], ...] = (
    (_TRACKING, "_tracking_uri", None),
    (_REGISTRY, "_registry_uri", None),
    (_FLUENT, "_active_experiment_id", None),
    (_AUTOLOGGING, "_AUTOLOGGING_GLOBALLY_DISABLED", False),
)
# Values that MLflow keeps per thread: (module, name).
_PER_THREAD = ("_active_run_stack", "_last_active_run_id", "_last_logged_model_id", "_ACTIVE_MODEL_CONTEXT")


class Kept:
    """What MLflow's state was when an attempt began."""

    __slots__ = ("autologging", "loaded", "values")

    def __init__(self) -> None:
        self.loaded = _FLUENT in sys.modules
        self.values: dict[tuple[str, str], Any] = {}
        self.autologging: dict[str, Any] = {}


def set_aside() -> Kept:
    """Give MLflow a fresh state and return the one it had. Costs microseconds; nothing to do when it is not loaded."""
    kept = Kept()
    if not kept.loaded:
        return kept
    for module_name, name, fresh in _GLOBALS:
        module = sys.modules.get(module_name)
        if module is not None and hasattr(module, name):
            kept.values[module_name, name] = getattr(module, name)
            setattr(module, name, fresh)
    _forget_artifact_places()
    fluent = sys.modules[_FLUENT]
    for name in _PER_THREAD:
        variable = getattr(fluent, name, None)
        if variable is not None:
            kept.values[_FLUENT, name] = variable.get()
            variable.set(variable.default_factory())
    autologging = sys.modules.get(_AUTOLOGGING)
    if autologging is not None:
        kept.autologging = copy.deepcopy(autologging.AUTOLOGGING_INTEGRATIONS)
    if kept.values.get((_TRACKING, "_tracking_uri")) is not None:
        _reset_tracing()
    return kept


def put_back(kept: Kept) -> None:
    """Undo all that the attempt did to MLflow's state; ends its background logging first."""
    fluent = sys.modules.get(_FLUENT)
    if fluent is None:
        return
    for module_name, name, fresh in _GLOBALS:
        module = sys.modules.get(module_name)
        if module is not None and hasattr(module, name):
            setattr(module, name, kept.values.get((module_name, name), fresh))
    for name in _PER_THREAD:
        variable = getattr(fluent, name, None)
        if variable is not None:
            _forget_in_all_threads(variable)  # one that outlives its step must not go on logging to it
            variable.set(kept.values.get((_FLUENT, name), variable.default_factory()))
    autologging = sys.modules.get(_AUTOLOGGING)
    if autologging is not None:
        integrations = autologging.AUTOLOGGING_INTEGRATIONS
        for name in integrations:  # those that the step loaded are as after their import: off
            integrations[name] = kept.autologging.get(name, {})
    _forget_artifact_places()
    _reset_tracing()


def flush() -> None:
    """Wait until MLflow has written what it logs in the background."""
    fluent = sys.modules.get(_FLUENT)
    if fluent is None:
        return
    tracking = sys.modules[_TRACKING]
    for place in list(tracking._artifact_repos_cache.values()):  # noqa: SLF001 - see the module's docstring
        place.flush_async_logging()
    flush_stores()
    for monitor in list(fluent.run_id_to_system_metrics_monitor.values()):
        monitor.finish()
    fluent.run_id_to_system_metrics_monitor.clear()
    if _traces() is not None:
        fluent.flush_trace_async_logging()


def _forget_artifact_places() -> None:
    """MLflow remembers by run id where artifacts go; a retry in this process has the same run and another folder."""
    getattr(sys.modules.get(_TRACKING), "_artifact_repos_cache", {}).clear()


def _reset_tracing() -> None:
    provider = _traces()
    if provider is not None:
        provider.reset()


def _forget_in_all_threads(variable: Any) -> None:
    if hasattr(variable, "reset"):
        variable.reset()
    else:  # MLflow 3.1; as its later versions do it
        variable.thread_local = threading.local()
        variable._ThreadLocalVariable__global_thread_values.clear()  # noqa: SLF001


def _traces() -> Any:
    """Return MLflow's module of trace providers where one was set up in this process, else None."""
    provider = sys.modules.get("mlflow.tracing.provider")
    if provider is None:
        return None
    wrapper = getattr(provider, "provider", None)
    if wrapper is None:  # until MLflow 3.4
        return provider if provider._MLFLOW_TRACER_PROVIDER_INITIALIZED.done else None  # noqa: SLF001
    return provider if wrapper.once._done else None  # noqa: SLF001 - see the module's docstring


def adjust(capturing: Callable[[], Location | None]) -> None:
    """See to it that the step's run is MLflow's active run whenever no other is, in every thread.

    *capturing* gives the capture that is going on, or None. Takes effect now when MLflow is loaded, otherwise at the
    end of its import.
    """
    if _FLUENT in sys.modules and not _being_imported(sys.modules[_FLUENT]):
        _adjust(sys.modules[_FLUENT], capturing)
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport(lambda module: _adjust(module, capturing)))


def _being_imported(module: ModuleType) -> bool:
    return bool(getattr(module.__spec__, "_initializing", False))


def _adjust(fluent: Any, capturing: Callable[[], Location | None]) -> None:
    """Let ``active_run()``, implicit starts and nested runs answer the step's own run while no other is active.

    The run is never pushed on MLflow's stack, so ``with mlflow.start_run():`` in a step works as it does in a script.
    """
    if hasattr(fluent.active_run, "__pipes__"):
        return
    tracking = sys.modules[_TRACKING]
    tracking._register(SCHEME, capture_store)  # noqa: SLF001 - for a source tree without entry points
    active_before, implicit_before, start_before = fluent.active_run, fluent._get_or_start_run, fluent.start_run  # noqa: SLF001

    def own_run() -> Any:
        location = capturing()
        if location is None or tracking.get_tracking_uri() != location.uri:
            return None  # no capture, or the step went to a server of its own
        return fluent.ActiveRun(tracking._get_store().own_run())  # noqa: SLF001 - see the module's docstring

    @functools.wraps(active_before)
    def active_run() -> Any:
        return active_before() or own_run()

    @functools.wraps(implicit_before)
    def _get_or_start_run() -> Any:
        return active_run() or implicit_before()

    signature = inspect.signature(start_before)

    @functools.wraps(start_before)
    def start_run(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        if given.get("nested") and not given.get("run_id") and not given.get("parent_run_id") and not active_before():
            above = own_run()
            if above is not None:
                given["parent_run_id"] = above.info.run_id
        return start_before(**given)

    registering.adjust(capturing)
    active_run.__pipes__ = True  # type: ignore[attr-defined]
    for replacement in (active_run, _get_or_start_run, start_run):
        before = replacement.__wrapped__
        for module in (fluent, sys.modules.get("mlflow"), sys.modules.get("mlflow.tracking")):
            if getattr(module, replacement.__name__, None) is before:
                setattr(module, replacement.__name__, replacement)


class _AfterImport(MetaPathFinder):
    """Calls back once ``mlflow.tracking.fluent`` has been imported, then takes itself away."""

    def __init__(self, callback: Callable[[ModuleType], None]) -> None:
        self._callback = callback

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:  # fmt: skip
        if fullname != _FLUENT:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_then_call_back(module: ModuleType) -> None:
                execute(module)
                self._callback(module)

            spec.loader.exec_module = execute_then_call_back  # type: ignore[method-assign]
        return spec
