"""The paths that Hydra is asked for, and what the path of a redirect means.

Sources: Hydra's `lib/Hydra/Controller/{Job,Jobset,JobsetEval,API}.pm`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from agent.domain.errors import HydraError, Kind
from agent.lean.hydra_urls import build_id_in, job_page, path_below, segment, target_of

if TYPE_CHECKING:
    from agent.adapters.hydra.transport import Answer
    from agent.domain.job import Job, Select

_EVAL: Final = re.compile(r"/eval/([0-9]{1,18})/?", re.ASCII)
_JOB: Final = re.compile(r"/job/([^/]+)/([^/]+)/(.+)")


def job_path(job: Job, page: Select | str) -> str:
    """Return the path of one page of a job."""
    return job_page((job.project, job.jobset, job.name), page)


def jobset_path(job: Job, page: str) -> str:
    """Return the path of one page of the job's jobset."""
    return f"/jobset/{segment(job.project)}/{segment(job.jobset)}/{page}"


def project_path(job: Job) -> str:
    """Return the path of the job's project."""
    return f"/project/{segment(job.project)}"


def queue_path(count: int) -> str:
    """Return the path that lists the first builds that are not finished, of whatever jobset."""
    return f"/api/queue?nr={count}"


def eval_job_path(eval_id: int, job: Job) -> str:
    """Return the path that redirects to the job's build in one eval."""
    return f"/eval/{eval_id}/job/{segment(job.name)}"


def latest_build_path(job: Job) -> str:
    """Return the path that lists the job's newest finished build, good or not."""
    return (
        f"/api/latestbuilds?nr=1&project={segment(job.project)}"
        f"&jobset={segment(job.jobset)}&job={segment(job.name)}"
    )


def build_id_of(answer: Answer) -> int:
    """Return the build that a redirect points to.

    Raises:
        HydraError: JOBSET_RENAMED, HYDRA_REDIRECT, HYDRA_REDIRECT_LOOP, HYDRA_REDIRECT_ORIGIN.
    """
    found = build_id_in(answer.instance, answer.url, answer.location)
    if found is None:
        raise unwanted_redirect(answer)
    return found


def eval_id_of(answer: Answer) -> int:
    """Return the eval that a redirect points to; raises as `build_id_of`."""
    match = _EVAL.fullmatch(_path_below_instance(answer))
    if match is None:
        raise unwanted_redirect(answer)
    return int(match[1])


def direct(answer: Answer) -> Answer:
    """Return an answer that is no redirect; raises as `build_id_of`."""
    if answer.is_redirect:
        raise unwanted_redirect(answer)
    return answer


def unwanted_redirect(answer: Answer) -> HydraError:
    """Return the error for a redirect that leads to nothing useful."""
    target = target_of(answer.url, answer.location)
    if target is None:
        return HydraError(
            Kind.HYDRA_REDIRECT,
            f"{answer.url}: a redirect (status {answer.status}) to nowhere",
            hint="look at the proxy in front of Hydra",
        )
    message = f"{answer.url}: a redirect to {target[:300]!r}"
    if target == answer.url:
        return HydraError(
            Kind.HYDRA_REDIRECT_LOOP,
            f"{answer.url}: a redirect back to itself",
            hint="look at the proxy in front of Hydra",
        )
    new_jobset = _new_jobset(answer)
    if new_jobset is not None:
        return HydraError(
            Kind.JOBSET_RENAMED,
            f"{answer.url}: the jobset is called {new_jobset!r} now",
            hint=f"set hydra.jobset to {new_jobset!r}",
        )
    asked, meant = urlsplit(answer.url), urlsplit(target)
    if (asked.scheme, asked.netloc) != (meant.scheme, meant.netloc):
        is_upgrade = (meant.scheme, meant.path) == ("https", asked.path)
        secure = f"{target[: -len(answer.path)]}" if target.endswith(answer.path) else "https://…"
        return HydraError(
            Kind.HYDRA_REDIRECT_ORIGIN,
            f"{message}, which is another origin and is not followed",
            hint=(
                f"set hydra.instance to {secure}"
                if is_upgrade
                else "set hydra.instance to the URL that Hydra is meant to be reached by"
            ),
        )
    return HydraError(
        Kind.HYDRA_REDIRECT,
        f"{message}, where no build is",
        hint="is hydra.instance the URL of a Hydra, and does it want a login?",
    )


def _path_below_instance(answer: Answer) -> str:
    return path_below(answer.instance, answer.url, answer.location)


def _new_jobset(answer: Answer) -> str | None:
    """Return the new name when the redirect only exchanges the jobset (`renamed-latest.json`)."""
    asked = _JOB.fullmatch(answer.path)
    found = _JOB.fullmatch(_path_below_instance(answer))
    if asked is None or found is None:
        return None
    same_job = unquote(asked[1]) == unquote(found[1]) and unquote(asked[3]) == unquote(found[3])
    return unquote(found[2]) if same_job and unquote(asked[2]) != unquote(found[2]) else None
