"""A GitHub: what its published description says of the operations that the agent uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_forges.server import Asked, ForgeServer, Operation, Refusal, Reply

if TYPE_CHECKING:
    from fake_forges.world import Pull

TIME = "2026-11-21T04:40:00Z"
DOCUMENTATION = "https://docs.github.com/rest"
GRAPHQL = "POST /graphql"


class GitHubServer(ForgeServer):
    def operations(self) -> dict[str, Operation]:
        return {
            "GET /repos/{owner}/{repo}/pulls": self._list_pulls,
            "POST /repos/{owner}/{repo}/pulls": self._create_pull,
            "GET /repos/{owner}/{repo}/pulls/{pull_number}": self._get_pull,
            "PATCH /repos/{owner}/{repo}/pulls/{pull_number}": self._edit_pull,
            "POST /repos/{owner}/{repo}/issues/{issue_number}/labels": self._add_labels,
            "POST /repos/{owner}/{repo}/issues/{issue_number}/assignees": self._assign,
            "POST /repos/{owner}/{repo}/issues/{issue_number}/comments": self._comment,
            GRAPHQL: self._graphql,
        }

    def unauthorised(self) -> object:
        return self._said("Bad credentials")

    def forbidden(self) -> object:
        return self._said("Resource not accessible by personal access token")

    def missing(self) -> object:
        return self._said("Not Found")

    def _said(self, message: str) -> dict[str, str]:
        return {"message": message, "documentation_url": DOCUMENTATION}

    def _invalid(self, message: str) -> Refusal:
        fault = {"resource": "PullRequest", "code": "custom", "message": message}
        return Refusal(422, {**self._said("Validation Failed"), "errors": [fault]})

    def _list_pulls(self, asked: Asked) -> Reply:
        wanted = asked.query
        found = [
            self._simple(pull)
            for pull in reversed(self.world.pulls)
            if wanted.get("state", "open") in (pull.state, "all")
            and wanted.get("base", pull.base) == pull.base
        ]
        return self.page(found, asked, "per_page", 100)

    def _create_pull(self, asked: Asked) -> Reply:
        world, wanted = self.world, asked.content
        head, base = wanted["head"], wanted["base"]
        for field, branch in (("head", head), ("base", base)):
            if world.revision_of(branch) is None:
                fault = {"resource": "PullRequest", "field": field, "code": "invalid"}
                raise Refusal(422, {**self._said("Validation Failed"), "errors": [fault]})
        if world.open_pull(head, base):
            raise self._invalid(f"A pull request already exists for {world.owner}:{head}.")
        if world.revision_of(head) == world.revision_of(base):
            raise self._invalid(f"No commits between {base} and {head}")
        if len(wanted.get("body", "")) > 65536:
            raise self._invalid("body is too long (maximum is 65536 characters)")
        pull = world.add(head, base, wanted["title"], body=wanted.get("body"))
        return Reply(201, self._whole(pull))

    def _get_pull(self, asked: Asked) -> Reply:
        return Reply(200, self._whole(self._found(asked)))

    def _edit_pull(self, asked: Asked) -> Reply:
        pull, wanted = self._found(asked), asked.content
        pull.title = wanted.get("title", pull.title)
        pull.body = wanted.get("body", pull.body)
        return Reply(200, self._whole(pull))

    def _add_labels(self, asked: Asked) -> Reply:
        pull, world = self._found(asked), self.world
        for name in asked.content["labels"]:
            world.labels.setdefault(name, 100 + len(world.labels))
            if name not in pull.labels:
                pull.labels.append(name)
        return Reply(200, [self._label(name) for name in pull.labels])

    def _assign(self, asked: Asked) -> Reply:
        pull = self._found(asked)
        for login in asked.content["assignees"]:
            # Those who cannot be assigned are silently passed over.
            person = self.world.person(login)
            if person and person not in pull.assignees:
                pull.assignees.append(person)
        return Reply(201, self._issue(pull))

    def _comment(self, asked: Asked) -> Reply:
        pull = self._found(asked)
        pull.comments.append(asked.content["body"])
        url = f"{self._api}/issues/comments/{len(pull.comments)}"
        return Reply(
            201,
            {
                "id": len(pull.comments),
                "node_id": "IC_1",
                "url": url,
                "html_url": f"{self._page(pull)}#issuecomment-1",
                "issue_url": f"{self._api}/issues/{pull.number}",
                "body": asked.content["body"],
                "user": self._user("agent"),
                "author_association": "NONE",
                "created_at": TIME,
                "updated_at": TIME,
            },
        )

    def _graphql(self, asked: Asked) -> Reply:
        """Carry out the one mutation that is used; its faults have a status of 200."""
        wanted = asked.content["variables"]
        assert "enablePullRequestAutoMerge" in asked.content["query"]
        assert wanted["method"] in ("MERGE", "SQUASH", "REBASE")
        pull = self.world.pull(int(wanted["id"].removeprefix("PR_")))
        assert pull is not None
        if not self.world.allows_auto_merge:
            return self._unprocessable("Pull request Auto merge is not allowed for this repository")
        if not self.world.has_required_checks:
            return self._unprocessable('["Pull request Pull request is in clean status"]')
        pull.merge_method = wanted["method"].lower()
        data = {"enablePullRequestAutoMerge": {"pullRequest": {"number": pull.number}}}
        return Reply(200, {"data": data})

    @staticmethod
    def _unprocessable(message: str) -> Reply:
        fault = {
            "type": "UNPROCESSABLE",
            "path": ["enablePullRequestAutoMerge"],
            "locations": [{"line": 1, "column": 67}],
            "message": message,
        }
        return Reply(200, {"data": {"enablePullRequestAutoMerge": None}, "errors": [fault]})

    def _found(self, asked: Asked) -> Pull:
        number = asked.path.get("pull_number") or asked.path["issue_number"]
        pull = self.world.pull(int(number))
        if pull is None:
            raise Refusal(404, self.missing())
        return pull

    @property
    def _api(self) -> str:
        return f"{self.url}/repos/{self.repository}"

    def _page(self, pull: Pull) -> str:
        return f"{self.url}/{self.repository}/pull/{pull.number}"

    def _user(self, login: str) -> dict[str, Any]:
        url = f"{self.url}/users/{login}"
        kept = (
            *("events", "followers", "following", "gists", "organizations"),
            *("received_events", "repos", "starred", "subscriptions"),
        )
        return {
            "login": login,
            "id": 3,
            "node_id": "U_3",
            "url": url,
            "html_url": f"{self.url}/{login}",
            "avatar_url": f"{url}/avatar",
            "gravatar_id": "",
            "type": "User",
            "site_admin": False,
            **{f"{name}_url": f"{url}/{name}" for name in kept},
        }

    def _label(self, name: str) -> dict[str, Any]:
        return {
            "id": self.world.labels[name],
            "node_id": "LA_1",
            "url": f"{self._api}/labels/{self.world.labels[name]}",
            "name": name,
            "description": None,
            "color": "ededed",
            "default": False,
        }

    def _repository(self, number: int) -> dict[str, Any]:
        owner = self.world.owner if number == self.world.repository_id else "stranger"
        urls = (
            *("archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits"),
            *("compare", "contents", "contributors", "deployments", "downloads", "events", "forks"),
            *("git_commits", "git_refs", "git_tags", "hooks", "issue_comment", "issue_events"),
            *("issues", "keys", "labels", "languages", "merges", "milestones", "notifications"),
            *("pulls", "releases", "stargazers", "statuses", "subscribers", "subscription"),
            *("tags", "teams", "trees", "clone", "git", "ssh", "svn", "html"),
        )
        counts = ("forks", "open_issues", "watchers", "stargazers")
        return {
            "id": number,
            "node_id": "R_7",
            "name": self.world.name,
            "full_name": f"{owner}/{self.world.name}",
            "owner": self._user(owner),
            "url": self._api,
            **{f"{name}_url": f"{self._api}/{name}" for name in urls},
            **{f"{name}_count": 0 for name in counts},
            **dict.fromkeys(("forks", "open_issues", "watchers", "size"), 0),
            **{f"has_{what}": True for what in ("issues", "projects", "wiki", "downloads")},
            "has_pages": False,
            "private": True,
            "fork": number != self.world.repository_id,
            "archived": False,
            "disabled": False,
            "default_branch": "main",
            **dict.fromkeys(("description", "homepage", "language", "mirror_url", "license")),
            **dict.fromkeys(("pushed_at", "created_at", "updated_at"), TIME),
        }

    def _simple(self, pull: Pull) -> dict[str, Any]:
        """A pull request as a list has it."""
        url = f"{self._api}/pulls/{pull.number}"
        issue = f"{self._api}/issues/{pull.number}"
        people = [self._user(login) for login in pull.assignees]
        links = ("comments", "commits", "statuses", "html", "issue", "review_comments", "self")
        own = self.world.repository_id
        return {
            "id": 1000 + pull.number,
            "node_id": f"PR_{pull.number}",
            "number": pull.number,
            "url": url,
            "html_url": self._page(pull),
            "diff_url": f"{url}.diff",
            "patch_url": f"{url}.patch",
            "issue_url": issue,
            "comments_url": f"{issue}/comments",
            "commits_url": f"{url}/commits",
            "review_comments_url": f"{url}/comments",
            "review_comment_url": f"{url}/comments{{/number}}",
            "statuses_url": f"{self._api}/statuses/{pull.revision}",
            "_links": {name: {"href": f"{url}/{name}"} for name in (*links, "review_comment")},
            "state": pull.state,
            "locked": False,
            "title": pull.title,
            "body": pull.body,
            "user": self._user("agent"),
            "labels": [self._label(name) for name in pull.labels],
            "assignee": people[0] if people else None,
            "assignees": people,
            "milestone": None,
            "head": self._branch(pull.head, pull.revision, pull.head_repository),
            "base": self._branch(pull.base, self.world.revision_of(pull.base) or "", own),
            "author_association": "NONE",
            "auto_merge": self._auto_merge(pull),
            "created_at": TIME,
            "updated_at": TIME,
            **dict.fromkeys(("closed_at", "merge_commit_sha")),
            "merged_at": TIME if pull.is_merged else None,
        }

    def _branch(self, name: str, revision: str, repository: int | None) -> dict[str, Any]:
        return {
            "label": f"{self.world.owner}:{name}",
            "ref": name,
            "sha": revision,
            "repo": None if repository is None else self._repository(repository),
            "user": self._user(self.world.owner),
        }

    def _auto_merge(self, pull: Pull) -> dict[str, Any] | None:
        if pull.merge_method is None:
            return None
        return {
            "enabled_by": self._user("agent"),
            "merge_method": pull.merge_method,
            "commit_title": pull.title,
            "commit_message": "",
        }

    def _whole(self, pull: Pull) -> dict[str, Any]:
        """A pull request by itself."""
        counts = ("additions", "changed_files", "comments", "commits", "deletions")
        return {
            **self._simple(pull),
            **dict.fromkeys((*counts, "review_comments"), 1),
            "mergeable": None,
            "mergeable_state": "unknown",
            "merged": pull.is_merged,
            "merged_by": None,
            "maintainer_can_modify": False,
        }

    def _issue(self, pull: Pull) -> dict[str, Any]:
        url = f"{self._api}/issues/{pull.number}"
        simple = self._simple(pull)
        same = ("number", "title", "body", "state", "locked", "user", "assignee", "assignees")
        return {
            **{name: simple[name] for name in (*same, "milestone", "html_url", "labels")},
            "id": 2000 + pull.number,
            "node_id": f"PR_{pull.number}",
            "url": url,
            "repository_url": self._api,
            **{f"{name}_url": f"{url}/{name}" for name in ("comments", "events", "labels")},
            "comments": len(pull.comments),
            "author_association": "NONE",
            "closed_at": None,
            "created_at": TIME,
            "updated_at": TIME,
        }
