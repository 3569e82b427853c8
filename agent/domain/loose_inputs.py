"""Finds the inputs of a flake that nix would fetch although a lock file exists.

nix uses an input's entry in the lock file if `flake.nix` asks for exactly what was locked.
Otherwise it fetches that flake, and all that it asks for, before it reports that the lock file is
not up to date (computeLocks() in src/libflake/flake.cc). The same happens if the lock file lets an
input's input follow another one and `flake.nix` does not: the input itself may declare it.
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent.domain.trust import FlakeSource

_FORGES: Final = frozenset({"github", "gitlab", "sourcehut"})
_REPOSITORIES: Final = ("git", "hg")
_NAME: Final = re.compile(r"(?:flake:)?(?P<id>[A-Za-z][\w-]*)(?:/(?P<at>[\w./@-]+))?", re.ASCII)
_REVISION: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_OF_FORGES: Final = ("host",)
_OF_ALL: Final = ("rev", "ref", "dir", "narHash", "lastModified", "revCount")
_OF_REPOSITORIES: Final = (
    *("shallow", "submodules", "allRefs", "exportIgnore", "lfs", "verifyCommit", "keytype"),
    *("publicKey", "publicKeys", "name"),
)
_NOTHING: Final = {"type": ""}
_NO_ATTRIBUTES: Final = frozenset({"flake", "follows", "inputs"})


@dataclass(frozen=True, slots=True)
class LockedInputs:
    """What is locked for a flake: all nodes of a lock file, and the flake's own node."""

    nodes: Mapping[str, Any]
    key: str

    def of(self, name: str) -> Any:
        """Return what an input is locked to: a node's key, the path of another input, or None."""
        return self.nodes.get(self.key, {}).get("inputs", {}).get(name)


@dataclass(frozen=True, slots=True)
class LooseInput:
    """An input that nix would fetch; `locked` is what is locked for its own inputs.

    None: its own lock file decides.
    """

    reference: str
    locked: LockedInputs | None = field(default=None, compare=False)


def loose_inputs(
    reference: str, source: FlakeSource, locked: LockedInputs | None = None
) -> Iterator[LooseInput]:
    """Yield the loose inputs of the flake with this reference and source.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: a file has an unknown structure.
    """
    if locked is None:
        content: Any = {"nodes": {}, "root": ""} if source.lock is None else json.loads(source.lock)
        locked = LockedInputs(content["nodes"], content["root"])
    here = _Place(reference, source.directory)
    for name, declared in json.loads(source.inputs).items():
        if name != "self":  # what it declares about itself, such as that it needs its submodules
            yield from _loose(here, name, declared, locked)


@dataclass(frozen=True, slots=True)
class _Place:
    reference: str
    directory: str

    def reference_of(self, attributes: Mapping[str, Any]) -> str:
        """Return the reference for attributes, relative to this flake."""
        path = attributes.get("path", "")
        if attributes["type"] != "path" or path.startswith("/"):
            return _reference(attributes)
        whole = posixpath.normpath(posixpath.join(self.directory, path))
        head, _, tail = self.reference.partition("?")
        kept = [each for each in tail.split("&") if each and not each.startswith("dir=")]
        more = [] if whole == "." else [f"dir={quote(whole)}"]
        return "?".join(filter(None, (head, "&".join([*kept, *more]))))


def _loose(
    here: _Place, name: str, declared: Mapping[str, Any], locked: LockedInputs
) -> Iterator[LooseInput]:
    wanted = _declared(name, declared)
    if wanted is None:
        return  # it follows another input
    key, overrides = locked.of(name), declared.get("inputs") or {}
    node = locked.nodes.get(key) if isinstance(key, str) else None
    if node is None or _plain(wanted) != _plain(node.get("original") or _NOTHING):
        if declared.get("flake") is not False:
            is_url = "url" in declared and "type" not in declared and wanted["type"] != "path"
            yield LooseInput(declared["url"] if is_url else here.reference_of(wanted))
        return
    inside = LockedInputs(locked.nodes, key)
    yield from _overridden(here, overrides, inside)
    follows = {
        inner for inner, target in node.get("inputs", {}).items() if target.__class__ is list
    }
    if follows - overrides.keys():
        yield LooseInput(here.reference_of(node["locked"]), inside)


