"""Every key arrives: changing it changes what the policy or an adapter holds."""

from __future__ import annotations

import asyncio
import tomllib
from datetime import timedelta
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import pytest
from pydantic import BaseModel

from agent.checks.registry import check_sections
from agent.cli.render.progress import LoggedProgress
from agent.config.flake_update import update_policy_of
from agent.config.load import load_settings
from agent.config.policy import policy_of
from agent.config.settings import Settings
from agent.config.windows import WindowSection
from agent.domain.check import StatusRange
from agent.wiring.host import open_ports
from agent.wiring.updater import open_notifier, open_update_ports
from fakes.events import RememberedEvents

BASE = """
host = "h"
[hydra]
instance = "http://127.0.0.1:1"
project = "p"
jobset = "j"
"""
PING = BASE + '[[health.checks]]\ntype = "icmp"\nhost = "a"\ncount = 9\n'
GET = BASE + '[[health.checks]]\ntype = "http"\nurl = "http://a"\n'
CONNECT = BASE + '[[health.checks]]\ntype = "tcp"\nhost = "a"\nport = 1\n'
RESOLVE = BASE + '[[health.checks]]\ntype = "dns"\nhost = "a"\n'
UNIT = BASE + '[[health.checks]]\ntype = "unit"\nunit = "a.service"\n'
COMMAND = BASE + '[[health.checks]]\ntype = "command"\ncommand = ["a"]\n'
OPENS = "{start = '04:00', length = '2h'}"

UPDATE = (
    BASE
    + """
[flake_update]
verify = "hydra"
sign = "ssh"
[flake_update.hydra]
instance = "http://127.0.0.1:1"
project = "p"
[flake_update.forge]
type = "forgejo"
url = "http://127.0.0.1:1"
repository = "o/r"
token_file = "@token@"
"""
)
NOTIFY = BASE + '[notify]\nntfy_topic = "t"\n'
UPDATES: dict[str, tuple[str, Any]] = {
    "repository": ('"/x/checkout"', Path("/x/checkout")),
    "remote": ('"upstream"', "upstream"),
    "base": ('"trunk"', "trunk"),
    "branch": ('"auto/{date}"', "auto/{date}"),
    "inputs": ('["nixpkgs"]', "nixpkgs"),
    "include": ('["web-.*"]', "web-.*"),
    "exclude": ('["lab-.*"]', "lab-.*"),
    "require": ('["db-.*"]', "db-.*"),
    "verify": ('"local"', "local"),
    "concurrency": ("7", 7),
    "hosts_at_once": ("9", 9),
    "deadline": ('"7h"', 25200.0),
    "author": ('"Bot <bot@x>"', "bot@x"),
    "committer": ('"Team <team@x>"', "team@x"),
    "sign": ('"gpg"', "openpgp"),
    "signing_key": ('"/x/key"', "/x/key"),
    "ssh_key_file": ('"/x/ssh"', Path("/x/ssh")),
    "forge.type": ('"github"', "/repos/o/r"),
    "forge.url": ('"http://127.0.0.1:2"', "http://127.0.0.1:2"),
    "forge.repository": ('"o/other"', "/api/v1/repos/o/other"),
    "forge.labels": ('["flake"]', "flake"),
    "forge.assignees": ('["bob"]', "bob"),
    "forge.auto_merge": ('"squash"', "squash"),
    "forge.timeout": ('"7s"', 7.0),
    "hydra.instance": ('"http://127.0.0.1:2"', "http://127.0.0.1:2"),
    "hydra.project": ('"q"', "q"),
    "hydra.branch": ('"candidate"', "candidate"),
    "hydra.jobset": ('"k"', "k"),
    "hydra.job": ('"nixos.{host}"', "nixos.{host}"),
    "hydra.timeout": ('"7s"', 7.0),
    "hydra.deadline": ('"7h"', timedelta(hours=7)),
    "hydra.poll": ('"7s"', timedelta(seconds=7)),
}

