"""The table `[flake_update]`: how `agent flake-update` updates, proves and proposes."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from agent.application.flake_update.policy import UpdatePolicy, Verify
from agent.application.flake_update.ports import MergeMethod
from agent.domain.flake_update.branch import DATE, BranchTemplate
from agent.domain.flake_update.hosts import DEFAULT_EXCLUDE, HostPatterns
from agent.fields.section import AbsolutePath, HttpUrl, SecretFile, Section, table
from agent.fields.values import Duration

if TYPE_CHECKING:
    from agent.domain.origin import UrlPrefix

# git-check-ref-format(1), without names that could be taken for options.
_REF: Final = re.compile(
    r"(?!.*(?:\.\.|//|@\{|\.lock(?:/|$)|/\.|\.$|/$))[A-Za-z0-9_][\w./+@-]{0,200}", re.ASCII
)
_REMOTE: Final = re.compile(r"[A-Za-z0-9_][\w.-]{0,100}")
_REPOSITORY: Final = re.compile(r"[\w.-]{1,100}/[\w.-]{1,100}")
_AUTHOR: Final = re.compile(r"(?P<name>[^<>\0\n]{1,200}?) <(?P<mail>[^<>\s\0]{1,200})>")
_INPUT: Final = re.compile(r"[A-Za-z_][\w'-]{0,100}")
GITHUB: Final = "https://github.com"


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    return value


def _ref(value: str) -> str:
    if not _REF.fullmatch(value):
        raise ValueError(f"{value[:100]!r} is not a branch name")
    return value


def _branch(value: str) -> str:
    if value.count(DATE) > 1:
        raise ValueError(f"{DATE} stands in it once, or not at all")
    _ref(value.replace(DATE, "20260101"))
    if value.startswith(DATE):
        raise ValueError(f"something must stand before {DATE}: by that its branches are known")
    return value


def _exclude_each_other(one: str, other: str) -> bool:
    """Whether git cannot have both of two branches, since one would be a directory of the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _remote(value: str) -> str:
    if not _REMOTE.fullmatch(value):
        raise ValueError(f"{value[:100]!r} is not the name of a remote; give its name, not its URL")
    return value


def _repository(value: str) -> str:
    if not _REPOSITORY.fullmatch(value):
        raise ValueError("a repository is OWNER/NAME")
    return value


def _author(value: str) -> str:
    if not _AUTHOR.fullmatch(value):
        raise ValueError('an author or committer is "NAME <MAIL>"')
    return value


def _input(value: str) -> str:
    if not _INPUT.fullmatch(value):
        raise ValueError(f"{value[:100]!r} is not the name of an input")
    return value


def _hydra_name(value: str) -> str:
    if "/" in value or "\0" in value or value in ("", ".", ".."):
        raise ValueError("a project, jobset or job name has no slash and no NUL, and is not '..'")
    return value


Pattern = Annotated[str, AfterValidator(_pattern)]
InputName = Annotated[str, AfterValidator(_input)]
_HydraName = Annotated[str, AfterValidator(_hydra_name)]


class UpdateForgeSection(Section):
    """Where an update is proposed; without a type it is only pushed."""

    type: Literal["forgejo", "github"] | None = None
    """`forgejo` (Gitea, too) or `github`."""
    url: HttpUrl = Field(default=GITHUB, validate_default=True)
    """URL of the forge."""
    repository: Annotated[str, AfterValidator(_repository)] | None = None
    """The repository, `OWNER/NAME`."""
    token_file: SecretFile | None = None
    """File with a token that may open pull requests; must not be world-readable."""
    labels: tuple[str, ...] = ()
    """Labels of the proposal."""
    assignees: tuple[str, ...] = ()
    """Assignees of a new proposal."""
    auto_merge: MergeMethod | None = None
    """`merge`, `squash` or `rebase`: how the forge merges once checks pass; unset: it does not."""
    timeout: Duration = timedelta(seconds=30)
    """Time limit of one request."""


class UpdateHydraSection(Section):
    """The branch and the jobset that prove an update, for `verify = "hydra"`."""

    instance: HttpUrl | None = None
    """URL of the Hydra instance."""
    project: _HydraName | None = None
    """Name of the project."""
    branch: Annotated[str, AfterValidator(_ref)] = "flake-update-candidate"
    """The branch that the jobset follows; it is removed afterwards."""
    jobset: _HydraName = "flake-update-candidate"
    """Name of the jobset."""
    job: _HydraName = "{host}"
    """Name of a host's job; `{host}` stands for the host."""
    timeout: Duration = timedelta(seconds=10)
    """Time limit of one request."""
    deadline: Duration = timedelta(hours=6)
    """Time limit for Hydra to build every host."""
    poll: Duration = timedelta(seconds=30)
    """Polling interval."""


