"""What interpreter and packages a step runs with: as declared, and as resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mlflow_pipes.errors import DeclarationError

EnvironmentKind: TypeAlias = Literal["interpreter", "requirements", "conda", "container"]

DEFAULT = "default"
"""Names the interpreter that declares the pipeline, where another environment would be taken otherwise."""

_KINDS: Mapping[str, EnvironmentKind] = {
    "interpreter": "interpreter",
    "requirements": "requirements",
    "conda": "conda",
    "image": "container",
}


@dataclass(frozen=True, slots=True)
class Environment:
    """What steps run with, as declared: one of *interpreter*, *requirements*, *conda* and *image*.

    Paths are relative to the project's folder.

    Attributes:
        interpreter: path of a Python that has what the steps need.
        requirements: a list such as ``["numpy==1.26.4"]``, or the path of a requirements file.
        conda: path of a conda ``environment.yml``, or of a list that ``conda list --explicit`` made.
        image: reference of a container image that has a Python.
        python: version of the Python to build with, such as ``"3.12"``; by default this one's.
        environ: environment variables of its steps; not in any key, and never secrets.
        name: what the configuration calls it; by default what it is made of.

    Raises:
        DeclarationError: none of the four is given, or several.
    """

    interpreter: str = ""
    requirements: tuple[str, ...] | list[str] | str = ()
    conda: str = ""
    image: str = ""
    python: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.requirements, list):
            object.__setattr__(self, "requirements", tuple(self.requirements))
        given = [option for option in _KINDS if getattr(self, option)]
        if len(given) != 1:
            told = f"not {' and '.join(given)}" if given else "but none is given"
            raise DeclarationError(f"{self}: an environment is made of one of {', '.join(_KINDS)}, {told}")
        if self.python and given != ["requirements"]:
            raise DeclarationError(f"{self}: python={self.python!r} is for requirements; {given[0]} says which it is")

    @property
    def kind(self) -> EnvironmentKind:
        """Which of the kinds it is."""
        return next(kind for option, kind in _KINDS.items() if getattr(self, option))

    @property
    def made_of(self) -> str:
        """What it is made of, for people."""
        if isinstance(self.requirements, tuple) and self.requirements:
            more = f" and {len(self.requirements) - 3} more" if len(self.requirements) > 3 else ""
            return f"{', '.join(self.requirements[:3])}{more}"
        return str(self.interpreter or self.requirements or self.conda or self.image)

    def __str__(self) -> str:
        """How errors name it."""
        return f"environment {self.name or self.made_of!r}"


@dataclass(frozen=True, slots=True)
class ResolvedEnvironment:
    """An environment of which all is known that results can depend on, and how its Python is started here.

    Attributes:
        name: for people; not in any key.
        kind: what it is made of.
        digest: identity of all that is in it: of requirements the lock, of an interpreter all that is installed, of a
            container its image. The same on every machine.
        python: the interpreter's minor version, such as ``3.11``.
        packages: version of each distribution in it, by canonical name; empty where that is not known.
        recipe: what another machine builds it from: locked requirements, conda's text, an image's reference.
        command: starts its Python on this machine; Python's own arguments follow. Builds it first unless it is ready.
        environ: environment variables of its steps.
        is_ready: whether it need not be built first.
        prefix: folder of a virtual or conda environment on this machine; empty for others.
    """

    name: str
    kind: EnvironmentKind
    digest: str
    python: str
    packages: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    command: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    is_ready: bool = True
    prefix: str = ""

    def version_of(self, distribution: str) -> str | None:
        """Return the version of a distribution, None where it is not in it (or under another name)."""
        names = (distribution, *_SAME.get(distribution, ()))
        return next((self.packages[name] for name in names if name in self.packages), None)


# Distributions that give the same modules.
_SAME = {
    "mlflow": ("mlflow-skinny",),
    "mlflow-skinny": ("mlflow",),
    "opencv-python": ("opencv-python-headless",),
    "opencv-python-headless": ("opencv-python",),
    "psycopg2": ("psycopg2-binary",),
    "psycopg2-binary": ("psycopg2",),
}