# key: (base, TOML value, what the policy or an adapter then holds)
ROWS: dict[str, tuple[str, str, Any]] = {
    "host": (BASE, '"other"', "other"),
    "action": (BASE, '"boot"', "boot"),
    "strategy": (BASE, '"store-path"', "store-path"),
    "specialisation": (BASE, '"quiet"', "quiet"),
    "verify": (BASE, "false", False),
    "flags": (BASE, '["--show-trace"]', "--show-trace"),
    "hydra.instance": (BASE, '"http://127.0.0.1:2/sub"', "http://127.0.0.1:2/sub"),
    "hydra.project": (BASE, '"q"', "q"),
    "hydra.jobset": (BASE, '"k"', "k"),
    "hydra.job": (BASE, '"other"', "other"),
    "hydra.select": (BASE, '"latest-finished"', "latest-finished"),
    "hydra.timeout": (BASE, '"7s"', 7.0),
    "hydra.deadline": (BASE, '"77s"', 77.0),
    "hydra.refresh": (BASE, '"7h"', timedelta(hours=7)),
    "hydra.patience": (BASE, '"7h"', timedelta(hours=7)),
    "fetch.substituters": (BASE, '["https://c"]', "https://c"),
    "fetch.trusted_public_keys": (BASE, '["k:AAAA"]', "k:AAAA"),
    "fetch.local_builds": (BASE, "true", True),
    "fetch.deadline": (BASE, '"7h"', 25200.0),
    "trust.allow_insecure": (BASE, '["path:/srv/hosts"]', "path:/srv/hosts"),
    "activate.deadline": (BASE, '"7m"', 420.0),
    "clock.patience": (BASE, '"7d"', timedelta(days=7)),
    "disk.store_reserve": (BASE, '"7GiB"', 7 << 30),
    "disk.boot_reserve": (BASE, '"7MiB"', 7 << 20),
    "health.deadline": (BASE, '"70s"', timedelta(seconds=70)),
    "health.canary_hosts": (BASE, '["canary"]', "canary"),
    "health.checks": (BASE, '[{type = "icmp", host = "target"}]', "target"),
    "upgrade.foreign_hold": (BASE, '"7h"', timedelta(hours=7)),
    "confirm.checks": (BASE, '[{type = "icmp", host = "target"}]', "target"),
    "confirm.settle": (BASE, '"7s"', timedelta(seconds=7)),
    "confirm.deadline": (BASE, '"7m"', timedelta(minutes=7)),
    "confirm.patience": (BASE, '"7d"', timedelta(days=7)),
    "confirm.hydra": (BASE, "false", False),
    "confirm.gateway": (BASE, "false", False),
    "confirm.on_failure": (BASE, '"hold"', "hold"),
    "confirm.ignore_units": (BASE, '["a-*.service"]', "a-*.service"),
    "confirm.collect_garbage": (BASE, "true", True),
    "upgrade.windows": (BASE, f"[{OPENS}]", timedelta(hours=2)),
    "upgrade.splay": (BASE, '"7m"', timedelta(minutes=7)),
    "upgrade.margin": (BASE, '"7m"', timedelta(minutes=7)),
    "reboot.mode": (BASE, '"always"', "always"),
    "reboot.windows": (BASE, f"[{OPENS}]", timedelta(hours=2)),
    "reboot.splay": (BASE, '"7m"', timedelta(minutes=7)),
    "reboot.margin": (BASE, '"7m"', timedelta(minutes=7)),
    "reboot.inhibitor_limit": (BASE, '"7h"', timedelta(hours=7)),
    "reboot.user_notice": (BASE, '"7m"', timedelta(minutes=7)),
    "reboot.try_boot": (BASE, "false", False),
    "paths.current_system": (BASE, '"/x/current"', Path("/x/current")),
    "paths.booted_system": (BASE, '"/x/booted"', Path("/x/booted")),
    "paths.profile": (BASE, '"/x/profile"', Path("/x/profile")),
    "paths.store_dir": (BASE, '"/x/store"', Path("/x/store")),
    "paths.state_dir": (BASE, '"/x/state"', Path("/x/state/journal.sqlite")),
    "paths.marks_dir": (BASE, '"/x/marks"', Path("/x/marks")),
    "paths.boot": (BASE, '"/x/boot"', Path("/x/boot")),
    "log.level": (BASE, '"warning"', False),  # no line for an idle run
    "icmp.host": (PING, '"b"', "b"),
    "icmp.name": (PING, '"named"', "named"),
    "icmp.timeout": (PING, '"7s"', timedelta(seconds=7)),
    "icmp.count": (PING, "7", 7),
    "icmp.required_replies": (PING, "7", 7),
    "icmp.wanted": (PING, "true", True),
    "http.url": (GET, '"http://b"', "http://b"),
    "http.name": (GET, '"named"', "named"),
    "http.timeout": (GET, '"7s"', timedelta(seconds=7)),
    "http.method": (GET, '"POST"', "POST"),
    "http.status": (GET, '"204-206"', StatusRange(204, 206)),
    "http.body": (GET, '"fine"', "fine"),
    "http.body_regex": (GET, '"^fine"', "^fine"),
    "http.max_latency": (GET, '"700ms"', timedelta(milliseconds=700)),
    "http.ca_file": (GET, '"/x/ca.pem"', "/x/ca.pem"),
    "http.wanted": (GET, "true", True),
    "tcp.host": (CONNECT, '"b"', "b"),
    "tcp.port": (CONNECT, "7", 7),
    "tcp.name": (CONNECT, '"named"', "named"),
    "tcp.timeout": (CONNECT, '"7s"', timedelta(seconds=7)),
    "tcp.wanted": (CONNECT, "true", True),
    "dns.host": (RESOLVE, '"b"', "b"),
    "dns.addresses": (RESOLVE, '["192.0.2.7"]', "192.0.2.7"),
    "dns.name": (RESOLVE, '"named"', "named"),
    "dns.timeout": (RESOLVE, '"7s"', timedelta(seconds=7)),
    "dns.wanted": (RESOLVE, "true", True),
    "unit.unit": (UNIT, '"b.service"', "b.service"),
    "unit.name": (UNIT, '"named"', "named"),
    "unit.timeout": (UNIT, '"7s"', timedelta(seconds=7)),
    "unit.wanted": (UNIT, "true", True),
    **{f"flake_update.{key}": (UPDATE, *row) for key, row in UPDATES.items()},
    "notify.ntfy_server": (NOTIFY, '"https://n"', "https://n"),
    "notify.ntfy_topic": (NOTIFY, '"other"', "other"),
    "notify.ntfy_token_file": (NOTIFY, '"/x/token"', Path("/x/token")),
    "notify.urls_file": (NOTIFY, '"/x/urls"', Path("/x/urls")),
    "notify.timeout": (NOTIFY, '"7s"', 7.0),
    "command.command": (COMMAND, '["a", "b"]', "b"),
    "command.name": (COMMAND, '"named"', "named"),
    "command.timeout": (COMMAND, '"7s"', timedelta(seconds=7)),
    "command.wanted": (COMMAND, "true", True),
}
ELSEWHERE = {
    "target": "test_target sees it arrive",
    **{f"window.{key}": "test_config_windows sees it" for key in WindowSection.model_fields},
    "log.format": "the end-to-end tests see it arrive",
    "flake_update.forge.token_file": "the end-to-end tests see it arrive",
    **{f"{kind}.type": "it selects the kind of check" for kind in check_sections()},
}


