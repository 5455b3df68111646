"""Each seam of the code, and the test that fails when somebody goes round it.

What goes round one for a good reason stands in a table here, with its reason. A row that nothing needs
any more is a failure too.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

import pytest

from goservice.api import parsing
from goservice.api.conditions import Reason
from goservice.api.resource import GoService
from goservice.build import engine
from goservice.build.engine import Engine
from goservice.build.outcome import FETCH_REPORTS, Failed, Outcome, Running
from goservice.build.pod import BUILD, FETCH
from goservice.cli import logs
from goservice.cluster import kinds
from goservice.decide import facts, plan
from goservice.decide.writes import Delete
from goservice.errors import SourceError
from goservice.loop.reconcile import UNRESOLVED
from goservice.manifest import Manifest
from goservice.objects import children
from goservice.objects.children import BuildOrder, Upkeep, Wants
from goservice.objects.pod_template import Deployed
from goservice.settings import Settings
from testbed.inmemory.world import WITHOUT_GENERATION, World
from tests.support import corpus
from tests.support import factories as f

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "operator" / "goservice"
OPERATOR = sorted(PACKAGE.rglob("*.py"))
EVERY = [
    file
    for folder in ("operator", "testbed", "tests", "benchmarks", "docs")
    for file in sorted((ROOT / folder).rglob("*.py"))
]
"""Every Python file of ours."""

Place = tuple[str, str]
"""A file, and the function, class or method in it; empty: at its top."""
Matches = Callable[[ast.AST], bool]
"""Whether a node is what a test looks for."""


def within(source: ast.AST, matches: Matches, name: str = "") -> Iterator[str]:
    """The function, class or method around each node that matches; empty at the module's top."""
    for node in ast.iter_child_nodes(source):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if not name:
                inside = node.name
            case ast.FunctionDef() | ast.AsyncFunctionDef() if isinstance(source, ast.ClassDef):
                inside = f"{name}.{node.name}"
            case _:
                inside = name
        if matches(node):
            yield inside
        yield from within(node, matches, inside)


def found_in(files: Iterable[Path], root: Path, matches: Matches) -> set[Place]:
    """Where the files have a node that matches."""
    return {
        (str(file.relative_to(root)), name)
        for file in files
        for name in within(ast.parse(file.read_text()), matches)
    }


def is_in(text: str, matches: Matches) -> bool:
    """Whether a piece of code has a node that matches."""
    return any(map(matches, ast.walk(ast.parse(text))))


def text_of(node: ast.AST) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case _:
            return None


# --- facts: parsed once, in one module ----------------------------------------------------------------

PARSERS = {
    "facts.py",
    "live_deployment.py",
    "last_status.py",
    "attempts.py",
    "pod_words.py",
    "contested.py",
}
"""The modules that parse what was observed: `facts` and its parts."""
STEPS = [file for file in sorted((PACKAGE / "decide").glob("*.py")) if file.name not in PARSERS]
READERS = {"annotation", "condition_of", "find_condition", "key_of", "owned", "image_of"}
"""Functions that read a manifest."""
UNPARSED = {"children", "status"}
"""What `Observed` has in the API server's words. What lookups found is asked for by its key alone."""

BY_KEY: Mapping[Place, str] = {
    ("events.py", "manifest"): "an event names the resource as it stands, parsed or not",
    ("refusals.py", "fault"): "asks for the resources that are wanted, not for what is there",
    ("status.py", "history"): "sorts the records that it writes",
    ("status.py", "recorded"): "carries over the fields that it writes",
    ("refusals.py", "invalid"): "carries over the fields of a status that nobody can make anew",
    ("upkeep.py", "_annotated"): "puts a note on the object that is wanted",
    (
        "upkeep.py",
        "_essential",
    ): "takes the wanted pod template apart, to compare it with what runs",
    ("upkeep.py", "_rolls_out"): "asks which kind of object this very pass writes",
    ("warnings.py", "_others_write"): "asks whether the same was told before",
    ("upkeep.py", "_removed"): "names an object by what is there",
    ("upkeep.py", "_rolled_out"): "puts notes on the object that is wanted",
}
"""Where a step of a decision reads a dict by a literal key."""


