"""`agent demo`."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from agent.cli.options import json_option

if TYPE_CHECKING:
    from rich.console import Console

    from agent.demo.scenes import Scene, SceneResult


@click.command("demo")
@json_option
def command(as_json: bool) -> int:
    """Watch the agent upgrade a throw-away host.

    An embedded Hydra, a signed binary cache and a host with real nix are set up in a temporary
    directory, and removed afterwards. Exits with 0 only if every scene ends as expected.
    """
    from rich.console import Console

    from agent.adapters.process import ProgramFailedError, ProgramMissingError
    from agent.domain.errors import AgentError, Kind

    console = Console(file=sys.stderr if as_json else sys.stdout, highlight=False, quiet=as_json)
    _handle_signals()
    try:
        played = _play_all(console)
    except (ProgramMissingError, ProgramFailedError, OSError) as error:
        raise AgentError(
            Kind.DEMO_IMPOSSIBLE,
            f"the demo's environment cannot be created: {error}",
            hint="it needs nix, git and disk space for temporary files",
        ) from error
    if as_json:
        click.echo(json.dumps({"scenes": [_object(scene) for scene in played]}))
    else:
        _print_table(console, played)
    return 0 if all(scene.is_ok for scene in played) else 1


def _handle_signals() -> None:
    """Make the signals that end the process remove everything first."""
    from agent.adapters.process import ENDING_SIGNALS

    def end(number: int, _frame: object) -> NoReturn:
        for handled in ENDING_SIGNALS:
            signal.signal(handled, _ignore_signal)
        sys.exit(128 + number)

    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, end)


def _ignore_signal(_number: int, _frame: object) -> None:
    """Do nothing: a second signal would interrupt the cleanup."""


def _play_all(console: Console) -> list[SceneResult]:
    from agent.demo.scenes import SCENES, play
    from agent.demo.stage import open_stage

    console.print("[bold]Preparing[/] a Hydra, a signed binary cache and a host, with real nix …")
    played = []
    with open_stage() as stage:
        console.print(f"The host runs {stage.running()}; everything is below {stage.layout.root}.")
        for number, scene in enumerate(SCENES, start=1):
            _print_heading(console, number, scene)
            result = play(stage, scene)
            for line in result.details:
                console.print(f"   {line}", style="dim", markup=False, soft_wrap=True)
            mark = "[green]✓[/]" if result.is_ok else "[red]✗[/]"
            console.print(f" {mark} {result.outcome}")
            if not result.is_ok:
                console.print(f"   [red]expected: {scene.expected}[/]")
            played.append(result)
    return played


def _print_heading(console: Console, number: int, scene: Scene) -> None:
    from rich.padding import Padding

    console.print()
    console.print(f"[bold]{number}. {scene.name}[/]")
    console.print(Padding(scene.story, (0, 0, 0, 3), expand=False))


def _print_table(console: Console, played: list[SceneResult]) -> None:
    from rich.table import Table

    table = Table("", "scene", "outcome")
    for result in played:
        mark = "[green]✓[/]" if result.is_ok else "[red]✗[/]"
        expected = "" if result.is_ok else f"\n[red]expected: {result.scene.expected}[/]"
        table.add_row(mark, result.scene.name, f"{result.outcome}{expected}")
    console.print()
    console.print(table)


def _object(played: SceneResult) -> dict[str, object]:
    return {
        "name": played.scene.name,
        "expected": played.scene.expected,
        "outcome": played.outcome,
        "ok": played.is_ok,
    }
