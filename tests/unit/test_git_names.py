"""Names of branches and tags are git's to judge, and harmless spellings mean what they say."""

from __future__ import annotations

import re
import subprocess
from random import Random
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from goservice import names
from goservice.api.fields import GitURL, RepositoryPath, Revision
from goservice.errors import InvalidSpec
from goservice.fetch import checkout
from tests.support import factories as f

PIECES = [
    *"ab9._-/@{}#=+~^:?*[]\\ \t\x7f$'\"!%&()<>|;,ü🙂",
    "..", "@{", "//", ".lock", "refs/heads/", "main", "/.", "-", "HEAD",
]  # fmt: skip
"""What random names are made of."""


def accepted(kind: Any, value: str) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def git_takes(name: str) -> bool:
    """What git says of a branch's name; of HEAD and refs it may mean more, which is no fault here."""
    done = subprocess.run(
        ["git", "check-ref-format", "--allow-onelevel", name], check=False, capture_output=True
    )
    return done.returncode == 0 and not name.startswith("-")


@pytest.mark.parametrize("seed", range(8))
def test_git_decides_which_names_there_are(seed: int) -> None:
    """But for $, which Kubernetes would expand in a container's arguments."""
    chance = Random(seed)
    for _ in range(60):
        name = "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 6)))
        taken = accepted(Revision, name)
        assert taken == (git_takes(name) and "$" not in name), repr(name)
        if taken:
            wanted = checkout.Checkout("https://h/r", "a" * 40, name, ".", ".", "")
            checkout.check_arguments(wanted)


@pytest.mark.parametrize(
    "name", ["fix/#42", "@acme/api@1.2.0", "größe", "a=b", "v1.0+linux", "refs/tags/v1"]
)
def test_names_that_were_refused_are_taken_and_give_a_tag(name: str) -> None:
    source = {"git": {"url": "https://git.example.com/a", "revision": name}}
    image = {"repository": "registry.example.com/a", "tag": "$(REVISION)"}
    tag = names.tag(f.service(source=source, image=image), f.COMMIT, "0123456789")
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", tag)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a b", "(it has ' ')"),
        ("a..b", "(it has '..')"),
        ("$(HOME)", "(it has '$')"),
        ("a.lock", "(it ends with '.lock')"),
        ("a/", "(it ends with '/')"),
        ("-a", "(it begins with '-')"),
        ("/a", "(it begins with '/')"),
        (".a", "(it begins with '.')"),
    ],
)
def test_what_is_refused_is_named(name: str, words: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        f.service(source={"git": {"url": "https://git.example.com/a", "revision": name}})
    assert "spec.source.git.revision: must be a branch, a tag" in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("./services/a", "services/a"), ("services/a/", "services/a"), ("./services/a/", "services/a"),
        (".", "."), ("./", "."), ("services/a", "services/a"),
    ],
)  # fmt: skip
def test_harmless_spellings_of_a_folder_are_one(written: str, meant: str) -> None:
    assert TypeAdapter(RepositoryPath).validate_python(written) == meant


@pytest.mark.parametrize(
    "path", ["..", "a/../b", "/a", "a//b", "./../a", "", ".//a", "a b", "a/./b"]
)
def test_what_leads_elsewhere_is_no_folder(path: str) -> None:
    assert not accepted(RepositoryPath, path)


@pytest.mark.parametrize(
    "url",
    [
        "https://git_server.example.com/a.git", "https://[2001:db8::1]:3000/a.git",
        "https://git.example.com/team%20one/a.git", "https://GIT.example.com/A.git",
        "https://git.example.com:8443/a/", "http://10.0.0.1/a", "https://git.example.com/shop/.github",
    ],
)  # fmt: skip
def test_harmless_spellings_of_a_url_are_taken(url: str) -> None:
    assert accepted(GitURL, url)
    checkout.check_arguments(checkout.Checkout(url, "a" * 40, "", ".", ".", ""))


def test_a_scheme_in_capitals_is_the_same() -> None:
    """git looks for a program of the scheme's name, in its very letters."""
    service = f.service(source={"git": {"url": "HTTPS://GIT.example.com/A.git"}})
    assert service.spec.source is not None
    assert service.spec.source.git.url == "https://GIT.example.com/A.git"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://git.example.com/a%2e%2e/b", "(it has '%2e')"),
        ("https://git.example.com/a%0ab", "(it has '%0a')"),
        ("https://user@git.example.com/a", "(it has '@')"),
        ("https://git.example.com/a?b", "(it has '?')"),
        ("https://git.example.com/a/../b", "must be an http(s) URL"),
    ],
)
def test_a_url_that_may_mean_another_is_refused(url: str, words: str) -> None:
    with pytest.raises(InvalidSpec, match=r"source\.git\.url") as refused:
        f.service(source={"git": {"url": url}})
    assert words in str(refused.value)
