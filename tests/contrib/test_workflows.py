"""The workflows in `contrib/`: they parse, say nothing unknown, and call what there is."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
import yaml
from jsonschema import Draft7Validator

from agent.adapters.secret_file import read_secret
from agent.cli.main import agent
from agent.config.load import WITHOUT_HYDRA, load_settings

CONTRIB = Path(__file__).parents[2] / "contrib"
FILES = [CONTRIB / "forgejo/flake-update.yaml", CONTRIB / "github/flake-update.yaml"]
CONTEXTS = {
    "forgejo.server_url": "https://forge.example.org",
    "forgejo.repository": "team/nixos",
    "github.api_url": "https://api.github.com",
    "github.repository": "team/nixos",
}
# Not in Forgejo's own reference of its workflows, though in GitHub's.
NOT_IN_FORGEJO = {"permissions", "run-name", "environment"}

pytestmark = pytest.mark.checkout


class Workflow:
    """A workflow file, its expressions replaced as a runner would."""

    def __init__(self, file, temporary):
        self.file = file
        self.temporary = temporary
        text = file.read_text()
        # YAML 1.1 takes a bare `on` for a truth value; the runners do not.
        self.content = yaml.safe_load(re.sub(r"^on:", '"on":', text, flags=re.MULTILINE))
        (self.job,) = self.content["jobs"].values()
        self.steps = self.job["steps"]

    def variables(self, step):
        told = {**self.content.get("env", {}), **self.job.get("env", {}), **step.get("env", {})}
        return {name: self._filled(str(value)) for name, value in told.items()}

    def _filled(self, text):
        def value(match):
            words = match[1].strip()
            if words == "runner.temp":
                return str(self.temporary)
            return "t0ken" if "secrets." in words else CONTEXTS[words]

        return re.sub(r"\$\{\{(.*?)\}\}", value, text)

    def step(self, part):
        (found,) = [step for step in self.steps if part in step.get("run", "")]
        return found


@pytest.fixture(params=FILES, ids=["forgejo", "github"])
def workflow(request, tmp_path):
    return Workflow(request.param, tmp_path)


def test_every_key_is_one_that_workflows_have(workflow):
    package = importlib.resources.files("check_jsonschema") / "builtin_schemas/vendor"
    schema = json.loads((package / "github-workflows.json").read_text())
    faults = [fault.message for fault in Draft7Validator(schema).iter_errors(workflow.content)]
    assert faults == []
    # That it does object is seen here.
    assert list(Draft7Validator(schema).iter_errors({**workflow.content, "jbos": {}}))


def test_the_one_for_forgejo_keeps_to_what_forgejo_has():
    text = yaml.safe_load(FILES[0].read_text())
    assert not NOT_IN_FORGEJO & {*text, *text["jobs"]["update"]}


def test_actions_have_versions(workflow):
    used = [step["uses"] for step in workflow.steps if "uses" in step]
    assert used
    assert all(re.search(r"@v[0-9]+$", name) for name in used)


def test_the_command_and_its_options_exist(workflow):
    line = workflow.step("flake-update run")["run"]
    words = shlex.split(line)
    assert words[:4] == ["nix", "run", "$AGENT", "--"]
    group, name, *arguments = words[4:]
    commands = agent.get_command(click.Context(agent), group)
    command = commands.get_command(click.Context(commands), name)
    # It is parsed as the command line would be; what is unknown raises.
    command.make_context(name, list(arguments))


def test_the_variables_are_settings_that_the_agent_takes(workflow, monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("NIXOS_HYDRA_AGENT_"):
            monkeypatch.delenv(name)
    told = workflow.variables(workflow.step("flake-update run"))
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    nothing = tmp_path / "nothing.toml"
    nothing.write_text("")
    settings = load_settings(nothing, fallback=WITHOUT_HYDRA).flake_update
    kind = workflow.file.parent.name
    assert (settings.forge.type, settings.forge.repository) == (kind, "team/nixos")
    assert settings.author == "ci <ci@example.org>"
    # What the comments offer is a setting, too.
    for offered in re.findall(r"^ *# (NIXOS_\w+): (\S+)", workflow.file.read_text(), re.MULTILINE):
        monkeypatch.setenv(*offered)
    assert load_settings(nothing, fallback=WITHOUT_HYDRA).notify.ntfy_topic == "nix-updates"


def test_the_token_gets_where_the_agent_reads_it_and_is_removed(workflow):
    name = "NIXOS_HYDRA_AGENT_FLAKE_UPDATE__FORGE__TOKEN_FILE"
    file = Path(workflow.variables(workflow.step("flake-update run"))[name])
    _run(workflow, workflow.step("umask"))
    assert read_secret(file) == "t0ken"
    removal = workflow.step("rm -rf")
    assert removal["if"] == "always()"
    _run(workflow, removal)
    assert not file.parent.exists()


def _run(workflow, step):
    variables = {**workflow.variables(step), "RUNNER_TEMP": str(workflow.temporary)}
    subprocess.run(
        ["bash", "-e", "-c", step["run"]],
        check=True,
        env={"PATH": os.environ["PATH"], **variables},
        timeout=30,
    )


def test_no_secret_is_written_into_a_script(workflow):
    scripts = [step["run"] for step in workflow.steps if "run" in step]
    assert not [script for script in scripts if "${{" in script]
