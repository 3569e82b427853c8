"""A whole machine to try the command line on: Hydra, cache, host, and the agent as a subprocess.

nix is real, in a store of its own; sockets are real; nixos-rebuild and systemctl are stand-ins on
the host's PATH.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.demo.cache_server import BinaryCache
from agent.demo.loopback import Answer
from built_systems import HOST
from demo.asking import JSON, ask
from end_to_end.preloaded_agent import Ended
from faulty_host import FaultyHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from agent.demo.hydra import EmbeddedHydra
    from agent.demo.loopback import Request
    from built_systems import BuiltSystems
    from end_to_end.preloaded_agent import PreloadedAgent

PROJECT = "nix-config"
JOBSET = "main"
SYSTEM = f"{os.uname().machine}-linux"
LATEST = f"/job/{PROJECT}/{JOBSET}/{HOST}/latest"

ONCE = {"timeout": "1.5s", "deadline": "1.5s"}
"""Limits of Hydra's with which what can pass is tried again exactly once: after 0.5 to 1 s, and not
after the 1 to 1.5 s that would come next."""

_TIMEOUT = 60
_FOREIGN = ("NIXOS_HYDRA_AGENT_", "SSL_CERT_", "NIX_SSL_CERT_FILE")


@dataclass(frozen=True)
class Snapshot:
    """All that a run may change on a host, the store and the agent's own state aside."""

    running: str
    booted: str
    profile: str
    generations: tuple[str, ...]
    boot_default: str
    reboots: str


