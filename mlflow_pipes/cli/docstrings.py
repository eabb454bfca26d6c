"""What a Google-style docstring says: its text, and what each argument is. Pure."""

from __future__ import annotations

import inspect
import re

_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns?|Yields?|Raises|Examples?|Notes?|Attributes|See Also):\s*$")
_ARGUMENT = re.compile(r"^\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


def summary_of(doc: str | None) -> str:
    r"""Return the docstring's text before its first section.

    >>> summary_of("Train it.\n\nArgs:\n    depth: of the trees.")
    'Train it.'
    """
    kept = []
    for line in inspect.cleandoc(doc or "").splitlines():
        if _SECTION.match(line):
            break
        kept.append(line)
    return "\n".join(kept).strip()


def arguments_of(doc: str | None) -> dict[str, str]:
    r"""Return what the ``Args:`` section says of each argument, continuation lines joined.

    >>> arguments_of("Train it.\n\nArgs:\n    depth (int): of the\n        trees.\n    seed: of chance.")
    {'depth': 'of the trees.', 'seed': 'of chance.'}
    """
    found: dict[str, str] = {}
    name = ""
    indent = 0
    inside = False
    for line in inspect.cleandoc(doc or "").splitlines():
        if section := _SECTION.match(line):
            inside = section[1] in {"Args", "Arguments", "Parameters"}
            name, indent = "", 0
        elif inside and line.strip():
            depth = len(line) - len(line.lstrip())
            if not depth:
                inside = False
                continue
            indent = indent or depth
            if depth == indent and (match := _ARGUMENT.match(line.strip())):
                name = match[1]
                found[name] = match[2].strip()
            elif name:
                found[name] = f"{found[name]} {line.strip()}".strip()
    return found
