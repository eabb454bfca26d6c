"""The reference page of the command line, made of the commands' own help: ``python -m mlflow_pipes.cli.reference``.

A test compares ``docs/reference/cli.md`` with it, so that the page never says what is not so.
"""

from __future__ import annotations

import sys

import click

from mlflow_pipes.cli.app import COMMANDS, app

WIDTH = 100

HEAD = """# The command line

This page is made of the commands' own help (`python -m mlflow_pipes.cli.reference > docs/reference/cli.md`).
How commands end is told in [exit codes](exit-codes.md).

What holds for all commands:

- A *RUN* is a run's id, any beginning of it that only one run has, or `latest`.
- `--json` writes one JSON document to standard output and nothing else; progress and messages go to standard error.
  Times are ISO 8601 in UTC, durations seconds, and a number that is none is `null`.
- `PIPES_DISPLAY` chooses how a run is shown: `live`, `plain`, `off`, or `auto` (live on a terminal, else plain).
  `NO_COLOR` and `FORCE_COLOR` are honoured. `PIPES_WORKSPACE` names the workspace, `PIPES_DEBUG=1` shows tracebacks of
  pipes itself.
"""

JSON = """## What `--json` writes

| command | document |
|---|---|
| `run`, `resume`, `show` | a run: `id`, `pipeline`, `status`, `started_at`, `ended_at`, `duration_s`, `resumed_from`, \
`message`, `experiment`, `parameters`, `tags`, `target`, `host`, `user`, `file`, `command`, `source`, `output` and \
`steps` |
| `runs` | a list of runs: `id`, `pipeline`, `status`, `started_at`, `ended_at`, `duration_s`, `resumed_from`, \
`steps` (count by status) |
| `plan` | `pipeline`, `estimate_s`, `builds`, `steps`: each `node`, `name`, `action` \
(`reuse`, `run`, `maybe-run`, `always-run`), `reason`, `estimate_s`, `target`, `target_named_by`, `changes` |
| `simulate` | `pipeline`, `forecasts`: for each size `makespan_s`, `at_best_s`, `longest_path_s`, `work_bound_s`, \
`default_target`, `reused`, `perhaps`, `durations` (how many by `node`, by `step`, by `guess`), `guess_s`, \
`timeout_s`, `targets`, `critical_path`, `steps` |
| `explain` | `run`, `node`, `status`, `reason`, `before` (run compared with), `changes`, `target`, `placement`, \
`waits` (each `for`, `seconds`, `over`, `on`, `certain`), `failures`, `critical`, `share` (of the run's \
time), `saved_s` |
| `diff` | `before`, `after`, `parameters`, `tags`, `facts`, `environment`, `metrics` (each `name`, `before`, \
`after`), `metrics_same`, `steps`: each `node`, `fate` (`new`, `gone`, `reused`, `same`, `changed`, \
`unstable`, `unknown`), `changes`, `output_changed`, `status_changed`, `duration_changed_s`, `before`, `after` |
| `logs` | one object a line: `at`, `run`, `node`, `attempt`, `stream`, `text` |
| `cancel` | a run without steps, `cancel_requested`, and `steps`: of those asked to stop `node`, `status` |
| `gc` | `dry_run`, `entries`, `blobs`, `logs`, `folders`, `freed_bytes`, `kept_bytes`, `kept_runs` |
| `sync` | `delivered`, `destination` |
| `doctor` | a list: `name`, `verdict` (`ok`, `warn`, `fail`), `text`, `remedy` |
| `compute list` | a list of targets: `name`, `type`, `status` (`on demand`, `on`, `off`), `is_default`, `shared`, \
`source`, `options`, `capacity` (`cpus`, `memory_bytes`, `slots`, `gpus`, or `null`), `steps` (each `target`, \
`run_id`, `pipeline`, `node`, `status`, `started_at`) |
| `compute show`, `attach`, `add`, `start`, `stop` | one target |
| `compute test` | `target`, `well`, `problem`, `capacity`, `start_s`, `first_s`, `round_trip_s`, `python`, `here`, \
`host`, `worker`, `missing`, `different` (here, there), `extra`, `datastore` |
| `environments list` | a list: `name`, `declared`, `kind`, `made_of`, `state` (`built`, `half-built`, `not built`, \
`as it is`), `key`, `folder`, `size_bytes`, `built_at`, `used_at` |
| `environments show` | `name`, `kind`, `python`, `digest`, `is_built`, `command`, `environ` (names), `packages` |
| `services list`, `services stop` | services: `name`, `status`, `url`, `version`, `model_digest`, `pid`, \
`started_at` ... |
| `services call` | the predictions, a list |
| `ui` | `url` |
| `version` | `mlflow_pipes`, `python` |

A step of a run has `id`, `node`, `name`, `kind` (`step` or `pipeline`), `status`, `reused`, `reused_from`, `parent_id`,
`started_at`, `ended_at`, `duration_s`, `attempts`, `target`, `worker`, `reason`, `parameters`, `metrics`, `output` (in
a few words) and `failure` (`kind`, `message`, `exception`, `traceback`, or `null`). A change has `kind`, `name`, `what`
(`added`, `changed`, `removed`), `via` (how the step's code reaches it), `before` and `after`. A link of a critical path
(`simulate`, `show --critical-path`) has `node`, `start_s`, `end_s`, `took_s`, `waited_s`, `because` (`start`, `input`,
`room`, `key`) and `after` (the node of the link before it).
"""


def page() -> str:
    """Return the page as Markdown."""
    settings = {**app.context_settings, "max_content_width": WIDTH}
    root = click.Context(app, info_name="pipes", terminal_width=WIDTH, **settings)
    sections = [HEAD, _section(root)]
    for name in COMMANDS:
        command = app.get_command(root, name)
        assert command is not None, name
        context = click.Context(command, info_name=name, parent=root)
        sections.append(_section(context))
        if isinstance(command, click.Group):
            sections += [
                _section(click.Context(inner, info_name=inner_name, parent=context))
                for inner_name, inner in command.commands.items()
            ]
    return "\n".join([*sections, JSON])


def _section(context: click.Context) -> str:
    title = "##" if context.parent is None or context.parent.parent is None else "###"
    return f"{title} `{context.command_path}`\n\n```text\n{context.get_help().rstrip()}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(page())