def _overridden(
    here: _Place, overrides: Mapping[str, Any], locked: LockedInputs
) -> Iterator[LooseInput]:
    """Yield the loose inputs among those that a flake declares for an input's inputs."""
    for name, override in overrides.items():
        key = locked.of(name)
        if key is not None and override.keys() & {"url", "type"}:
            yield from _loose(here, name, override, locked)
        elif isinstance(key, str):
            inner = LockedInputs(locked.nodes, key)
            yield from _overridden(here, override.get("inputs") or {}, inner)


def _declared(name: str, declared: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the attributes that an input asks for; None if it follows another one."""
    if "type" in declared:
        return {name: declared[name] for name in sorted(declared.keys() - _NO_ATTRIBUTES)}
    if "url" in declared:
        return attributes_of(declared["url"])
    return None if "follows" in declared else {"type": "indirect", "id": name}


def _plain(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return attributes in a normal form for comparison."""
    found = {
        name: unquote(str(int(value) if isinstance(value, bool) else value))
        for name, value in attributes.items()
    }
    # An archive is a tarball whether or not its URL says so.
    return {**found, "type": "tarball"} if found["type"] == "file" else found


def attributes_of(text: str) -> dict[str, Any]:
    """Return a flake reference as the attributes that a lock file has for it."""
    head, _, tail = text.partition("?")
    query = _query(tail)
    scheme, colon, rest = head.partition(":")
    if found := _NAME.fullmatch(head):
        attributes: dict[str, Any] = {"type": "indirect", "id": found["id"]}
        return _known(attributes | _at(found["at"]), query, _OF_ALL)[0]
    if scheme in _FORGES:
        owner, _, rest = rest.partition("/")
        repository, _, at = rest.partition("/")
        attributes = {"type": scheme, "owner": unquote(owner), "repo": unquote(repository)}
        return _known(attributes | _at(at), query, (*_OF_ALL, *_OF_FORGES))[0]
    if scheme == "path" or not colon:
        path = unquote(rest if colon else head)
        return _known({"type": "path", "path": path}, query, _OF_ALL)[0]
    kind, plus, transport = scheme.partition("+")
    if kind in _REPOSITORIES:
        url = f"{transport}:{rest}" if plus else head
        return _with_url(kind, url, query, (*_OF_ALL, *_OF_REPOSITORIES))
    url = f"{transport}:{rest}" if kind in ("tarball", "file") and plus else head
    return _with_url("tarball", url, query, _OF_ALL)


def _query(text: str) -> list[tuple[str, str]]:
    found = (part.partition("=") for part in text.split("&") if part)
    return [(name, value) for name, _, value in found]


def _at(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    ref, _, rev = text.rpartition("/")
    if _REVISION.fullmatch(rev):
        return {"rev": rev} | ({"ref": ref} if ref else {})
    return {"ref": unquote(text)}


def _known(
    attributes: dict[str, Any], query: list[tuple[str, str]], names: tuple[str, ...]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return attributes with those from a query added, and the rest of the query."""
    more = {name: unquote(value) for name, value in query if name in names}
    return attributes | more, [one for one in query if one[0] not in names]


def _with_url(
    kind: str, url: str, query: list[tuple[str, str]], names: tuple[str, ...]
) -> dict[str, Any]:
    attributes, left = _known({"type": kind}, query, names)
    rest = "&".join("=".join(one) for one in left)
    return {**attributes, "url": f"{url}?{rest}" if rest else url}


def _reference(attributes: Mapping[str, Any]) -> str:
    """Return a flake reference for attributes: the inverse of `attributes_of`."""
    kind = attributes["type"]
    more = {
        name: str(int(value) if isinstance(value, bool) else value)
        for name, value in attributes.items()
        if name in (*_OF_ALL, *_OF_FORGES, *_OF_REPOSITORIES)
    }
    if kind == "indirect":
        base = attributes["id"]
    elif kind == "path":
        base = f"path:{quote(attributes['path'])}"
    elif kind in _FORGES:
        owner, repository = (quote(attributes[name], "~") for name in ("owner", "repo"))
        base = f"{kind}:{owner}/{repository}"
    else:
        url = attributes["url"]
        base = url if url.startswith("git:") else f"{kind}+{url}"
    query = "&".join(f"{name}={quote(value, '/')}" for name, value in more.items())
    return f"{base}{'&' if '?' in base else '?'}{query}" if query else base
