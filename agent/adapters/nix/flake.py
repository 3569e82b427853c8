"""Runs nix for whole flakes: names, evaluates, updates, builds and compares all their hosts.

The second half of what the agent knows of nix's command line; see
`agent.adapters.nix.commands`. Everything here works from nix 2.8 on.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from agent.adapters.nix.commands import FULL, flake_fault, unreachable_cache
from agent.adapters.nix.log import NixLog
from agent.adapters.nix.program import NIX, run_nix
from agent.adapters.nix.source_faults import CachedSources, complaint, hint_for, unreachable_source
from agent.application.flake_update import events
from agent.application.flake_update.ports import FlakeBuilds
from agent.application.report import error_fields
from agent.application.shielded import together
from agent.domain.errors import FlakeError, Kind, NixError
from agent.domain.flake_update.comparison import Broken, Stage, System
from agent.domain.flake_update.lock_file import LOCK_FILE, inputs_from, parse_lock_file
from agent.domain.flake_update.package_change import parse_closure_diff
from agent.domain.store_path import parse_store_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from agent.adapters.process import Completed, Runner
    from agent.application.ports import EventSink
    from agent.domain.flake_update.package_change import PackageChange
    from agent.domain.store_path import StorePath

_HOSTS: Final = ".#nixosConfigurations"
_NO_HOSTS: Final = re.compile(r"does not provide attribute '?[^\n]*nixosConfigurations")
_VERSION: Final = re.compile(r"\b(\d{1,4})\.(\d{1,4})")
_NAMES_INPUTS_TO_UPDATE: Final = (2, 19)
"""From this version on `nix flake update` takes the inputs' names."""
# Newer nix says what it was about when it failed, 2.8 just the fault.
_UNAVAILABLE: Final = re.compile(
    r"while fetching the input|program 'git' failed|unable to (?:download|fetch)"
    r"|[Ff]ailed to fetch|cannot fetch"
    r"|getting Git object|Git revision|does not exist|HTTP error|cannot find flake"
    r"|[Cc]ould not resolve host|repository '[^']*' not found|is not valid|failed to open archive"
    r"|getting status of|no such file or directory|Failed to resolve"
)
_INPUT_AT_FAULT: Final = re.compile(r"while (?:updating|fetching) the (?:flake )?input ('[^']+')")
"""In the trace of newer versions; of an older one the complaint has the URL."""
# What each host's function of `nix eval --apply` gives.
_SYSTEMS: Final = (
    "all: builtins.listToAttrs (map (name: { inherit name; value = let"
    " toplevel = all.${name}.config.system.build.toplevel; in"
    " { derivation = toplevel.drvPath; toplevel = toplevel.outPath; }; }) [ %s ])"
)
_AS_LOCKED: Final = "--no-update-lock-file"
_LOCKS_NEW: Final = "--no-write-lock-file"
_SEE_INPUTS: Final = "see the inputs of flake.nix; --input names those to update"
_MAX_NAME: Final = 255
_OF_NO_HOST: Final = frozenset({Kind.STORE_FULL, Kind.FLAKE_UNREACHABLE})
"""What keeps nix from evaluating, and says nothing of a host."""


