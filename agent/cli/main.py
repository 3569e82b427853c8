"""The command line: loads one command, and converts its errors to an exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, Final

import click
from typing_extensions import override

from agent import __version__
from agent.domain.errors import AgentError, ConfigError, ExitCode, Kind
from agent.domain.secrets import hide_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

# A command without a text is hidden.
_COMMANDS: Final = {
    "allow": "Let a denied system be activated again.",
    "check": "Run the health checks, and nothing else.",
    "confirm": "Judge the system that the last upgrade has activated.",
    "config": "Check, show and describe the settings.",
    "dead-man": "",
    "demo": "Watch the agent upgrade a throw-away host.",
    "deny": "Keep a system from ever being activated here.",
    "flake-update": "Update the inputs of the hosts' flake, and propose what that changes.",
    "history": "Show what earlier runs did here, and what is denied.",
    "pause": "Keep the agent from upgrading and rebooting.",
    "reboot": "Do the reboot that an upgrade waits for, if it is allowed now.",
    "resume": "End a pause.",
    "rollback": "Go back to the last confirmed system.",
    "status": "Show what a run would do now, and why.",
    "upgrade": "Upgrade this host, or home, to Hydra's newest good build, once.",
}

_MANUAL: Final = frozenset({"allow", "deny", "pause", "reboot", "resume", "rollback"})
"""Short commands, which share a module; each of the others has a module of its name."""

_STANDARD_ERROR: Final = 2


class LazyGroup(click.Group):
    """A group whose commands are imported only when they are called."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(name for name, help_text in _COMMANDS.items() if help_text)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        if cmd_name in _MANUAL:
            command: click.Command = getattr(importlib.import_module("agent.cli.manual"), name)
        else:
            command = importlib.import_module(f"agent.cli.{name}").command
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, help_text) for name, help_text in sorted(_COMMANDS.items()) if help_text]
            )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nixos-hydra-agent", message="%(prog)s %(version)s")
def agent() -> None:
    """Upgrade this NixOS host, or a user's home, to the newest good build of its own Hydra job."""


def run(arguments: Sequence[str], hydra_wait: float | None = None) -> int:
    """Run the command line and return its exit code.

    `hydra_wait`: Hydra was too busy, and asked to wait for so many seconds.
    """
    try:
        _check_streams()
        code = agent.main(
            args=list(arguments), prog_name="agent", standalone_mode=False, obj=hydra_wait
        )
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last boundary
        return _end_with(error)
    return code if isinstance(code, int) else ExitCode.DONE


def _check_streams() -> None:
    """Refuse to start without usable output; reserve the descriptors of closed streams.

    Python has None for a stream that was closed when it started.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(number)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - as long as the process
    if sys.stdout is None:
        raise AgentError(
            Kind.OUTPUT_CLOSED,
            "standard output is closed",
            hint="redirect it to a file, or to /dev/null",
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # the locale may lack a character


def _end_with(error: BaseException) -> int:
    """Report an error, once, and return its exit code."""
    code: int
    match error:
        case click.UsageError():
            print_usage_error(error)
            code = ExitCode.USAGE
        case click.ClickException():
            error.show()
            code = ExitCode.FAILED
        case AgentError():
            print_error(error)
            code = error.exit_code
        case BrokenPipeError():
            # The reader has gone; nothing more can be printed, not even when the interpreter exits.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = ExitCode.FAILED
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EIO):
            # Errors of the agent's own files have been translated: this is standard output.
            click.echo(f"agent: cannot write the output: {error.strerror}", err=True)
            code = ExitCode.FAILED
        case click.Abort() | KeyboardInterrupt():
            code = ExitCode.INTERRUPTED
        case _:
            traceback.print_exception(error)
            code = ExitCode.BUG
    return code


def print_usage_error(error: click.UsageError) -> None:
    """Print what is wrong with the command line in one line, or the requested help."""
    if "\n" in error.format_message() or error.ctx is None:
        error.show()
        return
    command = error.ctx.command_path
    click.echo(f"Error: {error.format_message()} Try '{command} --help'.", err=True)


def print_error(error: AgentError) -> None:
    """Print an error message, to standard error."""
    if isinstance(error, ConfigError) and error.problems and error.kind is Kind.CONFIG_INVALID:
        click.echo(f"agent: the settings from {error.source} cannot be used:", err=True)
        for key, wrong in error.problems:
            click.echo(f"  {key}: {wrong}" if key else f"  {wrong}", err=True)
        return
    click.echo(f"agent: {hide_secrets(str(error))} [{error.kind}]", err=True)
