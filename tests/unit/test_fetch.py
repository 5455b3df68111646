"""fetch on real repositories, over smart HTTP on loopback, one test for each way to fail."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goservice.fetch import checkout, download, links, main, module, pointers
from goservice.fetch import git as git_module
from tests.support.gitserver import GOOD, REAL_GIT, Origin, Run, failed, fetching, git, serving

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 4096\n"
"""What Git LFS leaves in a repository in place of a file."""
EMBEDS = 'package main\n\nimport _ "embed"\n\nfunc main() {}\n\n'
"""A program to which a //go:embed line can be added."""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in git_module._PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    with serving(tmp_path / "served") as found:
        yield found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "tree"


@pytest.fixture
def run(tmp_path: Path, tree: Path) -> Run:
    return fetching(tmp_path / "termination-log", tree)


@pytest.fixture
def path_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a git on PATH that runs `script` for commands that match, and is git else."""

    def put(pattern: str, script: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        file = folder / "git"
        body = f'case "$*" in *"{pattern}"*) {script} ;; esac\nexec {REAL_GIT} "$@"\n'
        file.write_text("#!/bin/sh\n" + body)
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return put


# A commit that is fine


@pytest.mark.parametrize("server", ["", "v0/"])
def test_a_good_commit(origin: Origin, run: Run, tree: Path, server: str) -> None:
    commit = origin.commit(GOOD | {"run.sh": "#!/bin/sh\n"})
    url = f"{origin.address}/{server}a.git"
    code, report = run(url, commit.upper(), revision="main", go_version="1.27")
    assert code == 0
    assert report == {
        "commit": commit,
        "time": "2026-09-21T14:13:20Z",
        "author": "A. Author",
        "subject": "Take payments",
        "go": "1.26.1",
        "arch": main.ARCHITECTURES[platform.machine()],
    }
    assert sorted(path.name for path in tree.iterdir()) == ["go.mod", "main.go", "run.sh"]
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in tree.iterdir())


def test_the_modes_do_not_depend_on_the_caller(origin: Origin, run: Run, tree: Path) -> None:
    commit = origin.commit(GOOD | {"a/b": ""})
    (origin.work / "main.go").chmod(0o755)
    commit = origin.commit()
    before = os.umask(0o077)
    try:
        assert run(origin.url, commit)[0] == 0
    finally:
        os.umask(before)
    assert (tree / "main.go").stat().st_mode & 0o777 == 0o755
    assert (tree / "go.mod").stat().st_mode & 0o777 == 0o644
    assert (tree / "a").stat().st_mode & 0o777 == 0o755


def test_what_the_author_wrote_is_cleaned_and_capped(origin: Origin, run: Run) -> None:
    commit = origin.commit(
        GOOD,
        subject="Take \x07pay\x1b[31mments\u202e " + 'ü"\\' * 400_000,
        GIT_AUTHOR_NAME="A\x1b[2J\u2066. Author" + "ö" * 900,
    )
    code, report = run(origin.url, commit)
    assert code == 0
    assert report["subject"].startswith('Take payments ü"')
    assert len(report["subject"].encode()) <= 200
    assert report["author"].startswith("A. Author")
    assert len(report["author"].encode()) <= 100


def test_a_text_that_is_no_utf8(origin: Origin, run: Run) -> None:
    origin.commit(GOOD)
    tree = git(origin.work, "rev-parse", "HEAD^{tree}")
    who = b"A\xff <a@example.com> 999999999999 +0000"
    commit = origin.object(
        "commit", b"tree %s\nauthor %s\ncommitter %s\n\nTake \xfe\n" % (tree.encode(), who, who)
    )
    git(origin.work, "update-ref", "refs/heads/main", commit)
    code, report = run(origin.url, commit)
    assert code == 0
    # A time that no calendar has is left out.
    assert report["time"] == ""
    assert report["subject"].startswith("Take ")


def test_a_folder_and_a_package(origin: Origin, run: Run) -> None:
    files = {"svc/go.mod": "module a\n", "svc/cmd/x/main.go": "// A\n/* b */ package main\n"}
    commit = origin.commit(files)
    code, report = run(origin.url, commit, directory="svc", package="./cmd/x", go_version="1.20")
    assert code == 0
    assert report["go"] == ""


def test_a_restarted_pod_begins_anew(
    origin: Origin, run: Run, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / ".git").mkdir(parents=True)
    (tree / "left").symlink_to("/etc")
    commit = origin.commit(GOOD)
    failed(run(origin.url, commit), "GitUnavailable", "not empty")
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tree)
    assert run(origin.url, commit)[0] == 0
    assert not (tree / "left").is_symlink()


def test_a_report_that_cannot_be_written_is_printed(
    origin: Origin, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = origin.commit(GOOD)
    assert main.main(origin.url, commit, into=str(tree), termination_log=str(tmp_path)) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["commit"] == commit


# Finding the commit


@pytest.mark.parametrize(
    ("server", "revision"),
    [
        ("", "main"),
        ("v0/", "main"),
        ("v0/", ""),
        ("v0/", "HEAD"),
        ("v0/", "refs/heads/main"),
        ("v0/", "v1"),
        ("v0/", "refs/tags/v1"),
    ],
)
def test_an_older_commit(origin: Origin, run: Run, server: str, revision: str) -> None:
    commit = origin.commit(GOOD)
    origin.commit({"more.go": "package main\n"})
    git(origin.work, "tag", "-a", "v1", "-m", "One")
    assert run(f"{origin.address}/{server}a.git", commit, revision=revision)[0] == 0


def test_an_annotated_tag_is_fetched_by_its_commit(origin: Origin, run: Run, tree: Path) -> None:
    commit = origin.commit(GOOD)
    git(origin.work, "tag", "-a", "v1", "-m", "One")
    tag = git(origin.work, "rev-parse", "v1")
    assert run(origin.url, commit, revision="v1")[0] == 0
    shutil.rmtree(tree)
    failed(run(origin.url, tag, revision=tag), "RevisionNotFound", "is a tag, not a commit")


@pytest.mark.parametrize("other", [0, 60])
def test_a_commit_deep_in_a_history(origin: Origin, run: Run, other: int) -> None:
    """Beyond the first depth of the fallback, on a server that gives ends of branches only."""
    commit = origin.commit(GOOD)
    lines = [
        f"commit refs/heads/main\ncommitter A <a@example.com> {1790000000 + n} +0000\n"
        f"data 1\nx\n{f'from {commit}' if n == 0 else ''}\n"
        for n in range(other + 3)
    ]
    git(origin.work, "fast-import", "--quiet", given="".join(lines).encode())
    assert run(f"{origin.address}/v0/a.git", commit, revision="main")[0] == 0
    gone = run(f"{origin.address}/v0/a.git", "f" * 40, revision="main", into=f"{origin.work}-2")
    failed(gone, "RevisionNotFound", "not in the history of main")


def test_a_server_that_fails_while_history_is_fetched(
    origin: Origin, run: Run, path_git: Callable[[str, str], None]
) -> None:
    commit = origin.commit(GOOD)
    origin.commit({"more": ""})
    path_git("refs/heads/main", "echo 'fatal: the remote end hung up unexpectedly' >&2; exit 128")
    outcome = run(f"{origin.address}/v0/a.git", commit, revision="main")
    failed(outcome, "GitUnavailable", "does not answer as a git server")


def test_a_full_commit_is_looked_for_everywhere(origin: Origin, run: Run) -> None:
    origin.commit({"first": ""})
    git(origin.work, "checkout", "-q", "-b", "side")
    commit = origin.commit(GOOD)
    origin.commit({"second": ""})
    git(origin.work, "checkout", "-q", "main")
    assert run(f"{origin.address}/v0/a.git", commit, revision=commit)[0] == 0


@pytest.mark.parametrize("server", ["", "v0/"])
@pytest.mark.parametrize(
    ("revision", "word"),
    [
        ("main", "history of main"),
        ("", "history of the default branch"),
        ("none", "no branch or tag none"),
        ("f" * 40, "does not have the commit"),
    ],
)
def test_a_commit_that_is_gone(
    origin: Origin, run: Run, server: str, revision: str, word: str
) -> None:
    origin.commit(GOOD)
    outcome = run(f"{origin.address}/{server}a.git", "f" * 40, revision=revision)
    failed(outcome, "RevisionNotFound", word, "spec.source.git.revision")


def test_another_head_than_asked_for(
    origin: Origin, run: Run, path_git: Callable[[str, str], None]
) -> None:
    commit = origin.commit(GOOD)
    path_git("rev-parse", "echo 0123; exit")
    failed(run(origin.url, commit), "RevisionNotFound", "0123")


# The server says no


@pytest.mark.parametrize(
    ("path", "reason", "word"),
    [
        ("/none.git", "GitAuthenticationFailed", "no such repository"),
        ("/401/a.git", "GitAuthenticationFailed", "credentials"),
        ("/403/a.git", "GitAuthenticationFailed", "credentials"),
        ("/404/a.git", "GitAuthenticationFailed", "spec.source.git.url"),
        ("/301/a.git", "UnsafeSource", "spec.source.git.url"),
        ("/302/a.git", "UnsafeSource", "redirects"),
        ("/307/a.git", "UnsafeSource", "redirects"),
        ("/500/a.git", "GitUnavailable", "HTTP status 500"),
        ("/503/a.git", "GitUnavailable", "HTTP status 503"),
        ("/html/a.git", "GitUnavailable", "does not answer as a git server"),
    ],
)
def test_the_server_says_no(
    origin: Origin, run: Run, path: str, reason: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failed(run(origin.address + path, origin.commit(GOOD)), reason, word, "127.0.0.1")
    assert "secret" not in message
    assert not [headers for _, headers in origin.seen if "authorization" in headers]
    assert "\x1b" not in capsys.readouterr().out


def test_a_redirect_is_not_followed(origin: Origin, run: Run) -> None:
    message = failed(run(f"{origin.address}/302/a.git", origin.commit(GOOD)), "UnsafeSource")
    assert message == (
        f"{origin.address.partition('//')[2]} redirects to {origin.address}/new/a.git, which is not"
        " followed: write that address into spec.source.git.url."
    )
    assert not [path for path, _ in origin.seen if path.startswith("/new/")]


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://127.0.0.1:1/a.git", "does not accept a connection"),
        ("http://nowhere.invalid/a.git", "nowhere.invalid"),
        ("http://[:::]/a.git", "[:::]"),
    ],
)
def test_nobody_answers(run: Run, url: str, word: str) -> None:
    failed(run(url, "a" * 40), "GitUnavailable", word)


def test_a_server_that_never_answers(origin: Origin, tree: Path) -> None:
    wanted = checkout.Checkout(f"{origin.address}/hang/a.git", "a" * 40, "", ".", ".", "")
    with pytest.raises(checkout.Refused, match="within 0 s") as refused:
        main.fetch(wanted, git_module.WorkTree(tree, deadline_seconds=0.3), print)
    assert refused.value.reason == "GitUnavailable"


def test_a_flood_is_ended_and_not_kept(tree: Path, path_git: Callable[[str, str], None]) -> None:
    tree.mkdir()
    path_git("fetch", "yes flood >&2")
    with pytest.raises(git_module.GitFailed) as raised:
        git_module.WorkTree(tree, deadline_seconds=0.3).run("fetch")
    assert raised.value.late
    assert len(raised.value.output) <= 16 * 4096


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc",
        "ext::sh -c id",
        "/etc",
        "--upload-pack=id",
        "ssh://git@example.com/a.git",
        "git@example.com:a.git",
        "https://user:canary@example.com/a.git",
        "https://example.com/a.git\n",
        "https://[::1/a.git",
        "https://[:::::]]/a.git",
    ],
)
def test_other_addresses_are_refused(
    run: Run, url: str, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = failed(run(url, "a" * 40), "UnsafeSource", "spec.source.git.url")
    assert "canary" not in message + capsys.readouterr().out
    assert not tree.exists()


@pytest.mark.parametrize("url", ["file:///", "ext::touch%%20/tmp/x", "git://127.0.0.1:1/a"])
def test_git_itself_refuses_other_transports(tree: Path, url: str) -> None:
    """Should an address ever pass the first check, and whatever a server points to."""
    tree.mkdir()
    git = git_module.WorkTree(tree)
    git.run("init", "--quiet", "--template=")
    with pytest.raises(git_module.GitFailed) as raised:
        download.fetch_refs(git, url, "--depth=1", "HEAD")
    assert raised.value.says("transport '.*' not allowed")
    wanted = checkout.Checkout(url, "", "", "", "", "")
    assert download.explained(raised.value, wanted, git, print).reason == "UnsafeSource"


@pytest.mark.parametrize(
    ("arguments", "reason", "field"),
    [
        ({"commit": "main"}, "RevisionNotFound", "spec.source.git.revision"),
        ({"commit": "abc1234"}, "RevisionNotFound", "spec.source.git.revision"),
        ({"revision": "--upload-pack=id"}, "RevisionNotFound", "spec.source.git.revision"),
        ({"revision": "a b"}, "RevisionNotFound", "spec.source.git.revision"),
        ({"revision": "a:refs/heads/b"}, "RevisionNotFound", "spec.source.git.revision"),
        ({"directory": "/etc"}, "NoGoMod", "spec.source.git.directory"),
        ({"directory": "a/../.."}, "NoGoMod", "spec.source.git.directory"),
        ({"directory": ".."}, "NoGoMod", "spec.source.git.directory"),
        ({"package": "cmd/x"}, "NoMainPackage", "spec.build.package"),
        ({"package": "./../x"}, "NoMainPackage", "spec.build.package"),
        ({"package": "./a b"}, "NoMainPackage", "spec.build.package"),
    ],
)
def test_arguments_are_checked(
    run: Run, arguments: dict[str, str], reason: str, field: str
) -> None:
    given = {"url": "http://127.0.0.1:1/a.git", "commit": "a" * 40} | arguments
    failed(run(**given), reason, field)


# Git reads nothing but our configuration


def test_the_environment_is_scrubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = git_module.environment(
        {
            "PATH": "/bin",
            "https_proxy": "http://proxy",
            "GIT_SSH_COMMAND": "id",
            "GIT_CONFIG_COUNT": "1",
            "GIT_EXTERNAL_DIFF": "id",
            "GIT_ALLOW_PROTOCOL": "ext",
            "HOME": "/root",
            "TOKEN": "canary",
        }
    )
    assert seen["PATH"] == "/bin"
    assert seen["https_proxy"] == "http://proxy"
    assert seen["GIT_ALLOW_PROTOCOL"] == "https:http"
    assert seen["HOME"] == "/nonexistent"
    assert not {"GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "GIT_EXTERNAL_DIFF", "TOKEN"} & set(seen)


def test_the_users_configuration_and_netrc_are_not_read(
    origin: Origin, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = origin.commit(GOOD)
    hook = tmp_path / "hooks" / "post-checkout"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    (tmp_path / ".gitconfig").write_text(f"[core]\nhooksPath = {hook.parent}\n")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password canary\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    assert run(origin.url, commit)[0] == 0
    failed(run(f"{origin.address}/401/a.git", commit, into=str(tmp_path / "b")), "GitAuthenticationFailed")  # fmt: skip
    assert not (tmp_path / "ran").exists()
    assert not [headers for _, headers in origin.seen if "authorization" in headers]


def test_filters_of_the_repository_do_nothing(origin: Origin, run: Run, tree: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    commit = origin.commit(
        GOOD | {".gitattributes": "*.bin filter=lfs diff=lfs\n", "a.bin": pointer}
    )
    assert run(origin.url, commit)[0] == 0
    assert (tree / "a.bin").read_text() == pointer


def test_submodules_are_not_fetched(origin: Origin, run: Run, tree: Path) -> None:
    origin.commit(
        {".gitmodules": f'[submodule "sub"]\n\tpath = sub\n\turl = {origin.address}/sub.git\n'}
        | GOOD
    )
    git(origin.work, "update-index", "--add", "--cacheinfo", f"160000,{'a' * 40},sub")
    commit = origin.commit_index()
    assert run(origin.url, commit)[0] == 0
    assert list((tree / "sub").iterdir()) == []
    assert not [path for path, _ in origin.seen if "sub.git" in path]
    again = str(tree.parent / "again")
    message = failed(run(origin.url, commit, package="./sub", into=again), "NoMainPackage")
    assert "no Go files" in message
    shutil.rmtree(again)
    failed(run(origin.url, commit, package="./sub/cmd", into=again), "NoMainPackage", "Submodules")


# What a hostile repository may hold


@pytest.mark.parametrize(
    ("links", "named", "target"),
    [
        ({"evil": "/kaniko/.docker"}, "evil", "/kaniko/.docker"),
        ({"evil": "../outside"}, "evil", "../outside"),
        ({"a/evil": "../../outside"}, "a/evil", "../../outside"),
        ({"hop": "evil", "evil": "/etc"}, "", "/etc"),
        ({"dir": "..", "evil": "dir/x"}, "", ".."),
        ({"a/up": "..", "b": "a/up/../x"}, "b", "a/up/../x"),
        ({"evil": "missing/../../etc"}, "evil", "missing/../../etc"),
        ({"x\x1b[31m\n": "/e\x07tc"}, "x", "/etc"),
    ],
)
def test_links_out_are_refused(
    origin: Origin, run: Run, links: dict[str, str], named: str, target: str
) -> None:
    commit = origin.commit(GOOD, links)
    failed(run(origin.url, commit), "UnsafeSource", f"link {named}", f"to {target}:")


def test_links_inside_are_fine(origin: Origin, run: Run, tree: Path) -> None:
    links = {
        "link": "real",
        "deep": "link/file",
        "here": ".",
        "a/b/c": "../../real/./file",
        "dangling": "none/such",
        "circle": "circle",
        "ping": "pong",
        "pong": "ping",
    }
    commit = origin.commit(GOOD | {"real/file": "x"}, links)
    assert run(origin.url, commit)[0] == 0
    assert (tree / "deep").read_text() == "x"


def test_a_link_with_very_many_hops_ends(tmp_path: Path) -> None:
    (tmp_path / "l0").symlink_to(".")
    for number in range(1, 40):
        (tmp_path / f"l{number}").symlink_to(f"l{number - 1}/l{number - 1}")
    links.check(tmp_path)


def test_a_damaged_object_is_refused(origin: Origin, run: Run) -> None:
    blob = origin.object("blob", b"[core]\n")
    config = origin.object("tree", b"100644 config\0" + bytes.fromhex(blob))
    tree = origin.object("tree", b"40000 .git\0" + bytes.fromhex(config))
    who = b"A <a@example.com> 1790000000 +0000"
    commit = origin.object(
        "commit", b"tree %s\nauthor %s\ncommitter %s\n\nx\n" % (tree.encode(), who, who)
    )
    git(origin.work, "update-ref", "refs/heads/main", commit)
    failed(run(origin.url, commit), "UnsafeSource", "git fsck")


def test_a_file_name_that_no_disk_takes(origin: Origin, run: Run) -> None:
    blob = origin.object("blob", b"x")
    git(origin.work, "update-index", "--add", "--cacheinfo", f"100644,{blob},{'n' * 300}")
    failed(run(origin.url, origin.commit_index()), "UnsafeSource", "file name")


# The machine fails


@pytest.mark.parametrize(
    ("command", "script", "reason"),
    [
        ("fetch", "echo 'fatal: write error: No space left on device' >&2; exit 128", "DiskFull"),
        ("checkout", "echo 'error: x: Disk quota exceeded' >&2; exit 1", "DiskFull"),
        ("fetch", "echo 'error: index-pack died of signal 9' >&2; exit 128", "OutOfMemory"),
        ("checkout", "kill -9 $$", "OutOfMemory"),
        ("init", "kill -9 $$", "OutOfMemory"),
        ("log -1", "exit 3", "GitUnavailable"),
        # A server's own words do not decide what the failure is called.
        ("fetch", "echo 'remote: No space left on device' >&2; exit 128", "GitUnavailable"),
    ],
)
def test_the_machine_fails(
    origin: Origin,
    run: Run,
    path_git: Callable[[str, str], None],
    command: str,
    script: str,
    reason: str,
) -> None:
    commit = origin.commit(GOOD)
    path_git(command, script)
    failed(run(origin.url, commit), reason)


_ALONE = """
import sys
from goservice.fetch import main as fetch
sys.exit(fetch.main(sys.argv[1], sys.argv[2], into=sys.argv[3], termination_log=sys.argv[4]))
"""


def test_sigterm_ends_it_and_git_at_once(origin: Origin, tree: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _ALONE, f"{origin.address}/hang/a.git", "a" * 40, str(tree),
         str(tmp_path / "log")],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    while not origin.seen:
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    assert process.wait(5) == 143
    assert not (tmp_path / "log").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_disk_that_is_really_full(origin: Origin, tmp_path: Path, tree: Path) -> None:
    (origin.work / "noise").write_bytes(os.urandom(3_000_000))
    commit = origin.commit(GOOD)
    tree.mkdir()
    log = tmp_path / "log"
    mounted = f'mount -t tmpfs -o size=2m none {tree} 2>/dev/null || exit 77; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounted, "sh", sys.executable, "-c", _ALONE,
         origin.url, commit, str(tree), str(log)],
        check=False,
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("this machine allows no mount")
    assert done.returncode == 1
    assert json.loads(log.read_text())["reason"] == "DiskFull"


def test_an_unwritable_place_is_told(run: Run, tree: Path) -> None:
    tree.write_text("a file")
    failed(run("http://127.0.0.1:1/a.git", "a" * 40), "GitUnavailable", "File exists")


def test_a_full_disk_outside_git() -> None:
    assert download.unwritable(OSError(28, "No space left on device")).reason == "DiskFull"


# What rendering assumes of the source


MAIN = "package main\n"


@pytest.mark.parametrize(
    ("files", "more", "reason", "words"),
    [
        (
            {"sub/go.mod": "module a\n", "vendor/x/go.mod": "module x\n", "main.go": MAIN},
            {},
            "NoGoMod",
            ["spec.source.git.directory", "root; set it to a folder that has one: sub"],
        ),
        (
            {f"m{n}/go.mod": "module a\n" for n in range(8)},
            {"directory": "cmd"},
            "NoGoMod",
            ["has no folder cmd", "m0, m1, m2, m3, m4"],
        ),
        ({"main.go": MAIN}, {}, "NoGoMod", ["go mod init"]),
        (
            GOOD | {"main.go": "package a\n", "cmd/x/main.go": MAIN, "y/y.go": "package y\n"},
            {},
            "NoMainPackage",
            ["spec.build.package: . is package a", "Main packages here: ./cmd/x"],
        ),
        (
            GOOD | {f"cmd/{n}/main.go": MAIN for n in range(8)},
            {"package": "./none"},
            "NoMainPackage",
            ["./none is no folder", "here: ., ./cmd/0, ./cmd/1, ./cmd/2, ./cmd/3"],
        ),
        (
            GOOD | {"main.go": "//go:build ignore\n\npackage main\n"},
            {},
            "NoMainPackage",
            [
                "the build constraint or the name of main.go leaves it out",
                "spec.source.git.directory",
            ],
        ),
        (
            GOOD | {"main.go": "// A\n\n// +build ignore\n\npackage main\n"},
            {},
            "NoMainPackage",
            ["no Go files"],
        ),
        (
            GOOD | {"main.go": "package a\n", "main_test.go": MAIN, "_x.go": MAIN},
            {},
            "NoMainPackage",
            ["package a"],
        ),
        (
            GOOD | {"main.go": "/* package main */\n// package main\npackage lib\n"},
            {},
            "NoMainPackage",
            ["package lib"],
        ),
        (
            {"go.mod": "module a\n", "b/go.mod": "module b\n", "b/c/main.go": MAIN},
            {"package": "./b/c"},
            "NoMainPackage",
            ["another module: set spec.source.git.directory to b."],
        ),
        (
            GOOD
            | {
                "magefile.go": "//go:build mage\n\npackage main\n",
                "main.go": "package shop\n",
                "cmd/shop/main.go": MAIN,
            },
            {},
            "NoMainPackage",
            [". is package shop, not package main.", "Main packages here: ./cmd/shop"],
        ),
        (
            GOOD | {"main.go": 'package main\n\nimport "C"\n\nfunc main() {}\n'},
            {},
            "CompileFailed",
            ["needs cgo", "main.go imports C"],
        ),
        (
            GOOD | {"main.go": f"{EMBEDS}//go:embed static\n", "static/a/logo.png": POINTER},
            {},
            "UnsafeSource",
            ["static/a/logo.png lies in Git LFS", "git lfs migrate export"],
        ),
        (
            GOOD | {"main.go": f'{EMBEDS}//go:embed "a b.png" *.txt\n', "a b.png": POINTER},
            {},
            "UnsafeSource",
            ["a b.png lies in Git LFS"],
        ),
        (
            GOOD,
            {"go_version": "1.25"},
            "GoVersionTooOld",
            ["1.25", "go 1.26.1", "GOTOOLCHAIN=local", "spec.build.builderImage"],
        ),
    ],
)
def test_what_rendering_assumes(
    origin: Origin,
    run: Run,
    files: dict[str, str],
    more: dict[str, str],
    reason: str,
    words: list[str],
) -> None:
    message = failed(run(origin.url, origin.commit(files), **more), reason, *words)
    assert ", ./cmd/4" not in message
    assert ", m5" not in message


def test_a_message_keeps_its_bound(origin: Origin, run: Run) -> None:
    long = "/".join(["n" * 80] * 2)
    files = {f"{n}{long}/main.go": MAIN for n in range(5)}
    commit = origin.commit({"go.mod": "module a\n"} | files)
    message = failed(run(origin.url, commit), "NoMainPackage", "Main packages here")
    assert len(message.encode()) <= 490


def test_a_workspace_joins_modules(origin: Origin, run: Run) -> None:
    files = {"go.work": "go 1.26\n", "go.mod": "module a\n", "b/go.mod": "module b\n"}
    commit = origin.commit(files | {"b/c/main.go": MAIN})
    assert run(origin.url, commit, package="./b/c")[0] == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("module a\ngo 1.26\n", "1.26"),
        ("go 1.26.3 // why\ntoolchain go1.27rc1//x\n", "1.26.3"),
        ('go "1.26"\ntoolchain `default`\n', "1.26"),
        ("  go\t1.26//x\r\n", "1.26"),
        ("// go 1.1\ngo 1.27rc2\n", "1.27rc2"),
        ("require (\n\tgo 1.1\n\tx v1 // (\n)\ngo 1.26\n", "1.26"),
        ("module (\n a\n)\ngo 1.26\ngo 1.27\n", "1.26"),
        ("go 1.x\ntoolchain /bin/sh\n", ""),
        ("go\ngo 1 2\ngolang 1.26\n", ""),
        ("go 99999.1\n", ""),
        ("", ""),
    ],
)
def test_the_go_line_of_go_mod(text: str, line: str) -> None:
    assert module.go_line(text) == line


@pytest.mark.parametrize(
    ("line", "builder", "answer"),
    [
        ("1.26", "1.26", False),
        ("1.26.9", "1.26", False),
        ("1.26.9", "1.26.8", True),
        ("1.26.9", "1.26.9", False),
        ("1.26", "1.26rc1", False),
        ("1.26.0", "1.26rc1", True),
        ("1.26rc2", "1.26rc1", True),
        ("1.26rc1", "1.26beta1", True),
        ("1.26rc1", "1.26.0", False),
        ("1.27", "1.26", True),
        ("1.9", "1.26", False),
        ("2.0", "1.26", True),
        ("", "1.26", False),
        ("1.26", "latest", False),
    ],
)
def test_newer(line: str, builder: str, answer: bool) -> None:
    assert module.newer(line, builder) is answer


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("package main", "main"),
        ("\ufeffpackage main\n", "main"),
        ("/* a\n */ package main // x\n", "main"),
        ("//go:build linux\n\npackage main\n", "main"),
        ("//go:build ignored\n\npackage main\n", None),
        ("package main\n\n//go:build ignore\n", "main"),
        ("package mainly\n", "mainly"),
        ("func main() {}\n", None),
        ("/* never closed package main\n", None),
        ("// " + "x" * 100_000, None),
        ("/" * 60_000, None),
        ("", None),
    ],
)
def test_package_name(tmp_path: Path, text: str, name: str | None) -> None:
    (tmp_path / "a.go").write_text(text)
    (tmp_path / "folder.go").mkdir()
    assert module.look(tmp_path).name == name


def test_a_pointer_that_no_program_embeds_harms_nobody(tmp_path: Path) -> None:
    for name, text in {
        "go.mod": "module a\n",
        "main.go": f"{EMBEDS}//go:embed page.html\n",
        "page.html": "<title>",
        "docs/video.mp4": POINTER,
        "main_test.go": "package main\n//go:embed docs\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    wanted = checkout.Checkout("https://h/r", "a" * 40, "", ".", ".", "")
    pointers.check(wanted, tmp_path)


@pytest.mark.parametrize(
    ("name", "lead", "tags", "counts"),
    [
        ("a.go", "//go:build mage", (), False),
        ("a.go", "//go:build mage", ("mage",), True),
        ("a.go", "//go:build !mage", (), True),
        ("a.go", "//go:build ignore || tools", (), False),
        ("a.go", "//go:build generate", (), False),
        ("a.go", "//go:build linux && (amd64 || arm64)", (), True),
        ("a.go", "//go:build windows || darwin", (), False),
        ("a.go", "//go:build !windows && unix", (), True),
        ("a.go", "//go:build go1.18", (), True),
        ("a.go", "//go:build !go1.18", (), True),
        ("a.go", "//go:build cgo", (), False),
        ("a.go", "//go:build !(linux && gc)", (), False),
        ("a.go", "//go:build riscv64", (), False),
        ("a.go", "//go:build (", (), True),
        ("a.go", "//go:build " + "(" * 900, (), True),
        ("a.go", "// +build ignore", (), False),
        ("a.go", "// +build linux,!cgo darwin", (), True),
        ("a.go", "// +build linux\n// +build ignore", (), False),
        ("main_windows.go", "", (), False),
        ("main_linux.go", "", (), True),
        ("main_windows_amd64.go", "", (), False),
        ("main_linux_arm64.go", "", (), True),
        ("main_s390x.go", "", (), False),
        ("windows.go", "", (), True),
        ("linux_amd64.go", "", (), True),
    ],
)
def test_a_file_counts_as_go_has_it(
    tmp_path: Path, name: str, lead: str, tags: tuple[str, ...], counts: bool
) -> None:
    (tmp_path / name).write_text(f"{lead}\n\npackage main\n")
    found = module.look(tmp_path, tags)
    assert found == module.PackageSeen("main" if counts else None, left_out="" if counts else name)


@pytest.mark.parametrize("imports", ['import "C"', 'import (\n\t"fmt"\n\t"C" // c\n)'])
def test_a_file_that_imports_c_is_no_part_of_a_build(tmp_path: Path, imports: str) -> None:
    (tmp_path / "main.go").write_text(f"package main\n\n{imports}\n")
    assert module.look(tmp_path) == module.PackageSeen(None, cgo="main.go")


@pytest.mark.parametrize(
    ("text", "most", "plain"),
    [
        ("https://user:canary@host/x", 100, "https://host/x"),
        ("a\nb\tc\x00\x9b", 100, "a b c"),
        ("üüüü", 7, "üü…"),
        ("\udcff", 10, "?"),
    ],
)
def test_shown(text: str, most: int, plain: str) -> None:
    assert checkout.shown(text, most) == plain
