"""What the administrator wants of an update."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from agent.domain.flake_update.branch import BranchTemplate
from agent.domain.flake_update.hosts import HostPatterns

if TYPE_CHECKING:
    from agent.application.flake_update.ports import MergeMethod
    from agent.domain.origin import UrlPrefix


class Verify(StrEnum):
    """How an update is proven before it is proposed."""

    LOCAL = "local"
    """Every host is built here."""
    HYDRA = "hydra"
    """It is pushed to a branch of its own, and Hydra builds every host of it."""


@dataclass(frozen=True, slots=True)
class UpdatePolicy:
    """The update side's settings; without `inputs` all are updated."""

    hosts: HostPatterns = field(default_factory=HostPatterns)
    inputs: tuple[str, ...] = ()
    base: str = "main"
    branch: BranchTemplate = field(default_factory=BranchTemplate)
    verify: Verify = Verify.LOCAL
    candidate: str = "flake-update-candidate"
    """The branch that Hydra builds, for `Verify.HYDRA`."""
    hydra_deadline: timedelta = timedelta(hours=6)
    hydra_poll: timedelta = timedelta(seconds=30)
    labels: tuple[str, ...] = ()
    assignees: tuple[str, ...] = ()
    auto_merge: MergeMethod | None = None
    """None: people merge."""
    allow_insecure: tuple[UrlPrefix, ...] = ()
    """What an update may bring although it is on this host, or comes without TLS and ssh."""
