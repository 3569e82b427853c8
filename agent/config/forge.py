"""`[forge]`: where updates are proposed."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator

from agent.config.section import AbsolutePath, HttpUrl, Section
from agent.config.values import Duration  # noqa: TC001 - pydantic reads the annotations


def _repository(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}", value):
        raise ValueError(f"{value[:100]!r} is no repository such as 'owner/name'")
    return value


_Label = Annotated[str, StringConstraints(min_length=1, max_length=50, pattern=r"^[^,\x00-\x1f]+$")]
_Login = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]


class ForgeSection(Section):
    """Where a new lock file is proposed for review; without `kind` its branch is only pushed."""

    kind: Literal["forgejo", "github"] | None = None
    """`forgejo` (or Gitea), or `github`."""
    url: HttpUrl | None = Field(default=None, validate_default=True)
    """URL of the forge, or of its API; for `github` it may be left out."""
    repository: Annotated[str, AfterValidator(_repository)] | None = Field(
        default=None, validate_default=True
    )
    """The repository, as `owner/name`."""
    token_file: AbsolutePath | None = Field(default=None, validate_default=True)
    """File that holds the token, which not everybody may read."""
    labels: tuple[_Label, ...] = ()
    """Labels of a proposal; those that the repository lacks are made."""
    assignees: tuple[_Login, ...] = ()
    """Logins of those who are to review it."""
    auto_merge: Literal["merge", "squash", "rebase"] | None = None
    """How the forge merges it once its required checks are green; by default it does not."""
    timeout: Duration = timedelta(seconds=30)
    """Time limit of one request; what can pass is tried again for three times as long."""

    @field_validator("url", "repository", "token_file")
    @classmethod
    def _is_given(cls, value: object, info: ValidationInfo) -> object:
        kind = info.data.get("kind")
        if value is None and kind and not (kind == "github" and info.field_name == "url"):
            raise ValueError(f"is required with forge.kind = '{kind}'")
        return value
