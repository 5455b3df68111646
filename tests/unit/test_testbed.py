"""The pure parts of the test bed: what it would run, and how it decides."""

import io
import re
import tarfile
from http import HTTPStatus
from pathlib import Path

import pytest

from testbed.node import (
    commands,
    footprint,
    images,
    kind,
    kubectl,
    layers,
    layout,
    node,
    operatorimage,
    paths,
    pki,
    prerequisites,
    programs,
    progress,
    providers,
    servers,
)


class TestProviders:
    def test_a_kubeconfig_passed_on_purpose_wins(self) -> None:
        chosen = providers.choose({providers.VARIABLE: "/some/file"}, docker=lambda: True)
        assert chosen == providers.Existing(Path("/some/file"))

    def test_kind_where_docker_answers(self) -> None:
        assert providers.choose({}, docker=lambda: True) == kind.Kind()

    def test_else_local(self) -> None:
        assert providers.choose({}, docker=lambda: False) == providers.Local()

    def test_the_usual_kubeconfig_is_not_meant(self) -> None:
        chosen = providers.choose({"KUBECONFIG": "/production"}, docker=lambda: False)
        assert chosen == providers.Local()

    def test_the_choice_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        providers.choose({}, docker=lambda: False)
        assert "cluster provider: local" in capsys.readouterr().err

    def test_a_missing_kubeconfig_fails_with_its_name(self, tmp_path: Path) -> None:
        with pytest.raises(commands.Failed, match="names no file"):
            providers.Existing(tmp_path / "none").up()

    def test_an_existing_cluster_is_left_alone(self, tmp_path: Path) -> None:
        assert providers.Existing(tmp_path).down() is False

    def test_kind_uses_a_kubeconfig_of_its_own(self) -> None:
        chosen = kind.Kind()
        for words in (chosen.create_command(), chosen.delete_command()):
            assert words[words.index("--kubeconfig") + 1] == str(chosen.kubeconfig)
            assert words[words.index("--name") + 1] == kind.NAME
            assert words[0] == "kind"
        assert chosen.kubeconfig.is_relative_to(paths.cache())


class TestPrograms:
    def test_flags_stamp_the_version(self) -> None:
        linker = programs.KUBE.flags[-1]
        assert f"-X k8s.io/component-base/version.gitVersion={programs.KUBERNETES}" in linker
        assert "-X k8s.io/client-go/pkg/version.gitMinor=37" in linker

    def test_the_version_is_that_of_the_module(self) -> None:
        module = (programs.KUBE.folder / "go.mod").read_text()
        assert f"k8s.io/kubernetes {programs.KUBERNETES}\n" in module

    def test_the_fingerprint_follows_sources_and_flags(self, tmp_path: Path) -> None:
        (tmp_path / "go.mod").write_text("module x\n")
        program = programs.Program("x", str(tmp_path))
        first = programs.fingerprint(program)
        (tmp_path / "x_test.go").write_text("package x\n")
        assert programs.fingerprint(program) == first
        (tmp_path / "x.go").write_text("package x\n")
        second = programs.fingerprint(program)
        assert second != first
        stamped = programs.Program("x", str(tmp_path), variables=(("a", "b"),))
        assert programs.fingerprint(stamped) != second

    @pytest.mark.parametrize(
        ("text", "version"),
        [
            ("go version go1.26.8 linux/amd64", (1, 26, 8)),
            ("go1.27", (1, 27, 0)),
            ("go1.27rc1", (1, 27, 0)),
            ("nothing", (0, 0, 0)),
        ],
    )
    def test_versions_of_go(self, text: str, version: tuple[int, int, int]) -> None:
        assert programs.go_version(text) == version

    def test_every_module_can_be_built_by_the_go_that_is_required(self) -> None:
        assert programs.required_go() >= (*programs.GO_MINIMUM, 0)


BINARIES = {program.name: Path("/bin", program.name) for program in programs.ALL}


class TestLayout:
    run = Path("/cache/run")

    def services(self) -> dict[str, layout.Service]:
        return {s.name: s for s in layout.services(self.run, BINARIES, "/python")}

    def test_what_others_need_starts_first(self) -> None:
        order = list(self.services())
        assert order.index("etcd") < order.index("kube-apiserver") < order.index("kubelet")
        assert order.index("containerd") < order.index("kubelet")
        assert self.services()["kube-apiserver"].listens

    def test_the_audit_log_is_always_on(self) -> None:
        arguments = self.services()["kube-apiserver"].arguments
        assert "--audit-log-path=/cache/run/audit.log" in arguments
        assert layout.audit()["rules"][-1] == {"level": "Metadata"}

    def test_the_kubelet_accepts_old_and_new_control_groups(self) -> None:
        assert layout.kubelet(self.run)["failCgroupV1"] is False

    def test_the_metric_resolution_exceeds_the_kubelet_timeout(self) -> None:
        (flag,) = (a for a in self.services()["metrics-server"].arguments if "resolution" in a)
        assert int(re.sub(r"\D", "", flag)) > 10

    def test_the_registry_is_reached_without_tls(self) -> None:
        files = layout.files(self.run, Path("/storage"))
        assert f"http://{paths.REGISTRY}" in files[f"hosts/{paths.REGISTRY}/hosts.toml"]
        assert f'config_path = "{self.run}/config/hosts"' in files["containerd.toml"]


class TestKeys:
    def test_every_file_that_a_program_names_is_made(self, tmp_path: Path) -> None:
        pki.write_all(tmp_path)
        for name in layout.files(tmp_path, tmp_path):
            file = tmp_path / "config" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        for service in layout.services(tmp_path, BINARIES, "python"):
            for argument in service.arguments:
                value = argument.rpartition("=")[2]
                if value.startswith((f"{tmp_path}/pki", f"{tmp_path}/config")):
                    assert Path(value).is_file(), argument
        assert (tmp_path / "kubeconfig").stat().st_mode & 0o077 == 0


