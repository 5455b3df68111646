"""Situations of real teams' repositories, behind a real git server: what is resolved, and what is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from goservice import errors
from goservice.metrics import Metrics
from goservice.settings import GitAccess
from goservice.sources.git import Found
from goservice.sources.polling import Answer, Sources
from goservice.watch.operator import Operator
from testbed.inmemory.world import World
from tests.support import factories as f
from tests.support.gitserver import Origin, Run, failed, fetching, git, serving

KEY = ("shop", "checkout")
"""The service that asks."""


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    with serving(tmp_path / "served") as found:
        yield found


@pytest.fixture
def fetch(tmp_path: Path) -> Run:
    return fetching(tmp_path / "termination-log", tmp_path / "tree")


@asynccontextmanager
async def asking(**options: Any) -> AsyncIterator[Sources]:
    subject = Sources(**{"allow_http": True, "allowed_networks": ["127.0.0.0/8"], **options})
    try:
        yield subject
    finally:
        await subject.close()


def at(origin: Origin, mode: str) -> str:
    """The address at which the server behaves in another way."""
    return f"{origin.address}/{mode}/a.git"


async def refusal(url: str, revision: str | None = None, **options: Any) -> errors.SourceError:
    async with asking(**options) as subject:
        with pytest.raises(errors.SourceError) as raised:
            await subject.resolve(url, revision)
    return raised.value


# --- a tag in a repository of 300 000 merge requests ---------------------------------------------------


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Origin, str, str]]:
    """The server, and the commits of main and of the tag; the list of refs is about 19 MiB."""
    with serving(tmp_path_factory.mktemp("crowded")) as found:
        first = found.commit({"a": "1"})
        git(found.work, "tag", "-a", "-m", "First", "v1.0.0")
        tag = git(found.work, "rev-parse", "v1.0.0")
        second = found.commit({"a": "2"})
        pulls = sorted(f"refs/pull/{number}/head" for number in range(1, 300_001))
        lines = [f"{second} refs/heads/main", *(f"{first} {name}" for name in pulls)]
        head = "# pack-refs with: peeled fully-peeled sorted "
        packed = "\n".join([head, *lines, f"{tag} refs/tags/v1.0.0", f"^{first}", ""])
        (found.work / ".git" / "packed-refs").write_text(packed)
        (found.work / ".git/refs/heads/main").unlink()
        (found.work / ".git/refs/tags/v1.0.0").unlink()
        yield found, second, first


async def test_a_crowd_of_refs_is_not_listed(crowded: tuple[Origin, str, str]) -> None:
    origin, main, tagged = crowded
    async with asking(longest_answer=64 * 1024) as subject:
        for revision, commit in {None: main, "main": main, "v1.0.0": tagged}.items():
            assert await subject.resolve(origin.url, revision) == commit
        assert await subject.resolve(origin.url, "refs/pull/299999/head") == tagged


async def test_an_old_server_lists_the_crowd_until_what_is_wanted_is_known(
    crowded: tuple[Origin, str, str],
) -> None:
    origin, main, _ = crowded
    async with asking() as subject:
        assert await subject.look(at(origin, "v0"), "main") == Found(main)
    told = await refusal(at(origin, "v0"), "v1.0.0")
    assert isinstance(told, errors.SourceUnfit), "nobody is told to wait"
    assert "lists more than 16 MiB of branches and tags" in str(told)


async def test_a_server_of_version_2_that_names_no_format_is_not_told_of_one(
    origin: Origin,
) -> None:
    """git 2.18 to 2.27, such as Ubuntu 20.04's: what it does not name it refuses to hear of."""
    commit = origin.commit({"a": "1"})
    async with asking() as subject:
        assert await subject.resolve(at(origin, "old"), "main") == commit
        assert await subject.resolve(origin.url, "main") == commit


async def test_how_long_a_slow_server_is_waited_for_is_a_setting(origin: Origin) -> None:
    given = {"allow_http": True, "allowed_networks": ["127.0.0.0/8"], "timeout_seconds": 1}
    settings = f.SETTINGS.model_copy(update={"git": GitAccess.model_validate(given)})
    subject = Operator(settings, World(), Metrics()).sources
    with pytest.raises(errors.GitUnavailable, match="did not answer within 1 s"):
        await subject.resolve(at(origin, "hang"), "main")
    await subject.close()
    assert GitAccess().timeout_seconds > 25, "the longest list that was seen took a server 25 s"


# --- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["", "v0/", "old/"])
async def test_odd_names_are_found_and_fetched(origin: Origin, fetch: Run, mode: str) -> None:
    names = [
        "fix/#42-login",
        "release/@acme/api",
        "funktion/größe",
        "user/anna=wip",
        "feature/-dash",
    ]
    tags = ["@acme/api@1.2.0", "v1.2.3+build.5"]
    commit = origin.commit(
        {"go.mod": "module example.com/a\n\ngo 1.26\n", "main.go": "package main\n"}
    )
    for name in names:
        git(origin.work, "branch", name)
    for name in tags:
        git(origin.work, "tag", "-a", "-m", name, name)
    url = f"{origin.address}/{mode}a.git"
    async with asking() as subject:
        for name in [*names, *tags, "refs/heads/user/anna=wip"]:
            assert await subject.resolve(url, name) == commit
    code, report = fetch(url, commit, revision="@acme/api@1.2.0")
    assert (code, report["commit"]) == (0, commit)


