from __future__ import annotations

import pytest
from pydantic import ValidationError

from agent.adapters.nix.environment import confinement
from agent.config.load import load_settings
from agent.domain.errors import ConfigError
from agent.domain.nix_options import SplitFlags, refuse_open_secrets, split_flags

TOKEN = ("--option", "access-tokens", "github.com=hunter2 gitlab.com=PAT:x")


def test_an_option_with_a_credential_goes_by_the_environment():
    flags = ("-L", *TOKEN, "--option", "cores", "1", "--option", "substituters", "https://u:p@h")

    split = split_flags(flags)

    assert split.arguments == ("-L", "--option", "cores", "1")
    assert split.lines == (
        "access-tokens = github.com=hunter2 gitlab.com=PAT:x",
        "substituters = https://u:p@h",
    )
    told = confinement({"NIX_CONFIG": "cores = 2"}, flags, ())["NIX_CONFIG"].splitlines()
    assert told[:3] == ["cores = 2", *split.lines]
    impure = confinement({}, ("--impure", *TOKEN), ())["NIX_CONFIG"]
    assert impure == "access-tokens = github.com=hunter2 gitlab.com=PAT:x"


def test_a_flag_that_is_cut_short_is_left_to_nix():
    assert split_flags(("--option", "cores")) == SplitFlags(("--option", "cores"), ())


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("-L", "--impure", "--show-trace"),
        TOKEN,
        ("--option", "netrc-file", "/run/secrets/netrc"),
        ("--option", "secret-key-files", "/run/secrets/key"),
        ("--option", "substituters", "ssh-ng://nix@builder"),
        ("--option", "trusted-public-keys", "k:AAAA"),
        ("--builders", "ssh://nix@builder x86_64-linux /root/.ssh/key"),
        ("--extra-experimental-features", "nix-command"),
    ],
)
def test_flags_that_everybody_may_read_are_taken(flags):
    refuse_open_secrets(flags)


AMONG_ARGUMENTS = (
    "a flag contains a password or a token, which all users of this host could read among"
    " the arguments of nix: write an option of nix as '--option', NAME, VALUE, which is"
    " passed in the environment; passwords belong in nix's netrc-file"
)
AS_A_COMMENT = "an option with a credential contains a '#', which nix takes for a comment"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--access-tokens", "github.com=hunter2"), AMONG_ARGUMENTS),
        (("--builders ssh://nix:hunter2@builder",), AMONG_ARGUMENTS),
        (("--option", "access-tokens", "github.com=hunter#2"), AS_A_COMMENT),
        ((*TOKEN, "--option", "access-tokens", "github.com=hunter#2"), AS_A_COMMENT),
    ],
)
def test_the_error_says_what_to_do_instead(flags, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared whole
        refuse_open_secrets(flags)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "flags",
    [
        ("--access-tokens", "github.com=hunter2"),
        ("--extra-access-tokens", "github.com=hunter2"),
        ("--option access-tokens github.com=hunter2",),
        ("--builders", "ssh://nix:hunter2@builder"),
        ("--substituters", "https://u:hunter2@cache"),
        ("--argstr", "password", "hunter2"),
        ("--token=hunter2",),
        ("--option", "access-tokens", "github.com=hunter#2"),
        ("--option", "access-tokens=github.com=hunter2"),
    ],
)
def test_a_credential_in_another_flag_is_refused_and_not_repeated(flags, tmp_path):
    with pytest.raises(ValueError, match=r"all users of this host|comment") as caught:
        refuse_open_secrets(flags)
    assert "hunter2" not in str(caught.value)
    assert not isinstance(caught.value, ValidationError)

    file = tmp_path / "config.toml"
    words = ", ".join(f"'{word}'" for word in flags)
    file.write_text(
        f"flags = [{words}]\n[hydra]\ninstance = 'http://h'\nproject = 'p'\njobset = 'j'\n"
    )
    with pytest.raises(ConfigError) as refused:
        load_settings(file)
    assert [key for key, _ in refused.value.problems] == ["flags"]
    assert "hunter2" not in str(refused.value)
