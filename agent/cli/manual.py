"""The commands by which an administrator overrides what the agent does by itself.

`agent allow`, `deny`, `pause`, `resume`, `reboot` and `rollback`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from agent.cli.options import config_option, json_option, length_option, reason_option

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

_DOWNGRADE: Final = "downgrade"


@click.command("allow")
@config_option
@click.argument("what", metavar="PATH|BUILD|downgrade")
@click.option("--reason", default="", metavar="TEXT", help="The reason, which is recorded.")
def allow(config_file: Path | None, what: str, reason: str) -> None:
    """Lift a denial: the next run may activate the path again.

    With `downgrade` instead of a path or a build, forget which builds this host has had: the next
    one is then accepted whatever its number. Use this after Hydra's database has been reset, or
    after a build with a number that was far too high.
    """
    from agent.application.manual import verdicts
    from agent.cli.run_quiet import with_ports

    if what == _DOWNGRADE:
        taken = with_ports(
            config_file,
            lambda ports, policy, run: verdicts.allow_downgrade(ports, policy, run, reason),
        )
        click.echo(f"builds older than {taken.build_id} no longer count as downgrades")
        return
    toplevel = with_ports(
        config_file, lambda ports, _, run: verdicts.allow(ports, run, what, reason)
    )
    click.echo(f"{toplevel} is allowed again")


@click.command("deny")
@config_option
@click.argument("what", metavar="PATH|BUILD")
@reason_option
@length_option("For how long, such as 3d; indefinitely by default.")
def deny(config_file: Path | None, what: str, reason: str, length: timedelta | None) -> None:
    """Keep a store path, or the output of a build, from being activated on this host."""
    from agent.application.manual import verdicts
    from agent.cli.run_quiet import with_ports

    denial = with_ports(
        config_file, lambda ports, _, run: verdicts.deny(ports, run, what, reason, length)
    )
    ends = f"until {denial.until:%Y-%m-%d %H:%M} UTC" if denial.until else "until it is allowed"
    click.echo(f"{denial.toplevel} is denied {ends}")


@click.command("pause")
@config_option
@reason_option
@length_option("For how long, such as 2h; indefinitely by default.")
def pause(config_file: Path | None, reason: str, length: timedelta | None) -> None:
    """Keep the agent from upgrading and rebooting this host, until `agent resume`.

    An upgrade that is already under way is still confirmed or rolled back.
    """
    from agent.application.manual import pauses
    from agent.cli.run_quiet import with_ports

    begun = with_ports(config_file, lambda ports, _, run: pauses.pause(ports, run, reason, length))
    ends = f"until {begun.until:%Y-%m-%d %H:%M} UTC" if begun.until else "until `agent resume`"
    click.echo(f"upgrades are paused {ends}")


@click.command("resume")
@config_option
def resume(config_file: Path | None) -> None:
    """End a pause."""
    from agent.application.manual import pauses
    from agent.cli.run_quiet import with_ports

    with_ports(config_file, lambda ports, _, run: pauses.resume(ports, run))
    click.echo("upgrades go on")


@click.command("reboot")
@config_option
@json_option
def reboot(config_file: Path | None, *, as_json: bool) -> int:
    """Do the reboot that an upgrade is waiting for, if nothing prevents it.

    Windows, inhibitors and logged-in users are respected as usual; `reboot.mode` is not, since you
    ask for it. Exits with 0 if the host reboots or need not, and with 75 if something prevents it.
    """
    from agent.application.manual.pauses import reboot_by_hand
    from agent.cli.run_command import CommandOptions, carry_out

    return carry_out(
        CommandOptions(config_file, as_json=as_json, is_unattended=False), reboot_by_hand
    )


@click.command("rollback")
@config_option
@reason_option
@json_option
def rollback(config_file: Path | None, reason: str, *, as_json: bool) -> int:
    """Go back to the last confirmed system, and deny the current one.

    If the current system is confirmed, go back to the one that was confirmed before it. The profile
    is set to the recorded store path, not to "the previous generation".
    """
    from functools import partial

    from agent.application.manual import verdicts
    from agent.cli.run_command import CommandOptions, carry_out

    asked = CommandOptions(config_file, as_json=as_json, is_unattended=False)
    return carry_out(asked, partial(verdicts.roll_back_by_hand, reason=reason))
