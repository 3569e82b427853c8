"""`agent allow`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from agent.cli.options import config_option

if TYPE_CHECKING:
    from pathlib import Path

_DOWNGRADE: Final = "downgrade"


@click.command("allow")
@config_option
@click.argument("what", metavar="PATH|BUILD|downgrade")
@click.option("--reason", default="", metavar="TEXT", help="The reason, which is recorded.")
def command(config_file: Path | None, what: str, reason: str) -> None:
    """Lift a denial: the next run may activate the path again.

    With `downgrade` instead of a path or a build, forget which builds this host has had: the next
    one is then accepted whatever its number. Use this after Hydra's database has been reset, or
    after a build with a number that was far too high.
    """
    from agent.application.manual import verdicts
    from agent.cli.run_quiet import with_policy, with_ports

    if what == _DOWNGRADE:
        taken = with_policy(
            config_file,
            lambda ports, policy, run: verdicts.allow_downgrade(ports, policy, run, reason),
        )
        click.echo(f"builds older than {taken.build_id} no longer count as downgrades")
        return
    toplevel = with_ports(config_file, lambda ports, run: verdicts.allow(ports, run, what, reason))
    click.echo(f"{toplevel} is allowed again")