def reads_by_key(node: ast.AST) -> bool:
    """`x["key"]`, or `x.get("key")`; not an annotation such as `Literal["x"]`."""
    match node:
        case ast.Subscript(value=ast.Name(id="Literal")):
            return False
        case ast.Subscript(slice=key, ctx=ast.Load()):
            parts = key.elts if isinstance(key, ast.Tuple) else [key]
            return any(text_of(part) is not None for part in parts)
        case ast.Call(func=ast.Attribute(attr="get" | "pop"), args=[key, *_]):
            return text_of(key) is not None
        case _:
            return False


def reads_a_manifest(node: ast.AST) -> bool:
    """A function that reads manifests is imported, or `observed` is asked for what is not parsed."""
    match node:
        case ast.ImportFrom(names=names):
            return any(name.name in READERS for name in names)
        case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr=asked):
            return name == "observed" and asked in UNPARSED
        case _:
            return False


def test_only_facts_reads_manifests_and_the_status() -> None:
    # The build step takes its own hash's inputs apart; they are no object.
    own = {("build.py", "_hashes")}
    assert found_in(STEPS, PACKAGE / "decide", reads_by_key) - own == set(BY_KEY)
    assert found_in(STEPS, PACKAGE / "decide", reads_a_manifest) == set()


@pytest.mark.parametrize(
    "text",
    [
        'live["metadata"]', 'status.get("commit", {})', 'own["Deployment", name]',
        "from goservice.manifest import Manifest, annotation", "state.observed.children",
        "observed.status",
    ],
)  # fmt: skip
def test_a_reader_of_manifests_is_found(text: str) -> None:
    assert is_in(text, reads_by_key) or is_in(text, reads_a_manifest)


@pytest.mark.parametrize("text", ["found[0]", "notes[names.TRIES]", "observed.resolution"])
def test_a_step_that_reads_facts_is_not(text: str) -> None:
    assert not is_in(text, reads_by_key)
    assert not is_in(text, reads_a_manifest)


def test_everything_is_parsed_once_a_pass() -> None:
    service = f.service()
    jobs = [f.job(service, commit=digit * 40, ended="Complete") for digit in "123"]
    seen = f.observed(*jobs, *map(f.pod, jobs), resolution=None)
    built = engine.of(f.SETTINGS).outcome
    calls: Counter[object] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        calls[frame.f_code] += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        plan.decide(service, seen, f.SETTINGS, f.later(120))
    finally:
        sys.setprofile(before)
    assert calls[facts.of.__code__] == 1
    assert isinstance(built, FunctionType)
    assert calls[built.__code__] == len(jobs)


# --- the steps: the list is what is done ----------------------------------------------------------------

PLAN = ast.parse((PACKAGE / "decide" / "plan.py").read_text())


def test_a_decision_is_the_steps_and_nothing_else() -> None:
    functions = {node.name: node for node in PLAN.body if isinstance(node, ast.FunctionDef)}
    called = {
        ast.unparse(node.func)
        for node in ast.walk(functions["decide"])
        if isinstance(node, ast.Call)
    }
    assert called == {"facts.of", "engine.of", "Pass", "step", "AssertionError"}
    steps = [
        name
        for name, node in functions.items()
        if [ast.unparse(a.annotation) for a in node.args.args if a.annotation] == ["Pass"]
        and ast.unparse(node.returns or node) == "Pass"
    ]
    assert sorted(step.__name__ for step in plan.STEPS) == sorted(steps)
    assert not set(steps) & {
        ast.unparse(node.func) for node in ast.walk(PLAN) if isinstance(node, ast.Call)
    }, "a step is called by `decide` alone"


def test_the_docs_list_the_steps() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    (table,) = re.findall(r"<!-- reference: steps -->\n(.*?)<!-- end -->", page, re.DOTALL)
    listed = re.findall(r"^\| `(\w+)` \| (\S.+) \|$", table, re.MULTILINE)
    assert [f"_{name}" for name, _ in listed] == [step.__name__ for step in plan.STEPS]


# --- one table of children ------------------------------------------------------------------------------

WRITTEN = [child for child in children.CHILDREN if child.upkeep is not Upkeep.WATCHED]


def spellings(kind: str, plural: str, resource: str) -> set[str]:
    """How a kind is written, in code and for kubectl."""
    initials = "".join(letter for letter in kind if letter.isupper()).lower()
    return {kind, kind.lower(), plural, resource, *([initials] if len(initials) > 1 else [])}


