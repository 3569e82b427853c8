"""The demo's scenes: what is arranged, what the agent should do, and what it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.demo.stage import AgentRun, Stage

_FAILED: Final = 1


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene: `arrange` prepares the stage, then the agent runs `runs` times."""

    name: str
    story: str
    expected: str
    arrange: Callable[[Stage], None]
    runs: int = 1
    between: Callable[[Stage], None] | None = None
    """What happens between the first run and the second."""


@dataclass(frozen=True, slots=True)
class SceneResult:
    """What came of a scene: `outcome` is in the words of `expected`."""

    scene: Scene
    outcome: str
    details: tuple[str, ...]

    @property
    def is_ok(self) -> bool:
        """Whether it ended as expected."""
        return self.outcome == self.scene.expected


def play(stage: Stage, scene: Scene) -> SceneResult:
    """Play one scene and look at how it ended."""
    scene.arrange(stage)
    runs = [stage.upgrade()]
    if scene.between is not None:
        scene.between(stage)
    runs += [stage.upgrade() for _ in range(scene.runs - 1)]
    outcome = "; ".join(_outcome_of(run) for run in runs)
    return SceneResult(scene, f"{outcome}; running {stage.running()}", _details(runs[0]))


def _outcome_of(run: AgentRun) -> str:
    summary = run.summary
    if summary.get("event") == "run.idle":
        return f"exit {run.exit_code}: idle"
    reasons = summary.get("reasons")
    names = [str(reason["name"]) for reason in reasons] if isinstance(reasons, list) else []
    names += [str(summary["error.kind"])] if summary.get("error.kind") else []
    why = f" ({', '.join(dict.fromkeys(names))})" if names else ""
    return f"exit {run.exit_code}: {summary.get('outcome')}{why}"


def _details(run: AgentRun) -> tuple[str, ...]:
    """Return what the first run logged that someone watching would want to see."""
    shown = {
        "hydra.build_selected": "build {build_id} of eval {eval_id}: {toplevel}",
        "hydra.newer_build_failed": "a newer build of the job failed",
        "gate.held": "gate {gate}: {reason}",
        "verify.passed": "the flake evaluates to the very path that Hydra built",
        "fetch.finished": "{paths} paths ({bytes} bytes) substituted from the signed cache",
        "activation.started": "nixos-rebuild {action}",
        "confirmation.broken": "the new system has proved broken",
        "rollback.finished": "the confirmed system runs again: {target}",
        "system.denied": "{toplevel} is denied: {reason}",
        "confirmation.inconclusive": "that proves nothing about this host: it stays, pending",
        "confirmation.confirmed": "confirmed: roll-backs go to {toplevel} from now on",
        "loader.try_boot_set": "{loader} starts it once, and after that {default} again",
        "reboot.requested": "the host reboots: {reason}",
        "run.failed": "{error.message}",
    }
    lines = []
    for event in run.events:
        template = shown.get(str(event.get("event")))
        if template is not None:
            line = template.replace("{error.message}", str(event.get("error.message")))
            lines.append(line.format_map(event))
    return tuple(lines or run.stderr.splitlines()[-3:])


def _good_build(stage: Stage) -> None:
    stage.build(stage.releases[1])


def _nothing_new(_stage: Stage) -> None:
    """Hydra and the host stay as they are."""


def _failing_canary(stage: Stage) -> None:
    stage.build(stage.releases[2])
    stage.canary.is_healthy = False


def _red_build(stage: Stage) -> None:
    stage.canary.is_healthy = True
    stage.build(stage.releases[3], status=_FAILED)


def _other_flake(stage: Stage) -> None:
    stage.build(stage.releases[3], flake=stage.releases[0].flake)


def _broken_service(stage: Stage) -> None:
    stage.build(stage.releases[4])


def _hydra_dies(stage: Stage) -> None:
    """Let Hydra give no answer any more once the host has switched."""
    release = stage.releases[5]
    stage.build(release)
    stage.hydra.is_down = lambda: stage.running() == release.version


def _hydra_is_back(stage: Stage) -> None:
    stage.hydra.is_down = lambda: False


def _new_kernel(stage: Stage) -> None:
    stage.build(stage.releases[6])


def _power_cycle(stage: Stage) -> None:
    """Let the host go down and come up again, as it has asked for."""
    stage.host.power_cycle()


SCENES: Final = (
    Scene(
        "good-build",
        "Hydra has built 26.05.2 green. The agent finds it, proves that the locked flake gives"
        " that very path, substitutes it and switches.",
        "exit 0: confirmed; running 26.05.2",
        _good_build,
    ),
    Scene(
        "nothing-to-do",
        "Nothing new. The first run asks Hydra everything, the second is idle: one request.",
        "exit 0: nothing-to-do; exit 0: idle; running 26.05.2",
        _nothing_new,
        runs=2,
    ),
    Scene(
        "unhealthy-canary",
        "Hydra has 26.05.3, but a service that this host depends on is failing. The agent holds.",
        "exit 75: held (health); running 26.05.2",
        _failing_canary,
    ),
    Scene(
        "failed-build",
        "The canary works again, and the build of 26.05.4 failed in Hydra. The agent takes"
        " the newest good build, 26.05.3, and never considers the failed one.",
        "exit 0: confirmed; running 26.05.3",
        _red_build,
    ),
    Scene(
        "other-flake",
        "A further build of 26.05.4 is green, but the flake that Hydra names for it evaluates to"
        " another path. The agent refuses.",
        "exit 1: failed (path-mismatch); running 26.05.3",
        _other_flake,
    ),
    Scene(
        "broken-service",
        "26.05.5 is green, and breaks the service that this host is there for. The agent sees it,"
        " rolls back by itself and denies that path. The next run holds: the older build of 26.05.4"
        " is suspect.",
        "exit 1: rolled-back (check-failed, rolled-back); exit 75: held (denied, suspect);"
        " running 26.05.3",
        _broken_service,
        runs=2,
    ),
    Scene(
        "hydra-outage",
        "26.05.6 is good, and Hydra goes down just after the switch. That proves nothing about"
        " this host: nothing is rolled back, and once Hydra is back the system is confirmed.",
        "exit 75: pending (hydra-unreachable); exit 0: nothing-to-do; running 26.05.6",
        _hydra_dies,
        runs=2,
        between=_hydra_is_back,
    ),
    Scene(
        "new-kernel",
        "26.05.7 has a new kernel, which takes a reboot. The boot loader is to try it once; when it"
        " has come up and proved healthy, it becomes the default.",
        "exit 0: rebooting (reboot); exit 0: nothing-to-do; running 26.05.7",
        _new_kernel,
        runs=2,
        between=_power_cycle,
    ),
)
