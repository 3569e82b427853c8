from __future__ import annotations

import json
import os
import socket
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from agent.config.load import load_settings
from agent.config.policy import checks_of, policy_of
from agent.config.show import shown
from agent.domain.check import HttpCheck, IcmpCheck
from agent.domain.errors import ConfigError, ExitCode, Kind
from agent.domain.policy import Action, OnFailure

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "NIXOS_HYDRA_AGENT_"
HYDRA = '[hydra]\ninstance = "https://hydra.example.org"\nproject = "p"\njobset = "j"\n'
HOST = 'host = "web-1"\n'


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    """Set variables of the agent; none is left over from the machine."""
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)

    def set_all(**named):
        for name, value in named.items():
            monkeypatch.setenv(PREFIX + name, value)

    return set_all


@pytest.fixture
def write(tmp_path):
    def written(text: str | bytes) -> Path:
        file = tmp_path / "config.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return written


def problems(file, **arguments):
    """Return {key: what is wrong}."""
    with pytest.raises(ConfigError) as caught:
        load_settings(file, **arguments)
    error = caught.value
    assert error.kind is Kind.CONFIG_INVALID
    assert error.exit_code is ExitCode.BAD_CONFIG
    assert len(dict(error.problems)) == len(error.problems), "a key is told twice"
    for key, wrong in error.problems:
        assert f"{key}: {wrong}" in str(error)
    return dict(error.problems)


def assert_unknown(found, key):
    assert list(found) == [key]
    assert found[key].startswith("is not a known setting")


def test_three_keys_suffice(write):
    settings = load_settings(write(HYDRA))
    assert settings.host == socket.gethostname()
    assert settings.action is Action.SWITCH
    assert settings.job_name == policy_of(settings).job.name


def test_the_job_of_a_dotted_host_is_quoted_as_hydra_stores_it(write):
    assert load_settings(write('host = "db.example.org"\n' + HYDRA)).job_name == '"db.example.org"'


def test_the_environment_overrides_the_file_and_the_command_line_both(write, variables):
    file = write('action = "boot"\n' + HOST + HYDRA)
    assert load_settings(file).action is Action.BOOT
    variables(ACTION="test")
    assert load_settings(file).action is Action.TEST
    assert load_settings(file, overrides={"action": "dry-activate"}).action is Action.DRY_ACTIVATE


def test_precedence_holds_for_each_key_of_a_table(write, variables):
    variables(HYDRA__PROJECT="q", HYDRA__TIMEOUT="3")
    hydra = load_settings(
        write(HOST + HYDRA + 'timeout = "7s"\nselect = "latest-finished"\n'),
        overrides={"hydra": {"jobset": "k"}},
        fallback={"hydra": {"job": "f", "project": "f"}},
    ).hydra
    assert (hydra.project, hydra.jobset, hydra.job) == ("q", "k", "f")
    assert (hydra.timeout.total_seconds(), hydra.select) == (3, "latest-finished")


def test_lists_and_tables_in_variables_are_json(write, variables):
    variables(
        FLAGS='["-L"]',
        HEALTH__CANARY_HOSTS='["a", "b"]',
        HEALTH__CHECKS='[{"type": "icmp", "host": "c", "count": 2}]',
        DISK='{"store_reserve": "2GiB"}',
        VERIFY="false",
    )
    settings = load_settings(write(HOST + HYDRA))
    assert settings.flags == ("-L",)
    assert settings.health.canary_hosts == ("a", "b")
    assert settings.health.checks[0].count == 2
    assert settings.disk.store_reserve == 2 << 30
    assert settings.verify is False


def test_the_variable_of_the_configuration_file_is_no_setting(write, variables):
    variables(CONFIG="/nowhere")
    load_settings(write(HYDRA))


def test_the_environment_alone_can_configure_everything(variables, write):
    variables(HYDRA__INSTANCE="http://h", HYDRA__PROJECT="p", HYDRA__JOBSET="j", HOST="a")
    assert load_settings(write("")).hydra.instance == "http://h"


