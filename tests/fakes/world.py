"""One host with its Hydra, cache, canary and history in memory: what a run does to it, shows."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from agent.application import events
from agent.application.manual import verdicts
from agent.application.ports import Ports
from agent.application.run import RunSettings
from agent.application.upgrade import upgrade
from agent.domain.build import Build
from agent.domain.candidate import Candidate
from agent.domain.check import IcmpCheck
from agent.domain.errors import Kind
from agent.domain.facts import FetchPlan
from agent.domain.flake_reference import LockedFlakeReference
from agent.domain.policy import Action
from agent.domain.store_path import StorePath
from agent.domain.unit_names import CONFIRM_UNIT

from .events import RememberedEvents, SteppedClock
from .good_builds import FakeGoodBuilds
from .hydra import FakeHydra, FakeJobset
from .logind import FakeLogind
from .nix import FakeResolver, RememberedProgress
from .prober import SkippingLoop
from .samples import JOB, OLD, POLICY
from .sightings import FakeSightings
from .stepwise import (
    Steps,
    WorldHost,
    WorldIdleNote,
    WorldJournal,
    WorldLock,
    WorldMarks,
    WorldNix,
    WorldNixosRebuild,
    WorldProber,
    WorldProfile,
    WorldSystemd,
    system_with,
)
from .system_settings import FakeSystemSettings
from .systemd import ENDED, failed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.application.ports import RunRecord, UnitStatus
    from agent.application.report import Report
    from agent.domain.policy import ConfirmPolicy, Policy

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


class World:
    """Everything a run can see and change; `run` lets the agent have its turn.

    The host begins on `OLD`, which is of no build that Hydra knows. `told` and `steps` are of
    the last run, `told_by_new` is what the confirm unit of the new system said last. That unit does
    what the new agent does, with the settings `new_policy`, or with those of the last run. All
    systems but `OLD` bring `new_policy` with them, or nothing that can be read.
    """

    def __init__(self) -> None:
        self.steps = Steps()
        self.clock = SteppedClock()
        self.told = RememberedEvents()
        self.hydra = FakeHydra()
        self.hydra.jobsets[JOB.project, JOB.jobset] = FakeJobset()
        self.hydra.asked = self.steps
        self.nix = WorldNix(asked=self.steps, valid={OLD})
        self.resolver = FakeResolver()
        self.host = WorldHost(self.steps)
        self.host.is_fetched = self._is_fetched
        self.nixos_rebuild = WorldNixosRebuild({}, self.host.activate, steps=self.steps)
        self.journal = WorldJournal(self.steps)
        self.prober = WorldProber(self.steps)
        self.lock = WorldLock(self.steps)
        self.idle_note = WorldIdleNote(self.steps)
        self.marks = WorldMarks(self.steps, self.clock)
        self.systemd = WorldSystemd(self.steps, self.host.switch_to)
        self.systemd.programs[CONFIRM_UNIT] = self._confirm
        self.nixos_rebuild.refuses = self.host.refuses_after_profile
        self.systemd.refuses = self.host.refuses
        self.profile = WorldProfile(self.steps, self.host)
        self.logind = FakeLogind()
        self.good_builds = FakeGoodBuilds()
        self.sightings = FakeSightings(lambda: (self.host.boot_id, self.clock.elapsed()))
        self.told_by_new = RememberedEvents()
        self.new_policy: Policy | None = None
        self.runs = 0
        self.confirmations = 0
        self.asked_policy = WATCHFUL

    def _is_fetched(self, path: StorePath) -> bool:
        """Whether what some cache has is here, too."""
        is_cached_only = path in self.nix.cached and path not in self.nix.valid
        return not is_cached_only or path in {self.host.running, *self.host.generations.values()}

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
            resolver=self.resolver,
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
            logind=self.logind,
            loader=self.host.loader,
            good_builds=self.good_builds,
            system_settings=WorldSettings(self),
            sightings=self.sightings,
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

    def builds_instead(self, build_id: int, toplevel: StorePath) -> None:
        """Let this host's nixos-rebuild make another system of a build's flake than Hydra has."""
        self.nixos_rebuild.builds[flake_of(build_id + 1000), POLICY.host] = toplevel
        self.host.contents[toplevel] = system_with("k1")

    def change(self, build_id: int, **changes: object) -> None:
        """Change a build, as an administrator of Hydra or Hydra itself does."""
        self.hydra.add(replace(self.hydra.builds[build_id], **changes))  # type: ignore[arg-type]

    def links(self) -> tuple[StorePath | None, StorePath | None, StorePath | None]:
        """Return running, booted and profile."""
        return self.host.running, self.host.booted, self.host.profile

    def is_untouched(self) -> bool:
        """Whether nothing on the host has changed, and no row says that anything was tried."""
        return (
            self.links() == (OLD, OLD, OLD)
            and not self.nixos_rebuild.activated
            and all(row.previous is None for row in self.journal.written)
        )

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
        *,
        summaries: int = 1,
        **asked: Any,
    ) -> Report:
        """Do one run, and prove that it ended in one summary, unless the power was cut.

        `asked` are fields of `RunSettings`. A patient one has as many `summaries` as it has looked.
        """
        self.runs += 1
        self.steps.clear()
        self.told = RememberedEvents()
        self.asked_policy = policy
        settings = RunSettings(f"run-{self.runs}", STORE, **asked)

        async def main() -> Report:
            return await use_case(self.ports, policy, settings)

        try:
            with asyncio.Runner(loop_factory=SkippingLoop) as runner:
                report = runner.run(main())
        except asyncio.CancelledError:
            self._prove_one_summary(summaries)
            raise
        self._prove_one_summary(summaries)
        return report

    async def _confirm(self) -> UnitStatus:
        """Do what the new system's confirm unit does, and return the state that it leaves."""
        self.confirmations += 1
        self.told_by_new = RememberedEvents()
        ports = replace(self.ports, sink=self.told_by_new)
        settings = RunSettings(f"confirm-{self.confirmations}", STORE)
        report = await verdicts.confirm(ports, self.new_policy or self.asked_policy, settings)
        return ENDED if report.exit_code == 0 else failed(report.exit_code)

    def _prove_one_summary(self, summaries: int = 1) -> None:
        assert self.told.names()[0] == "run.started"
        assert self.told.names()[-1] == "run.finished"
        assert self.told.names().count("run.finished") == summaries
        assert not self.lock.is_held

    def summary(self) -> dict[str, object]:
        """Return what the last run said at its end."""
        return self.told.fields_of(events.RUN_FINISHED)

    def last_row(self) -> RunRecord:
        """Return the journal's newest row, which must be there."""
        (row,) = self.journal.runs(1)
        return row


class WorldSettings(FakeSystemSettings):
    """Lets the new systems of a world bring its `new_policy`."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def _brought_by(self, toplevel: StorePath) -> Policy | None:
        is_new = toplevel != OLD and self._world.host.exists(toplevel)
        return self._world.new_policy if is_new else None

    @override
    def confirm_of(self, toplevel: StorePath) -> ConfirmPolicy | None:
        brought = self._brought_by(toplevel)
        return None if brought is None else brought.confirm

    @override
    def dropped_canaries(self, toplevel: StorePath) -> frozenset[str]:
        brought = self._brought_by(toplevel)
        if brought is None:
            return frozenset()
        kept = {check.name for check in brought.checks}
        return frozenset({check.name for check in self._world.asked_policy.checks} - kept)


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
