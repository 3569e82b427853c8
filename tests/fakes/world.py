"""One host with its Hydra, cache, canary and history in memory: what a run does to it, shows."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from agent.application import by_hand, events
from agent.application.ports import Fetched, Ports
from agent.application.run import RunSettings
from agent.application.upgrade import upgrade
from agent.domain.build import Build
from agent.domain.candidate import Candidate
from agent.domain.check import IcmpCheck
from agent.domain.errors import Kind, LockedError, NixError
from agent.domain.flake_reference import LockedFlakeReference
from agent.domain.gates import FetchPlan
from agent.domain.policy import Action
from agent.domain.store_path import StorePath
from agent.domain.systems import BootArtifacts
from agent.domain.units import CONFIRM_UNIT

from .host import FakeHost, FakeSystem
from .hydra import FakeHydra, FakeJobset
from .journal import FakeJournal
from .lock import FakeLock
from .marks import FakeMarks
from .nix import FakeNix, FakeNixosRebuild, RememberedProgress
from .prober import FakeProber
from .profile import FakeProfile
from .samples import JOB, OLD, POLICY
from .systemd import ENDED, FakeSystemd, failed
from .telling import RememberedEvents, SteppedClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import datetime

    from agent.application.ports import ActivationExit, Progress, RunRecord, UnitStatus
    from agent.application.report import Report
    from agent.domain.check import Check, CheckResult
    from agent.domain.gates import FreeSpace
    from agent.domain.job import Job
    from agent.domain.marks import Mark
    from agent.domain.policy import Policy
    from agent.domain.standing import Denial
    from agent.domain.systems import Systems

STORE = "/nix/store"
CANARY = "canary.example"
SERVICE = "service.example"
GATEWAY = "192.0.2.1"
CACHE = "https://cache.example.org"
WATCHFUL = replace(
    POLICY,
    checks=(IcmpCheck("canary", CANARY, timedelta(seconds=5)),),
    confirm=replace(POLICY.confirm, checks=(IcmpCheck("service", SERVICE, timedelta(seconds=5)),)),
)
"""The sample policy, with a canary to look at before and a service to look at after an upgrade."""
CLOSURE = FetchPlan(paths=3, download_bytes=100 << 20, unpacked_bytes=300 << 20)


class PowerCut(BaseException):
    """The machine is gone in the middle of a step: nobody cleans up, records or tells anything."""


class Steps(list[str]):
    """What was asked of the ports, in order; a test may let something happen at a step.

    What happens, happens after the step was noted and before it has any effect; it may raise.
    """

    def __init__(self) -> None:
        super().__init__()
        self._happenings: dict[str, Callable[[], None]] = {}

    @override
    def append(self, step: str) -> None:
        super().append(step)
        self._happenings.get(step, lambda: None)()

    def at(self, step: str, happening: Callable[[], None] | BaseException) -> None:
        """Let something happen, or an exception be raised, whenever `step` comes."""

        def throw() -> None:
            assert isinstance(happening, BaseException)
            raise happening

        self._happenings[step] = throw if isinstance(happening, BaseException) else happening

    def calm(self) -> None:
        """Let nothing happen at any step from now on."""
        self._happenings.clear()

    def among(self, *steps: str) -> list[str]:
        """Return what was asked, in order, as far as it is among `steps`."""
        return [step for step in self if step in steps]


class WorldNix(FakeNix):
    """A nix to whose steps things can happen, and that looks at signatures."""

    unsigned: frozenset[StorePath] = frozenset()

    @override
    async def substitute(self, path: StorePath, progress: Progress) -> Fetched:
        if path in self.unsigned and path not in self.valid:
            self._note("substitute")
            raise NixError(Kind.SIGNATURE_UNTRUSTED, f"{path} is not signed by a trusted key")
        return await super().substitute(path, progress)


@dataclass
class WorldNixosRebuild(FakeNixosRebuild):
    """A nixos-rebuild that notes its steps: `nixos-rebuild build`, `activate-flake`, each action."""

    steps: Steps = field(default_factory=Steps)

    @override
    async def build(self, flake: LockedFlakeReference, host: str) -> StorePath:
        self.steps.append("nixos-rebuild build")
        return await super().build(flake, host)

    @override
    async def activate_flake(
        self, action: Action, flake: LockedFlakeReference, host: str
    ) -> ActivationExit:
        self.steps.append("activate-flake")
        return await super().activate_flake(action, flake, host)

    @override
    async def activate_store_path(self, action: Action, path: StorePath) -> ActivationExit:
        self.steps.append(action)
        await asyncio.sleep(0)  # where a cancellation arrives
        return await super().activate_store_path(action, path)


class WorldProber(FakeProber):
    """A prober that notes each check as a step; `was_well` is its last answer about the canary."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.was_well = False
        self._steps = steps

    @override
    async def probe(self, check: Check) -> CheckResult:
        self._steps.append(f"probe {check.name}")
        result = await super().probe(check)
        if check.target == CANARY:
            self.was_well = result.is_well
        return result


