"""What went wrong when ssh says so: the culprit, and the remedy."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_pipes.targets.ssh.machine import Machine

_NO_COMMAND = {126, 127}  # of a shell
_OF_SSH = 255
_MOST_WORDS = 1500


def explained(machine: Machine, words: str, code: int | None) -> str:
    """Return what to tell of a connection that did not come about.

    Args:
        machine: the machine.
        words: what ssh, or the machine through it, wrote.
        code: what ssh ended with; None when it was not waited for any longer.
    """
    words = words.strip()[-_MOST_WORDS:]
    return f"cannot use {machine.where} by ssh: {_cause(machine, words, code)}"


def _cause(machine: Machine, words: str, code: int | None) -> str:
    if "Host key verification failed" in words or "host key is known for" in words:
        return _about_host_key(machine, is_changed="REMOTE HOST IDENTIFICATION HAS CHANGED" in words)
    if "UNPROTECTED PRIVATE KEY FILE" in words:
        cause = f"others may read the private key {machine.key}: `chmod 600 {machine.key}`"
    elif "Permission denied" in words and code == _OF_SSH:
        by = f"the key {machine.key}" if machine.key else "any key of ssh's agent or configuration"
        cause = f"it does not let us in with {by}: add the public key to ~/.ssh/authorized_keys there"
    elif code in _NO_COMMAND:
        cause = f"there is no Python {machine.python!r}: install it there, or name another one by `python`"
    elif code is None:
        cause = f"nothing was heard for {machine.connect_timeout_s:g} s"
    else:
        cause = "" if words else f"ssh ended with code {code}"
    return "\n".join(filter(None, [cause, words]))


def _about_host_key(machine: Machine, *, is_changed: bool) -> str:
    file = machine.known_hosts or "~/.ssh/known_hosts"
    if is_changed:
        remove = f"ssh-keygen -R {shlex.quote(machine.known_as)} -f {file}"
        return (
            f"its host key is not the one in {file}: this may be another machine that poses as it. If its owner says "
            f"that the key was changed, remove the old one (`{remove}`) and add the new one as for a new machine"
        )
    port = f"-p {machine.port} " if machine.port else ""
    return (
        f"its host key is not in {file}, and unknown keys are never accepted. Get it with `ssh-keyscan {port}"
        f"{machine.host}`, compare its fingerprint (`ssh-keygen -lf -`) with what the machine's owner says, and add "
        f"the line to {file}"
    )