def test_canaries_of_the_command_line_come_after_the_configured_ones(write):
    settings = load_settings(
        write(HOST + HYDRA + '[health]\ncanary_hosts = ["a", "b"]\n'),
        canaries=("http://c/health", "a", "2001:db8::1"),
    )
    told = checks_of(settings.health)
    assert [(type(check), check.target) for check in told] == [
        (IcmpCheck, "a"),
        (IcmpCheck, "b"),
        (HttpCheck, "http://c/health"),
        (IcmpCheck, "2001:db8::1"),
    ]


def test_a_canary_never_outlasts_a_short_deadline(write):
    settings = load_settings(write(HYDRA + '[health]\ndeadline = "2s"\n'), canaries=("a",))
    assert checks_of(settings.health)[0].timeout.total_seconds() == 2


@pytest.mark.parametrize("canary", ["-x", "--config", "", "a b", "ftp://h", "http://u:pw@h", "1"])
def test_a_canary_that_is_no_host_and_no_url_is_refused(write, canary):
    assert list(problems(write(HYDRA), canaries=("good", canary))) == ["health.canary_hosts[1]"]


def test_every_problem_is_told_at_once_with_its_key(write, variables):
    variables(BOGUS="1", HYDRA__TIMEOUTS="5s", FLAGS="-L", nixos="1")
    file = write(
        """
        action = "tested"
        strategy = "store-path"
        verified = true
        [hydra]
        instance = "hydra.example.org"
        project = "a/b"
        timeout = "2m"
        [fetch]
        local_builds = true
        substituters = ["https://user:hunter2@cache"]
        [reboot]
        mode = "sometimes"
        window = []
        [disk]
        store_reserve = "plenty"
        [health]
        deadline = "10s"
        [[health.checks]]
        type = "icmp"
        host = "a"
        count = 1
        required_replies = 3
        [[health.checks]]
        type = "http"
        url = "http://a"
        timeouts = "5s"
        status = "abc"
        [[health.checks]]
        type = "carrier-pigeon"
        [paths]
        state_dir = "relative"
        [log]
        level = "loud"
        [extra]
        """
    )
    found = problems(file)
    assert set(found) == {
        f"{PREFIX}BOGUS",
        f"{PREFIX}nixos",
        "action",
        "verified",
        "flags",
        "hydra.instance",
        "hydra.project",
        "hydra.jobset",
        "hydra.deadline",
        "hydra.timeouts",
        "fetch.substituters[0]",
        "reboot.mode",
        "reboot.window",
        "disk.store_reserve",
        "health.checks[0].required_replies",
        "health.checks[1].timeouts",
        "health.checks[1].status[0]",
        "health.checks[2].type",
        "paths.state_dir",
        "log.level",
        "extra",
    }
    assert found["hydra.jobset"] == "is required"
    for key in ("verified", "hydra.timeouts", "extra"):
        assert found[key].startswith("is not a known setting")
    assert "list" in found["flags"]
    assert not any("hunter2" in wrong for wrong in found.values())


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("bogus = 1\n" + HYDRA, "bogus"),
        (HYDRA + "bogus = 1\n", "hydra.bogus"),
        (HYDRA + "[fetch]\nbogus = 1\n", "fetch.bogus"),
        (HYDRA + "[activate]\nbogus = 1\n", "activate.bogus"),
        (HYDRA + "[disk]\nbogus = 1\n", "disk.bogus"),
        (HYDRA + "[health]\nbogus = 1\n", "health.bogus"),
        (HYDRA + '[[health.checks]]\ntype="icmp"\nhost="a"\nurl="b"\n', "health.checks[0].url"),
        (HYDRA + '[[health.checks]]\ntype="http"\nurl="http://a"\nx=1\n', "health.checks[0].x"),
        (HYDRA + "[reboot]\nbogus = 1\n", "reboot.bogus"),
        (HYDRA + "[paths]\nbogus = 1\n", "paths.bogus"),
        (HYDRA + "[log]\nbogus = 1\n", "log.bogus"),
        (HYDRA.replace("[hydra]", '_env_file = "x"\n[hydra]'), "_env_file"),
    ],
)
def test_an_unknown_key_is_an_error_at_every_level(write, text, key):
    assert_unknown(problems(write(text)), key)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("BOGUS", f"{PREFIX}BOGUS"),
        ("bogus", f"{PREFIX}bogus"),
        ("HOST__X", f"{PREFIX}HOST__X"),
        ("", PREFIX),
        ("HYDRA__BOGUS", "hydra.bogus"),
        ("LOG__BOGUS__DEEP", "log.bogus"),
    ],
)
def test_an_unknown_variable_is_an_error(write, variables, name, key):
    variables(**{name: "x"})
    assert_unknown(problems(write(HOST + HYDRA)), key)