class WorldHost(FakeHost):
    """A host on `OLD`, whose links an activation and a boot move."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.running = self.booted = self.profile = OLD
        self.contents[OLD] = system_with("k1")
        self._steps = steps

    def activate(self, action: Action, path: StorePath) -> None:
        """Move the links as nixos-rebuild and switch-to-configuration do."""
        if action.moves_profile:
            self.profile = path
        self.switch_to(action, path)

    def switch_to(self, action: Action, path: StorePath) -> None:
        """Move the link as switch-to-configuration does, which leaves the profile alone."""
        if action in (Action.SWITCH, Action.TEST):
            self.running = path

    def boot(self) -> None:
        """Start what the profile names, as after a reboot or a power cut."""
        self.running = self.booted = self.profile
        self.boot_id += "+"

    def specialise(self, path: StorePath, name: str, special: StorePath, kernel: str) -> None:
        """Give a system a specialisation."""
        self.contents[path].specialisations[name] = special
        self.contents[special] = system_with(kernel)

    @override
    def systems(self) -> Systems:
        self._steps.append("systems")
        return super().systems()

    @override
    def free_space(self) -> FreeSpace:
        self._steps.append("free-space")
        return super().free_space()

    @override
    async def reboot(self) -> None:
        self._steps.append("reboot")
        await asyncio.sleep(0)  # where a cancellation arrives
        await super().reboot()


class WorldJournal(FakeJournal):
    """A history whose writes are steps; `written` is every row as it was written."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.written: list[RunRecord] = []
        self._steps = steps

    @override
    def note_contact(self, now: datetime) -> None:
        self._steps.append("journal contact")
        super().note_contact(now)

    @override
    def prepare(self) -> None:
        self._steps.append("journal prepare")
        super().prepare()

    @override
    def record(self, run: RunRecord) -> None:
        self._steps.append(f"journal {run.outcome}")
        super().record(run)
        self.written.append(run)

    @override
    def deny(self, denial: Denial, run: RunRecord | None = None) -> None:
        self._steps.append("journal deny")
        super().deny(denial, run)

    @override
    def highest_build(self, job: Job) -> int | None:
        self._steps.append("highest-build")
        return super().highest_build(job)


class WorldMarks(FakeMarks):
    """Marks whose changes are steps: `mark pending`, `unmark pending`, `pending to confirmed`."""

    def __init__(self, steps: Steps, clock: SteppedClock) -> None:
        super().__init__(clock)
        self._steps = steps

    @override
    def set(self, mark: Mark, toplevel: StorePath) -> None:
        self._steps.append(f"mark {mark}")
        super().set(mark, toplevel)

    @override
    def remove(self, mark: Mark) -> None:
        self._steps.append(f"unmark {mark}")
        super().remove(mark)

    @override
    def move(self, mark: Mark, toplevel: StorePath, to: Mark) -> bool:
        self._steps.append(f"{mark} to {to}")
        return super().move(mark, toplevel, to)


class WorldSystemd(FakeSystemd):
    """A systemd whose acts are steps: `arm`, `start confirm`, `switch-to-configuration boot`…"""

    def __init__(self, steps: Steps, switches: Callable[[Action, StorePath], None]) -> None:
        super().__init__(switches)
        self._steps = steps

    @override
    async def start(self, unit: str) -> None:
        self._steps.append("start confirm" if unit == CONFIRM_UNIT else f"start {unit}")
        await super().start(unit)

    @override
    async def arm(self, delay: timedelta, run_id: str, toplevel: StorePath) -> None:
        self._steps.append("arm")
        await super().arm(delay, run_id, toplevel)

    @override
    async def disarm(self) -> None:
        self._steps.append("disarm")
        await super().disarm()

    @override
    async def stop_activation(self) -> None:
        self._steps.append("stop-activation")
        await super().stop_activation()

    @override
    async def activate(self, toplevel: StorePath, action: Action) -> ActivationExit:
        self._steps.append(f"switch-to-configuration {action}")
        await asyncio.sleep(0)  # where a cancellation arrives
        return await super().activate(toplevel, action)