class NixFlake(FlakeBuilds):
    """nix, as the port `FlakeBuilds` wants it.

    Links in `roots`, which is made, keep from the garbage collector what was built. `concurrency`
    bounds how many nix processes are running at once, and `hosts_at_once` how many hosts they
    evaluate together; how many builds is nix's own `max-jobs`.
    Unless `local_builds` nothing is built, only substituted. `deadline` bounds each call, in
    seconds.
    """

    def __init__(
        self,
        runner: Runner,
        sink: EventSink,
        *,
        store_dir: str,
        roots: Path,
        concurrency: int,
        hosts_at_once: int,
        local_builds: bool,
        deadline: float,
    ) -> None:
        self._runner = runner
        self._sink = sink
        self._store_dir = store_dir
        self._roots = roots
        self._turns = asyncio.Semaphore(concurrency)
        # The memory of an evaluation grows with each host of it.
        self._evaluations = asyncio.Semaphore(min(concurrency, hosts_at_once))
        self._batch = max(1, hosts_at_once // concurrency)
        self._local_builds = local_builds
        self._deadline = deadline
        self._realised = 0

    @override
    async def host_names(self, flake: Path) -> tuple[str, ...]:
        # The lock file may not fit yet: that is what an update is for.
        done = await self._eval(flake, "builtins.attrNames", _LOCKS_NEW)
        if done.returncode != 0:
            if _NO_HOSTS.search(done.tail):
                return ()
            raise _evaluation_fault("the flake's hosts cannot be listed", done.tail)
        names = _json(done.stdout)
        if not isinstance(names, list) or not all(map(_is_name, names)):
            raise _malformed_output(done.stdout)
        return tuple(names)

    @override
    async def evaluate(
        self, flake: Path, hosts: Sequence[str], *, locks_new: bool = False
    ) -> Mapping[str, System | Broken]:
        lock = _LOCKS_NEW if locks_new else _AS_LOCKED
        batches = [hosts[at : at + self._batch] for at in range(0, len(hosts), self._batch)]
        found: dict[str, System | Broken] = {}
        for one in await together(self._evaluate(flake, some, lock) for some in batches):
            found.update(one)
        return found

    async def _evaluate(
        self, flake: Path, hosts: Sequence[str], lock: str
    ) -> Mapping[str, System | Broken]:
        """Evaluate some hosts in one process, and each in its own if that fails."""
        async with self._evaluations:
            done = await self._eval(flake, _SYSTEMS % " ".join(map(_nix_string, hosts)), lock)
        if done.returncode == 0:
            answer = _json(done.stdout)
            return {host: self._system(answer, host) for host in hosts}
        fault = _evaluation_fault(f"{', '.join(hosts)} cannot be evaluated", done.tail)
        if fault.kind in _OF_NO_HOST:
            raise fault
        if len(hosts) == 1:
            return {hosts[0]: _does_not_evaluate(done.tail)}
        self._sink.emit(events.EVALUATED_SINGLY, **error_fields(fault))
        single = await together(self._evaluate(flake, (host,), lock) for host in hosts)
        return {host: side for one in single for host, side in one.items()}

    @override
    async def update(self, flake: Path, inputs: Sequence[str]) -> None:
        arguments: tuple[str, ...] = ("flake", "update")
        if inputs and await self._version() >= _NAMES_INPUTS_TO_UPDATE:
            arguments += tuple(inputs)
        elif inputs:
            wanted = (("--update-input", name) for name in inputs)
            arguments = ("flake", "lock", *(word for pair in wanted for word in pair))
        cached = CachedSources()

        def take(line: str) -> None:
            cached.feed(line)
            self._runner.say("nix", line)

        done = await self._nix((*NIX, *arguments), flake, take)
        if done.returncode == 0:
            cached.end()
            if cached.reasons:
                raise _not_fetched(cached, flake)
            return
        if FULL.search(done.tail):
            raise _full(done.tail)
        kind, message = Kind.EVALUATION_FAILED, "the inputs cannot be updated"
        if _UNAVAILABLE.search(done.tail):
            named = _INPUT_AT_FAULT.search(done.tail)
            what = f"the input {named[1]}" if named else "an input"
            kind, message = Kind.INPUT_UNAVAILABLE, f"{what} cannot be fetched"
        if unreachable_source(done.tail):
            kind = Kind.FLAKE_UNREACHABLE
        raise NixError(
            kind,
            f"{message}: {complaint(done.tail)}",
            hint=hint_for(done.tail) or _SEE_INPUTS,
        )

    @override
    async def realise(self, systems: Sequence[System]) -> Mapping[StorePath, Broken]:
        if not systems:
            return {}
        log = NixLog()
        if await self._realise([one.derivation for one in systems], log):
            return {}
        text = log.text
        if FULL.search(text):
            raise _full(text)
        if not log.failed and (reason := unreachable_cache(text)):
            raise NixError(Kind.CACHE_UNREACHABLE, f"cannot fetch what is built: {reason}")
        missing = await self._invalid([one.toplevel for one in systems])
        good = [one.derivation for one in systems if one.toplevel not in missing]
        if good:  # only now do they get their links: a call that fails makes none
            await self._realise(good, NixLog())
        failed = [one for one in systems if one.toplevel in missing]
        return {one.derivation: await self._does_not_build(one, log) for one in failed}

    async def _realise(self, derivations: Sequence[StorePath], log: NixLog) -> bool:
        self._realised += 1
        self._roots.mkdir(parents=True, exist_ok=True)
        root = str(self._roots / f"system-{self._realised}")
        argv = ["nix-store", "--realise", "--keep-going", "--log-format", "internal-json"]
        argv += ["--add-root", root, "--indirect", "--option", "narinfo-cache-negative-ttl", "0"]
        if not self._local_builds:
            argv += ["--max-jobs", "0", "--builders", ""]

        def take(line: str) -> None:
            if text := log.feed(line):
                self._runner.say("nix", text)

        done = await self._nix((*argv, *derivations), None, take)
        return done.returncode == 0

    async def _invalid(self, paths: Sequence[StorePath]) -> frozenset[str]:
        argv = ("nix-store", "--check-validity", "--print-invalid", *paths)
        done = await self._nix(argv, None)
        return frozenset(done.stdout.split())

    async def _does_not_build(self, system: System, log: NixLog) -> Broken:
        argv = ("nix-store", "--query", "--requisites", system.derivation)
        needed = set((await self._nix(argv, None)).stdout.split())
        guilty = next((one for one in log.failed if one in needed), None)
        if guilty is None:
            reason = complaint(log.text)
            return Broken(Stage.BUILD, reason, "")
        return Broken(Stage.BUILD, f"{guilty} failed", log.tail(guilty))

    @override
    async def closure_diff(
        self, before: StorePath, after: StorePath
    ) -> tuple[PackageChange, ...] | None:
        done = await self._nix((*NIX, "store", "diff-closures", before, after), None)
        return parse_closure_diff(done.stdout) if done.returncode == 0 else None

    async def _version(self) -> tuple[int, int]:
        done = await self._nix(("nix", "--version"), None)
        found = _VERSION.search(done.stdout)
        if found is None:
            raise _malformed_output(done.stdout)
        return int(found[1]), int(found[2])

    async def _eval(self, flake: Path, function: str, lock: str) -> Completed:
        arguments = ("eval", "--json", _HOSTS, "--apply", function, lock)
        return await self._nix((*NIX, *arguments), flake)

    def _system(self, hosts: Any, host: str) -> System:
        found = hosts.get(host) if isinstance(hosts, dict) else None
        if isinstance(found, dict):
            derivation = parse_store_path(found.get("derivation"), self._store_dir)
            toplevel = parse_store_path(found.get("toplevel"), self._store_dir)
            if derivation is not None and toplevel is not None:
                return System(derivation, toplevel)
        raise _malformed_output(f"{host}: {found}")

    async def _nix(
        self,
        argv: Sequence[str],
        cwd: Path | None,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        async with self._turns:
            done = await run_nix(
                self._runner,
                argv,
                deadline=self._deadline,
                cwd=cwd,
                on_line=on_line,
                hint="see flake_update.deadline",
            )
        if done.returncode < 0:
            raise NixError(
                Kind.NIX_KILLED,
                f"{' '.join(argv[:1])} was killed by signal {-done.returncode}",
                hint="if memory ran out, as the kernel would log: lower flake_update.hosts_at_once",
            )
        return done


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _MAX_NAME and name.isprintable()


def _nix_string(text: str) -> str:
    """Return a string as nix's language writes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return f'"{escaped}"'


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed_output(text) from error


def _malformed_output(text: str) -> NixError:
    return NixError(
        Kind.NIX_NONSENSE,
        f"nix printed {text[:200]!r}, which is not what was asked",
        hint="is each toplevel a derivation, and the store at paths.store_dir?",
    )


def _does_not_evaluate(tail: str) -> Broken:
    return Broken(Stage.EVALUATION, complaint(tail), "\n".join(tail.splitlines()[-25:]))


def _evaluation_fault(message: str, tail: str) -> NixError:
    return _full(tail) if FULL.search(tail) else flake_fault(message, tail)


def _not_fetched(cached: CachedSources, flake: Path) -> NixError:
    """Return the fault of inputs that are as old as nix's cache, named as the lock file does."""
    try:
        lock = parse_lock_file((flake / LOCK_FILE).read_text())
    except (OSError, ValueError, FlakeError):
        lock = None
    whys = []
    for url, why in cached.reasons.items():
        names = inputs_from(lock, url) if lock else ()
        what = "the input " + " and ".join(f"'{one}'" for one in names) if names else url
        whys.append(f"{what or 'an input'} cannot be fetched: {why}")
    text = "; ".join(whys)
    return NixError(Kind.INPUT_UNAVAILABLE, text, hint=hint_for(text) or _SEE_INPUTS)


def _full(text: str) -> NixError:
    return NixError(
        Kind.STORE_FULL,
        f"nix has no room: {complaint(text)}",
        hint="make room in the store (nix-collect-garbage) and where TMPDIR is",
    )