class FlakeUpdateSection(Section):
    """How `agent flake-update` updates, proves and proposes."""

    repository: AbsolutePath | None = None
    """Directory of the flake, in a git checkout; unset: the working directory."""
    remote: Annotated[str, AfterValidator(_remote)] = "origin"
    """The remote to fetch from and push to."""
    base: Annotated[str, AfterValidator(_ref)] = "main"
    """The branch that an update is for."""
    branch: Annotated[str, AfterValidator(_branch)] = f"flake-update-{DATE}"
    """The branch of an update; `{date}` stands for the day, as in 20261231."""
    inputs: tuple[InputName, ...] = ()
    """Inputs to update; empty: all."""
    include: Annotated[tuple[Pattern, ...], Field(min_length=1)] = (".*",)
    """Hosts to prove and report: regular expressions that match whole names."""
    exclude: tuple[Pattern, ...] = DEFAULT_EXCLUDE
    """Hosts to leave out."""
    require: tuple[Pattern, ...] = ()
    """Hosts that must build even if they were broken before the update, as regular expressions."""
    verify: Verify = Verify.LOCAL
    """`local`: every host is built here; `hydra`: Hydra does it, of `flake_update.hydra.branch`."""
    concurrency: Annotated[int, Field(strict=True, ge=1, le=64)] = 2
    """How many nix processes run at once; builds are limited by nix's own `max-jobs`."""
    hosts_at_once: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 4
    """How many hosts are evaluated at once; each may take 1 GB of memory."""
    deadline: Duration = timedelta(hours=6)
    """Time limit of each step: updating, evaluating, building."""
    author: Annotated[str, AfterValidator(_author)] | None = None
    """Author of the commits, `"NAME <MAIL>"`; unset: as git is configured."""
    committer: Annotated[str, AfterValidator(_author)] | None = None
    """Committer of the commits, `"NAME <MAIL>"`; unset: their author."""
    sign: Literal["gpg", "ssh"] | None = None
    """How commits are signed; unset: as git is configured."""
    signing_key: str | None = None
    """With `gpg`, the key's id; with `ssh`, the file with the private key; unset: git's own."""
    ssh_key_file: SecretFile | None = None
    """SSH private key for the remote; unset: those of the user."""
    forge: UpdateForgeSection = table()
    hydra: UpdateHydraSection = table()

    @field_validator("branch")
    @classmethod
    def _is_not_the_base(cls, value: str, info: ValidationInfo) -> str:
        base = info.data.get("base", "")
        if BranchTemplate(value).covers(base) or _exclude_each_other(value, base):
            raise ValueError("an update's branch cannot be flake_update.base, or lie below it")
        return value

    @field_validator("signing_key")
    @classmethod
    def _is_kept_elsewhere(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value and info.data.get("sign") == "ssh" and value.startswith("/nix/store/"):
            raise ValueError("/nix/store is world-readable: keep secrets elsewhere")
        return value

    @field_validator("forge")
    @classmethod
    def _forge_is_whole(cls, value: UpdateForgeSection) -> UpdateForgeSection:
        if value.type is not None:
            for key in ("repository", "token_file"):
                if getattr(value, key) is None:
                    raise ValueError(f"a forge needs flake_update.forge.{key}")
            if value.type == "forgejo" and value.url == GITHUB:
                raise ValueError("type = 'forgejo' needs flake_update.forge.url")
        return value

    @field_validator("hydra")
    @classmethod
    def _hydra_is_whole(cls, value: UpdateHydraSection, info: ValidationInfo) -> UpdateHydraSection:
        if info.data.get("verify") is Verify.HYDRA:
            keys = (key for key in ("instance", "project") if getattr(value, key) is None)
            if missing := " and ".join(f"flake_update.hydra.{key}" for key in keys):
                raise ValueError(f"verify = 'hydra' needs {missing}")
            others = (info.data.get("base", ""), info.data.get("branch", ""))
            if BranchTemplate(others[1]).covers(value.branch) or any(
                _exclude_each_other(value.branch, one) for one in others
            ):
                raise ValueError(
                    "flake_update.hydra.branch has unproven commits: flake_update.base and"
                    " flake_update.branch cannot be the same, or lie below it"
                )
        return value


def update_policy_of(
    section: FlakeUpdateSection,
    inputs: tuple[str, ...] = (),
    allow_insecure: tuple[UrlPrefix, ...] = (),
) -> UpdatePolicy:
    """Return the policy for updates; `inputs` replace the configured ones.

    `allow_insecure` is from the table `[trust]`.
    """
    return UpdatePolicy(
        hosts=HostPatterns(section.include, section.exclude, section.require),
        inputs=inputs or section.inputs,
        base=section.base,
        branch=BranchTemplate(section.branch),
        verify=section.verify,
        candidate=section.hydra.branch,
        hydra_deadline=section.hydra.deadline,
        hydra_poll=section.hydra.poll,
        labels=section.forge.labels,
        assignees=section.forge.assignees,
        auto_merge=section.forge.auto_merge,
        allow_insecure=allow_insecure,
    )


def person_of(text: str | None) -> tuple[str | None, str | None]:
    """Return the name and mail address of an author or committer, None for git's own."""
    found = _AUTHOR.fullmatch(text or "")
    return (found["name"], found["mail"]) if found else (None, None)