def test_a_variable_in_small_letters_is_told_when_it_is_unknown(write, monkeypatch):
    monkeypatch.setenv("nixos_hydra_agent_bogus", "1")
    assert list(problems(write(HYDRA))) == ["nixos_hydra_agent_bogus"]


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        ('action = "test"\n' + HYDRA + '[reboot]\nmode = "always"', "reboot", "would undo it"),
        ('action = "dry-activate"\n' + HYDRA + '[reboot]\nmode="when-needed"', "reboot", "undo"),
        ('strategy = "store-path"\n' + HYDRA + "[fetch]\nlocal_builds = true", "fetch", "no sense"),
        (HYDRA + 'timeout = "2m"', "hydra.deadline", "longer than hydra.deadline"),
        (HYDRA + 'deadline = "5s"', "hydra.deadline", "longer than hydra.deadline"),
        (
            HYDRA + '[health]\ndeadline="3s"\nchecks=[{type="icmp",host="a"}]',
            "health.checks",
            "longer than health.deadline",
        ),
        (
            HYDRA + '[[health.checks]]\ntype="icmp"\nhost="a"\ncount=2\nrequired_replies=3',
            "health.checks[0].required_replies",
            "more than count",
        ),
        (
            HYDRA + '[[health.checks]]\ntype="http"\nurl="http://a"\nmax_latency="6s"',
            "health.checks[0].max_latency",
            "longer than timeout",
        ),
        (
            HYDRA + '[[health.checks]]\ntype="http"\nurl="http://a"\nmethod="HEAD"\nbody="x"',
            "health.checks[0].body",
            "no body",
        ),
        (
            HYDRA + '[[health.checks]]\ntype="http"\nurl="http://a"\nmethod="HEAD"\nbody_regex="x"',
            "health.checks[0].body_regex",
            "no body",
        ),
        (
            HYDRA + '[[health.checks]]\ntype="http"\nurl="http://a"\nstatus="399-200"',
            "health.checks[0].status[0]",
            "ends before it begins",
        ),
        (
            HYDRA + '[confirm]\nsettle="1s"\ndeadline="3s"\nchecks=[{type="icmp",host="a"}]',
            "confirm.deadline",
            "timeout of check 0 is longer than confirm.deadline",
        ),
        (
            HYDRA + '[confirm]\npatience = "5m"',
            "confirm.patience",
            "shorter than confirm.deadline",
        ),
        (
            HYDRA
            + '[confirm]\nchecks=[{type="icmp",host="a"},{type="tcp",host="b",port=1,name="a"}]',
            "confirm.checks",
            "two checks are named 'a'",
        ),
    ],
)
def test_an_impossible_combination_is_an_error(write, text, key, why):
    found = problems(write(HOST + text))
    assert list(found) == [key]
    assert why in found[key]