SPELT = {
    spelling: kind.kind
    for kind in kinds.KINDS.values()
    for spelling in spellings(kind.kind, kind.plural, kind.resource)
}
"""The kind that each of these words means."""
MANY = 3
"""Kinds that make a list."""

LISTS: Mapping[Place, str] = {
    ("benchmarks/bounds.py", "objects"): "kinds that others can fill, as they are filled",
    ("testbed/inmemory/world.py", ""): "Kubernetes' older kinds, to which it gives no generation",
    ("tests/contract/test_upgrade.py", ""): "what an upgrade may write",
    ("tests/contract/test_upgrade.py", "test_there_are_worlds_of_every_kind"): (
        "the kinds of the version that was recorded"
    ),
    ("tests/e2e/test_apiserver.py", "test_a_short_resource_is_built_and_serves"): (
        "the exact cost of one service"
    ),
    (
        "tests/e2e/test_apiserver.py",
        "test_who_has_the_role_edit_may_write_services_but_neither_statuses_nor_elsewhere",
    ): "the rights of a role that is not ours",
    ("tests/faults/oracles.py", "without_races"): "what does not depend on who comes first",
    ("tests/unit/test_others.py", "test_what_cascade_orphan_left_is_taken_up_again"): (
        "three kinds that stand for all"
    ),
    ("tests/unit/test_reconcile.py", "test_a_cold_create_sends_exactly_this"): (
        "the exact cost of one service"
    ),
    ("tests/unit/test_world.py", "test_what_is_owned_goes_with_its_owner"): (
        "the order in which three objects go"
    ),
}
"""Lists of kinds that are no list of all of them."""


def words_of(node: ast.AST) -> Iterator[str]:
    """The texts that are items of a list, keys of a dict, or joined by commas in a text."""
    match node:
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
            inside = [part for item in items for part in _items(item)]
        case ast.Dict(keys=keys):
            inside = [part for key in keys if key is not None for part in _items(key)]
        case ast.Constant(value=str(joined)):
            yield from joined.split(",")
            return
        case _:
            return
    for part in inside:
        text = text_of(part)
        if text is not None:
            yield text


