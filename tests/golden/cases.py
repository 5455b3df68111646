"""A golden case: a folder with what people wrote, and with every file that comes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from goservice import names, settings
from goservice.api import parsing
from goservice.data import data_dir
from goservice.decide import plan, refusals
from goservice.decide.writes import Apply, Create, Plan
from goservice.errors import InvalidSpec
from goservice.fetch.module import go_line
from goservice.manifest import Manifest
from goservice.objects.children import CHILDREN, optional_kinds
from tests.golden import observed_file, plain_yaml, plan_file
from tests.golden.first_life import World, first_life
from tests.golden.observed_file import BadCase, Given

GIVEN = ("goservice.yaml", "settings.yaml", "go.mod", "observed.yaml")
"""The files that people write; only the first one must be there."""
MADE = (
    "Dockerfile",
    "Dockerfile.dockerignore",
    "objects.yaml",
    "not-served.yaml",
    "error.txt",
    "plan.yaml",
)
"""The files that are made, each in the cases that have it."""
UID = "7b3c6f0e-0000-4000-8000-000000000001"
"""The uid of every case's resource."""
USUAL_GO_LINE = "1.26"
"""What go.mod says where a case has none."""


@dataclass(frozen=True)
class Case:
    """One folder."""

    folder: Path
    """Where it lies; its name is the case's."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def has_world(self) -> bool:
        """Whether it tells of one pass, not of a first life."""
        return (self.folder / "observed.yaml").exists()

    def body(self) -> Manifest:
        """The resource with the uid that a cluster gives it."""
        body: Manifest = plain_yaml.load((self.folder / "goservice.yaml").read_text())
        body["metadata"]["uid"] = UID
        return body

    def settings(self) -> settings.Settings:
        """The case's settings, else those that the manifests install."""
        given = self.folder / "settings.yaml"
        installed = data_dir("manifests") / "operator" / "settings.yaml"
        return settings.load(given if given.exists() else installed, {})

    def go(self) -> str:
        """The go line of the program's go.mod."""
        module = self.folder / "go.mod"
        return go_line(module.read_text()) if module.exists() else USUAL_GO_LINE

    def given(self) -> Given:
        """The world of its pass."""
        path = self.folder / "observed.yaml"
        return observed_file.given(path, self.body(), self.settings(), self.go())

    def plan(self) -> Plan:
        """What is decided in that world."""
        given = self.given()
        decided = self._decided(given)
        without = self._decided(replace(given, observed=replace(given.observed, lookups={})))
        for lookup in given.observed.lookups:
            if lookup not in without.lookups:
                asked = plain_yaml.dump(plan_file.lookups(without.lookups))
                raise BadCase(f"{self.name}: lookups: nobody asks for {lookup}, but for\n{asked}")
        return decided

    def _decided(self, given: Given) -> Plan:
        try:
            service = parsing.parse(given.body)
        except InvalidSpec as error:
            return refusals.invalid(given.body, error, given.observed, given.now)
        return plan.decide(service, given.observed, self.settings(), given.now)

    def first_life(self) -> World:
        """The life of the service until it serves.

        Raises:
            InvalidSpec: the resource is none.
        """
        return first_life(parsing.parse(self.body()), self.settings(), self.go())

    def not_served(self) -> World | None:
        """The same life where the cluster serves no kind that may be absent; None if it needs none."""
        kinds = {write["kind"] for write in first_writes(self.first_life())}
        absent = kinds & set(optional_kinds(CHILDREN))
        if not absent:
            return None
        service = parsing.parse(self.body())
        return first_life(service, self.settings(), self.go(), absent=frozenset(absent))

    def made(self) -> dict[str, str]:
        """The files that the case must have beside those that are given, and no other ones."""
        if self.has_world:
            given = self.given()
            return {"plan.yaml": plan_file.text(self.plan(), given.observed)}
        try:
            written = first_writes(self.first_life())
        except InvalidSpec as error:
            return {"error.txt": "".join(f"{problem}\n" for problem in sorted(error.problems))}
        texts: dict[str, str] = {}
        without = self.not_served()
        if without is not None:
            texts["not-served.yaml"] = plain_yaml.dump(without.status)
        for manifest in written:
            if manifest["kind"] == "ConfigMap":
                texts |= manifest["data"]
        shown = [manifest for manifest in written if manifest["kind"] != "ConfigMap"]
        return texts | {"objects.yaml": yaml.safe_dump_all(shown, sort_keys=False, width=100)}

    def found(self) -> dict[str, str]:
        """The files that it has beside those that are given."""
        return {
            path.name: path.read_text() if path.is_file() else "a folder"
            for path in self.folder.iterdir()
            if path.name not in GIVEN
        }

    def update(self) -> None:
        """Write the made files anew. What nobody makes stays, so that the case fails for it."""
        made = self.made()
        for name in MADE:
            if name not in made:
                (self.folder / name).unlink(missing_ok=True)
        for name, text in made.items():
            (self.folder / name).write_text(text)


def first_writes(world: World) -> list[Manifest]:
    """Every object of a life as it was created or applied, in order."""
    return [
        write.manifest
        for decided in world.plans
        for write in decided.writes
        if isinstance(write, Create)
        or (isinstance(write, Apply) and write.manager == names.OPERATOR)
    ]


def all_cases() -> list[Case]:
    """Every folder here that is a case."""
    here = Path(__file__).parent
    return [
        Case(path)
        for path in sorted(here.iterdir())
        if path.is_dir() and path.name != "__pycache__"
    ]
