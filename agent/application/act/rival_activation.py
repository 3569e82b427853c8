"""What another activation does to the host while ours is running, or keeps ours from beginning.

systemd and switch-to-configuration's lock let one of two run and refuse the other. But
nixos-rebuild moves the profile before it activates: the one that is refused has moved it, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.application import events
from agent.application.report import error_fields
from agent.domain.errors import HostError
from agent.domain.policy import Action

if TYPE_CHECKING:
    from agent.application.ports import ActivationExit, HostPorts
    from agent.application.run import Run
    from agent.domain.activation import ActivationResult
    from agent.domain.store_path import StorePath

_POLL = 1.0


async def await_rival(run: Run, ended: ActivationResult) -> bool:
    """Wait for the other activation; False if it goes on for too long, or nobody knows."""
    ports, policy = run.ports, run.policy
    if await ports.systemd.is_activating() is False:
        return True
    ports.sink.emit(events.RIVAL_AWAITED, toplevel=ended.toplevel)
    longest = policy.confirm.deadline if ended.timed_out else policy.activate_deadline
    end = ports.clock.elapsed() + longest.total_seconds()
    while ports.clock.elapsed() < end:
        await ports.clock.sleep(_POLL)
        if await ports.systemd.is_activating() is False:
            return True
    return False


async def give_profile_back(run: Run, ended: ActivationResult) -> bool:
    """Undo what nixos-rebuild has done before an activation that never began.

    A profile that another hand has set stays, and so does the candidate if another hand has brought
    it here meanwhile. Return False where it cannot be changed.
    """
    ports = run.ports
    systems = ports.host.systems()
    is_ours = ended.action.moves_profile and systems.profile == ended.toplevel
    was_so = ended.before.profile == ended.toplevel
    is_anothers = systems.running in ended.equivalents and not ended.was_running
    # A system that the other has brought wholly may be a generation from before ours.
    default = ports.loader.default()
    is_whole = ended.is_overtaken and systems.running == default
    back = default if is_whole else _profile_before(ports, ended.before.profile)
    if is_ours and not (was_so or is_anothers) and back is not None:
        return await _set(ports, ended.toplevel, back)
    return True


async def take_losers_profile_back(
    run: Run, action: Action, toplevel: StorePath, ended: ActivationExit
) -> None:
    """Undo the profile change of an activation that was refused because ours was running.

    It is proven to be a loser's where ours has run, the boot default is still what ours has made
    it, and no activation runs. If in doubt it stays: it may be a manual `nixos-rebuild boot`.
    """
    ports = run.ports
    systems = ports.host.systems()
    if not action.moves_profile or systems.profile in (None, toplevel):
        return
    same = ports.host.equivalents(toplevel)
    has_run = ended.returncode == 0 if action is Action.BOOT else systems.running in same
    if not has_run or ports.loader.default() != toplevel:
        return
    if await ports.systemd.is_activating() is False:
        await _set(ports, toplevel, toplevel)


async def keep_profile(ports: HostPorts, target: StorePath) -> None:
    """The same after a roll-back to `target`, which has just ended."""
    is_moved = ports.host.systems().profile != target
    if is_moved and ports.loader.default() == target:
        await _set(ports, target, target)


async def keep_pending_boot(
    run: Run, failed: StorePath, target: StorePath, action: Action
) -> Action:
    """Return how to roll back from `failed` and keep a manual, finished `nixos-rebuild boot`.

    Where profile and boot default are the same system, and neither of those that the roll-back is
    about, only the services go back. Where the agent's own nixos-rebuild has moved the profile past
    such a system, and was cut short, it gets that back first.
    """
    ports = run.ports
    if action is not Action.SWITCH:
        return action
    systems, default = ports.host.systems(), ports.loader.default()
    known = ports.host.equivalents(failed) | ports.host.equivalents(target) | {run.record.previous}
    if default is None or default in known:
        return action
    is_moved_past = systems.running not in ports.host.equivalents(failed)
    if is_moved_past and systems.profile == failed and ports.profile.generation_before() == default:
        await _set(ports, failed, default)
    return Action.TEST if ports.host.systems().profile == default else action


async def restore_profile(ports: HostPorts, toplevel: StorePath) -> None:
    """Undo what a lost race has done, of which only the marks are left.

    The profile becomes what another activation has brought here wholly, or what it was before. One
    without an earlier generation has never been another.
    """
    systems, default = ports.host.systems(), ports.loader.default()
    if systems.profile != toplevel or ports.profile.generation_before() is None:
        return
    is_whole = default is not None and systems.running == default != toplevel
    confirmed = ports.marks.read().confirmed
    back = default if is_whole else _profile_before(ports, confirmed)
    assert back is not None  # noqa: S101 - there is an earlier generation
    await ports.profile.set(back)
    ports.sink.emit(events.PROFILE_GIVEN_BACK, toplevel=toplevel, profile=back)


def _profile_before(ports: HostPorts, looked: StorePath | None) -> StorePath | None:
    """Return what the profile was just before ours: what the other has set, or what we have found.

    The generation before may be one that an administrator has rolled back from long ago.
    """
    earlier, default = ports.profile.generation_before(), ports.loader.default()
    is_the_others = earlier in (ports.host.systems().running, default) or default is None
    return earlier if earlier is not None and is_the_others else looked or earlier


async def _set(ports: HostPorts, candidate: StorePath, path: StorePath) -> bool:
    """Set the profile; a fault is logged and ends nothing."""
    try:
        await ports.profile.set(path)
    except HostError as error:
        ports.sink.emit(events.RUN_FAILED, **error_fields(error))
        return False
    ports.sink.emit(events.PROFILE_GIVEN_BACK, toplevel=candidate, profile=path)
    return True
