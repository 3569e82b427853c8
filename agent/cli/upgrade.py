"""`agent upgrade`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli.options import action_option, canary_option, config_option, json_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command("upgrade")
@config_option
@canary_option
@action_option
@click.option(
    "--dry-run", is_flag=True, help="Ask all gates and verify, but fetch and change nothing."
)
@click.option(
    "--ignore-gate",
    "ignored",
    multiple=True,
    metavar="GATE",
    shell_complete=lambda _context, _option, begun: _names(begun),
    help="Ignore a gate that is closed, such as `health`; repeatable, needs --reason.",
)
@click.option("--reason", default="", metavar="TEXT", help="Why the gate is ignored; recorded.")
@json_option
def command(
    config_file: Path | None,
    canaries: tuple[str, ...],
    action: str | None,
    ignored: tuple[str, ...],
    reason: str,
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Upgrade this host to Hydra's newest good build, once.

    Exits with 0 if that is done or there is nothing to do, with 75 if a gate is closed or the new
    system could not be judged yet, and otherwise with the error's code.
    """
    from agent.application.upgrade import upgrade
    from agent.cli.run_command import CommandOptions, carry_out

    asked = CommandOptions(
        config_file,
        as_json=as_json,
        overrides={"action": action} if action else {},
        canaries=canaries,
        dry_run=dry_run,
        ignored_gates=_gates(ignored, reason),
        ignored_because=reason,
        leaves_idle_note=True,
        is_unattended=True,
        hydra_wait=click.get_current_context().find_object(float),
    )
    return carry_out(asked, upgrade)


def _names(begun: str) -> list[str]:
    from agent.domain.gates import ignorable

    return [name for name in ignorable() if name.startswith(begun)]


def _gates(names: tuple[str, ...], reason: str) -> frozenset[str]:
    """Return the gates to ignore.

    Raises:
        click.UsageError: one is unknown or cannot be ignored, or the reason is missing.
    """
    if not names:
        return frozenset()
    from agent.domain.gates import ignorable, registered

    known = ignorable()
    for name in names:
        if name in registered() and name not in known:
            raise click.UsageError("A denial is not ignored but lifted: see `agent allow`.")
        if name not in known:
            raise click.UsageError(f"There is no gate {name!r}; there are: {', '.join(known)}.")
    if not reason.strip():
        raise click.UsageError("--ignore-gate needs a --reason.")
    return frozenset(names)
