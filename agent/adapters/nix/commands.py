"""Runs nix: evaluates a host's toplevel, and brings its closure from the substituters.

nix only ever fails with exit code 1, so failures are distinguished by its messages: the texts are
those of 2.8, 2.26 and 2.34 (src/libstore, src/libflake). Nothing that nix's configuration says
of substituters and keys is repeated here; only what the agent's own settings add is passed on.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

from agent.adapters.nix.environment import confinement
from agent.adapters.nix.log import OWN_TERM, TERM, NixLog
from agent.adapters.nix.program import NIX, run_nix, store_path_of
from agent.adapters.nix.source_faults import (
    cause_of,
    complaint,
    hint_for,
    is_refused_by_ssh,
    unreachable_source,
)
from agent.adapters.process import ProgramMissingError
from agent.application.ports import Fetched, Nix
from agent.domain.errors import Kind, NixError
from agent.domain.facts import FetchPlan
from agent.domain.flake_update.lock_file import LOCK_FILE
from agent.domain.nix_options import split_flags
from agent.domain.target import NIXOS
from agent.domain.trust import MAX_LOCK, FlakeSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.adapters.process import Completed, Runner
    from agent.application.ports import Progress
    from agent.domain.flake_reference import LockedFlakeReference
    from agent.domain.origin import UrlPrefix
    from agent.domain.store_path import StorePath
    from agent.domain.target import Target

# The flags of nixos-rebuild that change what a flake evaluates to, and how many values each has.
_EVALUATION_FLAGS: Final = {
    "--impure": 0,
    "--accept-flake-config": 0,
    "--show-trace": 0,
    "--option": 2,
}

_FLAKE_FILE: Final = "flake.nix"
# What flake.nix declares, as JSON: without its functions, and with paths as text.
_DECLARED: Final = (
    "let plain = value: if builtins.isAttrs value then builtins.mapAttrs (_: plain) value"
    " else if builtins.isPath value then toString value"
    " else if builtins.isFunction value then null"
    " else if builtins.isList value then map plain value else value;"
    " in plain ((import %s).inputs or { })"
)

_WILL_FETCH: Final = re.compile(
    r"(?:this path|these (?P<paths>\d+) paths) will be fetched"
    r" \((?P<download>[\d.]+) (?P<download_unit>\w+) download,"
    r" (?P<unpacked>[\d.]+) (?P<unpacked_unit>\w+) unpacked\)"
)
_SHOW_TIMEOUT: Final = 30.0
_UNITS: Final = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}

FULL: Final = re.compile(
    r"No space left on device|database or disk is full|Disk quota exceeded"
    r"|failed to extract archive \(Write failed\)"  # which is all that libarchive says
)
_UNTRUSTED: Final = re.compile(
    r"(?:ignoring|the) substitute for '(?P<path>[^']+)'.*not signed by any of the keys"
    r"|cannot add path '(?P<added>[^']+)' because it lacks a (?:valid )?signature"
)
# A missing narinfo is no failed download to nix; what is reported failed at the transport or on
# the server. A nar that is gone although its narinfo is there is the cache's fault, not distance.
_UNREACHABLE: Final = re.compile(
    r"unable to \w+ '[^']*': (?!HTTP error 4(?:0[1347]|10)\b)"
    r"|disabling binary cache '"
    r"|does not appear to be a binary cache"
    r"|ssh: (?:connect to|Could not resolve) "
    r"|cannot (?:connect to '|open connection to remote store)|failed to start SSH connection"
)
_NOWHERE: Final = re.compile(
    r"don't know how to build these paths|there is no substituter that can build it"
    r"|some references of path '[^']*' could not be realised"
)
_BROKEN: Final = re.compile(
    r"unable to \w+ '[^']*': HTTP error 40[137]\b"
    r"|file 'nar/[^']*' does not exist in binary cache|is incomplete$|hash mismatch|corrupt"
)
_STALE_LOCK: Final = re.compile(
    r"cannot write modified lock file of flake|requires lock file changes but they're not allowed"
)


def nix_options(
    substituters: tuple[str, ...], trusted_public_keys: tuple[str, ...], *, local_builds: bool
) -> tuple[str, ...]:
    """Return what the settings say of substituters and builds, as options of nix."""
    options: tuple[str, ...] = (
        *("--option", "narinfo-cache-negative-ttl", "0"),
        # Set explicitly: on a host that it takes to be without a network nix would otherwise
        # substitute nothing, not even from a cache on that host, and not say why.
        *("--option", "substitute", "true"),
    )
    if substituters:
        options += ("--option", "substituters", " ".join(substituters))
    if trusted_public_keys:
        options += ("--option", "trusted-public-keys", " ".join(trusted_public_keys))
    return options if local_builds else (*options, "--max-jobs", "0", "--builders", "")


class NixCommand(Nix):
    """nix, as the port `Nix` wants it.

    `gc_root` becomes a link to the fetched candidate, which keeps it from the garbage collector.
    `flags` are the user's for nixos-rebuild: what changes the evaluation is passed on to it.
    `deadline` bounds each call, in seconds. Unless `local_builds`, nothing is ever built, not even
    for an evaluation that imports from a derivation.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        store_dir: str,
        gc_root: Path,
        substituters: tuple[str, ...],
        trusted_public_keys: tuple[str, ...],
        local_builds: bool,
        flags: tuple[str, ...],
        deadline: float,
        target: Target = NIXOS,
        allow_insecure: tuple[UrlPrefix, ...] = (),
    ) -> None:
        self._runner = runner
        self._confinement = confinement(runner.environment, flags, allow_insecure)
        self._nothing_else = {
            "NIX_PATH": "",
            "NIX_CONFIG": runner.environment.get("NIX_CONFIG", ""),
        }
        self._target = target
        self._store_dir = store_dir
        self._gc_root = gc_root
        self._local_builds = local_builds
        self._evaluation_flags = evaluation_flags(split_flags(flags).arguments)
        self._deadline = deadline
        self._settings = nix_options(substituters, trusted_public_keys, local_builds=local_builds)

    @override
    async def fetch_source(self, flake: LockedFlakeReference) -> FlakeSource:
        # `nix flake metadata` would be too much: with a lock file that is not up to date it fetches
        # what is missing before it says so.
        done = await self._run(("flake", "prefetch", "--json", flake))
        if done.returncode != 0:
            raise _flake_fault(f"cannot fetch {flake}", done.tail)
        tree = Path(self._prefetched(done.stdout))
        directory = parse_qs(urlsplit(flake).query).get("dir", [""])[0].strip("/")
        place = _within(tree, directory) / _FLAKE_FILE
        declared = await self._declared_inputs(flake, tree, place)
        return FlakeSource(_lock_of(tree, directory), declared, directory)

    def _prefetched(self, text: str) -> StorePath:
        try:
            named = json.loads(text)["storePath"]
        except (ValueError, LookupError, TypeError):
            named = None
        return store_path_of(named, self._store_dir, "nix flake prefetch has the path")

    async def _declared_inputs(self, flake: str, tree: Path, place: Path) -> str:
        """Return the JSON of what flake.nix declares, evaluated with access to nothing else."""
        # Impure as far as it reads a path, and restricted to that path.
        arguments = (
            *("eval", "--json", "--impure", "-I", f"flake={tree}"),
            *("--option", "restrict-eval", "true", "--option", "allowed-uris", ""),
            *("--option", "allow-import-from-derivation", "false"),
            *("--expr", _DECLARED % json.dumps(str(place))),
        )
        done = await self._run(arguments, env=self._nothing_else)
        if done.returncode != 0:
            raise _flake_fault(f"cannot read the inputs that {flake} declares", done.tail)
        return done.stdout.replace(f'"{place.parent}/', '"./')

    @override
    async def evaluate_toplevel(self, flake: LockedFlakeReference, host: str) -> StorePath:
        attribute = f"{self._target.toplevel_of(host)}.outPath"
        # The user's flags come first: none of them may allow builds.
        arguments = ("--no-update-lock-file", *self._evaluation_flags, *self._settings)
        done = await self._run(("eval", "--raw", f"{flake}#{attribute}", *arguments))
        if done.returncode != 0:
            raise _flake_fault(f"cannot evaluate {host} of {flake}", done.tail)
        return store_path_of(done.stdout, self._store_dir, f"the toplevel of {host} evaluates to")

    @override
    async def plan_fetch(self, path: StorePath) -> FetchPlan:
        done = await self._run(("build", path, "--dry-run", *self._settings))
        if done.returncode != 0 or _NOWHERE.search(done.tail):
            fault = _fetch_fault(path, done.tail)
            if fault.kind is Kind.PATH_NOT_CACHED and self._local_builds:
                return FetchPlan(0, 0, 0)
            raise fault
        return parse_fetch_plan(done.tail)

    @override
    async def substituters(self) -> tuple[str, ...]:
        for command in (("config", "show"), ("show-config",)):  # the second is before nix 2.20
            argv = (*NIX, *command, "--json")
            try:
                done = await self._runner.run(argv, timeout=_SHOW_TIMEOUT)
                found = json.loads(done.stdout)["substituters"]["value"]
                return tuple(url for url in found if isinstance(url, str))
            except (ProgramMissingError, ValueError, LookupError, TypeError):
                continue
        return ()

    @override
    async def substitute(self, path: StorePath, progress: Progress) -> Fetched:
        try:
            self._gc_root.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NixError(Kind.FETCH_FAILED, f"cannot make {error.filename}: {error}") from error
        log = NixLog()

        def take(line: str) -> None:
            if text := log.feed(line):
                self._runner.say("nix", text)
            progress.update(log.paths, log.paths_expected, log.size, log.size_expected)

        link = ("--out-link", str(self._gc_root))
        done = await self._run(
            ("build", path, *link, "--log-format", "internal-json", *self._settings), take
        )
        if done.returncode != 0:
            raise _fetch_fault(path, log.text)
        return Fetched(paths=log.paths, size=log.size_expected)

    async def _run(
        self,
        arguments: Sequence[str],
        on_line: Callable[[str], None] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        argv = (*NIX, *arguments)
        env = {**self._confinement, **(env or {})}
        return await run_nix(self._runner, argv, deadline=self._deadline, env=env, on_line=on_line)


def evaluation_flags(flags: Sequence[str]) -> tuple[str, ...]:
    """Return those of nixos-rebuild's flags, with their values, that change an evaluation."""
    chosen: list[str] = []
    rest = list(flags)
    while rest:
        values = _EVALUATION_FLAGS.get(rest[0])
        taken = 1 + (values or 0)
        if values is not None:
            chosen += rest[:taken]
        rest = rest[taken:]
    return tuple(chosen)


def parse_fetch_plan(text: str) -> FetchPlan:
    """Return what nix's dry run promises to fetch; sizes are as exact as nix prints them."""
    found = _WILL_FETCH.search(text)
    if found is None:
        return FetchPlan(0, 0, 0)
    return FetchPlan(
        paths=int(found["paths"] or 1),
        download_bytes=_size(found["download"], found["download_unit"]),
        unpacked_bytes=_size(found["unpacked"], found["unpacked_unit"]),
    )


def _size(number: str, unit: str) -> int:
    return round(float(number) * _UNITS.get(unit, 1))


def _within(tree: Path, name: str) -> Path:
    """Return a path of a source tree; NixError where it leads out of it, by a link or otherwise."""
    path = Path(os.path.realpath(tree / name))
    if not path.is_relative_to(os.path.realpath(tree)):
        raise NixError(Kind.FLAKE_INSECURE, f"{name[:200]!r} leads out of the flake's tree {tree}")
    return path


def _lock_of(tree: Path, directory: str) -> str | None:
    """Return the text of `flake.lock`, truncated where it is too large, and so invalid."""
    path = _within(tree, f"{directory}/{LOCK_FILE}".lstrip("/"))
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_LOCK + 1).decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NixError(Kind.FETCH_FAILED, f"cannot read {path}: {error.strerror}") from error