@pytest.mark.parametrize(
    "combination",
    [
        'action = "boot"\n' + HYDRA + '[reboot]\nmode = "always"',
        HYDRA + "[fetch]\nlocal_builds = true",
        HYDRA + 'timeout = "60s"',
        HYDRA + '[health]\ndeadline="3s"\nchecks=[{type="icmp",host="a",timeout="3s"}]',
        HYDRA + '[[health.checks]]\ntype="http"\nurl="http://a"\nstatus=[200, "301-302"]\nbody="x"',
        HYDRA + '[confirm]\ndeadline="3s"\nchecks=[{type="icmp",host="a",timeout="3s"}]',
        HYDRA + '[confirm]\npatience = "10m"',
        HYDRA + '[confirm]\nchecks=[{type="icmp",host="a"},{type="tcp",host="a",port=1}]',
    ],
)
def test_a_possible_combination_is_none(write, combination):
    load_settings(write(HOST + combination))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", "0"),
        ("count", "101"),
        ("count", "true"),
        ("count", "1.5"),
        ("count", '"3"'),
        ("required_replies", "0"),
        ("wanted", '"yes"'),
        ("wanted", "1"),
        ("timeout", "0"),
        ("host", '"-c"'),
        ("host", "1"),
        ("name", "1"),
    ],
)
def test_a_ping_of_wrong_type_or_range_is_refused(write, key, value):
    given = {"type": '"icmp"', "host": '"a"'} | {key: value}
    table = "\n".join(f"{name} = {text}" for name, text in given.items())
    found = problems(write(HOST + HYDRA + "[[health.checks]]\n" + table))
    assert list(found) == [f"health.checks[0].{key}"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("status", "99"),
        ("status", "600"),
        ("status", "true"),
        ("status", '"2xx"'),
        ("status", '"200-"'),
        ("status", '"2٣٣"'),
        ("status", "[]"),
        ("status", "[[]]"),
        ("status", "1.5"),
        ("method", '"DELETE"'),
        ("method", '"get"'),
        ("url", '"a.example.org"'),
        ("url", '"http://u:p@h"'),
        ("body_regex", '"("'),
        ("body_regex", '"a{99999999999999999999}"'),
        ("ca_file", '"relative.pem"'),
        ("max_latency", '"soon"'),
    ],
)
def test_a_request_of_wrong_type_or_range_is_refused(write, key, value):
    given = {"type": '"http"', "url": '"http://a"'} | {key: value}
    table = "\n".join(f"{name} = {text}" for name, text in given.items())
    found = problems(write(HOST + HYDRA + "[[health.checks]]\n" + table))
    assert [told.partition(f"[0].{key}")[0] for told in found] == ["health.checks"]


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ('type="tcp"\nhost="a"\nport=1', "port", "0"),
        ('type="tcp"\nhost="a"\nport=1', "port", "65536"),
        ('type="tcp"\nhost="a"\nport=1', "port", "true"),
        ('type="tcp"\nhost="a"\nport=1', "port", '"ssh"'),
        ('type="tcp"\nhost="a"\nport=1', "host", '"a:22"'),
        ('type="dns"\nhost="a"', "host", '"192.0.2.1"'),
        ('type="dns"\nhost="a"', "host", '"2001:db8::1"'),
        ('type="dns"\nhost="a"', "addresses", '["b"]'),
        ('type="dns"\nhost="a"', "addresses", '["fe80::1%eth0"]'),
        ('type="unit"\nunit="a.service"', "unit", '"a"'),
        ('type="unit"\nunit="a.service"', "unit", '"a b.service"'),
        ('type="unit"\nunit="a.service"', "unit", f'"{"a" * 248}.service"'),
        ('type="command"\ncommand=["a"]', "command", "[]"),
        ('type="command"\ncommand=["a"]', "command", '[""]'),
        ('type="command"\ncommand=["a"]', "command", '"a b"'),
        ('type="command"\ncommand=["a"]', "command", '["./a"]'),
        ('type="command"\ncommand=["a"]', "command", '["a", "b\\u0000"]'),
    ],
)
def test_another_check_of_wrong_type_or_range_is_refused(write, table, key, value):
    given = dict(line.split("=", 1) for line in table.splitlines()) | {key: value}
    text = "\n".join(f"{name} = {told}" for name, told in given.items())
    (found,) = problems(write(HOST + HYDRA + "[[confirm.checks]]\n" + text))
    assert found.partition(f"[0].{key}")[0] == "confirm.checks"


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ('type="icmp"\nhost="a"', "a"),
        ('type="http"\nurl="http://a/"', "http://a/"),
        ('type="tcp"\nhost="2001:db8::1"\nport=22', "[2001:db8::1]:22"),
        ('type="dns"\nhost="a"\naddresses=["2001:DB8::1", "192.0.2.1"]', "a"),
        ('type="unit"\nunit="getty@tty1.service"', "getty@tty1.service"),
        ('type="command"\ncommand=["/bin/test", "-e", "/a b"]', "/bin/test -e '/a b'"),
    ],
)
def test_a_check_without_a_name_has_that_of_its_target(write, table, name):
    (check,) = policy_of(
        load_settings(write(HOST + HYDRA + f"[[confirm.checks]]\n{table}"))
    ).confirm.checks
    assert (check.name, check.target) == (name, name)


