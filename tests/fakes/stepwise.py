"""Fakes whose acts are steps of one world, noted in order: something may happen at each."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from typing_extensions import override

from agent.application.ports import ActivationExit
from agent.domain.errors import HostError, JournalError, Kind, LockedError, NixError
from agent.domain.policy import Action
from agent.domain.systems import BootArtifacts
from agent.domain.unit_names import CONFIRM_UNIT

from .host import FakeHost, FakeSystem
from .journal import FakeJournal
from .loader import FakeLoader
from .lock import FakeLock
from .marks import FakeMarks
from .nix import FakeNix, FakeNixosRebuild
from .prober import FakeProber
from .profile import FakeProfile
from .samples import OLD
from .systemd import FakeSystemd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime, timedelta

    from agent.application.ports import Fetched, Progress, RunRecord
    from agent.domain.check import Check, CheckResult
    from agent.domain.facts import FreeSpace
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.job import Job
    from agent.domain.marks import Mark
    from agent.domain.path_record import Denial, TakenBuild
    from agent.domain.store_path import StorePath
    from agent.domain.systems import Systems

    from .events import SteppedClock


class Steps(list[str]):
    """What was asked of the ports, in order; a test may let something happen at a step.

    What happens, happens after the step was noted and before it has any effect; it may raise. The
    answer to a step may get lost: it has its effect, and who has asked hears of a failure.
    """

    def __init__(self) -> None:
        super().__init__()
        self._happenings: dict[str, Callable[[], None]] = {}
        self._lost: set[str] = set()

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

    def lose(self, step: str) -> None:
        """Let the answer to `step` get lost, whenever it comes."""
        self._lost.add(step)

    def is_lost(self, step: str) -> bool:
        """Return whether the answer to a step, which has had its effect by now, gets lost."""
        return step in self._lost

    def calm(self) -> None:
        """Let nothing happen at any step from now on, and every answer arrive."""
        self._happenings.clear()
        self._lost.clear()

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
        fetched = await super().substitute(path, progress)
        if isinstance(self.asked, Steps) and self.asked.is_lost("substitute"):
            raise NixError(Kind.NIX_TIMEOUT, "nix had fetched all, and did not end")
        return fetched


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
        self,
        action: Action,
        flake: LockedFlakeReference,
        host: str,
        specialisation: str | None = None,
    ) -> ActivationExit:
        self.steps.append("activate-flake")
        return await super().activate_flake(action, flake, host, specialisation)

    @override
    async def activate_store_path(
        self, action: Action, path: StorePath, specialisation: str | None = None
    ) -> ActivationExit:
        self.steps.append(action)
        await asyncio.sleep(0)  # where a cancellation arrives
        ended = await super().activate_store_path(action, path, specialisation)
        return ActivationExit(-9, "") if self.steps.is_lost(action) else ended


class WorldProber(FakeProber):
    """A prober that notes each check as a step."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    @override
    async def probe(self, check: Check) -> CheckResult:
        self._steps.append(f"probe {check.name}")
        return await super().probe(check)


class WorldLoader(FakeLoader):
    """A loader whose changes are steps: `make-default`, `boot-once`, `forget-once`, `bless`."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    @override
    async def make_default(self, toplevel: StorePath) -> bool:
        self._steps.append("make-default")
        return await super().make_default(toplevel) and not self._steps.is_lost("make-default")

    @override
    async def boot_once(self, toplevel: StorePath) -> bool:
        self._steps.append("boot-once")
        return await super().boot_once(toplevel) and not self._steps.is_lost("boot-once")

    @override
    async def forget_once(self) -> None:
        self._steps.append("forget-once")
        await super().forget_once()

    @override
    async def bless(self) -> None:
        self._steps.append("bless")
        await super().bless()


class WorldHost(FakeHost):
    """A host on `OLD`, whose links an activation and a boot move."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.running = self.booted = self.profile = OLD
        self.contents[OLD] = system_with("k1")
        self.loader = WorldLoader(steps)
        self.loader.installed = OLD
        self._steps = steps

    def activate(self, action: Action, path: StorePath, specialisation: str | None = None) -> None:
        """Move the links as nixos-rebuild and switch-to-configuration do."""
        if action.moves_profile:
            self.profile = path
        self.switch_to(
            action, path if specialisation is None else self.specialisations(path)[specialisation]
        )

    def refuses_after_profile(self, toplevel: StorePath, action: Action) -> ActivationExit | None:
        """Return how it refuses; nixos-rebuild has moved the profile before it asks."""
        refusal = self.refuses(toplevel, action)
        if refusal is not None and action.moves_profile:
            self.profile = toplevel
        return refusal

    def switch_to(self, action: Action, path: StorePath) -> None:
        """Move the link as switch-to-configuration does, which leaves the profile alone."""
        if action.moves_profile and not self._is_special(path):
            self.loader.installed = path
        if action in (Action.SWITCH, Action.TEST):
            self.running = path

    def _is_special(self, path: StorePath) -> bool:
        """Whether it is a specialisation, which the installer makes the default of nothing."""
        return any(path in found.specialisations.values() for found in self.contents.values())

    def boot(self) -> None:
        """Start what the boot loader has, as after a reboot or a power cut."""
        self.running = self.booted = self.loader.starts()
        self.boot_id += "+"

    def specialise(self, path: StorePath, name: str, special: StorePath, kernel: str) -> None:
        """Give a system a specialisation."""
        self.contents[path].specialisations[name] = special
        self.contents[special] = system_with(kernel)
        self.loader.entries.add(special)

    @override
    def systems(self) -> Systems:
        self._steps.append("systems")
        return super().systems()

    @override
    def free_space(self) -> FreeSpace:
        self._steps.append("free-space")
        return super().free_space()

    @override
    async def reboot(self, *, forced: bool = False) -> None:
        self._steps.append("reboot")
        await asyncio.sleep(0)  # where a cancellation arrives
        await super().reboot(forced=forced)
        if self._steps.is_lost("reboot"):
            raise HostError(Kind.REBOOT_FAILED, "no answer")


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
        self._lose(f"journal {run.outcome}")

    @override
    def deny(self, denial: Denial, run: RunRecord | None = None) -> None:
        self._steps.append("journal deny")
        super().deny(denial, run)
        self._lose("journal deny")

    @override
    def newest_taken(self, job: Job) -> TakenBuild | None:
        self._steps.append("highest-build")
        return super().newest_taken(job)

    def _lose(self, step: str) -> None:
        """Raise what SQLite says where a row is written and the disk does not confirm it."""
        if self._steps.is_lost(step):
            raise JournalError(Kind.STATE_IO_ERROR, "the disk gives no answer")


