from __future__ import annotations

import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trustme

from adapters import faulty_server as faulty
from adapters.faulty_server import FaultyServer
from agent.cli.main import run
from end_to_end import slow_loading
from end_to_end.command_line import HYDRA
from end_to_end.machine import to_toml

DEAD = "http://127.0.0.1:1/"


class Fine(http.server.BaseHTTPRequestHandler):
    """Answers 200 to everything, 500 below /broken."""

    def do_GET(self):
        self.send_response(500 if self.path == "/broken" else 200)
        self.end_headers()

    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="module")
def alive():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fine) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in list(os.environ):
        if name.upper().startswith(("NIXOS_HYDRA_AGENT_", "HTTP_PROXY", "ALL_PROXY")):
            monkeypatch.delenv(name)


@pytest.fixture
def check(tmp_path, capsys):
    """Run `agent check`; return its exit code, and what it printed."""

    def checked(*arguments, config=""):
        file = tmp_path / "config.toml"
        file.write_text(config)
        code = run(["check", "--config", str(file), *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return checked


def test_a_canary_that_is_alive_is_well(check, alive):
    code, out, err = check("--canary", alive)
    assert (code, err) == (0, "")
    assert out.startswith(f"✓  {alive}  http")


def test_a_canary_that_is_dead_is_not(check, alive):
    code, out, err = check("--canary", alive, "--canary", DEAD)
    assert (code, err) == (1, "")
    good, bad = out.splitlines()
    assert good.startswith("✓")
    assert bad.startswith(f"✗  {DEAD}")
    assert "refused" in bad


def test_a_program_gets_json(check, alive):
    code, out, _ = check("--json", "--canary", alive, "--canary", f"{alive}broken")
    told = json.loads(out)
    assert (code, told["well"]) == (1, False)
    assert [(one["target"], one["well"]) for one in told["checks"]] == [
        (alive, True),
        (f"{alive}broken", False),
    ]
    assert "500" in told["checks"][1]["reason"]


def test_what_is_merely_wanted_is_told_and_fails_nothing(check, alive):
    config = f'[[health.checks]]\ntype = "http"\nurl = "{DEAD}"\nname = "spare"\nwanted = true\n'
    code, out, _ = check("--canary", alive, config=config)
    assert code == 0
    assert "!  spare" in out


def test_configured_checks_run_with_those_of_the_command_line(check, alive):
    config = HYDRA + f'[health]\ncanary_hosts = ["{alive}one"]\n'
    code, out, _ = check("--json", "--canary", f"{alive}two", config=config)
    assert code == 0
    assert [one["name"] for one in json.loads(out)["checks"]] == [f"{alive}one", f"{alive}two"]


def test_without_any_check_it_says_so(check):
    assert check() == (0, "no checks are configured\n", "")
    code, out, _ = check("--json")
    assert (code, json.loads(out)) == (0, {"well": True, "checks": []})


@pytest.mark.skipif(
    os.path.exists("/etc/nixos-hydra-agent/config.toml"),  # noqa: PTH110
    reason="this machine has a configuration of its own",
)
def test_no_configuration_is_needed(capsys, alive):
    assert run(["check", "--canary", alive]) == 0
    assert "✓" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "config", "key"),
    [
        (["--canary", "-x"], "", "health.canary_hosts[0]"),
        (["--canary", "http://u:hunter2@h"], "", "health.canary_hosts[0]"),
        ([], "bogus = 1", "bogus"),
        ([], '[hydra]\nprojects = "x"', "hydra.projects"),
    ],
)
def test_settings_that_cannot_be_used_are_told_with_their_key(check, arguments, config, key):
    code, out, err = check(*arguments, config=config)
    assert (code, out) == (78, "")
    assert f"  {key}: " in err
    assert "hunter2" not in err


ROOT = Path(__file__).parents[2]
SLOW_LOADING = slow_loading.__file__


def test_a_latency_is_without_the_time_that_the_agent_takes_to_load(tmp_path):
    """Loading takes hours here, and is neither in a check's latency nor in its timeout."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with (
        FaultyServer(faulty.answer(200)) as plain,
        FaultyServer(faulty.answer(200), tls=context) as secure,
    ):
        checks = [
            {"type": "http", "url": plain.url, "timeout": "60s", "max_latency": "30s"},
            {
                "type": "http",
                "url": secure.url,
                "timeout": "60s",
                "max_latency": "30s",
                "ca_file": f"{tmp_path}/ca.pem",
            },
            {"type": "tcp", "host": "127.0.0.1", "port": plain.port},
            {"type": "icmp", "host": "127.0.0.1", "wanted": True},  # not everybody may ping
        ]
        config = tmp_path / "config.toml"
        config.write_text(to_toml({"health": {"deadline": "90s", "checks": checks}}))
        done = subprocess.run(
            (sys.executable, SLOW_LOADING, "check", "--json", "--config", config),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    told = json.loads(done.stdout)["checks"]
    assert [one["well"] for one in told[:3]] == [True] * 3, told
    assert all(one["latency_seconds"] < 30 for one in told if one["well"])