def test_confirmation_takes_ten_minutes_before_anything_is_rolled_back(write):
    confirm = policy_of(load_settings(write(HOST + HYDRA))).confirm
    assert confirm.deadline >= timedelta(minutes=10)
    assert confirm.patience == timedelta(hours=24)
    assert (confirm.on_failure, confirm.checks) == (OnFailure.ROLL_BACK, ())


@pytest.mark.parametrize("key", ["project", "jobset", "job"])
@pytest.mark.parametrize("name", ["", "a/b", "/", "..", ".", "a\0b", "x" * 256])
def test_a_name_that_would_leave_its_place_in_a_url_is_refused(write, key, name):
    names = {"project": "p", "jobset": "j", "job": "h"} | {key: name}
    with pytest.raises(ConfigError) as caught:
        load_settings(
            write(HOST), overrides={"hydra": {"instance": "https://h.example.org", **names}}
        )
    assert [told for told, _ in caught.value.problems] == [f"hydra.{key}"]


@pytest.mark.parametrize("name", ["...", "a b", '"web-1.example.org"', "é", "a..b", "%00", "-x"])
def test_a_strange_name_that_is_harmless_is_taken(write, name):
    settings = load_settings(
        write(HOST + HYDRA),
        overrides={"hydra": {"job": name}},
    )
    assert settings.job_name == name


@pytest.mark.parametrize(
    "host", ["", "-x", "a/b", "a b", 'a"b', "${x}", "a#b", "a\n", "é", "a\0", "x" * 254, "\udcff"]
)
def test_a_host_that_would_leave_its_place_in_an_attribute_path_is_refused(write, host):
    assert list(problems(write(HYDRA), overrides={"host": host})) == ["host"]


def test_the_slash_at_an_instances_end_is_dropped(write):
    text = HYDRA.replace("hydra.example.org", "hydra.example.org/sub//")
    assert load_settings(write(HOST + text)).hydra.instance == "https://hydra.example.org/sub"


@pytest.mark.parametrize("tail", ["?x=y", "#x", "/?", "/#"])
def test_an_instance_with_query_or_fragment_is_refused(write, tail):
    file = write(HOST + HYDRA.replace("example.org", f"example.org{tail}"))
    assert list(problems(file)) == ["hydra.instance"]


@pytest.mark.parametrize(
    "flag",
    [
        "--flake", "--flake=.#other", "-F", "--no-flake", "--file", "-f", "--attr", "-A",
        "--store-path", "--rollback", "--upgrade", "--target-host=x", "--build-host", "-pother",
        "--profile-name", "-p", "--specialisation", "-c", "-cdebug", "--update-input",
        "--override-input", "--override-flake", "--recreate-lock-file", "--no-update-lock-file",
        "--reference-lock-file", "--no-reexec", "--fast", "-h", "a\0b", "a\nb",
    ],
)  # fmt: skip
def test_a_flag_that_would_undo_what_the_agent_decides_is_refused(write, flag):
    found = problems(write(HOST + HYDRA), overrides={"flags": ["-L", flag]})
    assert list(found) == ["flags[1]"]


def test_other_flags_are_passed_on(write):
    flags = ("-L", "--option", "cores", "2", "-j4", "--max-jobs=0", "-v", "--show-trace")
    assert load_settings(write(HYDRA), overrides={"flags": flags}).flags == flags


@pytest.mark.parametrize(
    "key",
    [
        "notify.ntfy_token_file",
        "notify.urls_file",
        "flake_update.ssh_key_file",
        "flake_update.forge.token_file",
    ],
)
def test_no_secret_is_read_from_the_store(write, key):
    file = write(HOST + HYDRA)
    value = "/nix/store/00000000000000000000000000000000-token"
    *tables, name = key.split(".")
    overrides = {name: value}
    for table in reversed(tables):
        overrides = {table: overrides}
    assert "world-readable" in problems(file, overrides=overrides)[key]


