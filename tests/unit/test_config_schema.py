from __future__ import annotations

import json
import tomllib
from functools import cache

import jsonschema
import pytest

from agent.config.load import load_settings
from agent.config.show import schema
from agent.domain.errors import ConfigError

HYDRA = '[hydra]\ninstance = "https://hydra.example.org"\nproject = "p"\njobset = "j"\n'
ICMP = HYDRA + '[[health.checks]]\ntype = "icmp"\nhost = "a"\n'
CONFIRM = HYDRA + '[confirm]\nsettle = "10s"\n'
HTTP = HYDRA + '[[health.checks]]\ntype = "http"\nurl = "http://a"\n'

GOOD = [
    HYDRA,
    'host = "a"\naction = "boot"\nstrategy = "store-path"\nverify = false\nflags = ["-L"]\n'
    + HYDRA,
    HYDRA + 'job = "x"\nselect = "latest-finished"\ntimeout = 5\ndeadline = "1h30m"\n',
    HYDRA + 'timeout = "5"\nrefresh = "1.5h"\n',
    HYDRA + '[disk]\nstore_reserve = 0\nboot_reserve = "64MiB"\n',
    HYDRA + '[disk]\nstore_reserve = "1.5 GiB"\nboot_reserve = "4096"\n',
    HYDRA + '[fetch]\nsubstituters = ["https://c"]\nlocal_builds = true\n',
    HYDRA + '[reboot]\nmode = "when-needed"\n[log]\nlevel = "debug"\nformat = "json"\n',
    HYDRA + '[paths]\nstate_dir = "/x"\n[activate]\ndeadline = "10m"\n',
    ICMP + "count = 5\nrequired_replies = 2\nwanted = true\n",
    HTTP + 'status = 200\nmethod = "POST"\nbody = "ok"\nmax_latency = "1s"\nca_file = "/x"\n',
    HTTP + 'status = "200-299"\n',
    HTTP + 'status = [200, "301-302"]\n',
    CONFIRM + 'deadline = "5m"\npatience = "1h"\nhydra = false\ngateway = false\n',
    CONFIRM + 'on_failure = "hold"\nignore_units = ["backup-*.service"]\n',
    CONFIRM + '[[confirm.checks]]\ntype = "tcp"\nhost = "a"\nport = 22\n',
    CONFIRM + '[[confirm.checks]]\ntype = "dns"\nhost = "a"\naddresses = ["192.0.2.1"]\n',
    CONFIRM + '[[confirm.checks]]\ntype = "unit"\nunit = "nginx.service"\n',
    CONFIRM + '[[confirm.checks]]\ntype = "command"\ncommand = ["true"]\n',
    HYDRA + '[upgrade]\nforeign_hold = "1d"\n',
    HYDRA + '[health]\ncanary_hosts = ["web-1", "fe80::1%eth0", "https://[::1]:8/a@b?c=d"]\n',
    HYDRA + '[fetch]\nsubstituters = ["s3://b?region=x", "local?root=/a", "https://c/@d"]\n',
    HYDRA + '[fetch]\nsubstituters = ["ssh-ng://nix@builder", "ssh://nix@b/?c=d"]\n',
    'host = "web-1.example.org"\n' + HYDRA.replace(".org", ".org:8/sub/"),
    ICMP.replace("[[health.checks]]", '[health]\ncanary_hosts=["a"]\n[[health.checks]]'),
]
BAD = [
    "",
    HYDRA.replace('project = "p"\n', ""),
    "bogus = 1\n" + HYDRA,
    'action = "reboot"\n' + HYDRA,
    "flags = [1]\n" + HYDRA,
    'flags = "-L"\n' + HYDRA,
    'hydra = "https://h"\n',
    HYDRA + "bogus = 1\n",
    HYDRA + 'job = ""\n',
    HYDRA + f'job = "{"x" * 256}"\n',
    HYDRA + 'timeout = "soon"\n',
    HYDRA + "timeout = 0\n",
    HYDRA + "timeout = 99999999\n",
    HYDRA + "timeout = true\n",
    HYDRA + f'timeout = "{"1s" * 40}"\n',
    HYDRA + '[disk]\nstore_reserve = "1.5"\n',
    HYDRA + '[disk]\nstore_reserve = "1GB"\n',
    HYDRA + "[disk]\nstore_reserve = -1\n",
    HYDRA + "[disk]\nstore_reserve = 9223372036854775808\n",
    HYDRA + '[reboot]\nmode = "sometimes"\n',
    HYDRA + '[log]\nlevel = "loud"\n',
    HYDRA + "[health]\ncanary_hosts = [1]\n",
    HYDRA + '[health]\ncanary_hosts = ["no host"]\n',
    HYDRA + '[health]\ncanary_hosts = ["ftp://host"]\n',
    HYDRA + '[health]\ncanary_hosts = ["https://me:secret@host"]\n',
    HYDRA + '[fetch]\nsubstituters = ["https://me:secret@cache"]\n',
    HYDRA + '[fetch]\nsubstituters = ["ssh://me:secret@cache"]\n',
    HYDRA + '[paths]\nstate_dir = "relative"\n',
    HYDRA + 'job = "a/b"\n',
    HYDRA.replace("hydra.example", "me:secret@hydra.example"),
    HYDRA.replace(".org", ".org/?a"),
    'host = "no host"\n' + HYDRA,
    HYDRA + '[[health.checks]]\ntype = "tcp"\nhost = "a"\n',
    HYDRA + '[[health.checks]]\nhost = "a"\n',
    CONFIRM + 'on_failure = "reboot"\n',
    CONFIRM + 'ignore_units = "a"\n',
    CONFIRM + "hydra = 1\n",
    CONFIRM + "patience = 0\n",
    CONFIRM + '[[confirm.checks]]\ntype = "tcp"\nhost = "a"\nport = 0\n',
    CONFIRM + '[[confirm.checks]]\ntype = "unit"\n',
    CONFIRM + '[[confirm.checks]]\ntype = "command"\ncommand = []\n',
    ICMP + "count = 0\n",
    ICMP + "count = 101\n",
    ICMP + "count = true\n",
    ICMP + 'wanted = "yes"\n',
    ICMP + 'url = "http://a"\n',
    HTTP + "status = 600\n",
    HTTP + 'status = "ok"\n',
    HTTP + "status = []\n",
    HTTP + 'method = "DELETE"\n',
]


