"""``Environments``: what a project names, resolved; and the folder of those that are built on this machine."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import mlflow_pipes
from mlflow_pipes.digests import digest_record
from mlflow_pipes.environments import conda, containers, interpreters, requirements
from mlflow_pipes.environments.interpreters import asked, this_minor
from mlflow_pipes.environments.shelf import Built, Recipe, Shelf, interpreter_of
from mlflow_pipes.errors import ConfigurationError, NotFoundError, suggest
from mlflow_pipes.model.environment import DEFAULT, Environment, ResolvedEnvironment

_OUR_FOLDER = str(Path(mlflow_pipes.__file__).parent.parent)
_LAUNCH = "import sys; sys.path.insert(0, sys.argv.pop(1)); from mlflow_pipes.environments.launch import main; main()"
_DAY_S = 86400.0


@dataclass
class Environments:
    """The environments of a project on this machine.

    Args:
        folder: where they are built, and what is known of them is kept.
        project: what paths are relative to.
        declared: those of the configuration, by name.
    """

    folder: Path
    project: Path
    declared: Mapping[str, Environment] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._shelf = Shelf(self.folder.resolve())  # scripts in an environment name its place
        self._resolved: dict[str, ResolvedEnvironment] = {}
        self._recipes: dict[str, Recipe] = {}

    def named(self, environment: str | Environment, user: str = "") -> Environment | None:
        """Return the declaration of an environment, None for the interpreter that declares the pipeline.

        Raises:
            ConfigurationError: there is none of that name; *user* is who asks for it.
        """
        if isinstance(environment, Environment):
            return environment
        if environment in self.declared:
            return self.declared[environment]
        if environment == DEFAULT:
            return None
        known = sorted({*self.declared, DEFAULT})
        raise ConfigurationError(
            f"{user or 'you'} named environment {environment!r}, which is not configured"
            f"{suggest(environment, known)} (there are: {', '.join(known)}); add [environments.{environment}] to "
            "pipes.toml"
        )

    def resolve(self, environment: str | Environment, user: str = "") -> ResolvedEnvironment:
        """Return all that is in an environment; builds nothing.

        Requirements are locked the first time (a second or more, from the package index); after that it takes
        a millisecond.

        Raises:
            DeclarationError: it is not configured, or cannot be used; tells what is missing and how to get it.
            WorldError: it cannot be locked or pulled.
        """
        declared = self.named(environment, user)
        if declared is None:
            declared = Environment(interpreter=sys.executable, name=DEFAULT)
        memo = repr(declared)
        found = self._resolved.get(memo)
        if found is None:
            found = self._resolved[memo] = self._resolve(declared)
        return found

    def _resolve(self, declared: Environment) -> ResolvedEnvironment:
        memos = self.folder / "known"
        match declared.kind:
            case "interpreter":
                return interpreters.resolve(declared, self.project, memos)
            case "container":
                return self._launched(containers.resolve(declared, memos))
            case "conda":
                explicit = conda.locked(declared, self.project, memos)
                recipe = conda.recipe(declared, explicit)
                version = recipe.packages.get("python")
                if version is None:
                    raise ConfigurationError(f"{declared}: it has no python; add one to {declared.conda}")
                return self._of_recipe(declared, recipe, ".".join(version.split(".")[:2]))
            case "requirements":
                lock = requirements.locked(declared, self.project, memos)
                path = requirements.interpreter_for(declared)
                python = asked([path], memos, what=str(declared), remember=path)
                recipe = requirements.recipe(declared, lock, path, python.version)
                return self._of_recipe(declared, recipe, python.minor)

    def _of_recipe(self, declared: Environment, recipe: Recipe, minor: str) -> ResolvedEnvironment:
        packages = tuple(sorted(recipe.packages.items()))
        resolved = ResolvedEnvironment(
            name=recipe.name,
            kind=declared.kind,
            digest=digest_record("pipes.environment/1", (declared.kind, minor, packages)),
            python=minor,
            packages=recipe.packages,
            recipe=recipe.text,
            environ=declared.environ,
        )
        return self._started_by(resolved, recipe)

    def _started_by(self, resolved: ResolvedEnvironment, recipe: Recipe) -> ResolvedEnvironment:
        """Add how its Python is started: at once where it is built, else by who builds it first."""
        self._recipes[resolved.digest] = recipe
        place = self._shelf.place(recipe.key)
        prefix = str(place)
        if self._shelf.is_built(recipe.key):
            self._shelf.used(recipe.key)
            return replace(resolved, command=(str(interpreter_of(place)),), prefix=prefix, is_ready=True)
        note = self._shelf.note(recipe)
        command = (sys.executable, "-c", _LAUNCH, _OUR_FOLDER, "built", str(note))
        return replace(resolved, command=command, prefix=prefix, is_ready=False)

    @staticmethod
    def _launched(resolved: ResolvedEnvironment) -> ResolvedEnvironment:
        command = (sys.executable, "-c", _LAUNCH, _OUR_FOLDER, "container", *resolved.command)
        return replace(resolved, command=command)

    def from_elsewhere(self, resolved: ResolvedEnvironment) -> ResolvedEnvironment:
        """Return an environment that another machine resolved, with how its Python is started here.

        Raises:
            DeclarationError, WorldError: it cannot be had here; tells why.
        """
        memo = f"{resolved.digest} {sorted(resolved.environ.items())}"
        known = self._resolved.get(memo)
        if known is None or not known.is_ready:
            known = self._resolved[memo] = self._found_here(resolved)
        return known

    def _found_here(self, resolved: ResolvedEnvironment) -> ResolvedEnvironment:
        match resolved.kind:
            case "requirements":
                version = "" if resolved.python == this_minor() else resolved.python
                declared = Environment(requirements=["-"], python=version, name=resolved.name)
                path = requirements.interpreter_for(declared)
                python = asked([path], self.folder / "known", what=str(declared), remember=path)
                options = tuple(line for line in resolved.recipe.splitlines() if line.startswith("-"))
                lock = requirements.Lock(dict(resolved.packages), options)
                return self._started_by(resolved, requirements.recipe(declared, lock, path, python.version))
            case "conda":
                declared = Environment(conda="-", name=resolved.name)
                return self._started_by(resolved, conda.recipe(declared, resolved.recipe))
            case "container":
                here = self.resolve(Environment(image=resolved.recipe, name=resolved.name))
            case "interpreter":
                here = self.resolve(Environment(interpreter=resolved.recipe, name=resolved.name))
        if here.digest != resolved.digest:
            raise ConfigurationError(
                f"environment {resolved.name!r} ({resolved.recipe}) is not the same here: "
                f"{differences(resolved, here) or 'its image differs'}"
            )
        return replace(here, environ=resolved.environ)

    # --- what is built -------------------------------------------------------------------------------------------

    def is_built(self, resolved: ResolvedEnvironment) -> bool:
        """Tell whether an environment is there and need not be built."""
        recipe = self._recipes.get(resolved.digest)
        return recipe is None or self._shelf.is_built(recipe.key)

    def build(self, environment: str | Environment) -> tuple[ResolvedEnvironment, bool]:
        """Return an environment that is there, and whether it was built now.

        Raises:
            DeclarationError, WorldError: as of :meth:`resolve`; or it cannot be built.
        """
        resolved = self.resolve(environment)
        recipe = self._recipes.get(resolved.digest)
        if recipe is None:
            return resolved, False
        is_new = build_recipe(recipe, self._shelf)
        ready = self._started_by(resolved, recipe)
        self._resolved = {memo: ready if one is resolved else one for memo, one in self._resolved.items()}
        return ready, is_new

    def built(self) -> list[Built]:
        """Return what is built in the folder, those used last first."""
        return self._shelf.listing()

    def remove(self, name_or_key: str) -> list[Built]:
        """Remove what is built under a name, or by the beginning of a key; return that.

        The lock of a name that is configured stays; ``pipes environments build`` builds the same again.

        Raises:
            NotFoundError: there is none.
        """
        found = [one for one in self.built() if name_or_key == one.name or one.key.startswith(name_or_key)]
        if not found:
            names = sorted({one.name for one in self.built() if one.name})
            raise NotFoundError(f"no environment {name_or_key!r} is built here{suggest(name_or_key, names)}")
        return [one for one in found if self._shelf.remove(one.key)]

    def collect(self, unused_days: float, *, dry_run: bool = False) -> list[Built]:
        """Remove what was not used for that long, and what is half-built; return that."""
        before = time.time() - unused_days * _DAY_S
        found = [one for one in self.built() if one.used_at < before or not one.whole]
        return found if dry_run else [one for one in found if self._shelf.remove(one.key)]


def build_recipe(recipe: Recipe, shelf: Shelf) -> bool:
    """Build a recipe unless it is built; return whether it was built now."""
    make = conda.build if recipe.kind == "conda" else requirements.build
    return shelf.build(recipe, lambda place: make(recipe, place))


def recipe_in(note: Path) -> Recipe:
    """Return the recipe that was noted in a file."""
    plain = json.loads(note.read_text(encoding="utf-8"))
    return Recipe(**{**plain, "support": tuple(plain["support"])})


def differences(one: ResolvedEnvironment, other: ResolvedEnvironment) -> str:
    """Return in words what differs between two environments."""
    names = sorted(one.packages.keys() | other.packages.keys())
    differing = [
        f"{name} {one.packages.get(name, '(none)')} there, {other.packages.get(name, '(none)')} here"
        for name in names
        if one.packages.get(name) != other.packages.get(name)
    ]
    if one.python != other.python:
        differing.insert(0, f"Python {one.python} there, {other.python} here")
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    return "; ".join(differing[:3]) + more