def _flake_fault(what: str, text: str) -> NixError:
    return _full(text) if FULL.search(text) else flake_fault(what, text)


def flake_fault(what: str, text: str) -> NixError:
    """Return why a flake could not be fetched, or evaluated."""
    is_far = bool(unreachable_source(text))
    kind = Kind.FLAKE_UNREACHABLE if is_far else Kind.EVALUATION_FAILED
    is_stale = not is_far and _STALE_LOCK.search(text)
    hint = "commit a flake.lock that fits flake.nix" if is_stale else hint_for(text)
    return NixError(kind, f"{what}: {complaint(text)}", hint=hint)


def _fetch_fault(path: StorePath, text: str) -> NixError:
    """Return why `path` could not be fetched; the cause that explains the others comes first."""
    if FULL.search(text):
        return _full(text)
    if untrusted := _UNTRUSTED.search(text):
        return NixError(
            Kind.SIGNATURE_UNTRUSTED,
            f"{untrusted['path'] or untrusted['added']} is not signed by a trusted key",
            hint="is the cache's key in trusted-public-keys or fetch.trusted_public_keys?",
        )
    if is_refused_by_ssh(text):
        message = f"cannot fetch {path}: {complaint(text)}"
        return NixError(Kind.FETCH_FAILED, message, hint=hint_for(text))
    # The second is what nix also says of a path that was in a cache, and yet could not be copied.
    for pattern, kind in ((_UNREACHABLE, Kind.CACHE_UNREACHABLE), (_BROKEN, Kind.FETCH_FAILED)):
        if line := _line(pattern, text):
            message = f"cannot fetch {path}: {cause_of(line, text)}"
            return NixError(kind, message, hint=hint_for(line))
    if _NOWHERE.search(text):
        return NixError(
            Kind.PATH_NOT_CACHED,
            f"{path}, or a path that it needs, is in no substituter",
            hint="a cache may receive a build some time after Hydra finished it",
            retry_after=TERM if OWN_TERM in text else None,
        )
    return NixError(Kind.FETCH_FAILED, f"cannot fetch {path}: {complaint(text)}")


def unreachable_cache(text: str) -> str:
    """Return what nix says of a cache that it cannot reach; empty if it says no such thing."""
    line = _line(_UNREACHABLE, text)
    return line and cause_of(line, text)


def _full(text: str) -> NixError:
    return NixError(
        Kind.STORE_FULL,
        f"the store's file system is full: {_line(FULL, text)}",
        hint="nix-collect-garbage makes room; disk.store_reserve holds an upgrade before this",
    )


def _line(pattern: re.Pattern[str], text: str) -> str:
    """Return the line in which `pattern` occurs; a final error rather than that of a retry."""
    found = [line.strip() for line in text.splitlines() if pattern.search(line)]
    final = [line for line in found if "; retrying in" not in line] or found or [""]
    return final[0].removeprefix("warning: ").removeprefix("error: ")
