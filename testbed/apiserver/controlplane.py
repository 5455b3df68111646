"""A real API server with etcd and the controllers on loopback, without a node.

The operator runs against it as a process of its own, with the service account and the role of the
manifests. What a node would do (run the build's containers, run the service's) is played by
`Actor`, which writes pod statuses: a test part, which builds and serves nothing. The local node of
`testbed/node` shows the rest.
"""

from __future__ import annotations

import http.server
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from typing_extensions import override

from goservice.cluster import kinds
from testbed.apiserver import podstatus
from testbed.apiserver.ports import free_port
from testbed.node import installation, programs

ROOT = Path(__file__).parents[2]
"""The checkout."""
KUBECTL = Path(sys.prefix) / "bin" / "kubectl"
"""kubectl of the development environment, in the version that pyproject.toml pins."""
OPERATOR_USER = "system:serviceaccount:goservice-system:goservice-operator"
"""The operator's user name in RBAC and in the audit log."""
CONTROLLERS = "*,-nodelifecycle,-node-ipam-controller,-horizontal-pod-autoscaler-controller"
"""All controllers but those that need nodes or metrics, which are not there."""

START_SECONDS = 180
"""For an API server on a machine that other lanes keep busy; idle it takes five seconds."""

PROBE_SECONDS = 2
"""Between two liveness probes; the manifests have 20."""
PROBE_TIMEOUT = 10
"""Of the liveness probe in the manifests."""

IN_POD = Path(__file__).with_name("in-pod.sh")
"""Runs a process as it is in a pod: with a folder in place of its service account."""