class WorldMarks(FakeMarks):
    """Marks whose changes are steps: `mark pending`, `unmark pending`, `pending to confirmed`.

    As with the real ones, only the answer to `set` can get lost: the others have decided something,
    which everybody sees by then, and do not raise after it.
    """

    def __init__(self, steps: Steps, clock: SteppedClock) -> None:
        super().__init__(clock)
        self.steps = steps

    @override
    def set(self, mark: Mark, toplevel: StorePath) -> None:
        self.steps.append(f"mark {mark}")
        super().set(mark, toplevel)
        if self.steps.is_lost(f"mark {mark}"):
            raise HostError(Kind.MARKS_UNUSABLE, "the disk gives no answer")

    @override
    def remove(self, mark: Mark) -> None:
        self.steps.append(f"unmark {mark}")
        super().remove(mark)

    @override
    def move(self, mark: Mark, toplevel: StorePath, to: Mark) -> bool:
        self.steps.append(f"{mark} to {to}")
        return super().move(mark, toplevel, to)


class WorldSystemd(FakeSystemd):
    """A systemd whose acts are steps: `arm`, `start confirm`, `switch-to-configuration boot`…"""

    def __init__(self, steps: Steps, switches: Callable[[Action, StorePath], None]) -> None:
        super().__init__(switches)
        self._steps = steps

    @override
    async def start(self, unit: str, *, afresh: bool = False) -> bool:
        step = "start confirm" if unit == CONFIRM_UNIT else f"start {unit}"
        self._steps.append(step)
        return await super().start(unit, afresh=afresh) and not self._steps.is_lost(step)

    @override
    async def arm(self, delay: timedelta, run_id: str, toplevel: StorePath) -> None:
        self._steps.append("arm")
        await super().arm(delay, run_id, toplevel)
        if self._steps.is_lost("arm"):
            raise HostError(Kind.SYSTEMD_SILENT, "systemd does not say whether the timer is set")

    @override
    async def disarm(self) -> None:
        self._steps.append("disarm")
        await super().disarm()

    @override
    async def stop_activation(self, invocation: str) -> None:
        self._steps.append("stop-activation")
        await super().stop_activation(invocation)

    @override
    async def activate(self, toplevel: StorePath, action: Action) -> ActivationExit:
        self._steps.append(f"switch-to-configuration {action}")
        await asyncio.sleep(0)  # where a cancellation arrives
        ended = await super().activate(toplevel, action)
        is_lost = self._steps.is_lost(f"switch-to-configuration {action}")
        return ActivationExit(1, "Connection reset by peer") if is_lost else ended


class WorldProfile(FakeProfile):
    """A profile whose changes are steps: `set-profile`, `remove-generations`."""

    def __init__(self, steps: Steps, host: FakeHost) -> None:
        super().__init__(host)
        self._steps = steps

    @override
    async def set(self, toplevel: StorePath) -> None:
        self._steps.append("set-profile")
        await super().set(toplevel)
        if self._steps.is_lost("set-profile"):
            raise HostError(Kind.ROLL_BACK_FAILED, "nix-env was killed")

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
        self.fault = LockedError(Kind.LOCKED, "another agent is running: process 42")


class WorldIdleNote:
    """Keeps the build of the last note; while `fault` is set, nothing can be changed."""

    def __init__(self, steps: Steps) -> None:
        self.build_id: int | None = None
        self.systems: Systems | None = None
        self.fault: HostError | None = None
        self._steps = steps

    def _refuse(self) -> None:
        if self.fault is not None:
            raise self.fault

    def forget(self) -> None:
        self._steps.append("idle-note forgotten")
        self._refuse()
        self.build_id = None

    def write(self, build_id: int, systems: Systems) -> None:
        self._steps.append("idle-note")
        self._refuse()
        self.build_id = build_id
        self.systems = systems


def system_with(kernel: str) -> FakeSystem:
    """Return a system of the host `h`, told apart from others by its kernel alone."""
    return FakeSystem(
        BootArtifacts(f"/{kernel}", "/i", "/m", ""), hostname="h", units={CONFIRM_UNIT: "confirm"}
    )