@dataclass(frozen=True)
class Run:
    """One run of the command line, with what the host was before and is after it."""

    exit_code: int
    stdout: str
    stderr: str
    before: Snapshot
    after: Snapshot

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of stdout, each of which must be an event."""
        events = [json.loads(line) for line in self.stdout.splitlines()]
        for event in events:
            assert {"event", "level", "timestamp"} <= set(event), event
        return events

    @property
    def summary(self) -> dict[str, Any]:
        """The one `run.finished`, which comes last."""
        events = self.events
        names = [event["event"] for event in events]
        assert names.count("run.finished") == 1, self
        assert names[-1] == "run.finished", names
        assert self.stderr == "", self.stderr
        assert events[-1]["exit_code"] == self.exit_code
        return events[-1]

    def named(self, name: str) -> list[dict[str, Any]]:
        """The events of one name."""
        return [event for event in self.events if event["event"] == name]

    @property
    def outcome(self) -> tuple[int, str]:
        """Exit code and outcome."""
        return self.exit_code, self.summary["outcome"]


class Gate:
    """A named pipe at which a program of the host waits until the test lets it go on.

    Two ends of a pipe wait for each other, so neither side sleeps or polls.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        os.mkfifo(path)

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Wait until the program is there; it goes on when the `with` block ends, and ever after."""
        pipe = os.open(self._path, os.O_WRONLY)
        try:
            yield
            self._path.unlink()
            with suppress(BrokenPipeError):  # it was killed meanwhile
                os.write(pipe, b"0\n")
        finally:
            os.close(pipe)


class Machine:
    """One machine; `settings` are its configuration, as nested tables."""

    def __init__(
        self, farm: BuiltSystems, hydra: EmbeddedHydra, preloaded: PreloadedAgent | None = None
    ) -> None:
        self.farm = farm
        self._preloaded = preloaded
        self.layout = farm.layout
        self.hydra = hydra
        self.world = hydra.world
        self.world.store_dir = farm.store_dir
        self.world.add_jobset(PROJECT, JOBSET, flake=f"git+file://{farm.farm.hosts}")
        hydra.serve_cache(farm.layout.cache)
        self.host = FaultyHost(
            farm.layout, substituters=(hydra.url,), trusted_keys=(farm.farm.public_key,)
        )
        self.host.begin(farm.first)
        self.config = farm.layout.root / "config.toml"
        self.journal = self.layout.state_dir / "journal.sqlite"
        self.environment: dict[str, str] = {}
        self.settings: dict[str, Any] = {
            "host": HOST,
            "hydra": {"instance": hydra.url, "project": PROJECT, "jobset": JOBSET},
            # Nobody's gateway is asked from here.
            "confirm": {"settle": "1ms", "deadline": "1s", "gateway": False},
            "disk": {"store_reserve": "1MiB", "boot_reserve": "1MiB"},
            "paths": farm.layout.settings(),
            # The fleet's flake is on this very host.
            "trust": {"allow_insecure": [farm.farm.origin]},
        }

    # Hydra

    def offer(self, toplevel: str, *, job: str = HOST, flake: str | None = None, **facts) -> int:
        """Let Hydra evaluate a commit and build one job of it; return the build's id."""
        revision = self.farm.first_revision if toplevel == self.farm.first else self.farm.revision
        flake = flake or self.farm.farm.reference(revision)
        evaluation = self.world.add_eval(PROJECT, JOBSET, flake=flake)
        facts = {"system": SYSTEM, **facts}
        return self.world.add_build(job, toplevel, eval_id=evaluation, **facts)

    def ask(self, path: str) -> Any:
        """Return what Hydra says at a path."""
        return ask(self.hydra.port, path, JSON).json

    def alter(self, path: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Answer a path with the JSON that it had, changed in place."""
        said = self.ask(path)
        change(said)
        self.answer(path, 200, json.dumps(said))

    def answer(self, path: str, status: int, body: str, **headers: str) -> None:
        """Answer a path in another way than Hydra would."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        told = {"Content-Type": "application/json", **named}
        self.hydra.overrides[path] = Answer(status, told, body.encode())

    def latest_is(self, build_id: int) -> None:
        """Name a build as the newest good one, whatever it is."""
        self.answer(LATEST, 302, "", Location=f"{self.hydra.url}/build/{build_id}")

    def on(self, path: str, answer: Callable[[Request], Answer]) -> None:
        """Answer a path by a function."""
        self.hydra.overrides[path] = answer

    def questions(self) -> list[tuple[str, str]]:
        """Return what Hydra was asked, as (method, path); the cache aside."""
        cache = BinaryCache(self.layout.cache)
        return [(r.method, r.path) for r in self.hydra.requests if not cache.has_path(r.path)]

    # The agent

    def configure(self, **tables: Any) -> None:
        """Add to the settings; a table is merged with what it was."""
        for name, value in tables.items():
            known = self.settings.get(name)
            merged = {**known, **value} if isinstance(known, dict) else value
            self.settings[name] = merged

    def upgrade(self, *arguments: str, **how: Any) -> Run:
        """Run `agent upgrade` as its unit does."""
        return self.run("upgrade", *arguments, **how)

    def run(self, command: str, *arguments: str, wrapped_in: Sequence[str] = (), **env: str) -> Run:
        """Run a command of the agent to its end; `env` is added to its environment."""
        before = self.look()
        if self._preloaded is None or wrapped_in:
            child = self.start(command, *arguments, wrapped_in=wrapped_in, **env)
            return self.finish(child, before)
        self.write_settings()
        argv = self.argv(command, *arguments)
        ended = self._preloaded.run(argv[3:], {**self.full_environment(), **env}, _TIMEOUT)
        return self._run(ended, before)

    def start(
        self, command: str, *arguments: str, wrapped_in: Sequence[str] = (), **env: str
    ) -> subprocess.Popen[str]:
        """Start a command of the agent and return at once."""
        self.write_settings()
        return self.spawn([*wrapped_in, *self.argv(command, *arguments)], **env)

    def spawn(self, argv: Sequence[str], **env: str) -> subprocess.Popen[str]:
        """Start a program on this machine."""
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.full_environment(), **env},
        )

    def finish(self, child: subprocess.Popen[str], before: Snapshot) -> Run:
        """Wait for a started agent."""
        try:
            stdout, stderr = child.communicate(timeout=_TIMEOUT)
        except BaseException:
            child.kill()
            child.communicate()
            raise
        return self._run(Ended(child.returncode, stdout, stderr), before)

    def _run(self, ended: Ended, before: Snapshot) -> Run:
        assert "Traceback" not in ended.stdout + ended.stderr, ended
        return Run(ended.returncode, ended.stdout, ended.stderr, before, self.look())

    def argv(self, command: str, *arguments: str) -> list[str]:
        """The command line of a command with this machine's configuration."""
        words = command.split()
        return [sys.executable, "-m", "agent", *words, "--config", str(self.config), *arguments]

    def full_environment(self) -> dict[str, str]:
        """The environment of the agent: this machine's, and nothing of whoever runs the tests."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_FOREIGN) and not name.lower().endswith("_proxy")
        }
        return {**kept, **self.host.environment(), **self.environment}

    def write_settings(self) -> None:
        """Write the configuration file, unless it is as it should be."""
        text = to_toml(self.settings)
        if not self.config.exists() or self.config.read_text() != text:
            self.config.write_text(text)

    # The host

    def look(self) -> Snapshot:
        """See what the host is now."""
        layout = self.layout
        reboots = layout.reboots.read_text() if layout.reboots.exists() else ""
        return Snapshot(
            running=os.path.realpath(layout.current_system),
            booted=os.path.realpath(layout.booted_system),
            profile=os.path.realpath(layout.profile),
            generations=tuple(sorted(entry.name for entry in layout.profile.parent.iterdir())),
            boot_default=str((layout.boot / "default").readlink()),
            reboots=reboots,
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return the journal's runs, oldest first."""
        if not self.journal.exists():
            return []
        with closing(sqlite3.connect(self.journal)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute("SELECT * FROM runs ORDER BY id")]

    def change_journal(self, statement: str) -> None:
        """Do something to the journal that no agent would."""
        with closing(sqlite3.connect(self.journal)) as db, db:
            db.execute(statement)

    def gate_activation(self) -> Gate:
        """Make switch-to-configuration stop at its beginning, before it has changed anything."""
        return Gate(self.layout.root / "inject/stc-sleep")

    def pid_of_activation(self) -> int:
        """Return the process of switch-to-configuration while it is at its gate."""
        return int((self.layout.root / "run/switch-to-configuration.pid").read_text())

    def is_alive(self, pid: int) -> bool:
        """Return whether a process runs; one that has ended and waits for its parent does not."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except FileNotFoundError:
            return False
        return stat.rpartition(")")[2].split()[0] != "Z"

    def activations(self) -> list[str]:
        """Return the actions that switch-to-configuration was asked for."""
        log = self.layout.root / "log/switch-to-configuration"
        return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []

    def only_tools(self, *names: str) -> str:
        """Return a PATH with some of the programs that are installed here, and no others."""
        directory = self.layout.root / "tmp/tools"
        directory.mkdir(exist_ok=True)
        for name in names:
            for place in os.environ.get("PATH", os.defpath).split(":"):
                if (found := Path(place, name)).exists():
                    (directory / name).symlink_to(found)
                    break
        return str(directory)


def settle(machine: Machine) -> None:
    """Bring a machine to where its next run is an idle one."""
    machine.offer(machine.farm.first)
    machine.offer(machine.farm.second)
    assert machine.upgrade().outcome == (0, "confirmed")
    assert machine.upgrade().outcome == (0, "nothing-to-do")


def assert_fault(run: Run, kind: str, code: int) -> dict[str, Any]:
    """Assert that a run ended in one fault, told once, and left the host as it was."""
    assert_unchanged(run)
    return assert_reported(run, kind, code)


def assert_reported(
    run: Run, kind: str, code: int, *, outcome: str | None = None
) -> dict[str, Any]:
    """Assert that a run ended in one fault, told once; return what was told of it."""
    assert (run.summary.get("error.kind"), run.exit_code) == (kind, code), run.stdout
    lines = [event for event in run.events if event["event"] in ("run.failed", "run.held")]
    assert len(lines) == 1, lines
    told = lines[0]
    is_held = code == 75
    assert (told["event"], told["level"]) == (
        ("run.held", "info") if is_held else ("run.failed", "error")
    )
    assert told["error.kind"] == kind
    assert told["error.message"] == run.summary["error.message"]
    assert told["error.message"].strip()
    assert "\n" not in told["error.message"]
    assert run.summary["outcome"] == (outcome or ("held" if is_held else "failed"))
    assert not run.named("run.crashed")
    errors = [event["event"] for event in run.events if event["level"] == "error"]
    if outcome == "rolled-back":  # what fails on purpose may fail on the way back, too
        errors = [name for name in errors if name != "rollback.incomplete"]
    assert errors == ([] if is_held else ["run.failed"])
    return told


def assert_unchanged(run: Run) -> None:
    """Assert that a run changed nothing on the host."""
    assert run.after == run.before


def to_toml(tables: Mapping[str, Any]) -> str:
    """Return tables as TOML."""
    lines = [f"{name} = {_value(value)}" for name, value in tables.items()]
    return "\n".join(sorted(lines)) + "\n"


def _value(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{name} = {_value(item)}" for name, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(_value(item) for item in value) + "]"
        case _:
            return json.dumps(value)
