"""The update side's very unit, as its NixOS module makes it, at work for a user on a real host."""

from __future__ import annotations

import json
import platform

import pytest

from nix.evaluation import evaluate, unit_files, without_null
from nspawn.agent_layer import AGENT
from nspawn.systems import service, system, to_toml

UNIT = "nix-flake-updater.service"
TIMER = "nix-flake-updater.timer"
CONFIG = "/etc/nix-flake-updater.toml"
HOME = "/home/eve"
CHECKOUT = f"{HOME}/src/hosts"
REMOTE = "/srv/git/hosts.git"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MODULE = f"""
{{
  services.nix-flake-updater = {{
    enable = true;
    package = {{
      type = "derivation"; name = "agent"; outPath = "{AGENT.removesuffix("/bin/agent")}";
      meta.mainProgram = "agent";
    }};
    repoPath = "{CHECKOUT}";
    user = "eve";
    author = "Updater <updater@example.org>";
    ntfyTokenFile = "/etc/token";
    settings.flake_update.exclude = [ ];
  }};
}}
"""
# As to a forge: what is pushed goes through a socket, since the unit may write nowhere else.
GIT_DAEMON = service(
    "/usr/bin/git daemon --reuseaddr --export-all --enable=receive-pack --base-path=/srv/git"
)
BASE = """
{ outputs = _: { version = builtins.readFile ./version; }; }
"""
FLAKE = f"""
{{
  inputs.base.url = "git+file://{HOME}/src/base?ref=main";
  outputs = {{ self, base }}: {{
    nixosConfigurations.web.config.system.build.toplevel = derivation {{
      name = "nixos-system-web";
      system = "{platform.machine()}-linux";
      builder = "/bin/sh";
      args = [ "-c" "echo ${{base.version}} > $out" ];
    }};
  }};
}}
"""
PREPARE = f"""
export HOME={HOME} GIT_AUTHOR_NAME=eve GIT_AUTHOR_EMAIL=eve@x GIT_COMMITTER_NAME=eve
export GIT_COMMITTER_EMAIL=eve@x
mkdir -p {HOME}/src/base {CHECKOUT}
cd {HOME}/src/base
git init -q --initial-branch=main
cat /etc/base.nix > flake.nix
echo 1 > version
git add . && git commit -q -m 1
cd {CHECKOUT}
git init -q --initial-branch=main
git remote add origin git://127.0.0.1/hosts.git
cat /etc/hosts.nix > flake.nix
git add .
nix --extra-experimental-features 'nix-command flakes' flake lock
git add . && git commit -q -m Begin
git push -q origin main
echo 'not committed' >> flake.nix
cd {HOME}/src/base
echo 2 > version
git commit -q -a -m 2
"""


@pytest.fixture
def host(site, new_host, upstream):  # noqa: ARG001 - it is there
    """A host with the unit, a flake whose input has moved, and a remote."""
    (made,) = evaluate({"host": MODULE}).values()
    assert made["problems"] == []
    files = unit_files(made, path=PATH)
    service_file = files[UNIT].replace("/packages/coreutils/bin/", "/usr/bin/")
    begun = service_file.index("--config ") + len("--config ")
    service_file = service_file[:begun] + CONFIG + service_file[service_file.index("\n", begun) :]
    units = {
        UNIT: service_file,
        TIMER: files[TIMER]
        .replace("Mon *-*-* 02:00:00", "*:*:0/1")
        .replace("RandomizedDelaySec=3600", "RandomizedDelaySec=0\nAccuracySec=50ms"),
        "git-daemon.service": GIT_DAEMON,
        "nix-daemon.service": service("/usr/bin/nix-daemon"),
    }
    first = system("26.05.1", units=units, wants=["nix-daemon.service"])
    host = new_host(site.build(first))
    host.write(CONFIG, to_toml(without_null(made["updater"])))
    host.write("/etc/base.nix", BASE)
    host.write("/etc/hosts.nix", FLAKE)
    host.power_on()
    host.write("/etc/token", "t0ken", mode=0o400)
    host.ok("useradd", "--create-home", "--uid=1000", "eve")
    host.ok("git", "init", "-q", "--bare", "--initial-branch=main", REMOTE)
    host.systemctl("start", "git-daemon.service")
    host.ok("runuser", "-u", "eve", "--", "sh", "-euc", PREPARE)
    return host


def test_the_timer_proposes_an_update_under_the_units_hardening(host):
    state = host.ok("git", "-C", CHECKOUT, "-c", f"safe.directory={CHECKOUT}", "status", "--short")
    host.systemctl("start", TIMER)
    host.eventually(lambda: told(host), "an update is told")
    host.systemctl("stop", TIMER)
    host.await_state(UNIT, "inactive")
    first = told(host)[0]

    assert (first["outcome"], first["changed"]) == ("pushed", ["web"]), host.journal()
    branches = host.ok("git", "-C", REMOTE, "branch", "--format=%(refname:short)").split()
    assert branches == [first["branch"], "main"]
    lock = host.ok("git", "-C", REMOTE, "show", f"{first['branch']}:flake.lock")
    upstream = f"{HOME}/src/base"
    newest = host.ok("git", "-C", upstream, "-c", f"safe.directory={upstream}", "rev-parse", "HEAD")
    assert json.loads(lock)["nodes"]["base"]["locked"]["rev"] == newest.strip()
    # It was done by the unit as the module makes it, and the checkout is as it was.
    assert host.state(UNIT, "ProtectSystem") == "strict"
    assert host.state(UNIT, "User") == "eve"
    after = host.ok("git", "-C", CHECKOUT, "-c", f"safe.directory={CHECKOUT}", "status", "--short")
    assert after == state
    assert not list(host.find("/var/cache/nix-flake-updater").glob("tmp/*"))


def told(host):
    """Return the summaries of the unit's runs."""
    lines = host.ok("journalctl", "--quiet", "--output=cat", f"_SYSTEMD_UNIT={UNIT}").splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return [event for event in events if event["event"] == "flake_update.finished"]
