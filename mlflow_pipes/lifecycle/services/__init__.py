"""Web services: processes that serve a model over HTTP and outlive the run that deployed them.

Importing this package is cheap: only the service's own process imports mlflow, pandas and starlette.
"""

from mlflow_pipes.lifecycle.services.plain import plain
from mlflow_pipes.lifecycle.services.registry import ServiceRegistry
from mlflow_pipes.lifecycle.services.state import Service, ServiceStatus

__all__ = ["Service", "ServiceRegistry", "ServiceStatus", "plain"]
