"""A nix and a nixos-rebuild that only remember: what is cached, valid, and was activated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.application.ports import ActivationExit, Fetched
from agent.domain.errors import Kind, NixError
from agent.domain.facts import FetchPlan
from agent.domain.trust import FlakeSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.application.ports import Progress
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.policy import Action
    from agent.domain.store_path import StorePath


@dataclass
class FakeNix:
    """`evaluates` maps (flake, host) to a toplevel; `cached` what each path would bring.

    `caches` are the substituters in force; `sources` is what the source of each flake says, which
    locks and declares nothing unless it is there.

    `fault` is raised by whatever is asked next, for as long as it is set.
    """

    evaluates: dict[tuple[str, str], StorePath] = field(default_factory=dict)
    cached: dict[StorePath, FetchPlan] = field(default_factory=dict)
    valid: set[StorePath] = field(default_factory=set)
    caches: tuple[str, ...] = ("https://cache.example.org",)
    local_builds: bool = False
    fault: NixError | None = None
    sources: dict[str, FlakeSource] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def fetch_source(self, flake: LockedFlakeReference) -> FlakeSource:
        self._note("fetch_source")
        return self.sources.get(flake, FlakeSource(None, "{}"))

    async def evaluate_toplevel(self, flake: LockedFlakeReference, host: str) -> StorePath:
        self._note("evaluate_toplevel")
        try:
            return self.evaluates[flake, host]
        except KeyError:
            message = f"cannot evaluate {host} of {flake}"
            raise NixError(Kind.EVALUATION_FAILED, message) from None

    async def plan_fetch(self, path: StorePath) -> FetchPlan:
        self._note("plan_fetch")
        if path in self.valid or (self.local_builds and path not in self.cached):
            return FetchPlan(0, 0, 0)
        return self._find(path)

    async def substituters(self) -> tuple[str, ...]:
        return self.caches

    async def substitute(self, path: StorePath, progress: Progress) -> Fetched:
        self._note("substitute")
        if path in self.valid:
            return Fetched(0, 0)
        plan = self._find(path)
        self.valid.add(path)
        size = plan.unpacked_bytes
        for paths in range(plan.paths + 1):
            progress.update(paths, plan.paths, size * paths // max(plan.paths, 1), size)
        return Fetched(plan.paths, size)

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if self.fault is not None:
            raise self.fault

    def _find(self, path: StorePath) -> FetchPlan:
        if path not in self.cached:
            raise NixError(Kind.PATH_NOT_CACHED, f"{path} is in no substituter")
        return self.cached[path]


@dataclass
class FakeResolver:
    """`known` maps hosts to their addresses, None where nobody can tell; others have one abroad."""

    known: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def addresses(self, host: str) -> tuple[str, ...] | None:
        self.asked.append(host)
        return self.known.get(host, ("192.0.2.1",))


@dataclass
class FakeNixosRebuild:
    """`builds` maps (flake, host) to a toplevel; `activate` moves the links of the test's host.

    `ends` is how every activation ends; unless its code is 0, `activate` is not called, but when
    `moves_before_failing` says so.
    """

    builds: dict[tuple[str, str], StorePath]
    activate: Callable[..., None]
    ends: ActivationExit = field(default_factory=lambda: ActivationExit(0, ""))
    moves_before_failing: bool = False
    fault: NixError | None = None
    refuses: Callable[[StorePath, Action], ActivationExit | None] = lambda *_: None
    """How switch-to-configuration ends where it refuses to begin."""
    activated: list[tuple[Action, StorePath]] = field(default_factory=list)
    leavings: int = 0

    def sweep(self) -> None:
        self.leavings = 0

    specialisations: list[str | None] = field(default_factory=list)

    async def build(self, flake: LockedFlakeReference, host: str) -> StorePath:
        if self.fault is not None:
            raise self.fault
        try:
            return self.builds[flake, host]
        except KeyError:
            raise NixError(Kind.BUILD_ERROR, f"cannot build {host} of {flake}") from None

    async def activate_flake(
        self,
        action: Action,
        flake: LockedFlakeReference,
        host: str,
        specialisation: str | None = None,
    ) -> ActivationExit:
        if self.fault is not None:
            raise self.fault
        try:
            path = self.builds[flake, host]
        except KeyError:
            return ActivationExit(1, f"error: cannot evaluate {host} of {flake}")
        return await self.activate_store_path(action, path, specialisation)

    async def activate_store_path(
        self, action: Action, path: StorePath, specialisation: str | None = None
    ) -> ActivationExit:
        if self.fault is not None:
            raise self.fault
        self.activated.append((action, path))
        if specialisation is not None and action not in ("switch", "test"):
            return ActivationExit(
                1, "error: '--specialisation' can only be used with 'switch' and 'test'"
            )
        self.specialisations.append(specialisation)
        if (refusal := self.refuses(path, action)) is not None:
            return refusal
        if self.ends.returncode == 0 or self.moves_before_failing:
            self.activate(action, path, *([specialisation] if specialisation else []))
        return self.ends


class RememberedProgress:
    """Keeps every update as (paths, paths expected, bytes, bytes expected)."""

    def __init__(self) -> None:
        self.updates: list[tuple[int, int, int, int]] = []

    def update(self, paths: int, paths_expected: int, size: int, size_expected: int) -> None:
        self.updates.append((paths, paths_expected, size, size_expected))