async def test_a_branch_may_be_called_as_a_server_names_its_format(origin: Origin) -> None:
    git(origin.work, "checkout", "-q", "-b", "object-format=sha256")
    commit = origin.commit({"a": "1"})
    git(origin.work, "branch", "main")
    async with asking() as subject:
        for mode in ("v0", "old"):
            assert await subject.resolve(at(origin, mode), "main") == commit


@pytest.mark.parametrize("between", [0, 3000])
async def test_an_old_server_tells_of_two_of_one_name_too(origin: Origin, between: int) -> None:
    first = origin.commit({"a": "1"})
    git(origin.work, "tag", "-a", "-m", "seven", "v7")
    second = origin.commit({"a": "2"})
    git(origin.work, "branch", "v7")
    pulls = "".join(f"create refs/pull/{n}/head {first}\n" for n in range(between))
    git(origin.work, "update-ref", "--stdin", given=pulls.encode())
    async with asking() as subject:
        assert await subject.look(at(origin, "v0"), "v7") == Found(second, first)
        assert await subject.look(origin.url, "v7") == Found(second, first)


# --- kinds that are not supported --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["", "v0/"])
def test_a_build_of_a_commit_of_sha_256_is_refused_for_good(
    tmp_path: Path, fetch: Run, mode: str
) -> None:
    """A full commit is asked for by the build alone."""
    with serving(tmp_path / "served", "--object-format=sha256") as found:
        commit = found.commit({"a": "1"})
        outcome = fetch(f"{found.address}/{mode}a.git", commit[:40])
    failed(outcome, "UnsafeSource", "SHA-256 names, which are not supported")


async def test_a_server_of_plain_files_is_told_as_one(origin: Origin, fetch: Run) -> None:
    commit = origin.commit({"a": "1"})
    git(origin.work, "update-server-info")
    assert commit in git(origin.work, "ls-remote", at(origin, "dumb"), "HEAD"), (
        "git itself takes it"
    )
    told = await refusal(at(origin, "dumb"))
    assert isinstance(told, errors.SourceUnfit)
    assert "does not speak git's smart HTTP protocol" in str(told)
    outcome = fetch(at(origin, "dumb"), commit)
    failed(outcome, "UnsafeSource", "does not speak git's smart HTTP protocol")


async def test_a_server_that_asks_to_sign_in_is_told_as_one(origin: Origin, fetch: Run) -> None:
    commit = origin.commit({"a": "1"})
    told = await refusal(at(origin, "login"))
    assert isinstance(told, errors.SourceUnfit)
    assert "asks to sign in; only public repositories can be built" in str(told)
    assert "sso" not in str(told)
    failed(fetch(at(origin, "login"), commit), "UnsafeSource", "asks to sign in")


# --- a repository's life -------------------------------------------------------------------------------


@asynccontextmanager
async def following(url: str) -> AsyncIterator[Callable[[str], Any]]:
    """Polls, and a function that waits until the answer is of a sort: a commit or an error's name."""
    heard = asyncio.Event()
    async with asking(chance=lambda: 0.5) as subject:
        subject.want(url, None, 0.05, KEY)
        task = asyncio.create_task(subject.run(lambda _: heard.set()))

        async def until(wanted: str) -> Answer:
            async with asyncio.timeout(60):
                while True:
                    known = subject.known(url, None)
                    if known and wanted in (
                        type(known.error).__name__,
                        "" if known.error else known.sha,
                    ):
                        return known
                    heard.clear()
                    await heard.wait()

        try:
            yield until
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_an_empty_repository_goes_on_by_itself_with_its_first_push(tmp_path: Path) -> None:
    with serving(tmp_path, "--initial-branch=trunk") as found:
        async with following(found.url) as until:
            known = await until("RevisionNotFound")
            assert "no default branch with a commit: push one" in str(known.error)
            commit = found.commit({"a": "1"})
            assert (await until(commit)).error is None


async def test_a_repository_that_moves_keeps_its_commit_and_is_found_again(origin: Origin) -> None:
    commit = origin.commit({"a": "1"})
    moved = origin.work.with_name("b.git")
    async with following(origin.url) as until:
        await until(commit)
        origin.work.rename(moved)
        lost = await until("GitAuthenticationFailed")
        assert lost.sha == commit, "what serves is known still"
        moved.rename(origin.work)
        assert (await until(commit)).error is None


async def test_repositories_that_are_not_followed_are_counted_by_reason(origin: Origin) -> None:
    """One number for each sort of error, whoever asks and however often; none for what is followed."""
    origin.commit({"a": "1"})
    counters = Metrics()

    def unresolved() -> dict[str, float]:
        (family,) = (
            m for m in counters.registry.collect() if m.name.endswith("sources_unresolved")
        )
        return {sample.labels["result"]: sample.value for sample in family.samples if sample.value}

    wanted = {KEY: origin.url, ("shop", "a"): at(origin, "301"), ("shop", "b"): at(origin, "404")}
    wanted |= {("shop", "c"): at(origin, "404"), ("shop", "d"): at(origin, "login")}
    rung: set[tuple[str, str]] = set()
    heard = asyncio.Event()

    def ring(key: tuple[str, str]) -> None:
        rung.add(key)
        if rung == set(wanted):
            heard.set()

    async with asking(metrics=counters) as subject, asyncio.timeout(60):
        task = asyncio.create_task(subject.run(ring))
        for key, url in wanted.items():
            subject.want(url, None, 0.05, key)
        await heard.wait()
        await asyncio.sleep(0.2)  # several polls more
        assert unresolved() == {"SourceUnfit": 2, "GitAuthenticationFailed": 1}
        for key in wanted:
            subject.forget(key)
        assert unresolved() == {}
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
