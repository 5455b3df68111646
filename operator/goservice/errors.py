"""Every error that a pass can meet, and what happens after it.

GoServiceError
├─ InvalidSpec            a person must change the resource: Stalled, until it changes
├─ SourceError            the revision could not be resolved
│  ├─ RevisionNotFound        a person must act; polling goes on
│  ├─ GitAuthenticationFailed a person must act; polling goes on
│  ├─ SourceForbidden         the platform's settings refuse the address: Stalled
│  ├─ SourceUnfit             it has moved, or is of a kind that is not supported: Stalled
│  └─ GitUnavailable          polled again later, with backoff
└─ ClusterError           the API server said no, or nothing: the queue retries
   ├─ NotFound · AlreadyExists · Conflict · Invalid · Forbidden · Unauthorized · Gone
   └─ TooManyRequests · Unavailable

It holds no text of a secret, ever: messages are shown in statuses, events and logs.
"""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import override


class GoServiceError(Exception):
    """The root of the tree."""


@dataclass(frozen=True, order=True)
class Problem:
    """One fault of a resource: where it is, what is wrong and what is allowed."""

    path: str
    """The field as a user writes it, `spec.source.git.url`."""
    message: str
    """What is wrong and what is allowed, to be read after the path."""

    @override
    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class InvalidSpec(GoServiceError):
    """The resource cannot be acted upon as it is written."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)


class SettingsError(GoServiceError):
    """The platform's settings file or environment is wrong: the operator does not start."""


class SourceError(GoServiceError):
    """The commit that a revision means could not be resolved."""


class RevisionNotFound(SourceError):
    """The repository answers, and does not have the revision."""


class GitAuthenticationFailed(SourceError):
    """The repository asks for credentials."""


class SourceForbidden(SourceError):
    """The platform's settings do not allow this address."""


class SourceUnfit(SourceError):
    """The repository cannot be taken as it is: it has moved, or is of a kind that is not supported."""


class GitUnavailable(SourceError):
    """The repository does not answer, or not as a git server does."""


class ClusterError(GoServiceError):
    """The API server refused a request, or did not answer it."""

    def __init__(self, message: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        """Seconds that the server asks to wait, if it did."""


class NotFound(ClusterError):
    """404: the object, or its kind, is not there."""


class AlreadyExists(ClusterError):
    """409, reason AlreadyExists: an object of this name is there."""


class Conflict(ClusterError):
    """409: a precondition (uid, resourceVersion) does not hold."""


class Invalid(ClusterError):
    """400 or 422: the API server does not accept the object."""


class Forbidden(ClusterError):
    """403: the service account may not do this, or an admission policy refuses it."""


class Unauthorized(ClusterError):
    """401: the API server does not accept the token, or no longer; says nothing of the object."""


class Gone(ClusterError):
    """410: the resourceVersion or continue token is too old."""


class TooManyRequests(ClusterError):
    """429: tried again after `retry_after`."""


class Unavailable(ClusterError):
    """5xx, a time-out or no connection: tried again with backoff."""