@pytest.mark.parametrize(
    ("key", "value", "is_good"),
    [
        ("substituters", "https://cache.example.org", True),
        ("substituters", "s3://bucket?region=eu", True),
        ("substituters", "file:///srv/cache", True),
        ("substituters", "https://user:hunter2@cache", False),
        ("substituters", "https://user:hunter2@cache x", False),
        ("substituters", "ssh-ng://nix@builder.example.org", True),
        ("substituters", "ssh://nix@builder?priority=1", True),
        ("substituters", "ssh-ng://nix:hunter2@builder", False),
        ("substituters", "ssh-ng://a@b:hunter2@builder", False),
        ("substituters", "https://hunter2@cache", False),
        ("substituters", "--option", False),
        ("substituters", "a b", False),
        ("substituters", "", False),
        ("trusted_public_keys", "cache.example.org-1:" + "A" * 43 + "=", True),
        ("trusted_public_keys", "no key", False),
        ("trusted_public_keys", "--x:AAAA ", False),
        ("trusted_public_keys", ":AAAA", False),
    ],
)
def test_substituters_and_keys_have_their_form(write, key, value, is_good):
    file = write(HOST + HYDRA)
    overrides = {"fetch": {key: [value]}}
    if is_good:
        assert getattr(load_settings(file, overrides=overrides).fetch, key) == (value,)
        return
    found = problems(file, overrides=overrides)
    assert list(found) == [f"fetch.{key}[0]"]
    assert "hunter2" not in str(found)


def test_what_looks_like_a_secret_is_hidden_when_settings_are_shown(write):
    text = shown(
        load_settings(
            write(HOST + HYDRA),
            overrides={
                "flags": [
                    "--option",
                    "access-tokens",
                    "github.com=hunter2",
                ],
                "fetch": {"substituters": ["s3://bucket?region=eu"]},
                "health": {"canary_hosts": ["token.example.org", "shown.example.org"]},
            },
        )
    )
    assert "hunter2" not in text
    assert "region=eu" in text
    assert "shown.example.org" in text


def test_what_is_shown_can_be_read_again(write):
    settings = load_settings(
        write(
            HOST
            + HYDRA
            + '[health]\ncanary_hosts=["a"]\n[[health.checks]]\ntype="http"\nurl="http://a"\n'
            'status=200\nmax_latency="250ms"\nca_file="/x.pem"\n[disk]\nboot_reserve=1000\n'
        )
    )
    again = load_settings(write(""), overrides=json.loads(shown(settings)))
    assert again.model_dump() == settings.model_dump()


def test_a_file_that_is_named_must_exist(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "nowhere.toml")
    assert caught.value.kind is Kind.CONFIG_MISSING
    assert str(tmp_path / "nowhere.toml") in str(caught.value)


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="directory") as caught:
        load_settings(tmp_path)
    assert caught.value.kind is Kind.CONFIG_UNREADABLE


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(write):
    file = write(HYDRA)
    file.chmod(0)
    with pytest.raises(ConfigError, match="denied") as caught:
        load_settings(file)
    assert caught.value.kind is Kind.CONFIG_UNREADABLE


def test_a_file_above_one_mebibyte_is_refused(write):
    file = write(HYDRA + "#" * (1 << 20))
    with pytest.raises(ConfigError, match="1 MiB") as caught:
        load_settings(file)
    assert caught.value.kind is Kind.CONFIG_UNREADABLE


