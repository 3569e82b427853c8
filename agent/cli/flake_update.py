"""`agent flake-update diff|run`."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click
from typing_extensions import override

from agent.cli.options import config_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from agent.application.flake_update.result import RunResult
    from agent.application.ports import EventSink
    from agent.config.settings import Settings
    from agent.domain.errors import AgentError
    from agent.domain.flake_update.comparison import Comparison


def _inputs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not value or value.startswith("-") or not value.isprintable() or " " in value:
            raise click.BadParameter(f"{value!r} is not the name of an input", ctx, param)
    return values


_input_option = click.option(
    "--input",
    "inputs",
    multiple=True,
    callback=_inputs,
    metavar="NAME",
    help="Update only this input; repeatable.",
)


@click.group("flake-update")
def command() -> None:
    """Update the inputs of the hosts' flake, and see or propose what that changes."""


class _Diff(click.Command):
    """Its callers know four exit codes: what is wrong with the command line is a fault like all."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        from agent.cli.main import print_usage_error
        from agent.domain.flake_update.comparison import DiffExit

        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            print_usage_error(error)
            ctx.exit(DiffExit.FAILED)


@command.command("diff", cls=_Diff)
@config_option
@click.option(
    "--skip-update", is_flag=True, help="Do not update flake.lock: it has been updated already."
)
@_input_option
@json_option
def diff(
    config_file: Path | None, inputs: tuple[str, ...], *, skip_update: bool, as_json: bool
) -> int:
    """Update flake.lock here, build every host before and after, and show what changes.

    The report goes to standard output, progress to standard error. Exits with 0 if some host
    changes, with 1 if something failed, with 2 if flake.lock is unchanged, and with 3 if it changes
    but no host does.
    """
    from agent.cli.event_loop import run_async
    from agent.cli.main import print_error
    from agent.domain.errors import AgentError, Kind
    from agent.domain.flake_update.comparison import DiffExit

    try:
        settings = _settings(config_file)
        comparison = run_async(lambda _: _compared(settings, inputs, skips_update=skip_update))
    except AgentError as error:
        if error.kind in (Kind.INTERRUPTED, Kind.TERMINATED):
            raise
        if as_json:
            _print_fault(error)
        print_error(error)
        return DiffExit.FAILED
    _print_report(comparison, as_json=as_json)
    return DiffExit.LOCK_UNCHANGED if comparison is None else comparison.exit_code


@command.command("run")
@config_option
@_input_option
@click.option("--dry-run", is_flag=True, help="Do not commit, push, propose or notify.")
@json_option
def run(config_file: Path | None, inputs: tuple[str, ...], *, dry_run: bool, as_json: bool) -> int:
    """Update the inputs in a worktree, prove every host, and propose the update.

    Exits with 0 if it is proposed or there is nothing to do, and otherwise with the error's code.
    """
    from agent.application.events import by_logged_name
    from agent.application.flake_update.result import headline
    from agent.cli.event_loop import run_async
    from agent.cli.main import print_error
    from agent.domain.flake_update.report import fields_of
    from agent.domain.secrets import hide_secrets

    settings = _settings(config_file)
    result = run_async(lambda _: _proposed(settings, inputs, dry_run=dry_run))
    if as_json:
        report = fields_of(result.comparison) if result.comparison else {}
        click.echo(json.dumps(hide_secrets({**by_logged_name(result.fields()), **report})))
    else:
        click.echo(hide_secrets(headline(result)))
        _print_report(result.comparison, as_json=False)
    if result.error is not None:
        print_error(result.error)
    return result.exit_code


def _settings(config_file: Path | None) -> Settings:
    from agent.config.load import WITHOUT_HYDRA, load_settings

    return load_settings(config_file, fallback=WITHOUT_HYDRA)


def _folded() -> EventSink:
    from agent.cli.render.ci_log import FoldedSink, is_in_ci

    return FoldedSink(sys.stderr, folds=is_in_ci())


def _sink(settings: Settings) -> EventSink:
    """Return where progress goes: for a person or a CI's log in groups, for a journal as JSON."""
    from agent.cli.render.ci_log import is_in_ci
    from agent.telemetry.log import StructlogSink, resolve_format, standard_error

    stream = standard_error()
    log_format = resolve_format(settings.log.format, stream)
    if log_format == "console" or is_in_ci():
        return _folded()
    return StructlogSink(stream, level=settings.log.level, format=log_format)


async def _compared(
    settings: Settings, inputs: tuple[str, ...], *, skips_update: bool
) -> Comparison | None:
    from agent.application.flake_update.diff import diff as compare
    from agent.config.flake_update import update_policy_of
    from agent.wiring.updater import open_update_ports

    policy = update_policy_of(settings.flake_update, inputs, settings.trust.allow_insecure)
    async with open_update_ports(settings, _folded(), notifier=None, proposes=False) as ports:
        return await compare(ports, policy, skips_update=skips_update)


async def _proposed(settings: Settings, inputs: tuple[str, ...], *, dry_run: bool) -> RunResult:
    from agent.application.flake_update.run import Recipients
    from agent.application.flake_update.run import run as propose
    from agent.config.flake_update import update_policy_of
    from agent.wiring.updater import open_notifier, open_update_ports

    sink = _sink(settings)
    notifier = open_notifier(settings, sink)
    policy = update_policy_of(settings.flake_update, inputs, settings.trust.allow_insecure)
    opening = open_update_ports(settings, sink, notifier=notifier, proposes=True)
    recipients = Recipients(sink, notifier, _where_to_look())
    return await propose(opening, policy, recipients, dry_run=dry_run)


def _print_report(comparison: Comparison | None, *, as_json: bool) -> None:
    from agent.domain.flake_update.comparison import Comparison as Report
    from agent.domain.flake_update.report import fields_of, markdown
    from agent.domain.secrets import hide_secrets

    if as_json:
        click.echo(json.dumps(hide_secrets(fields_of(comparison or Report(())))))
    elif comparison is not None and comparison.hosts:
        click.echo(hide_secrets(markdown(comparison)), nl=False)


def _print_fault(error: AgentError) -> None:
    from agent.application.events import by_logged_name
    from agent.application.report import error_fields
    from agent.domain.secrets import hide_secrets

    click.echo(json.dumps(hide_secrets(by_logged_name(error_fields(error)))))


def _where_to_look() -> str:
    """Return where the log of this run can be read."""
    place = os.environ
    if {"GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"} <= set(place):
        # Forgejo and Gitea set the same variables; their pages go by the number in the repository.
        is_github = not {"FORGEJO_ACTIONS", "GITEA_ACTIONS"} & set(place)
        run = place["GITHUB_RUN_ID" if is_github else "GITHUB_RUN_NUMBER"]
        server = place["GITHUB_SERVER_URL"].rstrip("/")
        return f"{server}/{place['GITHUB_REPOSITORY']}/actions/runs/{run}"
    if invocation := place.get("INVOCATION_ID"):
        return f"journalctl _SYSTEMD_INVOCATION_ID={invocation}"
    return "the output of agent flake-update run"
