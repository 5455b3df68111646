"""The command line and what others wrote: no byte that a terminal obeys, no traceback, little memory."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource as limits
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from goservice.cli import documents, logs, main, rebuild, status, target, words
from goservice.cli.documents import NotYAML
from testbed.inmemory.world import World
from tests.support import factories as f
from tests.unit.test_cli import building, has_a_pod, kubeconfig, run, server

HOSTILE = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202eevil\u2066\r\x08\x7f\x00\ud800\u2028\U000e0041"
"""An escape code, a title, C1's CSI, both ways to turn writing, and the rest of what is no text."""

FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def harmless(data: bytes | str) -> str:
    """The text, which holds nothing that a terminal obeys or that turns the direction of writing."""
    text = data.decode() if isinstance(data, bytes) else data
    found = FORBIDDEN.search(text)
    assert found is None, f"{found!r} in {text!r}"
    return text


def quoted(text: str) -> str:
    """A text as YAML writes it with escapes, so that the parser lets it in."""
    return '"' + "".join(f"\\U{ord(c):08x}" for c in text) + '"'


PLACES = [
    "kind: GoService\napiVersion: {hostile}\n",
    "kind: GoService\napiVersion: goservice.dev/v1alpha1\n{hostile}: 1\n",
    "kind: GoService\napiVersion: goservice.dev/v1alpha1\nmetadata: {{name: {hostile}}}\n",
    "kind: GoService\napiVersion: goservice.dev/v1alpha1\nmetadata: {{name: a}}\nspec: {{{hostile}: 1}}\n",
    "kind: GoService\napiVersion: goservice.dev/v1alpha1\nmetadata: {{name: a}}\n"
    "spec: {{timeZone: {hostile}, env: [{{name: {hostile}, value: {hostile}}}], args: [{hostile}]}}\n",
    "kind: GoService\n{hostile}: 1\n{hostile}: 2\n",
    "a: !{hostile} 1\n",
    "a: *{hostile}\n",
    "a: !!int {hostile}\n",
    "a: !!timestamp {hostile}\n",
    "kind: GoService\nmetadata: {{name: [{hostile}]}}\n",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", [("validate",), ("render",), ("render", "--dockerfile")])
def test_what_a_file_holds_reaches_no_terminal(place: str, command: tuple[str, ...]) -> None:
    for written in (quoted(HOSTILE), HOSTILE.replace("\ud800", "")):
        result = run(*command, "-f", "-", given=place.format(hostile=written).encode())
        assert result.exit_code == 2, result.exception
        assert isinstance(result.exception, SystemExit)
        harmless(result.stdout_bytes)
        assert "\t" not in harmless(result.stderr_bytes)


def test_a_valid_service_with_hostile_texts_is_printed_as_data() -> None:
    body = f.body(env=[{"name": "A", "value": HOSTILE.replace("\x00", "").replace("\ud800", "")}])
    for command in (("validate",), ("render",), ("render", "--dockerfile")):
        result = run(*command, "-f", "-", given=yaml.safe_dump(body))
        assert result.exit_code == 0, result.stderr
        harmless(result.stdout_bytes)


@pytest.mark.parametrize(
    "arguments",
    [
        ("\x1b[2J",),
        ("--\x1b[2J",),
        ("validate", "--\x1b[2J"),
        ("validate", "-f", "\x1b[2J\u202e.yaml"),
        ("validate", "-f", "x", "\x1b[2J"),
        ("render", "-f", "-", "--toolchain", "\x1b[2J"),
        ("render", "-f", "-", "--commit", "\x1b[2J"),
        ("render", "-f", "-", "--settings", "\x1b[2J"),
        ("crd", "\x1b[2J"),
        ("status", "a", "-o", "\x1b[2J"),
        ("status", "a", "--kubeconfig", "\x1b[2J"),
        ("status", "a", "b\x1b[2J"),
        ("logs", "a", "b\x1b[2J"),
        ("rebuild", "a", "b\x1b[2J"),
        ("run", "b\x1b[2J"),
        ("fetch", "b\x1b[2J"),
    ],
)
def test_arguments_are_echoed_harmlessly(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "error" in harmless(result.stderr_bytes).lower()
    harmless(result.stdout_bytes)


@pytest.mark.parametrize("command", [("status", "a"), ("status",), ("logs", "a"), ("rebuild", "a")])
@pytest.mark.parametrize("code", [400, 403, 404, 409, 500])
def test_a_server_s_words_reach_no_terminal(
    tmp_path: Path, command: tuple[str, ...], code: int
) -> None:
    said = {"reason": "Unknown", "message": HOSTILE.replace("\ud800", "") + "\nsecond line"}
    with server(code, said) as address:
        result = run(*command, "--kubeconfig", str(kubeconfig(tmp_path, address)))
    assert result.exit_code == 1
    assert len(harmless(result.stderr_bytes).splitlines()) == 1


def hostile(value: Any) -> Any:
    """The same with a hostile text behind each text."""
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return f"{value}{HOSTILE}\nnext\tline" if isinstance(value, str) else value


async def test_what_a_status_holds_reaches_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.add(f.body())
    written = {
        "observedGeneration": 1,
        "conditions": [
            {"type": kind, "status": "False", "reason": "R", "message": "m"}
            for kind in ("Ready", "SourceResolved")
        ],
        "commit": {"sha": "s", "message": "m", "author": "a"},
        "servingImage": "i",
        "url": "u",
        "replicas": 1,
        "warnings": [{"field": "f", "message": "m"}],
        "build": {"name": "b", "phase": "Failed", "trigger": ["t"], "logTail": "l", "logsCommand": "c"},
    }  # fmt: skip
    seen = hostile(written)
    for condition, kind in zip(seen["conditions"], ("Ready", "SourceResolved"), strict=True):
        condition.update(type=kind, status="False")
    seen["build"]["phase"] = "Failed"
    world.set_status("GoService", "shop", "checkout", seen)
    await status.show(world, "shop", "checkout", "text", watch=False)
    story = harmless(capsys.readouterr().out)
    assert "Log" in story
    assert "\nnext" not in story.replace("    next", "")
    await status.show(world, "shop", "checkout", "json", watch=False)
    assert json.loads(harmless(capsys.readouterr().out))["url"] == seen["url"]
    await status.show_all(world, "shop", "text")
    assert len(harmless(capsys.readouterr().out).splitlines()) == 2
    await status.show_all(world, "shop", "json")
    harmless(capsys.readouterr().out)
    await rebuild.request(world, "shop", "checkout")
    harmless(capsys.readouterr().out)


async def test_go_s_colours_are_left_out_of_logs_whole(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    ended = [f.terminated("fetch"), f.terminated("build")]
    has_a_pod(world, building(world), phase="Failed", initContainerStatuses=ended)
    said = [
        "\x1b[1;31mERROR\x1b[0m main.go",
        "\x1b]8;;https://evil\x07link\x1b]8;;\x07",
        "\tat x  ",
        HOSTILE,
    ]
    pod = next(name for (_, name, _) in world.log)
    world.log["shop", pod, "build"] = said
    assert await logs.show(world, "shop", "checkout", follow=False) == 0
    shown = harmless(click.unstyle(capsys.readouterr().out))
    assert "\nERROR main.go\nlink\n\tat x\n" in shown
    assert "[31m" not in shown


def test_colours_of_others_are_not_taken_for_ours() -> None:
    painted = words.rendered(words.paint("a\x1b[32mb", fg="red") + "\x1b[31mc")
    assert painted == click.style("a\\x1b[32mb", fg="red") + "\\x1b[31mc"
    assert words.rendered("é 👩‍🚀 日本\n\t-") == "é 👩‍🚀 日本\n\t-"


def test_nothing_is_printed_past_the_one_place() -> None:
    for module in Path(main.__file__).parent.glob("*.py"):
        if module.name != "words.py":
            assert not re.search(
                r"click\.(s?echo|secho|style)\(|\bprint\(|\.write\(", module.read_text()
            ), module


# --- YAML ---------------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)
)

BAD: dict[str, tuple[str | bytes, str]] = {
    "laughs": (LAUGHS, "has more than 100000 values, with every alias in full"),
    "merges": (MERGES, "has more than 100000 values, with every alias in full"),
    "itself": ("a: &a [*a]\n", ":1:4: holds itself"),
    "itself in a mapping": ("a: &a\n  b: *a\n", ":1:4: holds itself"),
    "deep lists": ("[" * 100_000, "is nested deeper than 100 levels"),
    "deep mappings": ("{a: " * 100_000, "is nested deeper than 100 levels"),
    "deep keys": ("? " * 20_000 + "a", "is nested deeper than 100 levels"),
    "a long chain of aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 400)),
        "is nested deeper than 100 levels, with every alias in full",
    ),
    "many values": ("[" + "a," * 100_001 + "]", "has more than 100000 values"),
    "a long number": ("a: " + "9" * 100_000, "is a number of more than 1000 digits"),
    "a long sexagesimal number": ("a: 1" + ":59" * 50_000, "is a number of more than 1000 digits"),
    "no such day": ("a: 2026-99-99\n", ":1:1: is not YAML: a value is none of its type"),
    "no int": ("a: !!int x\n", "a value is none of its type"),
    "an empty int": ("a: !!int ''\n", "is none of its type"),
    "no bool": ("a: !!bool x\n", "is none of its type"),
    "python": ("a: !!python/object/apply:os.system [id]\n", "could not determine a constructor"),
    "a key twice": ("kind: GoService\nspec:\n  a: 1\n  a: 2\n", ":4:3: is not YAML: the key 'a' is there twice"),
    "a list as key": ("? [a]\n: b\n", "unhashable key"),
    "no alias": ("a: *b\n", "undefined alias"),
    "no UTF-8": (b"a:\n - \xff\n", ":2:4: is not UTF-8: byte 0xff"),
    "latin-1": ("a: é".encode("latin-1"), ":1:4: is not UTF-8: byte 0xe9"),
    "half of UTF-16": (b"\xff\xfea", "is not YAML"),
    "a control character": ("a: \x1b[31m", ":1:4: is not YAML: unacceptable character U+001B"),
    "a tab": ("a:\n\t- b", ":2:1: is not YAML: "),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_yaml_is_refused_by_its_line_in_little_time_and_memory(name: str) -> None:
    text, told = BAD[name]
    data = text if isinstance(text, bytes) else text.encode()
    tracemalloc.start()
    try:
        with pytest.raises(NotYAML) as error:
            list(documents.read(data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told in str(error.value)
    assert peak < 200 << 20
    # Of this process, and without the count of memory, which takes ten times as long.
    begun = time.process_time()
    result = run("validate", "-f", "-", given=data)
    assert time.process_time() - begun < 20
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


def test_aliases_that_people_write_are_taken() -> None:
    text = "a: &a {cpu: 1}\nb: {<<: *a, memory: 2}\nc: *a\n---\n---\nd: 1\nd: 2\n"
    assert list(documents.read(text.encode())) == [
        {"a": {"cpu": 1}, "b": {"cpu": 1, "memory": 2}, "c": {"cpu": 1}},
        {"d": 2},
    ]
    assert list(documents.read("a: é".encode("utf-16"))) == [{"a": "é"}]
    assert list(documents.read(b"\xef\xbb\xbfa: 1")) == [{"a": 1}]


def test_no_yaml_of_any_shape_is_a_traceback() -> None:
    from hypothesis import given
    from hypothesis import strategies as st

    parts = st.sampled_from(
        ["kind: GoService\n", "apiVersion: goservice.dev/v1alpha1\n", "spec:", "metadata:", " a", "- ",
         ": ", "\n", "  ", "&a ", "*a", "!!int ", "!!binary ", "!!set ", "!!omap ", "!!pairs ", "!!float ",
         "!!timestamp ", "!!null ", "<<: ", "{", "}", "[", "]", ",", "'", '"', "|\n", ">\n", "---\n", "...\n",
         "%YAML 9.9\n", "%TAG ! x\n", "2026-01-01", "1:60", "0x", ".nan", "~", "? ", "\t", "\\ud800", "#", "\x9b"]
    )  # fmt: skip

    @given(st.lists(parts, max_size=24).map("".join))
    def check(text: str) -> None:
        with contextlib.suppress(NotYAML):
            list(documents.read(text.encode()))
        result = run("validate", "-f", "-", given=text.encode())
        assert isinstance(result.exception, SystemExit | None), (text, result.exception)

    check()


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").mkdir()
    big = tmp_path / "big.yml"
    with big.open("wb") as opened:
        opened.truncate(1 << 40)
    os.mkfifo(tmp_path / "fifo.yaml")
    for source, told in (
        (str(tmp_path / "none.yaml"), "does not exist"),
        (str(tmp_path / "a.yaml"), "has no file called *.yaml or *.yml"),
        (str(big), "is longer than 16 MiB"),
        ("/dev/zero", "is longer than 16 MiB"),
        (str(tmp_path), "is longer than 16 MiB"),
    ):
        result = run("validate", "-f", source)
        assert result.exit_code == 2
        assert told in result.stderr, result.stderr


KUBECONFIG: dict[str, Any] = {
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}
ODD: list[Any] = [
    1, "a", [1], {}, None, [None], [{"name": 1}], {"a": 1}, [{"name": "x"}],
    [{"name": "x", "context": 1}],
    [{"name": "x", "context": {"cluster": [1], "user": {}}}],
    [{"name": "c", "cluster": {"server": 5}}],
    [{"name": "c", "cluster": {"server": HOSTILE}}],
    [{"name": "c", "cluster": {"server": "https://127.0.0.1:9", "certificate-authority-data": "AAAA"}}],
    [{"name": "u", "user": {"token": "a\nb"}}],
    [{"name": "u", "user": {"as": HOSTILE}}],
    [{"name": "u", "user": {"client-certificate": "/none"}}],
    [{"name": "u", "user": {"exec": {"command": HOSTILE}}}],
]  # fmt: skip


@pytest.mark.parametrize("key", KUBECONFIG)
@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_an_odd_kubeconfig_is_told(key: str, odd: Any, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump({**KUBECONFIG, key: odd}))
    result = run("status", "--kubeconfig", str(file))
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    lines = harmless(result.stderr_bytes).splitlines()
    assert lines[-1].startswith("error: ")
    assert all(line.startswith("warning: ") for line in lines[:-1])


@pytest.mark.parametrize(
    "data",
    [b"a: &a [*a]", b"[]", b"5", b"a: b: c", b"\x00", b"x: 2026-99-99", b"images: [1]",
     b"a: " + b"[" * 5000, b"\xff", b"\x1b[31m: 1", b'"\\e[31m": 1', b"log: {level: \"\\e[31m\"}"],
)  # fmt: skip
def test_odd_settings_are_told(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(data)
    sample = Path(__file__).parents[2] / "manifests" / "samples" / "checkout.yaml"
    result = run("render", "-f", str(sample), "--settings", str(file))
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    assert len(harmless(result.stderr_bytes).splitlines()) == 1


# --- signals, pipes, surroundings ----------------------------------------------------------------------

PROGRAM = [sys.executable, "-c", "from goservice.cli.main import main; main()"]


def test_a_closed_pipe_ends_in_silence() -> None:
    program = subprocess.Popen([*PROGRAM, "crd"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout is not None
    program.stdout.close()
    assert program.stderr is not None
    assert program.stderr.read() == b""
    assert program.wait(20) == 1


@pytest.mark.parametrize("arguments", [["validate", "-f", "-"], ["render", "-f", "-"]])
def test_an_interruption_is_130_and_silent(arguments: list[str]) -> None:
    # A shell that started the tests in the background has SIGINT ignored in all that it started.
    heeds = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command = [*PROGRAM[:-1], heeds + PROGRAM[-1], *arguments]
    read, write = os.pipe()
    program = subprocess.Popen(command, stdin=read, stderr=subprocess.PIPE)
    try:
        # More than a pipe holds: once it is written, the program reads; soon it waits for more.
        os.write(write, b"#" * (1 << 20))
        time.sleep(1)
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=20)
    finally:
        os.close(write)
        os.close(read)
    assert program.returncode == 130
    assert b"Traceback" not in said


def test_a_terminal_of_another_encoding_gets_what_it_can_show() -> None:
    body = yaml.safe_dump({**f.body(), "spec": {"Grüße…": 1}}).encode()
    surroundings = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    result = subprocess.run(
        [*PROGRAM, "validate", "-f", "-"],
        input=body,
        env=surroundings,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 2
    assert b"Gr\xfc\xdfe\\u2026" in result.stderr
    assert b"Traceback" not in result.stderr


def test_450_bytes_do_not_become_gigabytes() -> None:
    """The whole program, with 600 MB of address space."""
    result = subprocess.run(
        [*PROGRAM, "render", "-f", "-"], input=LAUGHS.encode(), capture_output=True, check=False,
        preexec_fn=lambda: limits.setrlimit(limits.RLIMIT_AS, (600 << 20, 600 << 20)),
    )  # fmt: skip
    assert result.returncode == 2, result.stderr
    assert b"write it without aliases" in result.stderr


def test_completion_offers_names_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def every(*_: Any) -> Any:
        return [{"metadata": {"name": name}} for name in ("good", f"go{HOSTILE}", "go$(id)")]

    monkeypatch.setattr(target, "all_services", every)
    context = click.Context(main.main)
    context.params = {"kubeconfig": str(kubeconfig(tmp_path, "http://127.0.0.1:9"))}
    found = target._names(context, click.Argument(["name"]), "go")
    assert [item.value for item in found] == ["good"]
