"""A Forgejo: what `routers/api/v1/repo/` does for the operations that the agent uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_forges.server import Asked, ForgeServer, Operation, Refusal, Reply

if TYPE_CHECKING:
    from fake_forges.world import Pull

TIME = "2026-11-21T04:40:00Z"


class ForgejoServer(ForgeServer):
    root = "/api/v1"

    def operations(self) -> dict[str, Operation]:
        return {
            "GET /repos/{owner}/{repo}/pulls": self._list_pulls,
            "POST /repos/{owner}/{repo}/pulls": self._create_pull,
            "GET /repos/{owner}/{repo}/pulls/{index}": self._get_pull,
            "PATCH /repos/{owner}/{repo}/pulls/{index}": self._edit_pull,
            "POST /repos/{owner}/{repo}/pulls/{index}/merge": self._merge_pull,
            "GET /repos/{owner}/{repo}/labels": self._list_labels,
            "POST /repos/{owner}/{repo}/labels": self._create_label,
            "GET /orgs/{org}/labels": self._list_organisation_labels,
            "POST /repos/{owner}/{repo}/issues/{index}/labels": self._add_labels,
            "POST /repos/{owner}/{repo}/issues/{index}/comments": self._comment,
        }

    def unauthorised(self) -> object:
        return self._said("user does not exist [uid: 0, name: ]")

    def forbidden(self) -> object:
        scopes = "required=[write:repository], token scope=read:repository"
        return self._said(f"token does not have at least one of required scope(s), {scopes}")

    def missing(self) -> object:
        return {"errors": [], **self._said("The target couldn't be found.")}

    def _said(self, message: str) -> dict[str, str]:
        return {"message": message, "url": f"{self.url}/api/swagger"}

    def _list_pulls(self, asked: Asked) -> Reply:
        state = asked.query.get("state", "open")
        found = [p for p in reversed(self.world.pulls) if state in (p.state, "all")]
        return self.page([self._pull(pull) for pull in found], asked, "limit", 50)

    def _create_pull(self, asked: Asked) -> Reply:
        world, wanted = self.world, asked.content
        head, base = wanted["head"], wanted["base"]
        if head == base:
            raise Refusal(422, self._said("Invalid PullRequest: There are no changes"))
        if world.revision_of(head) is None or world.revision_of(base) is None:
            raise Refusal(404, self.missing())
        if there := world.open_pull(head, base):
            message = f"pull request already exists for these targets [id: {there.number}]"
            raise Refusal(409, self._said(message))
        pull = world.add(head, base, wanted["title"], body=wanted.get("body", ""))
        return Reply(201, self._pull(pull))

    def _get_pull(self, asked: Asked) -> Reply:
        return Reply(200, self._pull(self._found(asked)))

    def _edit_pull(self, asked: Asked) -> Reply:
        pull, wanted = self._found(asked), asked.content
        pull.title = wanted.get("title") or pull.title
        pull.body = wanted.get("body", pull.body)
        if "assignees" in wanted:
            known = [self.world.person(login) for login in wanted["assignees"]]
            if None in known:
                unknown = wanted["assignees"][known.index(None)]
                message = f"Assignee does not exist: [name: user does not exist [name: {unknown}]]"
                raise Refusal(422, self._said(message))
            pull.assignees = [login for login in known if login]
        return Reply(201, self._pull(pull))

    def _merge_pull(self, asked: Asked) -> Reply:
        world, pull, wanted = self.world, self._found(asked), asked.content
        assert wanted["merge_when_checks_succeed"], "nobody merges here without checks"
        if not world.is_mergeability_known:
            world.is_mergeability_known = True  # it is being found out
            raise Refusal(405, self._said("Please try again later"))
        if not world.allows_auto_merge:
            raise Refusal(405, self._said("User not allowed to merge PR"))
        if pull.merge_method is not None:
            message = "pull request is already scheduled to auto merge when checks succeed"
            raise Refusal(409, self._said(f"{message} [pull_id: {pull.number}]"))
        pull.merge_method = wanted["Do"]
        if world.has_required_checks:
            return Reply(201)
        pull.state, pull.is_merged = "closed", True
        return Reply(200)

    def _list_labels(self, asked: Asked) -> Reply:
        return self._labels(self.world.labels, asked)

    def _list_organisation_labels(self, asked: Asked) -> Reply:
        if not self.world.owner_is_organisation:
            raise Refusal(404, self.missing())
        return self._labels(self.world.organisation_labels, asked)

    def _labels(self, labels: dict[str, int], asked: Asked) -> Reply:
        found = [self._label(name, number) for name, number in labels.items()]
        return self.page(found, asked, "limit", 50)

    def _create_label(self, asked: Asked) -> Reply:
        number = 100 + len(self.world.labels)
        self.world.labels[asked.content["name"]] = number
        return Reply(201, self._label(asked.content["name"], number))

    def _add_labels(self, asked: Asked) -> Reply:
        pull = self._found(asked)
        known = {**self.world.organisation_labels, **self.world.labels}
        names = {number: name for name, number in known.items()}
        pull.labels += [names[i] for i in asked.content["labels"] if names[i] not in pull.labels]
        return Reply(200, [self._label(name, known[name]) for name in pull.labels])

    def _comment(self, asked: Asked) -> Reply:
        pull = self._found(asked)
        pull.comments.append(asked.content["body"])
        return Reply(
            201,
            {
                "id": len(pull.comments),
                "body": asked.content["body"],
                "html_url": f"{self.url}/{self.repository}/pulls/{pull.number}#issuecomment-1",
                "issue_url": "",
                "pull_request_url": f"{self.url}/{self.repository}/pulls/{pull.number}",
                "user": self._user("agent"),
                "assets": [],
                "created_at": TIME,
                "updated_at": TIME,
            },
        )

    def _found(self, asked: Asked) -> Pull:
        pull = self.world.pull(int(asked.path["index"]))
        if pull is None:
            raise Refusal(404, self.missing())
        return pull

    def _user(self, login: str) -> dict[str, Any]:
        return {"id": 3, "login": login, "full_name": "", "html_url": f"{self.url}/{login}"}

    def _label(self, name: str, number: int) -> dict[str, Any]:
        return {"id": number, "name": name, "color": "5277c3", "description": "", "url": ""}

    def _repository(self, number: int) -> dict[str, Any]:
        owner = self.world.owner if number == self.world.repository_id else "stranger"
        return {
            "id": number,
            "owner": self._user(owner),
            "name": self.world.name,
            "full_name": f"{owner}/{self.world.name}",
            "fork": number != self.world.repository_id,
            "default_branch": "main",
        }

    def _pull(self, pull: Pull) -> dict[str, Any]:
        known = {**self.world.organisation_labels, **self.world.labels}
        fork = pull.head_repository
        people = [self._user(login) for login in pull.assignees]
        own = self._repository(self.world.repository_id)
        # Of a closed one whose branch is gone its own reference is told.
        is_there = pull.state == "open" or self.world.revision_of(pull.head) is not None
        return {
            "id": 1000 + pull.number,
            "number": pull.number,
            "url": f"{self.url}/{self.repository}/pulls/{pull.number}",
            "html_url": f"{self.url}/{self.repository}/pulls/{pull.number}",
            "user": self._user("agent"),
            "title": pull.title,
            "body": pull.body,
            "labels": [self._label(name, known[name]) for name in pull.labels],
            "milestone": None,
            "assignee": people[0] if people else None,
            # Go's nil slice.
            "assignees": people or None,
            "state": pull.state,
            "mergeable": True,
            "merged": pull.is_merged,
            "merged_at": TIME if pull.is_merged else None,
            "head": {
                "label": pull.head,
                "ref": pull.head if is_there else f"refs/pull/{pull.number}/head",
                "sha": pull.revision,
                "repo_id": fork or 0,
                "repo": None if fork is None else self._repository(fork),
            },
            "base": {
                "label": pull.base,
                "ref": pull.base,
                "sha": self.world.revision_of(pull.base) or "",
                "repo_id": self.world.repository_id,
                "repo": own,
            },
            "created_at": TIME,
            "updated_at": TIME,
        }
