"""Brings a candidate to the host: verify, fetch, build, check again, activate, look, reboot.

This is the part that changes the host. It is handed a serialised `Request` and trusts nothing
that it cannot check in it. Confirmation will stand between looking and rebooting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.application import events
from agent.application.gatekeeper import ask_health
from agent.application.report import candidate_fields
from agent.domain.activation import Ended, judge_activation
from agent.domain.decide import Hold, Plan, plan
from agent.domain.errors import HostError, Kind, NixError
from agent.domain.outcome import Outcome
from agent.domain.policy import Policy, Strategy
from agent.domain.request import Request
from agent.domain.systems import reboot_need

if TYPE_CHECKING:
    from agent.application.ports import ActivationExit, Ports, RunRecord
    from agent.application.report import Report
    from agent.domain.candidate import Candidate
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.policy import Action
    from agent.domain.store_path import StorePath


@dataclass
class Performance:
    """One request on its way through the host; `record` is its row, rewritten before effects."""

    ports: Ports
    policy: Policy
    report: Report
    record: RunRecord

    async def upgrade(self, text: str, store_dir: str) -> None:
        """Carry out a serialised request; the report tells what came of it.

        Raises:
            AgentError: what went wrong; what the host shows then is in its message.
        """
        request = Request.parse(text, store_dir=store_dir)
        found = request.candidate
        await verify(self.ports, self.policy, found, self.report)
        await self._fetch(found)
        toplevel = await self._build(found)
        if not await self.is_still_healthy():
            return
        self._check_hostname(toplevel)
        chosen = self._plan(request, toplevel)
        await self._activate(request, toplevel, chosen)
        if chosen.reboots:
            await self.reboot(chosen.reason)

    async def reboot(self, reason: str) -> None:
        """Record the reboot, then ask for it.

        A refusal leaves the system staged: the next run tries the reboot again, and nothing else.
        """
        self.ports.sink.emit(events.REBOOT_REQUESTED, reason=reason)
        self._note(Outcome.REBOOTING)
        try:
            await self.ports.host.reboot()
        except HostError:
            self.record = replace(self.record, outcome=Outcome.STAGED)
            raise
        self.report.outcome = Outcome.REBOOTING
        self.report.reasons = (("reboot", reason),)

    async def _fetch(self, found: Candidate) -> None:
        with self.report.step("fetch", self.ports.clock):
            try:
                self.ports.sink.emit(events.FETCH_STARTED, toplevel=found.toplevel)
                fetched = await self.ports.nix.substitute(found.toplevel, self.ports.progress)
            except NixError as error:
                if self.policy.local_builds and error.kind is Kind.PATH_NOT_CACHED:
                    return
                raise
        self.report.fetched = fetched
        self.ports.sink.emit(events.FETCH_FINISHED, paths=fetched.paths, bytes=fetched.size)

    async def _build(self, found: Candidate) -> StorePath:
        """Return the path to activate: Hydra's, unless verification is off and it differs."""
        if self.policy.strategy is Strategy.STORE_PATH:
            return found.toplevel
        with self.report.step("build", self.ports.clock):
            built = await self.ports.nixos_rebuild.build(_flake(found), self.policy.host)
        self.ports.sink.emit(events.BUILD_FINISHED, toplevel=built)
        if built != found.toplevel:
            if self.policy.verify:
                raise _mismatch("nixos-rebuild builds", built, found)
            self.ports.sink.emit(events.BUILD_DIFFERS, toplevel=found.toplevel, built=built)
        return built

    async def is_still_healthy(self) -> bool:
        """Ask just before the host is changed or rebooted: building may have taken hours."""
        with self.report.step("recheck", self.ports.clock):
            judgement = await ask_health(self.ports, self.policy)
        if judgement.is_open:
            return True
        self.ports.sink.emit(events.GATE_HELD, gate=judgement.gate, reason=judgement.reason)
        self.report.decision, self.report.outcome = Hold.name, Outcome.HELD
        self.report.reasons = ((judgement.gate, judgement.reason),)
        return False

    def _check_hostname(self, toplevel: StorePath) -> None:
        """Without an evaluation, the host name is what tells another host's system from ours."""
        if self.policy.strategy is Strategy.FLAKE or not self.policy.verify:
            return
        running = self.ports.host.systems().running
        ours = running and self.ports.host.hostname_of(running)
        theirs = self.ports.host.hostname_of(toplevel)
        if ours is None or ours != theirs:
            raise NixError(
                Kind.HOST_MISMATCH,
                f"{toplevel} is for the host {theirs or 'without a name'}, this host is"
                f" {ours or 'without a name'}",
                hint="check hydra.job; verify = false takes it as it is",
            )

    def _plan(self, request: Request, toplevel: StorePath) -> Plan:
        host = self.ports.host
        systems = host.systems()
        booted = host.boot_artifacts(systems.booted) if systems.booted else None
        need = reboot_need(booted, host.boot_artifacts(host.counterpart(toplevel)))
        policy = replace(self.policy, action=request.action)
        chosen = plan(policy, need, is_container=systems.is_container)
        if chosen.reason and not chosen.reboots:
            self.ports.sink.emit(events.REBOOT_NEEDED, reason=chosen.reason)
        self.report.action = chosen.action
        return chosen

    async def _activate(self, request: Request, toplevel: StorePath, chosen: Plan) -> None:
        ports = self.ports
        before = ports.host.systems()
        self.record = replace(
            self.record,
            action=chosen.action,
            toplevel=toplevel,
            previous=before.running or "unknown",
            boot_id=before.boot_id,
        )
        self._note(Outcome.ACTIVATING)
        ports.sink.emit(
            events.ACTIVATION_STARTED,
            action=chosen.action,
            toplevel=toplevel,
            reasons=list(request.reasons),
        )
        with self.report.step("activate", ports.clock):
            ended = await self._run(chosen.action, request.candidate)
        after = ports.host.systems()
        ports.sink.emit(
            events.ACTIVATION_FINISHED,
            action=chosen.action,
            returncode=ended.returncode,
            running=after.running,
            profile=after.profile,
        )
        self.report.outcome = judge_activation(
            Ended(
                action=chosen.action,
                toplevel=toplevel,
                equivalents=ports.host.equivalents(toplevel),
                before=before,
                after=after,
                returncode=ended.returncode,
                tail=ended.tail,
                timed_out=ended.timed_out,
                refused=ended.refused,
            )
        )
        self._note(self.report.outcome)

    async def _run(self, action: Action, found: Candidate) -> ActivationExit:
        if self.policy.strategy is Strategy.STORE_PATH:
            return await self.ports.nixos_rebuild.activate_store_path(action, found.toplevel)
        return await self.ports.nixos_rebuild.activate_flake(
            action, _flake(found), self.policy.host
        )

    def _note(self, outcome: Outcome) -> None:
        self.record = replace(self.record, outcome=outcome)
        self.ports.journal.record(self.record)


