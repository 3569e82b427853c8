"""What a forge knows of one repository: its branches, pull requests, labels and people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REVISION = "a" * 40
OTHER_REVISION = "b" * 40


@dataclass
class Pull:
    """One pull request."""

    number: int
    head: str
    base: str
    title: str
    body: str | None
    head_repository: int | None
    """None when the fork that it came from is gone."""
    revision: str = OTHER_REVISION
    state: str = "open"
    is_merged: bool = False
    labels: list[str] = field(default_factory=list)
    assignees: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    merge_method: str | None = None
    """How it is to be merged once its checks are green."""


@dataclass
class World:
    """A repository and who may do what; a test changes it as it likes.

    `branches` may be a function, so that they can be those of a real git repository.
    """

    owner: str = "team"
    name: str = "nixos"
    repository_id: int = 7
    token: str = "t0ken"
    branches: Mapping[str, str] | Callable[[], Mapping[str, str]] = field(
        default_factory=lambda: {"main": REVISION, "flake-update-1": OTHER_REVISION}
    )
    people: tuple[str, ...] = ("Alice", "bob")
    owner_is_organisation: bool = True
    labels: dict[str, int] = field(default_factory=lambda: {"automation": 1})
    organisation_labels: dict[str, int] = field(default_factory=lambda: {"nix": 2})
    may_propose: bool = True
    """Whether the token may, which reads all the same."""
    allows_auto_merge: bool = True
    has_required_checks: bool = True
    is_mergeability_known: bool = True
    pulls: list[Pull] = field(default_factory=list)

    def revision_of(self, branch: str) -> str | None:
        branches = self.branches() if callable(self.branches) else self.branches
        return branches.get(branch)

    def pull(self, number: int) -> Pull | None:
        return next((pull for pull in self.pulls if pull.number == number), None)

    def open_pull(self, head: str, base: str) -> Pull | None:
        return next(
            (
                pull
                for pull in self.pulls
                if (pull.head, pull.base, pull.state) == (head, base, "open")
                and pull.head_repository == self.repository_id
            ),
            None,
        )

    def add(self, head: str, base: str = "main", title: str = "t", **more: object) -> Pull:
        """Open a pull request; one from a fork has another `head_repository`."""
        values: dict[str, object] = {
            "body": "b",
            "head_repository": self.repository_id,
            "revision": self.revision_of(head) or OTHER_REVISION,
            **more,
        }
        pull = Pull(len(self.pulls) + 1, head, base, title, **values)  # type: ignore[arg-type]
        self.pulls.append(pull)
        return pull

    def person(self, login: str) -> str | None:
        """A login as it is written here; logins do not care for case."""
        return next((known for known in self.people if known.casefold() == login.casefold()), None)
