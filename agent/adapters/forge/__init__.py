"""Forges: where a branch is proposed for review."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from agent.adapters.forge import github
from agent.adapters.forge.conversation import Conversation
from agent.adapters.forge.forgejo import ForgejoForge
from agent.adapters.forge.github import GitHubForge
from agent.adapters.forge.transport import Transport
from agent.adapters.http.retries import Repeater, Retries
from agent.application import events

if TYPE_CHECKING:
    from agent.adapters.forge.rest import RestForge
    from agent.application.ports import Clock, EventSink

ForgeKind = Literal["forgejo", "github"]
_FORGEJO_ROOT: Final = "/api/v1"
_ENTERPRISE_ROOT: Final = "/api/v3"
_GITHUB: Final = "https://github.com"


@dataclass(frozen=True, slots=True)
class ForgeAddress:
    """A repository, `OWNER/NAME`, and where it is.

    `url` is the forge's own, or its API's, as `GITHUB_API_URL` has it in a workflow.
    """

    kind: ForgeKind
    url: str
    repository: str


def open_forge(
    address: ForgeAddress,
    token: str,
    *,
    timeout: float,
    sink: EventSink,
    clock: Clock,
    retries: Retries | None = None,
) -> RestForge:
    """Return the forge, to be used as a context; `timeout` of one request is in seconds.

    A request that fails in a way that can pass is made again for three times as long.
    """
    origin, root = _origin_of(address)
    headers = github.HEADERS if address.kind == "github" else {}
    transport = Transport(origin, token, clock, headers)
    repeater = Repeater(events.FORGE_REQUEST_RETRIED, sink, clock, retries or Retries())
    conversation = Conversation(transport, repeater, timeout=timeout, deadline=3 * timeout)
    make = GitHubForge if address.kind == "github" else ForgejoForge
    return make(transport, conversation, address.repository, root)


def _origin_of(address: ForgeAddress) -> tuple[str, str]:
    """Return what all requests have in common, and the path of the REST API below it."""
    url = address.url.rstrip("/")
    if address.kind == "forgejo":
        return url.removesuffix(_FORGEJO_ROOT), _FORGEJO_ROOT
    if url == _GITHUB:
        return "https://api.github.com", ""
    if url.endswith(_ENTERPRISE_ROOT):
        # Its GraphQL API is beside it, not below it.
        return url.removesuffix("/v3"), "/v3"
    return url, ""