async def verify(ports: Ports, policy: Policy, found: Candidate, report: Report) -> None:
    """Prove, before anything is fetched or built, that Hydra built this host's configuration.

    Raises:
        NixError: PATH_MISMATCH, or why the flake cannot be evaluated.
    """
    if not policy.verify:
        ports.sink.emit(events.VERIFY_SKIPPED)
        return
    if policy.strategy is Strategy.STORE_PATH:
        return  # nothing is evaluated; the host name is compared once the system is there
    ports.sink.emit(events.VERIFY_STARTED, **candidate_fields(found))
    with report.step("verify", ports.clock):
        evaluated = await ports.nix.evaluate_toplevel(_flake(found), policy.host)
    if evaluated != found.toplevel:
        raise _mismatch("evaluates to", evaluated, found)
    ports.sink.emit(events.VERIFY_PASSED, **candidate_fields(found))


def _flake(found: Candidate) -> LockedFlakeReference:
    assert found.flake is not None  # noqa: S101 - the flake strategy always asks for it
    return found.flake


def _mismatch(how: str, other: StorePath, found: Candidate) -> NixError:
    return NixError(
        Kind.PATH_MISMATCH,
        f"{found.flake} {how} {other}, but Hydra's build {found.build_id} is {found.toplevel}",
        hint="is hydra.job this host's toplevel, and the flake pure?",
    )
