"""Where an attempt's capture lies: its URI for MLflow, and the files below its folder. No MLflow here."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from mlflow_pipes.quick_dataclasses import dataclass

SCHEME = "pipes-capture"
EXPERIMENT_ID = "0"  # the one experiment that a step sees; the pipeline decides the real one
BESIDE = (
    ".mlflow"  # folder, in the stored tree, of what belongs to models and nested runs rather than to the step's run
)


@dataclass(frozen=True, slots=True)
class Location:
    """One attempt's capture: the step's run and the private folder its logs are kept in.

    Attributes:
        serial: tells apart captures of one run in one folder; MLflow keeps stores by their URI.
    """

    run_id: str
    run_name: str
    folder: Path
    serial: str = ""

    @property
    def uri(self) -> str:
        """The tracking URI under which MLflow finds the capture, also from a subprocess of the step."""
        query = urlencode({"run": self.run_id, "name": self.run_name, "serial": self.serial})
        return f"{SCHEME}://{quote(str(self.folder))}?{query}"

    @classmethod
    def parse(cls, uri: str) -> Location:
        """Read what :attr:`uri` wrote."""
        parts = urlsplit(uri)
        query = parse_qs(parts.query)
        return cls(query["run"][0], query.get("name", [""])[0], Path(unquote(parts.path)), query.get("serial", [""])[0])

    @property
    def journal(self) -> Path:
        """The file of facts."""
        return self.folder / "journal.jsonl"

    @property
    def artifacts(self) -> Path:
        """The folder that is stored: the run's artifacts, and beside them those of models and nested runs."""
        return self.folder / "artifacts"

    def run_artifacts(self, run_id: str) -> Path:
        """Return the artifact folder of a run: the step's own or a nested one."""
        return self.artifacts / subfolder_of_run(run_id, self.run_id)

    def model_artifacts(self, model_id: str) -> Path:
        """Return the artifact folder of a logged model."""
        return self.artifacts / subfolder_of_model(model_id)


def subfolder_of_run(run_id: str, own_run_id: str) -> str:
    """Return where a run's artifacts lie in the stored tree."""
    return "" if run_id == own_run_id else f"{BESIDE}/runs/{run_id}"


def subfolder_of_model(model_id: str) -> str:
    """Return where a logged model's artifacts lie in the stored tree."""
    return f"{BESIDE}/models/{model_id}"
