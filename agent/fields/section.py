"""What all settings tables have in common, and the text types that several of them use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from agent.fields.values import parse_host, parse_http_url


class Section(BaseModel):
    """A table of the file: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def table() -> Any:
    """Return the default of an optional table, which consists of its keys' defaults.

    With an instance instead, a separate validator would be built at each start.
    """
    return Field(default={}, validate_default=True)


def _absolute(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("must be an absolute path")
    return value


def _outside_the_store(value: Path) -> Path:
    if value.is_relative_to("/nix/store"):
        raise ValueError("/nix/store is world-readable: keep secrets elsewhere")
    return value


# The patterns are for users of the schema alone: wider than the validators, and in the syntax that
# Python and POSIX share.
HOST_PATTERN: Final = "[A-Za-z0-9_.:%-]+"
HTTP_URL_PATTERN: Final = "https?://[^/?#@ ]+([/?#][^ ]*)?"

HostName = Annotated[
    str,
    AfterValidator(parse_host),
    WithJsonSchema(
        {"$comment": "host name or address", "type": "string", "pattern": f"^{HOST_PATTERN}$"}
    ),
]
HttpUrl = Annotated[
    str,
    AfterValidator(parse_http_url),
    WithJsonSchema(
        {
            "$comment": "http or https URL without user name and password",
            "type": "string",
            "pattern": f"^{HTTP_URL_PATTERN}$",
        }
    ),
]
AbsolutePath = Annotated[
    Path,
    AfterValidator(_absolute),
    WithJsonSchema({"$comment": "absolute path", "type": "string", "pattern": "^/.*$"}),
]
SecretFile = Annotated[
    Path,
    AfterValidator(_absolute),
    AfterValidator(_outside_the_store),
    WithJsonSchema(
        {
            "$comment": "absolute path outside the world-readable store",
            "type": "string",
            "pattern": "^/.*$",
        }
    ),
]
