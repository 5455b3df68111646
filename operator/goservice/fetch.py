"""What the build pod's first container runs: check one commit out, verify it, report.

It needs nothing but git and the standard library. What the repository says is material, never an
instruction: git runs without any configuration but ours, no link may leave the tree, and nothing
that the server or the repository wrote reaches the report but a commit's own four facts and names
of files, cleaned and capped. It never builds anything and never follows a submodule.
"""

from __future__ import annotations

import errno
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from goservice.conditions import Reason
from goservice.errors import GoServiceError

DEADLINE_SECONDS = 900.0
FALLBACK_DEPTH = 50
MOST_OUTPUT = 64 * 1024
MOST_HOPS = 255
MOST_FOUND = 5
LONGEST_REPORT = 4000
LONGEST_MESSAGE = 490
LONGEST_SUBJECT = 200
LONGEST_AUTHOR = 100
LONGEST_PATH = 60
LEAST_FREE = 1024 * 1024

_CONFIGURATION = {
    "advice.detachedHead": "false",
    # Larger files are streamed, so that a huge one does not end the container for its memory.
    "core.bigFileThreshold": "16m",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "core.symlinks": "true",
    "credential.helper": "",
    "gc.auto": "0",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "120",
    "i18n.logOutputEncoding": "UTF-8",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    "protocol.http.allow": "always",
    "protocol.https.allow": "always",
    "submodule.recurse": "false",
    "transfer.fsckObjects": "true",
}
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "https:http",
    "GIT_ASKPASS": "",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_TERMINAL_PROMPT": "0",
    # Where no .netrc can be: curl reads one by itself.
    "HOME": "/nonexistent",
    # git's words are told apart below.
    "LC_ALL": "C",
}
_KEPT = ("PATH", "TMPDIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXIES = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")  # fmt: skip

_FULL_COMMIT = re.compile(r"[0-9a-fA-F]{40}")
_PATH = r"[A-Za-z0-9._+@~-]+(?:/[A-Za-z0-9._+@~-]+)*"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_GO_VERSION = re.compile(
    r"(?P<major>[0-9]{1,4})\.(?P<minor>[0-9]{1,4})"
    r"(?:\.(?P<patch>[0-9]{1,4})|(?P<stage>beta|rc)(?P<number>[0-9]{1,4}))?"
)
_TOOLCHAIN = re.compile(r"default|go[0-9][0-9A-Za-z.+-]{0,40}")
_PACKAGE_CLAUSE = re.compile(
    r"\ufeff?(?P<lead>(?:\s+|//[^\n]*\n|/\*.*?\*/)*+)package\s+(?P<name>\w+)", re.DOTALL
)
_IGNORED = re.compile(r"^//(?:go:build|[ \t]*\+build)[ \t]+ignore[ \t\r]*$", re.MULTILINE)

Say = Callable[[str], None]


class Refused(GoServiceError):
    """The source cannot be built; the reason and message go into the service's status."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class GitFailed(GoServiceError):
    """A git command failed; `output` holds the end of what it wrote, for the log only."""

    def __init__(self, output: str, *, late: bool = False) -> None:
        super().__init__(output)
        # Lines of the server's own must not decide what the failure is called.
        own = [line for line in output.splitlines() if not line.startswith("remote:")]
        self.output = "\n".join(own)
        self.late = late
        """It was ended because it took too long."""

    def says(self, pattern: str) -> re.Match[str] | None:
        """Whether git itself wrote something like this."""
        return re.search(pattern, self.output)


@dataclass(frozen=True)
class Source:
    """What to check out, and what must be in it."""

    url: str
    commit: str
    revision: str
    directory: str
    """The module's folder, relative to the repository's root."""
    package: str
    """The main package, relative to the module's folder."""
    go_version: str
    """The builder's Go version, empty if unknown."""

    @property
    def host(self) -> str:
        """What messages call the repository's server."""
        return urlsplit(self.url).hostname or "the server"