@pytest.mark.parametrize(
    "text",
    [
        b"host = \xff",
        b"\xef\xbb\xbfhost = 'a'",
        b"host = ",
        b"host = 'a'\nhost = 'b'",
        b"\0",
        b"x = " + b"1" * 5000,
        b"x = " + b"[" * 5000,
        b"x = 2026-02-31",
        HYDRA.encode("utf-16"),
    ],
)
def test_what_is_not_toml_is_a_syntax_error_and_not_a_crash(write, text):
    with pytest.raises(ConfigError, match="is not TOML") as caught:
        load_settings(write(text))
    assert caught.value.kind is Kind.CONFIG_SYNTAX


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400", "-0.0", "9" * 4000])
def test_numbers_without_end_are_told_and_not_a_crash(write, number):
    file = write(HOST + HYDRA + f"timeout = {number}\n[disk]\nstore_reserve = {number}\n")
    assert set(problems(file)) == {"hydra.timeout", "disk.store_reserve"}


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        (
            HYDRA + "[disk]\nstore_reserv = 1\n",
            "disk.store_reserv",
            "did you mean 'store_reserve'?",
        ),
        ('operation = "boot"\n' + HYDRA, "operation", "did you mean 'action'?"),
        ("allowReboot = true\n" + HYDRA, "allowReboot", "did you mean 'reboot.mode'?"),
        (
            HYDRA + '[[health.checks]]\ntype = "http"\nurl = "http://a"\nstauts = 200\n',
            "health.checks[0].stauts",
            "did you mean 'status'?",
        ),
        (HYDRA + '[[health.checks]]\nhost = "a"\n', "health.checks[0].type", "'icmp' or 'http'"),
        ('action = "swich"\n' + HYDRA, "action", "must be 'switch', 'boot'"),
    ],
)
def test_a_slip_is_told_with_what_was_meant(write, text, key, told):
    assert told in problems(write(text))[key]


# --- Where what is wrong was said


@pytest.mark.parametrize(
    ("text", "named", "told_as"),
    [
        ("", {"HYDRA__TIMEOUT": "soon"}, ("hydra.timeout", "HYDRA__TIMEOUT")),
        ("", {"hydra__timeout": "soon"}, ("hydra.timeout", "hydra__timeout")),
        ("", {"FLAGS": "-L"}, ("flags", "FLAGS")),
        ("", {"FLAGS": '["--flake"]'}, ("flags[0]", "FLAGS")),
        ("", {"REBOOT": '{"mode": "soon"}'}, ("reboot.mode", "REBOOT")),
        ("", {"REBOOT": "soon"}, ("reboot", "REBOOT")),
        ("", {"HYDRA__TIMEOUT": "2h"}, ("hydra.deadline", "HYDRA__TIMEOUT")),
        ("", {"ACTION": "test", "REBOOT__MODE": "always"}, ("reboot", "REBOOT__MODE")),
        (
            "",
            {"HEALTH__CHECKS": '[{"type": "tcp", "port": 1}]'},
            ("health.checks[0].host", "HEALTH__CHECKS"),
        ),
        ("[reboot]\nmode = 'soon'\n", {"REBOOT": '{"splay": "1h"}'}, ("reboot.mode", None)),
        ("[reboot]\nmode = 'soon'\n", {"FETCH__LOCAL_BUILDS": "true"}, ("reboot.mode", None)),
    ],
)
def test_what_is_wrong_is_looked_for_where_it_was_said(variables, write, text, named, told_as):
    key, at_fault = told_as
    variables(**named)
    file = write(HOST + HYDRA + text)
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    ((told, wrong),) = caught.value.problems
    assert told.startswith(key)
    if at_fault is None:
        assert caught.value.source == str(file)
        assert PREFIX not in str(caught.value)
    else:
        assert caught.value.source == PREFIX + at_fault
        assert wrong.endswith(f" (in {PREFIX}{at_fault})")
        assert str(file) not in str(caught.value)


def test_what_is_wrong_in_several_places_is_looked_for_in_all_of_them(variables, write):
    variables(HYDRA__TIMEOUT="soon", BOGUS="1")
    file = write(HOST + HYDRA + '[disk]\nstore_reserve = "much"\n')
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    assert caught.value.source == f"{file} and {PREFIX}BOGUS and {PREFIX}HYDRA__TIMEOUT"


def test_what_the_command_line_says_is_no_variables_fault(variables, write):
    variables(ACTION="switch")
    with pytest.raises(ConfigError) as caught:
        load_settings(write(HOST + HYDRA), overrides={"action": "reboot"})
    assert PREFIX not in str(caught.value)


def test_a_file_that_a_variable_names_and_that_is_not_there(variables, tmp_path):
    missing = tmp_path / "missing.toml"
    variables(CONFIG=str(missing))
    with pytest.raises(ConfigError, match=f"{PREFIX}CONFIG names it"):
        load_settings(missing)
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path / "other.toml")
    assert PREFIX not in str(caught.value)
