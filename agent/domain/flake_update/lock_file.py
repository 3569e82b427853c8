"""Reads `flake.lock`: which inputs it locks, and what an update has changed in it.

The format is nix's own, version 7 and compatible ones (nix: src/libflake/lockfile.cc): `nodes` by
key, of which `root` is the flake; an input is the key of a node, or a list of names if it follows
another input.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from agent.domain.errors import FlakeError, Kind
from agent.domain.flake_update.compare_link import page_template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOCK_FILE: Final = "flake.lock"
MAX_SIZE: Final = 4 * 1024 * 1024
"""Characters that a lock file may have."""
_MAX_DATE: Final = 253_402_300_799
_SHORT: Final = 12


@dataclass(frozen=True, slots=True)
class LockedInput:
    """One locked input: its source, its revision or hash, and when it was last modified.

    `page` is what `compare_link.page_template` returns for it.
    """

    source: str
    revision: str
    modified_at: datetime | None = None
    page: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class InputChange:
    """The change of an input; `name` is its path from the flake, such as `home-manager/nixpkgs`.

    None means that the input did not exist before, or no longer exists.
    """

    name: str
    before: LockedInput | None
    after: LockedInput | None


@dataclass(frozen=True, slots=True)
class LockFile:
    """The contents of a lock file; two are equal if they lock the same, whatever their format."""

    inputs: Mapping[str, LockedInput]
    """By path from the flake, without inputs that follow others."""
    own: frozenset[str]
    """Names of the flake's own inputs, including those that follow others."""
    content: str
    """The whole file in canonical form."""

    def require(self, names: tuple[str, ...]) -> None:
        """Make sure that the flake has inputs with these names. FlakeError: INPUT_UNKNOWN."""
        unknown = sorted(set(names) - self.own)
        if unknown:
            raise FlakeError(
                Kind.INPUT_UNKNOWN,
                f"the flake has no input {unknown[0]!r}",
                hint=f"it has: {', '.join(sorted(self.own)) or 'none'}",
            )


def parse_lock_file(text: str) -> LockFile:
    """Parse the text of a `flake.lock`. FlakeError: LOCK_FILE_UNREADABLE, LOCK_FILE_TOO_LARGE."""
    if len(text) > MAX_SIZE:
        raise FlakeError(
            Kind.LOCK_FILE_TOO_LARGE,
            f"{LOCK_FILE} is larger than {MAX_SIZE // 2**20} MiB, and is not read",
            hint="inputs that follow others make it smaller: inputs.X.inputs.nixpkgs.follows",
        )
    try:
        parsed = json.loads(text)
        nodes, root = parsed["nodes"], parsed["root"]
        own = frozenset(nodes[root].get("inputs", {}))
        inputs = {
            path: _input(locked)
            for path, node in _nodes(nodes, root)
            if (locked := node.get("locked"))
        }
        content = json.dumps(parsed, sort_keys=True)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(f"it does not have nix's format ({type(error).__name__})") from error
    return LockFile(inputs, own, content)


def changed_inputs(before: LockFile, after: LockFile) -> tuple[InputChange, ...]:
    """Return the inputs that differ, sorted by name."""
    changes = (
        InputChange(name, before.inputs.get(name), after.inputs.get(name))
        for name in sorted({*before.inputs, *after.inputs})
    )
    return tuple(change for change in changes if change.before != change.after)


def inputs_from(lock: LockFile, url: str) -> tuple[str, ...]:
    """Return the paths of the inputs that are fetched from a URL, sorted; of none, nothing.

    Of a forge the URL is of its API, or of an archive.
    """
    parsed, url = json.loads(lock.content), unquote(url)
    return tuple(
        sorted(
            path
            for path, node in _nodes(parsed["nodes"], parsed["root"])
            if any(_is_at(node.get(side), url) for side in ("original", "locked"))
        )
    )


def _is_at(reference: object, url: str) -> bool:
    if not isinstance(reference, dict):
        return False
    place = str(reference.get("url") or "").removeprefix("file://").partition("?")[0]
    if "owner" in reference:
        place = f"{reference['owner']}/{reference.get('repo')}"
    return bool(place) and re.search(rf"{re.escape(place)}(?![\w-])", url) is not None


def _unreadable(why: str) -> FlakeError:
    return FlakeError(
        Kind.LOCK_FILE_UNREADABLE,
        f"{LOCK_FILE} cannot be read: {why}",
        hint="does it contain merge conflict markers? `nix flake lock` creates a new one",
    )


def _nodes(nodes: dict[str, Any], root: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every node but the root once, with the shortest path to it."""
    seen = {root}
    level = [("", root)]
    while level:
        deeper = []
        for path, key in level:
            for name, target in sorted(nodes[key].get("inputs", {}).items()):
                if not isinstance(target, str) or target in seen:
                    continue
                seen.add(target)
                here = f"{path}/{name}" if path else name
                deeper.append((here, target))
                yield here, nodes[target]
        level = deeper


def _input(locked: dict[str, Any]) -> LockedInput:
    modified = locked.get("lastModified")
    return LockedInput(
        source=_source(locked),
        revision=str(locked.get("rev") or locked.get("narHash") or "")[:64],
        modified_at=(
            datetime.fromtimestamp(modified, UTC)
            if isinstance(modified, int) and 0 <= modified <= _MAX_DATE
            else None
        ),
        page=page_template(locked),
    )


def _source(locked: dict[str, Any]) -> str:
    """Return the source of an input as a flake reference without its revision."""
    kind = locked["type"]
    if "owner" in locked:
        return f"{kind}:{locked['owner']}/{locked['repo']}"
    return f"{kind}:{locked.get('url') or locked.get('path') or locked.get('id') or '?'}"


def short_revision(locked: LockedInput) -> str:
    """Return a revision, abbreviated but recognisable."""
    revision = locked.revision.removeprefix("sha256-")
    day = f" ({locked.modified_at:%Y-%m-%d})" if locked.modified_at else ""
    return f"{revision[:_SHORT]}{day}"