@dataclass(frozen=True)
class Git:
    """Git in one tree, with no configuration but ours."""

    tree: Path
    deadline_seconds: float = DEADLINE_SECONDS

    @property
    def directory(self) -> Path:
        """Where git keeps its own files. Named outright, the tree may belong to another user."""
        return self.tree / ".git"

    def run(self, *arguments: str) -> str:
        """The output of a git command, of which at most 64 KiB are kept.

        Raises:
            GitFailed: it ended with another code than 0, or took too long.
        """
        options = [
            word for key, value in _CONFIGURATION.items() for word in ("-c", f"{key}={value}")
        ]
        with subprocess.Popen(
            ["git", *options, *arguments],
            cwd=self.tree,
            env=environment(os.environ)
            | {"GIT_DIR": str(self.directory), "GIT_WORK_TREE": str(self.tree)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            umask=0o022,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            output, errors, late = _read(process, self.deadline_seconds)
        if late or process.returncode != 0:
            if process.returncode == -signal.SIGKILL and not late:
                errors += "\ngit died of signal 9"
            raise GitFailed(errors, late=late)
        return output


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The variables that git sees: ours, and of the given ones proxies and certificates only."""
    kept = {name: given[name] for name in (*_KEPT, *_PROXIES) if name in given}
    return kept | _ENVIRONMENT


def _read(process: subprocess.Popen[bytes], seconds: float) -> tuple[str, str, bool]:
    """Both outputs, the beginning of the first and the end of the second, and if it was ended."""
    assert process.stdout is not None
    assert process.stderr is not None
    end = time.monotonic() + seconds
    late = False
    output = bytearray()
    errors: deque[bytes] = deque(maxlen=16)
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            left = end - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                # git's helpers hold the pipes too: the whole group goes.
                os.killpg(process.pid, signal.SIGKILL)
                late = True
                break
            for key, _ in ready:
                chunk = os.read(key.fd, 4096)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    output += chunk[: MOST_OUTPUT - len(output)]
                else:
                    errors.append(chunk)
    return output.decode(errors="replace"), b"".join(errors).decode(errors="replace"), late


def main(
    url: str,
    commit: str,
    revision: str = "",
    directory: str = ".",
    package: str = ".",
    *,
    into: str,
    go_version: str = "",
    termination_log: str = "/dev/termination-log",
) -> int:
    """Check out, verify and report; the exit code, 0 or 1."""
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:7.2f} s  {shown(text, 2000)}", flush=True)

    source = Source(
        url, commit.lower(), revision or "", directory or ".", package or ".", go_version or ""
    )
    report: dict[str, str]
    try:
        report = fetch(source, Git(Path(into).absolute()), say)
        code = 0
    except Refused as refused:
        report = {
            "reason": str(refused.reason),
            "message": shown(str(refused), LONGEST_MESSAGE),
        }
        say(f"{refused.reason}: {refused}")
        code = 1
    line = json.dumps(report, ensure_ascii=False)
    assert len(line.encode()) <= LONGEST_REPORT
    try:
        Path(termination_log).write_text(line + "\n", encoding="utf-8")
    except OSError as error:
        say(f"The report could not be written to {termination_log}: {error.strerror}")
        print(line, flush=True)
    return code


def fetch(source: Source, git: Git, say: Say) -> dict[str, str]:
    """The report on the commit, which is then in the tree, without git's own files.

    Raises:
        Refused: the source cannot be fetched, or cannot be built as the service says.
    """
    _check_arguments(source)
    try:
        _make_empty(git.tree)
        say(f"Fetching {source.commit} from {source.host}")
        _download(source, git, say)
        say("Checking the files out")
        _check_out(source, git)
        report = _facts(source.commit, git)
        shutil.rmtree(git.directory)
        say("Checking links")
        check_links(git.tree)
        say("Checking the module and its main package")
        go, toolchain = check_module(source, git.tree)
        check_package(source, git.tree)
    except GitFailed as failed:
        raise _explained(failed, source, git, say) from failed
    except OSError as error:
        raise _unwritable(error) from error
    say(f"Done: {report['subject']}")
    return report | {"go": go, "toolchain": toolchain}


def _check_arguments(source: Source) -> None:
    """Refuse what git or a path could read another way; the operator refused it before."""
    if not re.fullmatch(r"https?://[A-Za-z0-9.\[\]:-]+/[\x21-\x7e]+", source.url):
        raise Refused(
            Reason.UNSAFE_SOURCE,
            "The repository's address is not allowed: set spec.source.git.url to an https:// "
            "or http:// address without user and password.",
        )
    if not _FULL_COMMIT.fullmatch(source.commit):
        raise Refused(
            Reason.REVISION_NOT_FOUND,
            "The commit is not 40 hex digits: set spec.source.git.revision to a branch, a tag "
            "or a full commit.",
        )
    if source.revision and not re.fullmatch(r"(?!-)[^\s\x00-\x1f\x7f:^~?*\[\\]+", source.revision):
        raise Refused(
            Reason.REVISION_NOT_FOUND,
            "spec.source.git.revision is no name of a branch or tag, and no full commit.",
        )
    if not _inside(source.directory):
        raise Refused(
            Reason.NO_GO_MOD,
            "spec.source.git.directory must be a path below the repository's root, without a "
            "leading / or ..",
        )
    if source.package != "." and not (
        source.package.startswith("./") and _inside(source.package[2:])
    ):
        raise Refused(
            Reason.NO_MAIN_PACKAGE,
            "spec.build.package must be . or a path below the module's folder such as "
            "./cmd/server.",
        )


def _inside(path: str) -> bool:
    return bool(re.fullmatch(_PATH, path)) and ".." not in path.split("/")


def _make_empty(tree: Path) -> None:
    """Begin anew: a pod that is restarted on its node finds what it left behind.

    Only a volume is emptied, so that a wrong argument by hand deletes nobody's work.
    """
    tree.mkdir(parents=True, exist_ok=True)
    left = list(tree.iterdir())
    if left and not tree.is_mount():
        raise Refused(Reason.GIT_UNAVAILABLE, "The folder for the source is not empty.")
    for path in left:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _download(source: Source, git: Git, say: Say) -> None:
    git.run("init", "--quiet", "--template=", "--initial-branch=main")
    try:
        _ask(git, source.url, source.commit, "--depth=1")
    except GitFailed as failed:
        # Old protocol: not at a branch's end. Missing: gone, or out of sight for some servers.
        hidden = failed.says(r"unadvertised object")
        if not hidden and not failed.says(r"not our ref|want \S+ not valid|remote ref"):
            raise
        say("The server does not give the commit alone; fetching the revision's history")
        _download_history(source, git, whole=bool(hidden))
    kind = _kind(source.commit, git)
    if kind != "commit":
        raise Refused(
            Reason.REVISION_NOT_FOUND,
            f"{source.commit} is a {kind or 'missing object'}, not a commit: set "
            "spec.source.git.revision to a branch, the tag's name or a commit.",
        )


def _ask(git: Git, url: str, *what: str) -> None:
    options = [word for word in what if word.startswith("--")]
    refs = [word for word in what if not word.startswith("--")]
    git.run(
        "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", *options, "--", url, *refs
    )  # fmt: skip


def _download_history(source: Source, git: Git, *, whole: bool) -> None:
    """Fetch what the revision means until the commit is there.

    The repository was empty: whatever is in it afterwards is reachable from what was asked for.
    """
    found = False
    for refs in _candidates(source.revision):
        for depth in (f"--depth={FALLBACK_DEPTH}", "--unshallow"):
            try:
                if depth == "--unshallow" and not (git.directory / "shallow").exists():
                    break
                _ask(git, source.url, depth, *refs)
            except GitFailed as failed:
                if not failed.says(r"couldn't find remote ref"):
                    raise
                break
            found = True
            if _kind(source.commit, git):
                return
            if not whole:
                break
    commit = source.commit
    if _FULL_COMMIT.fullmatch(source.revision):
        message = (
            f"The repository does not have the commit {commit}: set spec.source.git.revision to "
            "a commit, branch or tag that it has."
        )
    elif not found:
        message = (
            f"The repository has no branch or tag {source.revision or 'by default'}, and the "
            f"commit {commit} cannot be had without: set spec.source.git.revision to one it has."
        )
    else:
        message = (
            f"The commit {commit} is not in the history of {source.revision or 'the default branch'}"
            " any more (it may have been rewritten): the revision is resolved again; set "
            "spec.source.git.revision if another one is meant."
        )
    raise Refused(Reason.REVISION_NOT_FOUND, message)


def _candidates(revision: str) -> list[list[str]]:
    """What a revision may mean on the server, in order of preference."""
    if not revision or revision == "HEAD":
        return [["HEAD"]]
    if _FULL_COMMIT.fullmatch(revision):
        return [["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]]
    if revision.startswith("refs/"):
        return [[revision]]
    return [[f"refs/heads/{revision}"], [f"refs/tags/{revision}"]]


def _kind(name: str, git: Git) -> str:
    """The type of an object that was fetched, empty if it was not."""
    try:
        return git.run("cat-file", "-t", name).strip()
    except GitFailed:
        return ""


def _check_out(source: Source, git: Git) -> None:
    try:
        git.run("checkout", "--quiet", "--force", "--detach", source.commit)
    except GitFailed as failed:
        if failed.late or failed.says(f"{_DISK_FULL}|{_KILLED}") or _full(git.tree):
            raise
        raise Refused(
            Reason.UNSAFE_SOURCE,
            "git cannot check the commit's files out, for instance because a file name is not "
            "allowed or too long: rename it in the repository.",
        ) from failed
    head = git.run("rev-parse", "--verify", "HEAD").strip()
    if head != source.commit:
        raise Refused(
            Reason.REVISION_NOT_FOUND,
            f"The checkout is at {shown(head, 40)} and not at {source.commit}.",
        )


def _facts(commit: str, git: Git) -> dict[str, str]:
    """When the commit was made, by whom, and its first line."""
    written = git.run("log", "-1", "--no-show-signature", "--format=%ct%x00%an%x00%s", commit)
    seconds, _, rest = written.partition("\0")
    author, _, subject = rest.partition("\0")
    try:
        moment = datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        moment = ""
    return {
        "commit": commit,
        "time": moment,
        "author": shown(author, LONGEST_AUTHOR),
        "subject": shown(subject, LONGEST_SUBJECT),
    }


def check_links(tree: Path) -> None:
    """Refuse links that leave the tree, at any hop.

    Raises:
        Refused: there is one.
    """
    root = os.fspath(tree)
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 - names need not be valid UTF-8
            if os.path.islink(path) and _leaves(root, os.path.relpath(path, root)):  # noqa: PTH114
                link = shown(os.path.relpath(path, root), LONGEST_PATH)
                target = shown(os.readlink(path), LONGEST_PATH)  # noqa: PTH115
                raise Refused(
                    Reason.UNSAFE_SOURCE,
                    f"The link {link} points outside the repository, to {target}: make it relative "
                    "and keep it inside, or remove it.",
                )


def _leaves(root: str, link: str) -> bool:
    """Whether following a link leaves the root at any hop, be the target there or not.

    Names are taken one by one, as the kernel does: `..` after a link means the parent of what the
    link points to. A circle never ends and so never leaves; nothing can follow it.
    """
    rest = deque(link.split("/"))
    here: list[str] = []
    hops = 0
    while rest:
        name = rest.popleft()
        if name in ("", "."):
            continue
        if name == "..":
            if not here:
                return True
            here.pop()
            continue
        path = "/".join((root, *here, name))
        if not os.path.islink(path):  # noqa: PTH114
            here.append(name)
            continue
        target = os.readlink(path)  # noqa: PTH115
        if target.startswith("/"):
            return True
        hops += 1
        if hops > MOST_HOPS:
            return False
        rest.extendleft(reversed(target.split("/")))
    return False


def check_module(source: Source, tree: Path) -> tuple[str, str]:
    """The go and toolchain lines of the module's go.mod.

    Raises:
        Refused: there is no go.mod, or it asks for a newer Go than the builder has.
    """
    file = tree / source.directory / "go.mod"
    if not file.is_file():
        raise Refused(Reason.NO_GO_MOD, _no_go_mod(source, tree))
    go, toolchain = module_lines(_text(file, 1024 * 1024))
    if source.go_version and newer(go, source.go_version):
        raise Refused(
            Reason.GO_VERSION_TOO_OLD,
            f"go.mod asks for Go {go} (its line: go {go}) and the builder has Go "
            f"{shown(source.go_version, 20)}, which may not download another one "
            "(GOTOOLCHAIN=local): set spec.build.builderImage to an image with Go "
            f"{go} or newer, or lower the go line.",
        )
    return go, toolchain


def _no_go_mod(source: Source, tree: Path) -> str:
    folder = tree / source.directory
    place = (
        "folder " + shown(source.directory, LONGEST_PATH)
        if source.directory != "."
        else "the repository's root"
    )
    if folder.is_dir():
        what = f"spec.source.git.directory: there is no go.mod in {place}"
    else:
        what = f"spec.source.git.directory: the repository has no {place}"
    found = [
        shown(path.relative_to(tree).as_posix(), LONGEST_PATH)
        for path in _folders(tree)
        if (path / "go.mod").is_file()
    ][:MOST_FOUND]
    if found:
        return f"{what}; set it to a folder that has one: {', '.join(found)}"
    return f"{what}, and no other folder has one: add it with go mod init.{_submodules(tree)}"


def _submodules(tree: Path) -> str:
    return " Submodules are not fetched." if (tree / ".gitmodules").exists() else ""


def module_lines(text: str) -> tuple[str, str]:
    """The go and toolchain lines of a go.mod, each empty if there is none that Go would accept."""
    lines = {"go": "", "toolchain": ""}
    patterns = {"go": _GO_VERSION, "toolchain": _TOOLCHAIN}
    block = False
    for line in text.splitlines():
        words = re.findall(r'"[^"]*"|`[^`]*`|//.*|[()]|(?:(?!//)[^\s"`()])+', line)
        if words and words[-1].startswith("//"):
            words.pop()
        if block:
            block = words[:1] != [")"]
        elif words[-1:] == ["("]:
            block = True
        elif len(words) == 2 and words[0] in lines and not lines[words[0]]:
            value = words[1].strip('"`')
            lines[words[0]] = value if patterns[words[0]].fullmatch(value) else ""
    return lines["go"], lines["toolchain"]


def newer(line: str, builder: str) -> bool:
    """Whether a go line asks for more than a builder has; False if either cannot be told.

    A line without a patch is content with any release of its minor version, and a builder whose
    patch is unknown may be the newest one.
    """
    asked, has = _GO_VERSION.fullmatch(line), _GO_VERSION.fullmatch(builder)
    if not asked or not has:
        return False
    return _rank(asked, -3) > _rank(has, 10_000)


def _rank(version: re.Match[str], unknown: int) -> tuple[int, ...]:
    stage = {"beta": -2, "rc": -1, None: unknown}[version["stage"]]
    last = int(version["patch"]) if version["patch"] else stage
    return int(version["major"]), int(version["minor"]), last, int(version["number"] or 0)


def check_package(source: Source, tree: Path) -> None:
    """Refuse a package that go build would make no program of.

    Raises:
        Refused: it is not there, belongs to another module or is not a main package.
    """
    module = tree / source.directory
    folder = module / source.package
    name = package_name(folder) if folder.is_dir() else None
    other = _other_module(module, folder, tree)
    if name == "main" and not other:
        return
    package = f"spec.build.package: {shown(source.package, LONGEST_PATH)}"
    if not folder.is_dir():
        what = f"{package} is no folder of the module.{_submodules(tree)}"
    elif other:
        what = (
            f"{package} belongs to another module: set spec.source.git.directory to "
            f"{shown(other, LONGEST_PATH)}."
        )
    elif name:
        what = f"{package} is package {shown(name, 40)}, not package main."
    else:
        what = f"{package} holds no Go files but tests and ignored ones."
    found = [
        shown("./" + path.relative_to(module).as_posix(), LONGEST_PATH).replace("./.", ".")
        for path in _take(_main_packages(module), MOST_FOUND)
    ]
    if found:
        advice = f" Main packages here: {', '.join(found)}"
    elif other:
        advice = ""
    else:
        advice = " The module has no main package: set spec.source.git.directory to one that has."
    raise Refused(Reason.NO_MAIN_PACKAGE, what + advice)


def _other_module(module: Path, folder: Path, tree: Path) -> str:
    """The module between the service's one and the package, if there is; a workspace joins them."""
    above = [module, *module.parents]
    if any((path / "go.work").is_file() for path in above[: above.index(tree) + 1]):
        return ""
    between = [folder, *folder.parents]
    for path in between[: between.index(module)]:
        if (path / "go.mod").is_file():
            return path.relative_to(tree).as_posix()
    return ""


def _main_packages(module: Path) -> Iterator[Path]:
    for folder in _folders(module):
        if folder != module and _other_module(module, folder, module):
            continue
        if package_name(folder) == "main":
            yield folder


def _take(paths: Iterator[Path], most: int) -> list[Path]:
    return [path for path, _ in zip(paths, range(most), strict=False)]


def _folders(root: Path) -> Iterator[Path]:
    """A folder and those below that Go would look into, the nearest first."""
    waiting = deque([root])
    while waiting:
        folder = waiting.popleft()
        yield folder
        waiting.extend(
            path
            for path in sorted(folder.iterdir())
            if path.is_dir()
            and not path.is_symlink()
            and path.name not in ("vendor", "testdata", "node_modules")
            and not path.name.startswith((".", "_"))
        )


def package_name(folder: Path) -> str | None:
    """The name of a folder's package, None if no file of it counts. Main wins over others."""
    name = None
    for file in sorted(folder.glob("*.go")):
        if file.name.startswith((".", "_")) or file.name.endswith("_test.go"):
            continue
        clause = _PACKAGE_CLAUSE.match(_text(file, 64 * 1024)) if file.is_file() else None
        if clause and not _IGNORED.search(clause["lead"]):
            if clause["name"] == "main":
                return "main"
            name = name or clause["name"]
    return name


def _text(file: Path, most: int) -> str:
    with file.open("rb") as stream:
        return stream.read(most).decode(errors="replace")


_DISK_FULL = r"No space left on device|Disk quota exceeded"
_KILLED = r"died of signal 9|[Oo]ut of memory"
_SIGNS: tuple[tuple[str, Reason, str], ...] = (
    (_KILLED, Reason.OUT_OF_MEMORY,
     "git ran out of memory: the commit holds files too large for the fetch container."),
    (r"transport '.*' not allowed|protocol '.*' is not supported", Reason.UNSAFE_SOURCE,
     "The repository's address is not allowed: set spec.source.git.url to an https:// or http:// address."),
    (r"fsck error|error in (?:\w+ )?object|: (?:hasDot|gitmodules|badTree|fullPathname)", Reason.UNSAFE_SOURCE,
     "git refuses an object of the commit as damaged or dangerous: run git fsck on a clone and mend it."),
    (r"returned error: 30[12378]|update url base from redirection", Reason.UNSAFE_SOURCE,
     "{host} redirects to another address, which is not followed: set spec.source.git.url to the repository's final one."),
    (r"could not read (?:Username|Password)|Authentication failed|returned error: 40[13]", Reason.GIT_AUTHENTICATION_FAILED,
     "{host} asks for credentials, and only public repositories can be built: check spec.source.git.url."),
    (r"repository '.*' not found|returned error: 4(?:04|10)", Reason.GIT_AUTHENTICATION_FAILED,
     "{host} says that there is no such repository, which is also said of private ones: check spec.source.git.url."),
    (r"[Cc]ould not resolve host", Reason.GIT_UNAVAILABLE, "{host} has no address: its name is not known."),
    (r"certificate", Reason.GIT_UNAVAILABLE, "{host} shows a certificate that is not trusted."),
    (r"returned error: (?P<status>[0-9]{3})", Reason.GIT_UNAVAILABLE, "{host} answered with HTTP status {status}."),
    (r"Failed to connect|Connection refused|[Cc]ouldn't connect", Reason.GIT_UNAVAILABLE,
     "{host} does not accept a connection."),
    (r"", Reason.GIT_UNAVAILABLE, "{host} does not answer as a git server does."),
)  # fmt: skip


def _explained(failed: GitFailed, source: Source, git: Git, say: Say) -> Refused:
    """Tell why git could not fetch: our words into the status, git's own into the log only."""
    for line in failed.output.splitlines()[-10:]:
        say(f"git: {line}")
    if failed.says(_DISK_FULL) or _full(git.tree):
        return _disk_full()
    if failed.late:
        return Refused(
            Reason.GIT_UNAVAILABLE,
            f"git did not end within {git.deadline_seconds:.0f} s: {source.host} is too slow, or "
            "the repository too large.",
        )
    reason, message, found = next(
        (reason, message, found)
        for pattern, reason, message in _SIGNS
        if (found := failed.says(pattern))
    )
    return Refused(reason, message.format(host=source.host, **found.groupdict()))


def _full(tree: Path) -> bool:
    return shutil.disk_usage(tree).free < LEAST_FREE


def _disk_full() -> Refused:
    return Refused(
        Reason.DISK_FULL,
        "The volume for the source is full: the repository is too large for the platform's "
        "setting builds.sourceSizeLimit, or the node's disk is full.",
    )


def _unwritable(error: OSError) -> Refused:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full()
    return Refused(
        Reason.GIT_UNAVAILABLE,
        f"The source cannot be written or read: {error.strerror or type(error).__name__}.",
    )


def shown(text: str, most: int) -> str:
    """A text on one line without control characters or credentials, at most so many bytes."""
    plain = text.encode(errors="replace").decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", plain)
    plain = _CONTROL.sub("", re.sub(r"[\t\n\r\v\f]+", " ", plain)).strip()
    plain = re.sub(r"://[^/@\s]*@", "://", plain)
    if len(plain.encode()) <= most:
        return plain
    return plain.encode()[: most - 3].decode(errors="ignore") + "…"
