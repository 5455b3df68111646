"""Git repositories for the git server, and Go modules for the module proxy.

Commits are made with fixed author, committer and no configuration of the machine, so that the
same content at the same time is the same commit.
"""

import shutil
import tempfile
from pathlib import Path

from testbed.node import commands, paths, programs, servers

IDENTITY = {
    "GIT_AUTHOR_NAME": "Test Bed",
    "GIT_AUTHOR_EMAIL": "testbed@example.com",
    "GIT_COMMITTER_NAME": "Test Bed",
    "GIT_COMMITTER_EMAIL": "testbed@example.com",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
}
"""Author and committer, and nothing of the machine's own git configuration."""


def url(name: str, variant: str = "") -> str:
    """The address of a repository as pods see it; `variant` is auth, denied, broken or moved."""
    prefix = f"{paths.GIT}/{variant}" if variant else paths.GIT
    return f"{prefix}/{name}.git"


def bare(name: str) -> Path:
    """Where the git server has a repository."""
    return paths.repositories() / f"{name}.git"


def _git(folder: Path, *arguments: str, date: str = "") -> str:
    dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date} if date else {}
    return commands.run(
        ["git", "-c", "safe.directory=*", "-C", folder, *arguments],
        environment={**IDENTITY, **dates},
        timeout=120,
    ).strip()


def create(name: str, objects: str = "sha1") -> Path:
    """An empty bare repository that serves any commit it has, as the large hosts do.

    Args:
        name: The repository; one that is there stays as it is.
        objects: What names its objects: sha1 or sha256.
    """
    folder = bare(name)
    if not folder.exists():
        folder.mkdir(parents=True)
        form = f"--object-format={objects}"
        _git(folder, "init", "--quiet", "--bare", "--initial-branch=main", form, ".")
        _git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
        _git(folder, "config", "uploadpack.allowFilter", "true")
    return folder


def add(
    name: str, source: Path, message: str = "Update", branch: str = "main", date: str = ""
) -> str:
    """Make a folder's content the next commit of a branch; return the commit.

    Args:
        name: The repository, made where it does not exist.
        source: The folder; `.git` in it is ignored.
        message: The commit's message.
        branch: The branch that moves.
        date: Author's and committer's date as git reads it; now by default.
    """
    folder = create(name)
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work) / "tree"
        has_branch = commands.succeeds(
            ["git", "-C", folder, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}"]
        )
        if has_branch:
            _git(Path(work), "clone", "--quiet", "--branch", branch, str(folder), "tree")
        else:
            tree.mkdir()
            _git(tree, "init", "--quiet", f"--initial-branch={branch}")
            _git(tree, "remote", "add", "origin", str(folder))
        for old in tree.iterdir():
            if old.name == ".git":
                continue
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            else:
                old.unlink()
        shutil.copytree(
            source, tree, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git")
        )
        _git(tree, "add", "--all", "--force")
        _git(tree, "commit", "--quiet", "--allow-empty", f"--message={message}", date=date)
        _git(tree, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        return _git(tree, "rev-parse", "HEAD")


def move(name: str, new: str) -> None:
    """Give a repository a new name; its old address redirects from now on, as forges do it."""
    bare(name).rename(bare(new))
    bare(name).mkdir()
    (bare(name) / servers.MOVED).write_text(bare(new).name)


def move_back(name: str, new: str) -> None:
    """Undo `move`."""
    shutil.rmtree(bare(name))
    bare(new).rename(bare(name))


def tag(name: str, label: str, commit: str, message: str = "") -> None:
    """Put a tag on a commit; with a message it is an annotated one."""
    annotated = ["--annotate", f"--message={message}"] if message else []
    _git(bare(name), "tag", "--force", *annotated, label, commit)


def add_modules(source: Path) -> None:
    """Put every module that a Go module needs behind the module proxy.

    Args:
        source: The folder with go.mod and go.sum.
    """
    go = programs.go()
    host = commands.run([go, "env", "GOMODCACHE"]).strip()
    proxies = commands.run([go, "env", "GOPROXY"]).strip()
    servers.download_folder().mkdir(parents=True, exist_ok=True)
    commands.run(
        [go, "mod", "download", "-modcacherw"],
        folder=source,
        environment={
            **programs.build_environment(),
            "GOMODCACHE": str(paths.modules()),
            # What the host has already need not be fetched again.
            "GOPROXY": f"file://{host}/cache/download,{proxies}",
        },
        timeout=600,
        advice="The module proxy is filled from the host, which needs a GOPROXY that answers.",
    )
