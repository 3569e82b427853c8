"""What every table of the settings has in common, and the texts that several of them take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from agent.config.values import parse_host, parse_http_url


class Section(BaseModel):
    """A table of the file: unknown keys are errors, values are final."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("must be an absolute path")
    return value


HostName = Annotated[str, AfterValidator(parse_host)]
HttpUrl = Annotated[str, AfterValidator(parse_http_url)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
