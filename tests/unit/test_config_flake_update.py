"""What `[flake_update]` and `[notify]` refuse, each with its key."""

from __future__ import annotations

import pytest

from agent.config.load import WITHOUT_HYDRA, load_settings
from agent.domain.errors import ConfigError

FORGE = {"type": "forgejo", "url": "https://f", "repository": "o/r", "token_file": "/x"}
HYDRA = {"instance": "https://h", "project": "p"}


def load(tmp_path, **section):
    file = tmp_path / "config.toml"
    file.write_text("")
    return load_settings(file, overrides={"flake_update": section}, fallback=WITHOUT_HYDRA)


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"branch": "auto/flake-update-{date}"},
        {"branch": "flake-update"},
        {"base": "release/26.05"},
        {"forge": FORGE},
        {"forge": {**FORGE, "type": "github", "url": "https://github.com"}},
        {"forge": {"labels": ["x"]}},
        {"verify": "hydra", "hydra": HYDRA},
        {"author": "Nix Bot <bot@example.org>"},
    ],
)
def test_what_makes_sense_is_taken(tmp_path, section):
    assert load(tmp_path, **section).flake_update is not None


@pytest.mark.parametrize(
    ("section", "key", "told"),
    [
        ({"repository": "checkout"}, "repository", "absolute"),
        ({"remote": "git@forge:o/r"}, "remote", "not the name of a remote"),
        ({"remote": "-x"}, "remote", "not the name of a remote"),
        ({"base": "a..b"}, "base", "not a branch name"),
        ({"base": "--upload-pack=x"}, "base", "not a branch name"),
        ({"branch": "{date}{date}"}, "branch", "once"),
        ({"branch": "{date}"}, "branch", "something must stand before"),
        ({"branch": "x {date}"}, "branch", "not a branch name"),
        ({"branch": "x.lock"}, "branch", "not a branch name"),
        ({"inputs": ["a/b"]}, "inputs[0]", "not the name of an input"),
        ({"include": []}, "include", "at least 1"),
        ({"include": ["("]}, "include[0]", "not a regular expression"),
        ({"exclude": ["*"]}, "exclude[0]", "not a regular expression"),
        ({"concurrency": 0}, "concurrency", "greater than or equal to 1"),
        ({"author": "bot"}, "author", "NAME <MAIL>"),
        ({"committer": "team <>"}, "committer", "NAME <MAIL>"),
        ({"sign": "x509"}, "sign", "'gpg' or 'ssh'"),
        ({"forge": {"type": "gitlab"}}, "forge.type", "'forgejo' or 'github'"),
        ({"forge": {**FORGE, "repository": "r"}}, "forge.repository", "OWNER/NAME"),
        (
            {"forge": {"type": "github", "token_file": "/x"}},
            "forge",
            "needs flake_update.forge.repository",
        ),
        ({"forge": {"type": "github", "repository": "o/r"}}, "forge", "forge.token_file"),
        (
            {"forge": {**FORGE, "url": "https://github.com"}},
            "forge",
            "needs flake_update.forge.url",
        ),
        ({"verify": "hydra"}, "hydra", "needs flake_update.hydra.instance"),
        ({"verify": "hydra", "hydra": {"instance": "https://h"}}, "hydra", "hydra.project"),
        ({"verify": "hydra", "hydra": {**HYDRA, "branch": "main"}}, "hydra", "unproven commits"),
        (
            {"verify": "hydra", "hydra": {**HYDRA, "branch": "flake-update-20261219"}},
            "hydra",
            "unproven commits",
        ),
        (
            {"verify": "hydra", "branch": "up", "hydra": {**HYDRA, "branch": "up"}},
            "hydra",
            "unproven commits",
        ),
        (
            {"verify": "hydra", "branch": "up/{date}", "hydra": {**HYDRA, "branch": "up"}},
            "hydra",
            "lie below it",
        ),
        ({"branch": "main"}, "branch", "cannot be flake_update.base"),
        ({"branch": "main/{date}"}, "branch", "lie below it"),
        ({"base": "up-20260101", "branch": "up-{date}"}, "branch", "cannot be flake_update.base"),
        ({"sign": "ssh", "signing_key": "/nix/store/0-key"}, "signing_key", "world-readable"),
        (
            {"verify": "hydra", "hydra": {}},
            "hydra",
            "hydra.instance and flake_update.hydra.project",
        ),
        ({"hydra": {"branch": "a b"}}, "hydra.branch", "not a branch name"),
        ({"hydra": {"jobset": "a/b"}}, "hydra.jobset", "no slash"),
        ({"nonsense": 1}, "nonsense", "not a known setting"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_key(tmp_path, section, key, told):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **section)
    problems = dict(caught.value.problems)
    assert f"flake_update.{key}" in problems, problems
    assert told in problems[f"flake_update.{key}"]
