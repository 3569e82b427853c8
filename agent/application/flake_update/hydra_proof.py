"""Waits until Hydra has built every host of an update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from agent.application.flake_update import events
from agent.application.report import error_fields
from agent.domain.errors import AgentError, FlakeError, HydraError, Kind
from agent.domain.flake_update.comparison import System
from agent.domain.flake_update.hydra_proof import JobState, format_red_jobs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from agent.application.flake_update.policy import UpdatePolicy
    from agent.application.flake_update.ports import JobsetState, UpdateJobset, UpdatePorts
    from agent.domain.flake_update.comparison import Broken
    from agent.domain.flake_update.hydra_proof import HostJob

_T = TypeVar("_T")
_NEVER_CHECKED: Final = (
    " Hydra does not look at it by itself before the deadline: give it a check interval, or have"
    " the forge trigger it"
)


class HydraProof:
    """The wait for one revision; `before` is what the jobset had come to before it was pushed.

    `evaluated` has what each host of the revision is, by its name.
    """

    def __init__(
        self,
        ports: UpdatePorts,
        jobset: UpdateJobset,
        policy: UpdatePolicy,
        before: JobsetState | None,
        evaluated: Mapping[str, System | Broken],
    ) -> None:
        self._ports = ports
        self._jobset = jobset
        self._before = before
        self._jobs: dict[str, HostJob] = {}
        # Faults that end by themselves, besides those that are tried again: a jobset that was not
        # there yet may be declared by the very branch that is to be built.
        self._can_come = {Kind.HYDRA_DEADLINE, *([] if before else [Kind.JOBSET_MISSING])}
        self._evaluated = evaluated
        self._checks = {before.checked_at if before else None}
        self._failed_checks: set[int | None] = set()
        self._poll = policy.hydra_poll.total_seconds()
        self._deadline = policy.hydra_deadline.total_seconds()
        self._ends = ports.clock.elapsed() + self._deadline

    @property
    def red(self) -> tuple[HostJob, ...]:
        """The hosts' jobs that have failed so far."""
        return tuple(one for one in self._jobs.values() if one.state is JobState.RED)

    async def wait(self, revision: str) -> tuple[HostJob, ...]:
        """Return the hosts' jobs, all green.

        Raises:
            FlakeError: EVALUATION_RED, JOBS_RED, PROOF_OVERDUE.
            HydraError: what waiting does not help against, such as JOBSET_DISABLED.
        """
        hosts = tuple(self._evaluated)
        eval_id = await self._wait_for_eval(revision)
        self._ports.sink.emit(events.EVAL_FOUND, eval_id=eval_id, revision=revision)
        logged: tuple[int, ...] = ()
        jobs = self._jobs
        while True:
            for host in hosts:
                if host not in jobs or jobs[host].state is JobState.WAITING:
                    job = await self._ask(self._jobset.job_of(eval_id, host))
                    if job is not None:
                        jobs[host] = job
            counted = tuple(
                sum(one.state is state for one in jobs.values())
                for state in (JobState.GREEN, JobState.RED)
            )
            if counted != logged:
                logged, (green, red) = counted, counted
                waiting = len(hosts) - green - red
                self._ports.sink.emit(events.JOBS_COUNTED, green=green, red=red, waiting=waiting)
            if sum(counted) == len(hosts):
                return _green(jobs)
            late = [host for host in hosts if host not in jobs or jobs[host].state == "waiting"]
            await self._sleep(f"of eval {eval_id} these are not built: {', '.join(late)}", jobs)

    async def _wait_for_eval(self, revision: str) -> int:
        error = ""
        while True:
            eval_id = await self._ask(self._jobset.find_eval(revision))
            if eval_id is not None:
                return eval_id
            state = await self._ask(self._jobset.state(self._evaluated))
            is_certain = False
            if state is not None and not state.is_enabled:
                eval_id = await self._look_again(revision, state)
            elif state is not None and state.checked_at not in self._checks:
                eval_id = await self._look_again(revision, state)
                error = self._new_error(state)
                is_certain = len(self._failed_checks) > 1
            else:
                # This check is known, and was the last one: what it says is all there will be.
                is_certain = state is not None and not self._will_be_checked_again(state)
            if eval_id is not None:
                return eval_id
            if error and is_certain:
                raise FlakeError(
                    Kind.EVALUATION_RED, f"Hydra cannot evaluate {revision[:12]}: {error}"
                )
            logged = f": {error}" if error else ""
            await self._sleep(f"the jobset has not evaluated {revision[:12]}{logged}", {}, state)

    def _will_be_checked_again(self, state: JobsetState) -> bool:
        clock = self._ports.clock
        left = self._ends - clock.elapsed()
        return state.is_checked_before(clock.now().timestamp() + left)

    async def _look_again(self, revision: str, state: JobsetState) -> int | None:
        """Return the eval that a new check has come to, perhaps just after it was asked for.

        A jobset that is disabled may have been evaluated before, as one-shot ones are.
        """
        try:
            found = await self._jobset.find_eval(revision) or await self._same_eval()
        except AgentError as error:
            self._tolerate(error)
            return None
        if found is None and not state.is_enabled:
            raise HydraError(
                Kind.JOBSET_DISABLED,
                f"the jobset was disabled before it evaluated {revision[:12]}",
                hint="enable it in Hydra",
            )
        if found is None:
            self._checks.add(state.checked_at)
        return found

    def _new_error(self, state: JobsetState) -> str:
        """Return the error, if it is not only that of before the push.

        The first check that ends after the push may have begun before it: its result is of the
        revision only if the next one has the same.
        """
        before = self._before
        if before is not None and (state.error, state.error_time) == (
            before.error,
            before.error_time,
        ):
            return ""
        if state.error:
            self._failed_checks.add(state.checked_at)
        else:
            self._failed_checks.clear()
        return state.error

    async def _same_eval(self) -> int | None:
        """Return the newest eval if every host in it is what the revision evaluates to.

        Of a revision that changes no derivation Hydra lists no eval.
        """
        eval_id = await self._jobset.newest_eval()
        if eval_id is None:
            return None
        for host, system in self._evaluated.items():
            job = await self._jobset.job_of(eval_id, host)
            if not isinstance(system, System) or job.output != str(system.toplevel):
                return None
        return eval_id

    async def _ask(self, question: Awaitable[_T]) -> _T | None:
        try:
            return await question
        except AgentError as error:
            self._tolerate(error)
            return None

    def _tolerate(self, error: AgentError) -> None:
        """Raise a fault that does not end by itself."""
        if not error.is_retryable and error.kind not in self._can_come:
            raise error
        self._ports.sink.emit(events.HYDRA_UNANSWERED, **error_fields(error))

    async def _sleep(
        self, open_question: str, jobs: dict[str, HostJob], state: JobsetState | None = None
    ) -> None:
        left = self._ends - self._ports.clock.elapsed()
        if left <= 0:
            red = format_red_jobs(jobs.values())
            raise FlakeError(
                Kind.PROOF_OVERDUE,
                f"after {self._deadline:g} s {open_question}{f'; red: {red}' if red else ''}",
                hint="does the jobset follow flake_update.hydra.branch, and are there builders?"
                + ("" if state is None or self._will_be_checked_again(state) else _NEVER_CHECKED),
            )
        await self._ports.clock.sleep(min(self._poll, left))


def _green(jobs: dict[str, HostJob]) -> tuple[HostJob, ...]:
    if red := format_red_jobs(jobs.values()):
        raise FlakeError(Kind.JOBS_RED, f"Hydra could not build the update: {red}")
    return tuple(jobs.values())
