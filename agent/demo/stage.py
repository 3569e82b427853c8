"""The stage of the demo: a farm, its Hydra and cache, a canary, and a host with the real agent."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from agent.adapters.process import signals_held, watch_now
from agent.demo.cache_server import CacheServer
from agent.demo.host import Farm, Layout, ThrowawayHost, remove_tree
from agent.demo.hydra import EmbeddedHydra
from agent.demo.loopback import Answer, HangUp, LoopbackServer, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.demo.host import Fleet
    from agent.domain.store_path import StorePath

HOST: Final = "demo"
PROJECT: Final = "nix-config"
JOBSET: Final = "main"
VERSIONS: Final = ("26.05.1", "26.05.2", "26.05.3", "26.05.4", "26.05.5", "26.05.6", "26.05.7")
BREAKS_THE_SERVICE: Final = "26.05.5"
HAS_A_NEW_KERNEL: Final = "26.05.7"
_RUN_TIMEOUT: Final = 120.0


@dataclass(frozen=True, slots=True)
class Release:
    """One commit of the fleet's flake, and what it builds."""

    version: str
    flake: str
    toplevel: StorePath


@dataclass(frozen=True, slots=True)
class AgentRun:
    """One run of the agent as a subprocess: its exit code and its JSON events."""

    exit_code: int
    events: tuple[dict[str, object], ...]
    stderr: str

    @property
    def summary(self) -> dict[str, object]:
        """The event that ends the run: `run.finished`, or `run.idle` of the idle path."""
        return self.events[-1] if self.events else {}


class Canary(LoopbackServer):
    """A neighbour that the host depends on: answers 200 while it works, and 503 otherwise."""

    def __init__(self) -> None:
        self.is_healthy = True
        super().__init__(self._state)

    def _state(self, _request: Request) -> Answer:
        return Answer(200, body=b"healthy\n") if self.is_healthy else Answer(503, body=b"failing\n")


class Service(LoopbackServer):
    """What the host is there for: it works if the running system's `etc/health` says so."""

    def __init__(self, layout: Layout) -> None:
        self._health = layout.current_system / "etc/health"
        super().__init__(self._state)

    def _state(self, _request: Request) -> Answer:
        if self._health.read_text().strip() == "healthy":
            return Answer(200, body=b"at your service\n")
        return Answer(503, body=b"broken\n")


class MortalHydra(EmbeddedHydra):
    """A Hydra that gives no answer while `is_down` says so."""

    is_down: Callable[[], bool] = staticmethod(lambda: False)

    @override
    def answer(self, request: Request) -> Answer:
        if self.is_down():
            raise HangUp
        return super().answer(request)


class Stage:
    """Everything the scenes play on, below one root; made by `open_stage`."""

    def __init__(self, layout: Layout, releases: tuple[Release, ...], public_key: str) -> None:
        self.layout = layout
        self.releases = releases
        self.hydra = MortalHydra()
        self.hydra.world.store_dir = str(layout.store_dir)
        self.hydra.world.add_jobset(PROJECT, JOBSET, flake=f"git+file://{layout.root}/repos/hosts")
        self.cache = CacheServer(layout.cache)
        self.canary = Canary()
        self.service = Service(layout)
        self.host = ThrowawayHost(
            layout, substituters=(self.cache.url,), trusted_keys=(public_key,)
        )
        self.config = layout.root / "config.toml"

    def build(self, release: Release, *, status: int = 0, flake: str | None = None) -> int:
        """Let Hydra evaluate a release and build it; return the build's id."""
        world = self.hydra.world
        evaluation = world.add_eval(PROJECT, JOBSET, flake=flake or release.flake)
        system = f"{os.uname().machine}-linux"
        return world.add_build(
            HOST, release.toplevel, eval_id=evaluation, status=status, system=system
        )

    def begin(self) -> None:
        """Install the host with the first release, which is Hydra's first build."""
        self.build(self.releases[0])
        self.host.begin(self.releases[0].toplevel)
        self.config.write_text(self._settings())

    def run_agent(self, *arguments: str) -> AgentRun:
        """Run the real agent on the host and return what came of it."""
        argv = (sys.executable, "-m", "agent", *arguments)
        ended = watch_now(argv, env=self._environment(), timeout=_RUN_TIMEOUT)
        events = tuple(
            event
            for line in ended.stdout.splitlines()
            if line.startswith("{") and isinstance(event := json.loads(line), dict)
        )
        return AgentRun(ended.returncode, events, ended.tail)

    def upgrade(self) -> AgentRun:
        """Run `agent upgrade` as its unit does."""
        return self.run_agent("upgrade", "--config", str(self.config))

    def running(self) -> str:
        """Return the version of the running system, as the host's own link shows it."""
        return (self.layout.current_system / "nixos-version").read_text().strip()

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("NIXOS_HYDRA_AGENT_") and not name.lower().endswith("_proxy")
        }
        return {**kept, **self.layout.environment()}

    def _settings(self) -> str:
        paths = "\n".join(
            f"{name} = {json.dumps(value)}" for name, value in self.layout.settings().items()
        )
        return f"""\
host = "{HOST}"

[hydra]
instance = "{self.hydra.url}"
project = "{PROJECT}"
jobset = "{JOBSET}"

# The fleet's flake is on this host, where none is fetched from unless it is named.
[trust]
allow_insecure = ["git+file://{self.layout.root}/repos"]

# Shorter than on any real host; and whoever plays the demo has a gateway that it leaves alone.
[confirm]
settle = "100ms"
deadline = "2s"
gateway = false
checks = [{{ type = "http", name = "service", url = "{self.service.url}/", timeout = "2s" }}]

[reboot]
mode = "when-needed"

[health]
canary_hosts = ["{self.canary.url}/"]

[disk]
store_reserve = "1MiB"
boot_reserve = "1MiB"

[paths]
{paths}
"""


@contextmanager
def open_stage(parent: Path | None = None) -> Iterator[Stage]:
    """Make the stage below a new directory of `parent`, and remove it all at the end."""
    # Real paths alone: nix refuses a store below a link.
    base = Path(os.path.realpath(parent or tempfile.gettempdir()))
    with ExitStack() as stack:
        with signals_held():
            root = Path(tempfile.mkdtemp(prefix="nixos-hydra-agent-demo-", dir=base))
            stack.callback(_remove, root)
        farm = Farm(root)
        releases = tuple(_release(farm, version) for version in VERSIONS)
        farm.publish(*(release.toplevel for release in releases))
        farm.close()
        stage = Stage(farm.layout, releases, farm.public_key)
        with stage.hydra, stage.cache, stage.canary, stage.service:
            stage.begin()
            yield stage


def _remove(root: Path) -> None:
    with signals_held():
        remove_tree(root)


def _release(farm: Farm, version: str) -> Release:
    health = "broken" if version == BREAKS_THE_SERVICE else "healthy"
    kernel = "6.12.2" if version == HAS_A_NEW_KERNEL else "6.12.1"
    fleet: Fleet = {HOST: {"version": version, "health": health, "kernel": kernel}}
    revision = farm.commit(fleet, f"Release {version}")
    return Release(version, farm.reference(revision), farm.build(revision, HOST))
