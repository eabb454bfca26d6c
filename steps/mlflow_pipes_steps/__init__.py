"""The reusable step library of mlflow_pipes: evaluate, choose, register, deploy, call.

Importing it is cheap: heavy packages are imported when a step runs.
"""

from mlflow_pipes.lifecycle import ModelVersion
from mlflow_pipes_steps.evaluation import Best, choose_best, evaluate
from mlflow_pipes_steps.registration import Comparison, compare_with_champion, register_model
from mlflow_pipes_steps.serving import Deployment, call_web_service, deploy_web_service, predict

__all__ = [
    "Best",
    "Comparison",
    "Deployment",
    "ModelVersion",
    "call_web_service",
    "choose_best",
    "compare_with_champion",
    "deploy_web_service",
    "evaluate",
    "predict",
    "register_model",
]