def keys_of(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= keys_of(kind, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


def test_every_key_of_the_settings_has_a_row():
    keys = keys_of(Settings)
    for kind, section in check_sections().items():
        keys |= keys_of(section, f"{kind}.")
    keys |= keys_of(WindowSection, "window.")
    assert keys == set(ROWS) | set(ELSEWHERE)


def held(tmp_path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return every plain value that policy and ports hold, by where it is held."""
    file = tmp_path / "config.toml"
    file.write_text("")
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("t0ken")
    if forge := content.get("flake_update", {}).get("forge"):
        forge["token_file"] = str(token)
    settings = load_settings(file, overrides=content)
    sink = RememberedEvents()

    async def look() -> dict[str, Any]:
        async with open_ports(settings, sink, LoggedProgress(sink)) as ports:
            leaves: dict[str, Any] = {}
            _walk("policy", policy_of(settings), leaves, set())
            for name in vars(ports):
                _walk(name, getattr(ports, name), leaves, set())
        notifier = open_notifier(settings, sink)
        updates = open_update_ports(settings, sink, notifier=notifier, proposes=True)
        async with updates as update_ports:
            _walk("update", update_policy_of(settings.flake_update), leaves, set())
            for name in ("builds", "repository", "forge", "notifier"):
                _walk(f"update.{name}", getattr(update_ports, name), leaves, set())
            if update_ports.jobset is not None:
                _walk("update.jobset", update_ports.jobset, leaves, set())
        return leaves

    return asyncio.run(look())


def _walk(place: str, value: Any, leaves: dict[str, Any], seen: set[int]) -> None:
    if value is None or isinstance(value, str | int | float | PurePath | timedelta | StatusRange):
        leaves[place] = value
    elif isinstance(value, asyncio.Semaphore):
        leaves[place] = value._value
    elif isinstance(value, partial):
        for name, item in value.keywords.items():
            _walk(f"{place}.{name}", item, leaves, seen)
    elif isinstance(value, tuple | list):
        for number, item in enumerate(value):
            _walk(f"{place}[{number}]", item, leaves, seen)
    elif type(value).__module__.startswith("agent.") and id(value) not in seen:
        seen.add(id(value))
        names = [*getattr(value, "__slots__", ()), *getattr(value, "__dict__", ())]
        for name in names:
            _walk(f"{place}.{name}", getattr(value, name), leaves, seen)


@pytest.mark.parametrize("key", ROWS)
def test_the_key_reaches_the_policy_or_an_adapter(tmp_path, key):
    base, text, expected = ROWS[key]
    value = tomllib.loads(f"x = {text}")["x"]
    before, after = tomllib.loads(base), tomllib.loads(base)
    holder = after
    table, _, name = key.rpartition(".")
    if table in check_sections():
        after["health"]["checks"][0][name] = value
    else:
        for part in filter(None, table.split(".")):
            holder = holder.setdefault(part, {})
        holder[name] = value
    held_before, held_after = held(tmp_path, before), held(tmp_path, after)
    changed = {
        place: now
        for place, now in held_after.items()
        if place not in held_before or held_before[place] != now
    }
    assert expected in changed.values(), changed
