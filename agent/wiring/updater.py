"""Puts the parts of the update side together: settings become the ports of its use cases."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agent.adapters.clock import SystemClock
from agent.adapters.forge import ForgeAddress, open_forge
from agent.adapters.git.repository import WORKTREES, GitRepository, Identity
from agent.adapters.hydra.update_jobset import HydraUpdateJobset
from agent.adapters.nix.flake import NixFlake
from agent.adapters.notify import AppriseNotifier, NtfyTopic
from agent.adapters.process import Runner
from agent.adapters.secret_file import read_secret
from agent.adapters.temp_dir import scratch_directory
from agent.application.flake_update.policy import Verify
from agent.application.flake_update.ports import UpdatePorts
from agent.config.flake_update import person_of
from agent.domain.errors import GitError, Kind
from agent.domain.job import Job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.adapters.forge.rest import RestForge
    from agent.application.flake_update.ports import Forge, UpdateJobset
    from agent.application.notification import Notifier
    from agent.application.ports import Clock, EventSink
    from agent.config.flake_update import FlakeUpdateSection, UpdateForgeSection
    from agent.config.settings import Settings

_SIGNING = {"gpg": "openpgp", "ssh": "ssh"}


@asynccontextmanager
async def open_update_ports(
    settings: Settings, sink: EventSink, *, notifier: Notifier | None, proposes: bool
) -> AsyncIterator[UpdatePorts]:
    """Yield the ports that `settings` describe; everything temporary is removed at the end.

    Unless `proposes` there is no forge, and no token is needed.

    Raises:
        ConfigError: SECRET_MISSING, SECRET_EXPOSED, SECRET_UNUSABLE.
        GitError: NO_SPACE.
    """
    section = settings.flake_update
    clock = SystemClock()
    runner = Runner(sink, clock)
    async with AsyncExitStack() as stack:
        scratch = stack.enter_context(_scratch())
        forge: Forge | None = None
        if proposes and (opened := _forge(section.forge, sink, clock)):
            forge = await stack.enter_async_context(opened)
        yield UpdatePorts(
            clock=clock,
            sink=sink,
            builds=NixFlake(
                runner,
                sink,
                store_dir=str(settings.paths.store_dir),
                roots=scratch / "roots",
                concurrency=section.concurrency,
                hosts_at_once=section.hosts_at_once,
                local_builds=not proposes or section.verify is Verify.LOCAL,
                deadline=section.deadline.total_seconds(),
            ),
            repository=GitRepository(
                runner,
                section.repository or Path.cwd(),
                remote=section.remote,
                scratch=scratch,
                identity=_identity(section),
                ssh_key=section.ssh_key_file,
            ),
            forge=forge,
            jobset=_jobset(section, sink, clock),
            notifier=notifier,
        )


@contextmanager
def _scratch() -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            scratch = stack.enter_context(scratch_directory(WORKTREES))
        except OSError as error:
            raise GitError(
                Kind.NO_SPACE,
                f"no directory for temporary files can be made: {error}",
                hint="make room, or set TMPDIR",
            ) from error
        yield scratch


def _forge(section: UpdateForgeSection, sink: EventSink, clock: Clock) -> RestForge | None:
    if section.type is None or section.repository is None or section.token_file is None:
        return None  # the settings have seen to it that all are there, or the type is not
    address = ForgeAddress(section.type, section.url, section.repository)
    token = read_secret(section.token_file)
    timeout = section.timeout.total_seconds()
    return open_forge(address, token, timeout=timeout, sink=sink, clock=clock)


def _identity(section: FlakeUpdateSection) -> Identity:
    signing = _SIGNING.get(section.sign or "")
    author, committer = person_of(section.author), person_of(section.committer)
    return Identity(*author, signing, section.signing_key, *committer)


def _jobset(section: FlakeUpdateSection, sink: EventSink, clock: Clock) -> UpdateJobset | None:
    hydra = section.hydra
    if section.verify is not Verify.HYDRA or hydra.instance is None or hydra.project is None:
        return None
    return HydraUpdateJobset(
        Job(hydra.instance.rstrip("/"), hydra.project, hydra.jobset, hydra.job),
        timeout=hydra.timeout.total_seconds(),
        deadline=6 * hydra.timeout.total_seconds(),
        sink=sink,
        clock=clock,
    )


def open_notifier(settings: Settings, sink: EventSink) -> Notifier | None:
    """Return what sends notifications; None where none are wanted."""
    notify = settings.notify
    if notify.ntfy_topic is None and notify.urls_file is None:
        return None
    topic = None
    if notify.ntfy_topic is not None:
        topic = NtfyTopic(notify.ntfy_server, notify.ntfy_topic, notify.ntfy_token_file)
    return AppriseNotifier(
        sink, ntfy=topic, urls_file=notify.urls_file, timeout=notify.timeout.total_seconds()
    )
