"""The ports to the host's own files: its links, profile, boot loader and the agent's marks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from agent.domain.facts import FreeSpace
    from agent.domain.marks import Mark, Marks
    from agent.domain.policy import ConfirmPolicy
    from agent.domain.reboot import Inhibitor
    from agent.domain.store_path import StorePath
    from agent.domain.systems import BootArtifacts, Systems


class HostFacts(Protocol):
    """What the host's own files and links say. Everything raises HostError."""

    def systems(self) -> Systems:
        """Return running, booted and profile as they are now. HOST_UNREADABLE."""

    def platform(self) -> str | None:
        """Return nix's name of this host's platform, as its running system says."""

    def boot_artifacts(self, toplevel: StorePath) -> BootArtifacts | None:
        """Return what only a reboot can change, None if `toplevel` is not (wholly) there."""

    def switch_inhibitors(self, toplevel: StorePath) -> Mapping[str, str] | None:
        """Return a system's switch inhibitors by name; None where it has none, or none to read."""

    def counterpart(self, toplevel: StorePath) -> StorePath:
        """Return the specialisation of `toplevel` that the host has booted, or `toplevel`."""

    def specialisation_name(self, path: StorePath) -> str | None:
        """Return by which name a generation of the profile has `path` as its specialisation."""

    def specialisations(self, toplevel: StorePath) -> Mapping[str, StorePath]:
        """Return the specialisations of `toplevel` by name, as far as they are in the store."""

    def equivalents(self, toplevel: StorePath) -> frozenset[StorePath]:
        """Return `toplevel` and its specialisations, as far as they are in the store."""

    def hostname_of(self, toplevel: StorePath) -> str | None:
        """Return the host name that a system would set, None where it sets none."""

    def free_space(self) -> FreeSpace:
        """Return the free space in the store's file system and on the boot partition."""

    def touched_units(self, old: StorePath, new: StorePath) -> frozenset[str]:
        """Return the names of the units that are new or different in the system `new`."""

    def has_unit(self, toplevel: StorePath, unit: str) -> bool:
        """Return whether a system has a unit file of that name."""

    def exists(self, toplevel: StorePath) -> bool:
        """Return whether a system is in the store."""

    def changed_at(self) -> datetime | None:
        """Return when the links to the running system and the profile were made; the later."""

    def booted_at(self) -> datetime | None:
        """Return when the link to the booted system was made, in this boot."""

    def default_gateways(self) -> tuple[str, ...]:
        """Return the addresses of the default gateways, IPv4 first; none without a route."""


class Host(HostFacts, Protocol):
    """The host's own files and links. Everything raises HostError."""

    async def reboot(self, *, forced: bool = False) -> None:
        """Ask for a reboot and return at once; `forced`: past whoever blocks it. REBOOT_FAILED."""


class Profile(Protocol):
    """The system profile. Everything raises HostError (ROLL_BACK_FAILED)."""

    async def set(self, toplevel: StorePath) -> None:
        """Make `toplevel` the newest generation, unless it is the profile already."""

    async def remove_generations(self, toplevel: StorePath) -> int:
        """Remove all generations but the present one that are `toplevel`; return how many."""

    def generation_before(self) -> StorePath | None:
        """Return the system of the newest generation older than the present one."""


class Sessions(Protocol):
    """Who may be disturbed by a reboot. Nothing raises."""

    async def inhibitors(self) -> tuple[Inhibitor, ...] | None:
        """Return who blocks a shutdown; None if that is unknown."""

    async def people(self) -> tuple[str, ...] | None:
        """Return the names of the users who are logged in; a greeter is none.

        None: unknown, so that there may be some.
        """


class Logind(Sessions, Protocol):
    """Who may be disturbed by a reboot. Nothing raises."""

    async def notify_users(self, text: str) -> None:
        """Write to the terminals of all users."""


class LoaderFacts(Protocol):
    """What the boot loader's files say. Nothing raises."""

    def fallback(self, toplevel: StorePath | None = None) -> str | None:
        """Return the name of the loader, if it can start a system just once, and then go back.

        It goes back to `toplevel`, or else to what is its default now.
        """

    def default(self) -> StorePath | None:
        """Return the system that is started by default, None where that is unknown."""

    def can_be_default(self, toplevel: StorePath) -> bool:
        """Return whether there is an entry of `toplevel` that `make_default` can choose."""


class Loader(LoaderFacts, Protocol):
    """The boot loader. Nothing raises."""

    async def make_default(self, toplevel: StorePath) -> bool:
        """Make the entry of `toplevel` the loader's default; False if that is not possible."""

    async def boot_once(self, toplevel: StorePath) -> bool:
        """Boot `toplevel` the next time, and only then; False if that is not possible."""

    async def forget_once(self) -> None:
        """Undo `boot_once`: the next boot is that of the default."""

    async def forget_choices(self) -> None:
        """Remove what overrides the default in the loader's files."""

    async def bless(self) -> None:
        """Mark this boot as good, where the loader counts tries."""


class MarkReader(Protocol):
    """Where the marks point. Everything raises HostError (MARKS_UNUSABLE)."""

    def read(self) -> Marks:
        """Return where the marks point; what is unreadable is named in the result, not raised."""

    def specialisation(self) -> str | None:
        """Return the name that `note_specialisation` has left; None without, or if unreadable.

        It is empty for the system as such.
        """


class MarkStore(MarkReader, Protocol):
    """The marks. Everything raises HostError (MARKS_UNUSABLE); each change is one rename."""

    def pending_for(self) -> timedelta | None:
        """Return how long the host was up with the present `pending`, or `rolling-back`.

        It counts from one call to the next within a boot, whatever the clock is set to; None where
        neither mark is there.
        """

    def note_specialisation(self, name: str | None) -> None:
        """Leave the name of the specialisation that runs, empty for none; None: no note."""

    def set(self, mark: Mark, toplevel: StorePath) -> None:
        """Let a mark point to `toplevel`, whatever it was."""

    def remove(self, mark: Mark) -> None:
        """Remove a mark; one that is not there is no error."""

    def move(self, mark: Mark, toplevel: StorePath, to: Mark) -> bool:
        """Rename a mark that points to `toplevel`; of several who try, exactly one gets True."""


class SystemSettings(Protocol):
    """The settings that a system brings, before it runs. Nothing raises."""

    def confirm_of(self, toplevel: StorePath) -> ConfirmPolicy | None:
        """Return how a system wants to be confirmed; None where that cannot be read.

        For what it does not say, or cannot be understood, the running agent's settings apply.
        """

    def dropped_canaries(self, toplevel: StorePath) -> frozenset[str]:
        """Return the names of this agent's canaries that a system's settings name no more.

        None is dropped where that is not clear, nor one that was asked for on the command line.
        """