class TestLayers:
    def read(self, file: Path) -> dict[str, tarfile.TarInfo]:
        with tarfile.open(file) as archive:
            return {member.name: member for member in archive.getmembers()}

    def test_parents_links_and_modes(self, tmp_path: Path) -> None:
        source = tmp_path / "source"
        (source / "keep").mkdir(parents=True)
        (source / "keep" / "a").write_text("a")
        (source / "skip").mkdir()
        (source / "skip" / "b").write_text("b")
        target = tmp_path / "layer.tar"
        layers.write(
            target,
            [
                ("etc/passwd", b"root", 0o644),
                ("bin/sh", "-> /bin/busybox", 0o777),
                ("tmp", "", 0o1777),
                ("usr/local/x", source, 0o755),
            ],
            lambda path: path.startswith("skip"),
        )
        members = self.read(target)
        assert members["etc"].isdir()
        assert members["bin/sh"].linkname == "/bin/busybox"
        assert members["tmp"].mode == 0o1777
        assert "usr/local/x/keep/a" in members
        assert not [name for name in members if "skip" in name]
        assert {(m.uid, m.gid, m.mtime) for m in members.values()} == {(0, 0, 0)}

    def test_the_same_content_is_the_same_bytes(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            layers.write(tmp_path / name, [("a/b", b"text", 0o644)])
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


class TestServers:
    @pytest.mark.parametrize(
        ("path", "status", "target"),
        [
            ("/web.git/info/refs", HTTPStatus.OK, "/web.git/info/refs"),
            ("/auth/web.git/info/refs", HTTPStatus.UNAUTHORIZED, ""),
            ("/private/web.git", HTTPStatus.UNAUTHORIZED, ""),
            ("/denied/web.git", HTTPStatus.FORBIDDEN, ""),
            ("/broken/web.git", HTTPStatus.SERVICE_UNAVAILABLE, ""),
            ("/moved/web.git", HTTPStatus.MOVED_PERMANENTLY, "/web.git"),
        ],
    )
    def test_routes(self, path: str, status: HTTPStatus, target: str) -> None:
        assert servers.route(path, "") == (status, target)

    def test_the_right_password_opens(self) -> None:
        header = "Basic cmVhZGVyOm9wZW4tc2VzYW1l"
        assert servers.route("/auth/web.git", header) == (HTTPStatus.OK, "/web.git")
        assert not servers.authorized("Basic eDp5")


class TestImages:
    @pytest.mark.parametrize(
        ("path", "skipped"),
        [
            ("test/a.go", True),
            ("api/go1.txt", True),
            ("src/fmt/print_test.go", True),
            ("src/fmt/testdata/x", True),
            ("src/testing/testing.go", False),
            ("src/net/http/httptest/server.go", False),
            ("src/net/api/x.go", False),
            ("bin/go", False),
        ],
    )
    def test_what_the_builder_does_without(self, path: str, skipped: bool) -> None:
        assert images.left_out_of_go(path) is skipped

    def test_a_recipe_is_told_apart_by_content_and_configuration(self) -> None:
        recipes = [
            images.Recipe("x:1", content, lambda folder: folder, environment)
            for content in ("a", "b")
            for environment in ({}, {"A": "b"})
        ]
        assert len({recipe.hash for recipe in recipes}) == 4

    def test_the_operator_is_built_as_kaniko_would(self) -> None:
        spec = operatorimage.job("context@sha256:0", "name")["spec"]
        (container,) = spec["template"]["spec"]["containers"]
        assert "--context=dir:///kaniko/buildcontext" in container["args"]
        assert f"--build-arg=BASE={paths.REGISTRY}/operator-base:1" in container["args"]
        assert spec["backoffLimit"] == 0


def test_the_old_service_policy_is_put_back(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with prerequisites.services_denied(policy):
        assert "exit 101" in policy.read_text()
    assert not policy.exists()
    policy.write_text("old")
    policy.chmod(0o700)
    with pytest.raises(ZeroDivisionError), prerequisites.services_denied(policy):
        raise ZeroDivisionError
    assert policy.read_text() == "old"
    assert policy.stat().st_mode & 0o777 == 0o700


def test_missing_packages_are_told_by_their_files() -> None:
    files = frozenset(prerequisites.PACKAGES.values())
    assert prerequisites.missing(files) == []
    assert prerequisites.missing(files - {"/usr/sbin/nft"}) == ["nftables"]


def test_the_footprints_difference() -> None:
    before = {"links": ["lo"], "mounts": ["/"]}
    assert footprint.difference(before, before) == {}
    after = {"links": ["cni0", "lo"], "mounts": []}
    assert footprint.difference(before, after) == {
        "links": {"came": ["cni0"], "went": []},
        "mounts": {"came": [], "went": ["/"]},
    }


def test_metrics_objects_name_the_certificate() -> None:
    service = next(o for o in kubectl.bootstrap(b"pem") if o["kind"] == "APIService")
    assert service["spec"]["caBundle"] == "cGVt"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.42, "0.4 s"), (12.3, "12 s"), (185.0, "3 min 05 s")]
)
def test_elapsed(seconds: float, text: str) -> None:
    assert progress.elapsed(seconds) == text


def test_say_writes_lines() -> None:
    stream = io.StringIO()
    progress.say("text", stream)
    assert stream.getvalue() == "text\n"


def test_the_nodes_python_finds_the_package() -> None:
    environment = node.python_environment()
    assert Path(environment["PYTHONPATH"], "testbed", "node", "nodeinit.py").is_file()
    assert environment[paths.MARKER] == str(paths.cache())