def _items(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def lists_kinds(node: ast.AST) -> bool:
    return len({SPELT[word] for word in words_of(node) if word in SPELT}) >= MANY


def test_no_list_of_kinds_stands_beside_the_table() -> None:
    assert found_in(EVERY, ROOT, lists_kinds) == set(LISTS)


@pytest.mark.parametrize(
    "text",
    [
        '("Job", "ConfigMap", "Pod")', '["jobs", "hpa", "pdb"]', '{"Deployment", "Job", "Service"}',
        '{"Job": "batch/v1", "Deployment": "apps/v1", "Service": "v1"}', '"jobs,configmaps,hpa"',
        '{("create", "jobs"): 1, ("create", "configmaps"): 1, ("patch", "services"): 2}',
    ],
)  # fmt: skip
def test_a_list_of_kinds_is_found(text: str) -> None:
    assert is_in(text, lists_kinds)


def test_every_row_has_its_object_where_everything_is_wanted() -> None:
    """What goes through `corpus.EVERYTHING` goes through every row."""
    order = BuildOrder(f.COMMIT, "0123456789", 1)
    service = f.service(**corpus.EVERYTHING)
    wants = Wants(service, f.SETTINGS, order, Deployed("image", 1, "UTC"))
    assert [child.kind.kind for child in WRITTEN if child.wanted(wants) is None] == []


def test_every_row_that_may_be_deleted_goes_where_it_is_not_wanted_any_more() -> None:
    """So that a new row needs no case of its removal."""
    removed = {
        child.kind.kind
        for child in children.of_component("app")
        if child.upkeep is Upkeep.APPLIED and "delete" in child.verbs
    }
    wants = Wants(f.service(**corpus.EVERYTHING), f.SETTINGS, None, Deployed("image", 1, "UTC"))
    there = [
        f.live(made)
        for child in children.CHILDREN
        if child.kind.kind in removed and (made := child.wanted(wants)) is not None
    ]
    assert {manifest["kind"] for manifest in there} == removed
    pinned = {"repository": "registry.example.com/shop/checkout", "digest": f.DIGEST}
    without = f.service(image=pinned, **corpus.NOTHING)
    decided = plan.decide(without, f.observed(*there), f.SETTINGS, f.NOW)
    gone = {write.kind for write in decided.writes if isinstance(write, Delete)}
    assert gone == removed


def test_every_list_of_everything_has_every_row() -> None:
    table = {child.kind.kind for child in children.CHILDREN}
    assert set(kinds.WATCHED) == {*table, kinds.SERVICE.kind}
    assert set(kinds.KINDS) == {*kinds.WATCHED, kinds.EVENT.kind}
    rights = {right.partition("/")[0] for right in kinds.ACCESS}
    assert rights == {kind.resource for kind in kinds.KINDS.values()}
    assert set(kinds.KINDS) >= WITHOUT_GENERATION
    readme = (ROOT / "README.md").read_text()
    told = re.findall(r"^\| ([A-Z]\w+) \| (NAME\S*.*?) \| (\S.*) \|$", readme, re.MULTILINE)
    assert {kind for kind, *_ in told} == {child.kind.kind for child in WRITTEN}
    assert sum(len(names.split(", ")) for _, names, _ in told) == len(WRITTEN)


# --- what became of a build, apart from the engine ------------------------------------------------------

ENGINES_WORDS: Mapping[Place, str] = {
    ("api/build.py", ""): "what it leaves out of every image",
    ("api/build.py", "CopiedFile"): "the same, to whoever names such a place",
    ("build/engine.py", ""): "the list of engines",
    ("build/skopeo.py", ""): "a message that people know as it is",
    ("settings.py", "Builds"): "the platform chooses the engine",
    ("settings.py", "Images"): "the platform names the engine's image",
    ("settings.py", "load"): "an example of a settings file",
}
"""Where Kaniko is named outside its own module."""
SHARED = {"engine", "inputs", "outcome", "pod"}
"""Modules of `build` that decisions may read: what a second engine has in common with the first."""


def names_kaniko(node: ast.AST) -> bool:
    match node:
        case (
            ast.Constant(value=str(name))
            | ast.Name(id=name)
            | ast.Attribute(attr=name)
            | ast.alias(name=name)
            | ast.keyword(arg=str(name))
        ):
            return "kaniko" in name.lower()
        case _:
            return False


def test_kaniko_is_named_in_its_module_and_where_it_is_chosen() -> None:
    others = [file for file in OPERATOR if file.name != "kaniko.py"]
    assert found_in(others, PACKAGE, names_kaniko) == set(ENGINES_WORDS)


def test_the_import_contracts_know_every_module_of_the_build() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = {
        (*c["source_modules"], *c["forbidden_modules"]): set(c.get("ignore_imports", ()))
        for c in project["tool"]["importlinter"]["contracts"]
        if any(m.startswith("goservice.build.") for m in c.get("forbidden_modules", ()))
    }
    assert contracts == {
        ("goservice.decide", "goservice.build.*"): {
            f"goservice.decide.* -> goservice.build.{name}" for name in SHARED
        },
        ("goservice.build.outcome", "goservice.build.*"): set(),
    }


class Nothing:
    """An engine that makes no image."""

    container_names: tuple[str, ...] = (FETCH, BUILD, "ship")
    said = Failed(Reason.BUILD_FAILED, "It does nothing.", "ship")

    def containers(
        self, service: GoService, settings: Settings, commit: str, inputs: str, build: str
    ) -> Manifest:
        *first, last = [{"name": name} for name in self.container_names]
        return {"initContainers": first, "containers": [last]}

    def outcome(self, job: Mapping[str, Any], pod: Mapping[str, Any] | None) -> Outcome:
        return self.said if pod is not None else Running()


NOTHING: Engine = Nothing()
ENGINES: Mapping[str, Engine] = {"Kaniko": NOTHING}


def test_facts_believe_the_engine_that_they_are_given() -> None:
    service = f.service()
    job = f.job(service)
    builder = engine.of(f.SETTINGS, ENGINES)
    found = facts.of(service, f.observed(job, f.pod(job)), builder)
    assert [build.outcome for build in found.builds] == [Nothing.said]
    assert [build.outcome for build in facts.of(service, f.observed(job), builder).builds] == [
        Running()
    ]


async def test_logs_follow_the_containers_of_any_engine(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World()
    job = world.add(f.job(parsing.parse(world.add(f.body()))))
    build = {"name": job["metadata"]["name"], "phase": "Running"}
    world.set_status("GoService", "shop", "checkout", {"build": build})
    ended = {
        "initContainerStatuses": [f.terminated(FETCH), f.terminated(BUILD)],
        "containerStatuses": [f.terminated("ship"), f.terminated("proxy")],
    }
    pod = f.pod(job)
    labels = {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    pod["metadata"]["labels"] = labels
    pod["spec"] = NOTHING.containers(f.service(), f.SETTINGS, "", "", "")
    pod["spec"]["containers"].append({"name": "proxy"})
    world.add(pod)
    world.set_status("Pod", "shop", pod["metadata"]["name"], ended)
    assert await logs.show(world, "shop", "checkout", follow=False, engines=ENGINES) == 0
    shown = re.findall(r"--- (\w+)", capsys.readouterr().out)
    assert shown == [FETCH, BUILD, "ship"]


@pytest.mark.parametrize("builder", [*engine.ENGINES.values(), NOTHING])
def test_an_engine_has_the_container_that_people_are_pointed_to(builder: Engine) -> None:
    assert BUILD in builder.container_names


# --- closed sets are closed -----------------------------------------------------------------------------

OPEN: Mapping[Place, str] = {
    ("api/reaches.py", "_below"): "whatever a user wrote",
    ("cli/target.py", "explained"): "errors with no more to say than their own words",
    ("cluster/answers.py", "_class_of"): "HTTP codes",
    ("loop/words.py", "_masked"): "whatever JSON holds",
    ("sources/git.py", "_judge"): "HTTP codes",
    ("sources/git.py", "_fault"): "another library's errors",
}
"""What is matched without an end, since nobody can list it."""


def is_open(node: ast.AST) -> bool:
    """A `match` that does not end in assert_never."""
    match node:
        case ast.Match(cases=[*_, last]):
            ends = [ast.unparse(line).startswith("assert_never(") for line in last.body]
            wild = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None
            return not (wild and last.guard is None and ends == [True])
        case _:
            return False


def test_every_match_ends_in_assert_never_or_is_of_an_open_set() -> None:
    assert found_in(OPERATOR, PACKAGE, is_open) == set(OPEN)


@pytest.mark.parametrize(
    ("end", "is_left_open"),
    [
        ("", True),
        ("    case _:\n        pass", True),
        ("    case _ if y:\n        assert_never(x)", True),
        ("    case _:\n        assert_never(x)", False),
    ],
)
def test_a_match_that_swallows_is_found(end: str, is_left_open: bool) -> None:
    assert is_in(f"match x:\n    case A():\n        pass\n{end}", is_open) == is_left_open


def leaves(error: type[SourceError]) -> set[type[SourceError]]:
    below = error.__subclasses__()
    return {leaf for each in below for leaf in leaves(each)} if below else {error}


def test_every_error_of_a_source_has_its_reason() -> None:
    assert set(UNRESOLVED) == leaves(SourceError)


# --- a reason is one row --------------------------------------------------------------------------------

REASONS: Mapping[Place, str] = {
    ("build/outcome.py", ""): "what fetch may report: held below to what it raises",
}
"""Where reasons are gathered outside their own table."""


def is_reason(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("Reason")


def gathers_reasons(node: ast.AST) -> bool:
    """A collection of reasons, a dict by reasons, or a pattern of several."""
    match node:
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
            return sum(map(is_reason, items)) > 1
        case ast.Dict(keys=keys):
            return sum(map(is_reason, keys)) > 1
        case ast.MatchValue(value=value):
            return is_reason(value)
        case _:
            return False


def test_no_set_of_reasons_stands_beside_their_table() -> None:
    others = [file for file in OPERATOR if file.name != "conditions.py"]
    assert found_in(others, PACKAGE, gathers_reasons) == set(REASONS)


@pytest.mark.parametrize(
    "text",
    [
        "reason in (Reason.EVICTED, Reason.DISK_FULL)", "{conditions.Reason.EVICTED: 1, Reason.DISK_FULL: 2}",
        "match x:\n    case Reason.EVICTED | Reason.DISK_FULL:\n        pass",
    ],
)  # fmt: skip
def test_a_set_of_reasons_is_found(text: str) -> None:
    assert is_in(text, gathers_reasons)


def test_fetch_reports_are_what_fetch_raises() -> None:
    raised = {
        node.attr
        for file in (PACKAGE / "fetch").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and is_reason(node)
    }
    assert {reason.name for reason in FETCH_REPORTS} == raised
