"""The command line, `goservice` and `kubectl-goservice`: a skin over the other modules.

One module per group of commands: `offline` (validate, render, crd), `process` (run, fetch),
`status`, `logs` and `rebuild`. It decides nothing about a service; it reads, asks and prints.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click
from click.shell_completion import ShellComplete
from typing_extensions import override

from goservice import __version__
from goservice.cli import logs, offline, process, rebuild, status
from goservice.cli.words import one_line, say


class Program(click.Group):
    """The commands, with what click says by itself cleaned like all else that is printed."""

    @override
    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        call: Callable[[], Any] = partial(
            super().main, args, prog_name, complete_var, standalone_mode=False, **extra
        )
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A terminal of another encoding gets what it can show.
                stream.reconfigure(errors="backslashreplace")
        if not standalone_mode:
            return call()
        try:
            code = call()
        except click.ClickException as error:
            text = io.StringIO()
            error.show(file=text)
            say(text.getvalue(), err=True, end="")
            code = error.exit_code
        except (click.Abort, KeyboardInterrupt):
            code = 130
        sys.exit(code if isinstance(code, int) else 0)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="goservice")
@click.pass_context
def main(context: click.Context) -> None:
    """From a Go repository to a running service on Kubernetes.

    The same program answers to `kubectl goservice`.

    \b
    Examples:
      goservice validate -f checkout.yaml          what is wrong, field by field
      goservice render -f checkout.yaml            what would be created
      goservice status -n shop                     all services of a namespace
      goservice status checkout -n shop --watch    one service, until it is ready
      goservice logs checkout -n shop --follow     the newest build's log
      goservice rebuild checkout -n shop           build the newest commit again

    \b
    Exit codes:
      0    done; for `status NAME`: ready
      1    not ready, not found, or the cluster says no (the reason is on stderr)
      2    bad input: a file, a field, a setting or an option
      130  interrupted

    \b
    Completion, for this shell (write the line into its start file to keep it):
      bash   eval "$(_GOSERVICE_COMPLETE=bash_source goservice)"
      zsh    eval "$(_GOSERVICE_COMPLETE=zsh_source goservice)"
      fish   _GOSERVICE_COMPLETE=fish_source goservice | source

    Colours are for terminals only; NO_COLOR=1 switches them off.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False


for command in (
    *(offline.validate, offline.render, offline.print_crd),
    *(status.status, logs.logs, rebuild.rebuild),
    *(process.run, process.fetch_source),
):
    main.add_command(command)


def kubectl_complete() -> None:
    """`kubectl_complete-goservice`: what kubectl asks for the words after `kubectl goservice`."""
    *words, unfinished = sys.argv[1:] or [""]
    found = ShellComplete(main, {}, "goservice", "").get_completions(words, unfinished)
    for item in found:
        value = one_line(item.value)
        say(f"{value}\t{one_line(item.help)}" if item.help else value)
    files = any(item.type in ("file", "dir") for item in found)
    # Cobra's directives: 0 lets the shell complete files, 4 does not.
    say(":0" if files else ":4")
