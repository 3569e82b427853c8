"""What may be fetched for a flake: its own source, and all inputs that nix would fetch with it."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, assert_never

from agent.domain.errors import Kind, NixError
from agent.domain.loose_inputs import LooseInput, loose_inputs
from agent.domain.origin import (
    ByName,
    Origin,
    Source,
    UrlPrefix,
    Within,
    origin_of_prefix,
    source_of_attributes,
    source_of_reference,
)
from agent.domain.this_host import leads_here, leads_here_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_LOCK: Final = 4 * 1024 * 1024
_MAX_NAMED: Final = 5
_MAX_DEPTH: Final = 32
_WITH_URL: Final = ("git", "hg", "tarball", "file")
_MAX_STEPS: Final = 1000
_HINT: Final = "if that is intended, set trust.allow_insecure = {prefixes}"
_MOVE: Final = (
    "; nix from 2.20 on does not evaluate an input that is itself such a prefix if the files beside"
    " it may be private: move {inputs} to below /srv/flakes, for instance, and name that"
)
_THE_FLAKE: Final = "the flake"


@dataclass(frozen=True, slots=True)
class FlakeSource:
    """The source tree of a flake, as nix has fetched it, without its inputs.

    `lock` is the text of its `flake.lock`, None if there is none; `inputs` is the JSON of the
    inputs that its `flake.nix` declares. `directory` is the flake's directory in the tree.
    """

    lock: str | None
    inputs: str
    directory: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A source that nix would fetch: `name` says for what, `source` from where."""

    name: str
    source: Source
    directory: str = ""
    """The directory of the flake that names it, in its own tree."""
    is_locked: bool = True


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a source may not be fetched, and the prefix that would allow it, if there is one."""

    name: str
    what: str
    why: str
    prefix: str | None


def wanted_of_flake(reference: str) -> Wanted:
    """Return the source of a flake reference. NixError: FLAKE_INSECURE if it is unknown."""
    try:
        source = source_of_reference(reference)
    except ValueError as error:
        raise _unknown(_THE_FLAKE, error) from error
    if isinstance(source, Within):
        raise _unknown(_THE_FLAKE, ValueError("the path is not absolute"))
    return Wanted(_THE_FLAKE, source)


def wanted_of_source(source: FlakeSource) -> tuple[Wanted, ...]:
    """Return what nix would fetch for a flake besides itself, whether or not it is needed.

    That includes what `flake.nix` declares: nix fetches what the lock file lacks before it reports
    that the lock file is not up to date.

    Raises:
        NixError: FLAKE_INSECURE: an input cannot be parsed.
    """
    try:
        declared = _json(source.inputs)
        locked = () if source.lock is None else _locked(source.lock, source.directory)
        return (*_declared(declared, source.directory, ""), *locked)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _unknown("an input of the flake", error) from error


def loose_inputs_of(one: LooseInput, source: FlakeSource) -> tuple[LooseInput, ...]:
    """Return the inputs of a flake that nix would fetch to read their own inputs.

    Raises:
        NixError: FLAKE_INSECURE: this cannot be determined.
    """
    try:
        return tuple(loose_inputs(one.reference, source, one.locked))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _unknown("an input of the flake", error) from error


def refusals(wanted: Sequence[Wanted], allowed: Sequence[UrlPrefix]) -> Iterator[Refused]:
    """Yield what may not be fetched, judging by its URL alone."""
    prefixes = _prefixes(allowed)
    for one in wanted:
        if refused := _refusal(one, prefixes):
            yield refused


def refusals_of_update(
    before: str, after: str, allowed: Sequence[UrlPrefix]
) -> tuple[Refused, ...]:
    """Return what an update of a lock file adds that may not be fetched, judging by its URL alone.

    What the lock file had before was committed, so later versions of it are intended, too.

    Raises:
        NixError: FLAKE_INSECURE: a lock file cannot be parsed.
    """
    theirs, ours = (wanted_of_source(FlakeSource(text, "{}")) for text in (after, before))
    known = [UrlPrefix(one.prefix) for one in refusals(ours, ()) if one.prefix]
    remote = [one for one in theirs if not isinstance(one.source, Within)]
    return tuple(refusals(remote, (*allowed, *known)))


def hosts_to_resolve(wanted: Sequence[Wanted], allowed: Sequence[UrlPrefix]) -> frozenset[str]:
    """Return the hosts whose addresses have to be checked, too."""
    return frozenset(origin.host for _, origin in _remote(wanted, allowed))


def refusals_by_address(
    wanted: Sequence[Wanted],
    allowed: Sequence[UrlPrefix],
    addresses: Mapping[str, tuple[str, ...] | None],
) -> Iterator[Refused]:
    """Yield what may not be fetched because its host name resolves to this host or is link-local.

    A name without an address is allowed: nothing can be reached there. If the addresses are unknown
    (None), nothing is fetched.
    """
    for one, origin in _remote(wanted, allowed):
        found = addresses.get(origin.host, ())
        if found is None:
            why = f"it is unknown now where the name {origin.host} leads"
            yield Refused(one.name, str(origin), why, None)
            continue
        why = next(filter(None, map(leads_here_by, found)), "")
        if why:
            reason = f"{origin.host} leads to this host: {why}"
            yield Refused(one.name, str(origin), reason, _prefix(origin))


def fault_of(refused: Sequence[Refused], allowed: Sequence[UrlPrefix]) -> NixError:
    """Return the error for what may not be fetched, with the line that would allow it."""
    items = [f"{one.name} ({one.what}): {one.why}" for one in refused[:_MAX_NAMED]]
    if len(refused) > _MAX_NAMED:
        items.append(f"and {len(refused) - _MAX_NAMED} more")
    new = dict.fromkeys(one.prefix for one in refused if one.prefix)
    prefixes = json.dumps([*allowed, *(prefix for prefix in new if prefix not in allowed)])
    is_passing = all(one.prefix is None for one in refused)
    return NixError(
        Kind.FLAKE_INSECURE,
        f"refusing to fetch {'; '.join(items)}",
        hint="nothing was fetched"
        if is_passing
        else _HINT.format(prefixes=prefixes) + _move(refused),
    )


def _move(refused: Sequence[Refused]) -> str:
    """Return what else to do about inputs that nix cannot evaluate where they are."""
    inputs = dict.fromkeys(
        one.prefix
        for one in refused
        if one.prefix is not None
        and one.name != _THE_FLAKE
        and origin_of_prefix(UrlPrefix(one.prefix)).is_beside_private
    )
    return _MOVE.format(inputs=", ".join(inputs)) if inputs else ""


def _remote(
    wanted: Sequence[Wanted], allowed: Sequence[UrlPrefix]
) -> Iterator[tuple[Wanted, Origin]]:
    prefixes = _prefixes(allowed)
    for one in wanted:
        match one.source:
            case Origin(host=host) as origin if host and not any(map(origin.is_below, prefixes)):
                yield one, origin
            case _:
                pass


def _refusal(one: Wanted, prefixes: Sequence[Origin]) -> Refused | None:
    match one.source:
        case ByName(name):
            if not one.is_locked:
                return None  # what it resolves to is in the lock file, or in this host's registry
            why = "only this host's flake registry can resolve it"
            return Refused(one.name, name, why, None)
        case Within(path) as source:
            if not source.leaves(one.directory):
                return None
            return Refused(one.name, path, "it leads out of the flake", None)
        case Origin() as origin:
            if any(map(origin.is_below, prefixes)):
                return None
            why = _objection(origin)
            return Refused(one.name, str(origin), why, _prefix(origin)) if why else None
        case _:
            assert_never(one.source)


def _objection(origin: Origin) -> str:
    if not origin.host:
        return "it is on this host, and what nix fetches is world-readable"
    if not origin.is_secure:
        return "neither TLS nor ssh protects the connection"
    return leads_here(origin.host)


def _prefix(origin: Origin) -> str | None:
    """Return the prefix for an origin and, if that is an archive, for its later versions."""
    if origin.path is None or (origin.has_user and not origin.scheme.endswith("+ssh")):
        return None
    is_archive = origin.host and origin.scheme in ("http", "https", "file+http", "file+https")
    path = origin.path[:-1] if is_archive else origin.path
    return str(replace(origin, path=path)) if path or origin.host else None


def _prefixes(allowed: Sequence[UrlPrefix]) -> tuple[Origin, ...]:
    return tuple(map(origin_of_prefix, allowed))


def _unknown(name: str, error: Exception) -> NixError:
    why = str(error) if type(error) is ValueError else type(error).__name__
    return NixError(
        Kind.FLAKE_INSECURE,
        f"refusing to fetch {name}: it is not clear what it names: {why[:300]}",
        hint="look at flake.nix and flake.lock",
    )


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_each_once)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's members; duplicates are refused, since parsers treat them differently."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate name")
    return found


def _locked(text: str, directory: str) -> Iterator[Wanted]:
    """Yield what the nodes of a lock file lock, whether or not anything refers to them."""
    if len(text) > MAX_LOCK:
        raise ValueError("flake.lock is larger than 4 MiB")
    lock = _json(text)
    nodes, root = lock["nodes"], lock["root"]
    for key, node in sorted(nodes.items()):
        # Before version 6, nix merged `info` over `locked`; its evaluator does the reverse.
        locked, info = node.get("locked"), node.get("info", {})
        if locked is None and key == root:
            continue
        parent = node.get("parent")
        base = _directory_of(nodes, root, parent, directory) if parent else directory
        for attributes in (locked, {**locked, **info}, {**info, **locked})[: 3 if info else 1]:
            yield Wanted(f"the input {key!r}", source_of_attributes(attributes), base)


def _directory_of(
    nodes: Mapping[str, Any], root: str, path: Sequence[str], directory: str, depth: int = 0
) -> str:
    """Return the directory, in its tree, of the flake that a path of inputs refers to."""
    key, left, steps = root, list(path), 0
    while left:
        steps += 1
        if steps > _MAX_STEPS:
            raise ValueError("inputs follow each other in a circle")
        target = nodes[key]["inputs"][left.pop(0)]
        if isinstance(target, str):
            key = target
        else:  # another input's path, from the root on
            key, left = root, [*target, *left]
    return _directory_of_node(nodes, root, nodes[key], directory, depth)


def _directory_of_node(
    nodes: Mapping[str, Any], root: str, node: Mapping[str, Any], directory: str, depth: int
) -> str:
    locked, parent = node["locked"], node.get("parent")
    if locked["type"] != "path" or locked["path"].startswith("/"):
        return str(locked.get("dir", ""))
    if depth > _MAX_DEPTH:
        raise ValueError("paths are nested too deeply")
    above = _directory_of(nodes, root, parent, directory, depth + 1) if parent else directory
    return posixpath.normpath(
        posixpath.join(above, str(locked["path"]), str(locked.get("dir", "")))
    )


def _declared(inputs: Any, directory: str, path: str, depth: int = 0) -> Iterator[Wanted]:
    """Yield what `flake.nix` declares: inputs, and overrides of their inputs."""
    if depth > _MAX_DEPTH:
        raise ValueError("the inputs are nested too deeply")
    for name, declared in sorted(inputs.items()):
        here = f"{path}/{name}" if path else name
        label = f"the input {here!r} of flake.nix"
        # With a type, the URL is an attribute, such as the repository's own URL for git.
        is_attribute = declared.get("type") in _WITH_URL
        if isinstance(declared.get("url"), str) and not is_attribute:
            yield Wanted(label, source_of_reference(declared["url"]), directory, is_locked=False)
        if "type" in declared:
            yield Wanted(label, source_of_attributes(declared), directory, is_locked=False)
        yield from _declared(declared.get("inputs") or {}, directory, here, depth + 1)