def until(what: str, found: Callable[[], Any], seconds: float = 30) -> Any:
    """The first true answer, or an error that says what never came."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = found()
        if answer:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


class ControlPlane:
    """etcd, kube-apiserver and kube-controller-manager in a folder; `stop` ends them.

    `flags` are more arguments by program; `audit` are the rules of the audit policy.
    """

    def __init__(
        self,
        folder: Path,
        flags: Mapping[str, Sequence[str]] | None = None,
        audit: Sequence[Mapping[str, Any]] = ({"level": "Metadata"},),
    ) -> None:
        self.folder = folder
        self._flags = flags or {}
        self._audit = audit
        self.kubeconfig = folder / "kubeconfig"
        self.operator_kubeconfig = folder / "operator-kubeconfig"
        self.audit_log = folder / "audit.log"
        self.etcd = ""
        """Where etcd answers, once it runs."""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[str, ...]] = {}

    def start(self) -> None:
        """Start everything and wait until it is ready."""
        kube, etcd = programs.build(programs.KUBE), programs.build(programs.ETCD)
        for name in ("kube-apiserver", "kube-controller-manager"):
            (self.folder / name).symlink_to(kube)
        client, peer, secure = free_port(), free_port(), free_port()
        self._keys()
        tokens = {"admin": secrets.token_hex(16), "operator": secrets.token_hex(16)}
        self._configure(secure, tokens)
        self.etcd = f"http://127.0.0.1:{client}"
        self._begin(
            "etcd",
            str(etcd),
            f"--data-dir={self.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
        )
        self._begin(
            "kube-apiserver",
            str(self.folder / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{client}",
            "--bind-address=127.0.0.1",
            f"--secure-port={secure}",
            f"--cert-dir={self.folder / 'certificates'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'sa.pub'}",
            f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            f"--audit-log-path={self.audit_log}",
            f"--audit-policy-file={self.folder / 'audit.yaml'}",
        )
        until("the API server is ready", self._ready, START_SECONDS)
        self._begin(
            "kube-controller-manager",
            str(self.folder / "kube-controller-manager"),
            f"--kubeconfig={self.kubeconfig}",
            f"--service-account-private-key-file={self.folder / 'sa.key'}",
            "--leader-elect=false",
            f"--controllers={CONTROLLERS}",
            f"--cert-dir={self.folder / 'controller-certificates'}",
            f"--secure-port={free_port()}",
            "--bind-address=127.0.0.1",
        )

    def _ready(self) -> str:
        for program, process in self._processes.items():
            assert process.poll() is None, (
                f"{program} ended: {self._log(program).read_text()[-2000:]}"
            )
        return self.try_kubectl("get", "--raw=/readyz")

    def _log(self, program: str) -> Path:
        return self.folder / f"{program.split('-')[-1]}.log"

    def _keys(self) -> None:
        for words in (
            ["genrsa", "-out", "sa.key", "2048"],
            ["rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"],
        ):
            subprocess.run(["openssl", *words], cwd=self.folder, check=True, capture_output=True)

    def _configure(self, port: int, tokens: dict[str, str]) -> None:
        groups = "system:serviceaccounts,system:serviceaccounts:goservice-system"
        (self.folder / "tokens.csv").write_text(
            f'{tokens["admin"]},admin,admin,"system:masters"\n'
            f'{tokens["operator"]},{OPERATOR_USER},operator,"{groups}"\n'
        )
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [dict(rule) for rule in self._audit],
        }
        (self.folder / "audit.yaml").write_text(yaml.safe_dump(policy))
        server = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
        for user, file in (("admin", self.kubeconfig), ("operator", self.operator_kubeconfig)):
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": server}],
                "users": [{"name": user, "user": {"token": tokens[user]}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
                "current-context": "test",
            }
            file.write_text(yaml.safe_dump(config))

    def _begin(self, program: str, *command: str) -> None:
        self._commands[program] = (*command, *self._flags.get(program, ()))
        self.resume(program)

    def resume(self, program: str) -> None:
        """Start a program, for the first time or again."""
        with self._log(program).open("ab") as log:
            self._processes[program] = subprocess.Popen(
                self._commands[program], cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
            )

    def kill(self, program: str) -> None:
        """End a program as a power cut does, until `resume`."""
        self._processes[program].kill()
        self._processes[program].wait()

    def pids(self) -> list[int]:
        """The processes of the control plane."""
        return [process.pid for process in self._processes.values()]

    def install(self) -> None:
        """The CRD and the manifests, without the operator's own pod: it runs as a process here."""
        self.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        self.kubectl("apply", "-k", str(ROOT / "manifests"))
        deployment = ("-n", "goservice-system", "deployment/goservice-operator")
        self.kubectl("scale", *deployment, "--replicas=0")
        established = ("--for=condition=Established", "crd/goservices.goservice.dev")
        self.kubectl("wait", *established, "--timeout=20s")

    def settings(self, changes: dict[str, Any], name: str = "settings") -> Path:
        """A settings file: that of the manifests with changes."""
        result = self.folder / f"{name}.yaml"
        result.write_text(yaml.safe_dump(installation.settings(changes)))
        return result

    def stop(self) -> None:
        """End every process, the last started first."""
        for process in reversed(self._processes.values()):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    # --- kubectl ------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Where the API server answers."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        return int(config["clusters"][0]["cluster"]["server"].rpartition(":")[2])

    def through(self, address: str, name: str) -> Path:
        """The operator's kubeconfig for a proxy in front of the API server."""
        config = yaml.safe_load(self.operator_kubeconfig.read_text())
        config["clusters"][0]["cluster"] = {"server": address}
        result = self.folder / f"{name}-kubeconfig"
        result.write_text(yaml.safe_dump(config))
        return result

    def run(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """kubectl as an administrator."""
        command = [str(KUBECTL), f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=False)

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Its output; an error of its is an error of the test."""
        done = self.run(*arguments, given=given)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def try_kubectl(self, *arguments: str) -> str:
        """Its output, empty after an error."""
        done = self.run(*arguments)
        return done.stdout if done.returncode == 0 else ""

    def get(self, kind: str, name: str = "", namespace: str = "shop", *more: str) -> Any:
        """An object, or the items of a list; None if it is not there."""
        found = self.try_kubectl(
            "get", kind, *([name] if name else []), "-n", namespace, "-o", "json", *more
        )
        if not found:
            return None
        tree = json.loads(found)
        return tree if name else tree["items"]

    def refusal(self, manifest: dict[str, Any]) -> str:
        """What the API server says to an object that would be created; empty if it takes it."""
        answer = self.would_make(manifest)
        return str(answer["message"]) if answer["kind"] == "Status" else ""

    def would_make(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """The object as the API server would create it, or its refusal, a Status."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        address = config["clusters"][0]["cluster"]["server"]
        namespace = manifest["metadata"]["namespace"]
        path = kinds.path(kinds.KINDS[manifest["kind"]], namespace, "")
        request = urllib.request.Request(
            f"{address}{path}?dryRun=All&fieldValidation=Strict",
            data=json.dumps(manifest).encode(),
            headers={
                "Authorization": f"Bearer {config['users'][0]['user']['token']}",
                "Content-Type": "application/json",
            },
        )
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with urllib.request.urlopen(request, context=context) as answer:
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            return dict(json.loads(error.read()))

    def apply(self, manifest: dict[str, Any]) -> None:
        """kubectl apply."""
        self.kubectl("apply", "-f", "-", given=json.dumps(manifest))

    def requests(self, user: str = OPERATOR_USER) -> list[dict[str, Any]]:
        """Every request of a user as the audit log has it, in order."""
        entries = map(json.loads, self.audit_log.read_text().splitlines())
        return [entry for entry in entries if entry["user"].get("username") == user]

    def writes(self, user: str = OPERATOR_USER) -> list[tuple[str, str]]:
        """Verb and resource of every write of a user, in order."""
        return [(verb, resource) for verb, resource, _ in self.written(user)]

    def written(self, user: str = OPERATOR_USER) -> list[tuple[str, str, str]]:
        """Verb, resource and name of every write of a user, in order."""
        result = []
        for entry in self.requests(user):
            reference = entry.get("objectRef") or {}
            resource = reference.get("resource", "")
            if entry["verb"] in ("get", "list", "watch") or resource == "selfsubjectaccessreviews":
                continue
            part = reference.get("subresource")
            name = reference.get("name", "")
            result.append((entry["verb"], f"{resource}/{part}" if part else resource, name))
        return result


class Repository:
    """A git repository, and a server on loopback that lists its refs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bare = folder / "checkout.git"
        self.work = folder / "work"
        self._git(folder, "init", "-q", "--bare", "-b", "main", str(self.bare))
        self._git(folder, "clone", "-q", str(self.bare), str(self.work))
        self._git(self.work, "checkout", "-q", "-b", "main")
        handler = type("Refs", (Refs,), {"bare": self.bare})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/checkout.git"

    def _git(self, folder: Path, *words: str) -> str:
        identity = {
            f"GIT_{who}_{what}": "t@example.com"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        environment = {**os.environ, **identity, "GIT_CONFIG_GLOBAL": "/dev/null"}
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self) -> str:
        """Push a new commit; its hash."""
        self._git(self.work, "commit", "-q", "--allow-empty", "-m", f"at {time.time()}")
        self._git(self.work, "push", "-q", "origin", "main")
        return self._git(self.work, "rev-parse", "HEAD")

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Refs(http.server.BaseHTTPRequestHandler):
    """info/refs of one repository, as git's smart HTTP gives it."""

    bare: Path

    def do_GET(self) -> None:
        if not self.path.startswith("/checkout.git/info/refs"):
            self.send_error(404)
            return
        command = ["git", "upload-pack", "--stateless-rpc", "--advertise-refs", str(self.bare)]
        refs = subprocess.run(command, capture_output=True, check=True).stdout
        self.send_response(200)
        self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
        self.end_headers()
        self.wfile.write(b"001e# service=git-upload-pack\n0000" + refs)

    @override
    def log_message(self, *arguments: Any) -> None:
        pass


class Operator:
    """`goservice run` as a process, with the rights of the manifests."""

    def __init__(
        self,
        plane: ControlPlane,
        settings: Path,
        kubeconfig: Path | None = None,
        name: str = "operator",
        pod: Path | None = None,
        program: Sequence[str] = (str(Path(sys.prefix) / "bin" / "goservice"),),
    ) -> None:
        """`pod`: the folder of a service account, which it then finds as in a pod."""
        self._program = program
        self._pod = pod
        self._plane = plane
        self._kubeconfig = kubeconfig or plane.operator_kubeconfig
        self._settings = settings
        self.port = free_port()
        self.log = plane.folder / f"{name}.log"
        self.alarms: list[str] = []
        """What it answered to its liveness probe when it was not well."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def start(self, seconds: float = 40) -> None:
        """Start it and wait until it is ready; 0 seconds: do not wait."""
        command = [
            *self._program,
            "run",
            f"--settings={self._settings}",
        ]
        environment = {**os.environ, "GOSERVICE_PORT": str(self.port)}
        if self._pod is None:
            command.append(f"--kubeconfig={self._kubeconfig}")
        else:
            own = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
            command = [*own, "sh", "-e", str(IN_POD), str(self._pod), *command]
            environment |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1"}
            environment |= {"KUBERNETES_SERVICE_PORT": str(self._plane.port)}
            environment.pop("KUBECONFIG", None)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=log,
            )
        threading.Thread(target=self._probe, args=(self._process,), daemon=True).start()
        if seconds:
            until("the operator is ready", lambda: self.answers("/readyz"), seconds)

    def wait(self, seconds: float) -> int:
        """The exit code, once it ends by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    def answers(self, path: str) -> bool:
        """Whether a path of its web server answers 200."""
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-2000:]
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
                connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def _probe(self, process: subprocess.Popen[bytes]) -> None:
        """Ask as the kubelet does, for as long as the process runs, but more often."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while process.poll() is None:
            try:
                with opener.open(f"http://127.0.0.1:{self.port}/healthz", timeout=PROBE_TIMEOUT):
                    pass
            except urllib.error.HTTPError as error:
                with error:
                    self.alarms.append(error.read().decode())
            except TimeoutError:
                if process.poll() is None:
                    self.alarms.append(f"no answer within {PROBE_TIMEOUT} s")
            except OSError:
                pass  # it does not listen yet, or no more
            time.sleep(PROBE_SECONDS)

    def stop(self, *, kill: bool = False) -> int:
        """SIGTERM, or SIGKILL; the exit code."""
        assert self._process is not None
        (self._process.kill if kill else self._process.terminate)()
        return self._process.wait(30)


class Actor:
    """Plays the node: ends build pods with a digest (or an error), makes service pods ready."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self.error = ""
        """While set, builds fail with this log."""
        self.hold = False
        """While set, builds do not end."""

    def act(self) -> None:
        """One look at all pods."""
        for pod in self._plane.get("pods") or []:
            component = pod["metadata"].get("labels", {}).get("app.kubernetes.io/component")
            if pod["status"].get("phase") != "Pending":
                continue
            if component == "build" and not self.hold:
                self._end(pod)
            elif component == "app":
                self._write(pod, podstatus.serving())

    def _end(self, pod: dict[str, Any]) -> None:
        job = self._plane.get("job", pod["metadata"]["labels"]["batch.kubernetes.io/job-name"])
        commit = job["metadata"]["annotations"]["goservice.dev/commit"]
        if self.error:
            self._write(pod, podstatus.not_built(commit, self.error))
        else:
            self._write(pod, podstatus.built(commit, job["metadata"]["name"]))

    def _write(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        self._plane.run(
            "patch", "pod", metadata["name"], "-n", metadata["namespace"], "--subresource=status",
            "--type=merge", "-p", json.dumps({"status": status}),
        )  # fmt: skip