@pytest.fixture(scope="module")
def validator():
    made = json.loads(schema())
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def is_accepted(text, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(text)
    try:
        load_settings(file)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("text", GOOD)
def test_a_good_file_is_good_for_the_schema_too(validator, tmp_path, text):
    assert is_accepted(text, tmp_path)
    validator.validate(tomllib.loads(text))


@pytest.mark.parametrize("text", BAD)
def test_a_bad_file_is_bad_for_the_schema_too(validator, tmp_path, text):
    assert not is_accepted(text, tmp_path)
    assert not validator.is_valid(tomllib.loads(text))


@cache
def tables():
    made = json.loads(schema())
    return {"": made, **made["$defs"]}


@pytest.mark.parametrize("name", sorted(tables()))
def test_every_table_and_every_key_is_described(name):
    table = tables()[name]
    if "properties" not in table:
        return
    assert table["description"].strip()
    for key, facts in table["properties"].items():
        referred = tables()[facts["$ref"].rpartition("/")[2]] if "$ref" in facts else {}
        told = facts.get("description") or referred.get("description") or ""
        assert told.strip(), f"{name}.{key} is not described"
        assert "\n" not in told
    assert table["additionalProperties"] is False


def test_every_default_is_a_value_that_a_file_may_have():
    definitions = tables()[""]["$defs"]
    told = 0
    for table in tables().values():
        for key, facts in table.get("properties", {}).items():
            if facts.get("default") is None:
                continue
            told += 1
            made = jsonschema.Draft202012Validator({**facts, "$defs": definitions})
            made.validate(facts["default"])
            assert not str(facts["default"]).startswith("PT"), key
    assert told > 30


def test_only_the_hydra_table_is_required():
    made = tables()[""]
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert made["required"] == ["hydra"]
    assert set(made["$defs"]["HydraSection"]["required"]) == {"instance", "project", "jobset"}