class WorldProfile(FakeProfile):
    """A profile whose changes are steps: `set-profile`, `remove-generations`."""

    def __init__(self, steps: Steps, host: FakeHost) -> None:
        super().__init__(host)
        self._steps = steps

    @override
    async def set(self, toplevel: StorePath) -> None:
        self._steps.append("set-profile")
        await super().set(toplevel)

    @override
    async def remove_generations(self, toplevel: StorePath) -> int:
        self._steps.append("remove-generations")
        return await super().remove_generations(toplevel)


class WorldLock(FakeLock):
    """A lock that is a step to take."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    @override
    @contextmanager
    def hold(self) -> Iterator[None]:
        self._steps.append("lock")
        with super().hold():
            yield

    def is_taken_by_another(self) -> None:
        """Let another agent be at work."""
        self.fault = LockedError(Kind.LOCKED, "another agent is at work: process 42")


class WorldIdleNote:
    """Keeps the build of the last note."""

    def __init__(self, steps: Steps) -> None:
        self.build_id: int | None = None
        self.systems: Systems | None = None
        self._steps = steps

    def forget(self) -> None:
        self._steps.append("idle-note forgotten")
        self.build_id = None

    def write(self, build_id: int, systems: Systems) -> None:
        self._steps.append("idle-note")
        self.build_id = build_id
        self.systems = systems


class World:
    """Everything a run can see and change; `run` lets the agent have its turn.

    The host begins on `OLD`, which is of no build that Hydra knows. `told` and `steps` are of
    the last run, `told_by_new` is what the confirm unit of the new system said last. That unit does
    what the new agent does, with the settings `new_policy`, or with those of the last run.
    """

    def __init__(self) -> None:
        self.steps = Steps()
        self.clock = SteppedClock()
        self.told = RememberedEvents()
        self.hydra = FakeHydra()
        self.hydra.jobsets[JOB.project, JOB.jobset] = FakeJobset()
        self.hydra.asked = self.steps
        self.nix = WorldNix(asked=self.steps, valid={OLD})
        self.host = WorldHost(self.steps)
        self.nixos_rebuild = WorldNixosRebuild({}, self.host.activate, steps=self.steps)
        self.journal = WorldJournal(self.steps)
        self.prober = WorldProber(self.steps)
        self.lock = WorldLock(self.steps)
        self.idle_note = WorldIdleNote(self.steps)
        self.marks = WorldMarks(self.steps, self.clock)
        self.systemd = WorldSystemd(self.steps, self.host.switch_to)
        self.systemd.programs[CONFIRM_UNIT] = self._confirm
        self.profile = WorldProfile(self.steps, self.host)
        self.told_by_new = RememberedEvents()
        self.new_policy: Policy | None = None
        self.runs = 0
        self.confirmations = 0
        self._policy = WATCHFUL

    @property
    def jobset(self) -> FakeJobset:
        """The jobset that the host's job is in."""
        return self.hydra.jobsets[JOB.project, JOB.jobset]

    @property
    def ports(self) -> Ports:
        """The world as the use cases know it."""
        return Ports(
            clock=self.clock,
            sink=self.told,
            hydra=self.hydra,
            nix=self.nix,
            nixos_rebuild=self.nixos_rebuild,
            host=self.host,
            journal=self.journal,
            prober=self.prober,
            lock=self.lock,
            progress=RememberedProgress(),
            idle_note=self.idle_note,
            marks=self.marks,
            systemd=self.systemd,
            profile=self.profile,
        )

    def publish(
        self, build_id: int, toplevel: StorePath, *, kernel: str = "k1", is_cached: bool = True
    ) -> Build:
        """Let Hydra have a good build, in an eval of its own, whose flake yields it."""
        eval_id = build_id + 1000
        flake = flake_of(eval_id)
        build = Build(
            id=build_id,
            project=JOB.project,
            jobset=JOB.jobset,
            job=JOB.name,
            system="x86_64-linux",
            is_finished=True,
            status=0,
            outputs={"out": toplevel},
            evals=(eval_id,),
            finished_at=self.clock.now(),
        )
        self.hydra.add(build)
        self.jobset.evals[eval_id] = flake
        self.nix.evaluates[flake, POLICY.host] = toplevel
        self.nixos_rebuild.builds[flake, POLICY.host] = toplevel
        if is_cached:
            self.nix.cached[toplevel] = CLOSURE
        self.host.contents[toplevel] = system_with(kernel)
        return build

    def change(self, build_id: int, **changes: object) -> None:
        """Change a build, as an administrator of Hydra or Hydra itself does."""
        self.hydra.add(replace(self.hydra.builds[build_id], **changes))  # type: ignore[arg-type]

    def canary_dies(self) -> None:
        """Let the canary answer no more."""
        self.prober.reasons[CANARY] = "no reply"

    def canary_recovers(self) -> None:
        """Let the canary answer again."""
        self.prober.reasons.pop(CANARY, None)

    def service_breaks(self) -> None:
        """Let the service answer no more that confirmation looks at."""
        self.prober.reasons[SERVICE] = "no reply"

    def hydra_is_gone(self) -> None:
        """Let Hydra answer nobody any more."""
        self.prober.reasons[JOB.instance] = "refused"

    def host_is_cut_off(self) -> None:
        """Let nobody outside answer any more."""
        self.hydra_is_gone()
        self.prober.reasons[GATEWAY] = "no reply"
        self.prober.reasons[f"{CACHE}/nix-cache-info"] = "no route"

    def all_is_well(self) -> None:
        """Let everybody answer again."""
        self.prober.reasons.clear()

    def somebody_switches(self, path: StorePath) -> None:
        """Let a person bring a system to the host, past the agent."""
        self.host.contents.setdefault(path, system_with("k1"))
        self.host.activate(Action.SWITCH, path)
        self.host.changed = self.clock.now()

    def run(
        self,
        policy: Policy = WATCHFUL,
        *,
        dry_run: bool = False,
        ended_by: Callable[[], Kind] = lambda: Kind.TERMINATED,
    ) -> Report:
        """Do one run of `agent upgrade`."""
        return self.carry_out(upgrade, policy, dry_run=dry_run, ended_by=ended_by)

    def carry_out(
        self,
        use_case: Callable[[Ports, Policy, RunSettings], Awaitable[Report]],
        policy: Policy = WATCHFUL,
        **asked: Any,
    ) -> Report:
        """Do one run, and prove that it ended in one summary, unless the power was cut.

        `asked` are fields of `RunSettings`.
        """
        self.runs += 1
        self.steps.clear()
        self.told = RememberedEvents()
        self._policy = policy
        settings = RunSettings(f"run-{self.runs}", STORE, **asked)

        async def main() -> Report:
            return await use_case(self.ports, policy, settings)

        try:
            report = asyncio.run(main())
        except asyncio.CancelledError:
            self._prove_one_summary()
            raise
        self._prove_one_summary()
        return report

    async def _confirm(self) -> UnitStatus:
        """Do what the new system's confirm unit does, and return the state that it leaves."""
        self.confirmations += 1
        self.told_by_new = RememberedEvents()
        ports = replace(self.ports, sink=self.told_by_new)
        settings = RunSettings(f"confirm-{self.confirmations}", STORE)
        report = await by_hand.confirm(ports, self.new_policy or self._policy, settings)
        return ENDED if report.exit_code == 0 else failed(report.exit_code)

    def _prove_one_summary(self) -> None:
        assert self.told.names()[0] == "run.started"
        assert self.told.names()[-1] == "run.finished"
        assert self.told.names().count("run.finished") == 1
        assert not self.lock.is_held

    def summary(self) -> dict[str, object]:
        """Return what the last run said at its end."""
        return self.told.fields_of(events.RUN_FINISHED)

    def last_row(self) -> RunRecord:
        """Return the journal's newest row, which must be there."""
        (row,) = self.journal.runs(1)
        return row


def system_with(kernel: str) -> FakeSystem:
    """Return a system of the host `h`, told apart from others by its kernel alone."""
    return FakeSystem(
        BootArtifacts(f"/{kernel}", "/i", "/m", ""), hostname="h", units={CONFIRM_UNIT: "confirm"}
    )


def system(number: int) -> StorePath:
    """Return a store path of its own for each number."""
    return StorePath(f"{STORE}/{number:032d}-nixos-system-h")


def flake_of(eval_id: int) -> LockedFlakeReference:
    """Return the locked flake that an eval of this world evaluated."""
    return LockedFlakeReference(f"git+https://git.example.org/hosts?ref=main&rev={eval_id:040x}")


def candidate_of(build: Build) -> Candidate:
    """Return a build of this world as the flake strategy sees it."""
    eval_id = build.evals_newest_first[0]
    return Candidate(
        job=JOB,
        build_id=build.id,
        toplevel=StorePath(build.outputs["out"] or ""),
        system=build.system,
        finished_at=build.finished_at,
        eval_id=eval_id,
        flake=flake_of(eval_id),
    )
