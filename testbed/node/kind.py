"""The kind provider: a cluster, a registry and a git server as containers on a Docker engine.

**Never run by this project's own CI**, which has no Docker engine: only the commands are tested.
Images (Kaniko, Go, the bases) come from their public registries here.
"""

from dataclasses import dataclass
from pathlib import Path

from testbed.node import commands, equipment, paths, progress, repositories

NAME = "goservice-testbed"
"""The cluster."""
NODE = f"{NAME}-control-plane"
"""The container of its one node, as kind calls it."""
REGISTRY = "goservice-registry"
"""The container of the registry."""
GIT = "goservice-git"
"""The container of the git server."""
NETWORK = "kind"
"""The Docker network that kind puts its nodes in."""
OPERATOR = "goservice-operator:dev"
"""The operator's image, which is built by Docker and loaded into the node."""


@dataclass(frozen=True)
class Kind:
    """A kind cluster on a Docker engine."""

    name: str = "kind"
    """What to call it in a line of output."""

    @property
    def kubeconfig(self) -> Path:
        """Its own file: the user's kubeconfig is not edited."""
        return paths.cache() / "kind.kubeconfig"

    def create_command(self) -> list[str]:
        """The command that starts it."""
        return [
            *("kind", "create", "cluster", "--name", NAME),
            *("--kubeconfig", str(self.kubeconfig), "--wait", "120s"),
        ]

    def delete_command(self) -> list[str]:
        """The command that removes it."""
        return [
            *("kind", "delete", "cluster", "--name", NAME),
            *("--kubeconfig", str(self.kubeconfig)),
        ]

    def exists(self) -> bool:
        """Whether kind lists it."""
        return NAME in commands.run(["kind", "get", "clusters"], timeout=60).split()

    def up(self) -> Path:
        """Create it unless it is there."""
        if not self.exists():
            with progress.step("create the kind cluster"):
                paths.cache().mkdir(parents=True, exist_ok=True)
                commands.run(self.create_command(), timeout=900)
        return self.kubeconfig

    def equip(self) -> equipment.Equipment:
        """A registry, a git server and the operator's image beside the cluster."""
        with progress.step("registry"):
            _container(registry_command(), REGISTRY)
            commands.run(trust_command(), text=hosts_file(), timeout=60)
        with progress.step(f"image {OPERATOR}"):
            commands.run(["make", "-C", paths.PROJECT, "wheels"], timeout=900)
            commands.run(["docker", "build", "--tag", OPERATOR, paths.PROJECT], timeout=1800)
            load = ["kind", "load", "docker-image", OPERATOR, "--name", NAME]
            commands.run(load, timeout=600)
        with progress.step("git server"):
            commit = repositories.add("sample", equipment.SAMPLE, message="Tell what a pod sees")
            _container(git_command(), GIT)
        return equipment.Equipment(
            operator=OPERATOR,
            repository=f"{REGISTRY}:5000/demo/sample",
            source=f"http://{_address(GIT)}:{paths.GIT_PORT}/sample.git",
            commit=commit,
            settings={
                "builds": {"insecureRegistries": [f"{REGISTRY}:5000"]},
                "git": {"allowHttp": True, "allowedNetworks": ["172.16.0.0/12", "192.168.0.0/16"]},
            },
        )

    def down(self) -> bool:
        """Delete the cluster and the containers beside it, where they are there."""
        commands.succeeds(["docker", "rm", "--force", REGISTRY, GIT], timeout=60)
        if not self.exists():
            return False
        commands.run(self.delete_command(), timeout=300)
        return True


def _container(command: list[str], name: str) -> None:
    """Start a container unless it runs."""
    running = ["docker", "ps", "--quiet", "--filter", f"name=^{name}$"]
    if not commands.run(running, timeout=30).strip():
        commands.succeeds(["docker", "rm", "--force", name], timeout=60)
        commands.run(command, timeout=300)


def registry_command() -> list[str]:
    """The registry, reachable by its name from the nodes and from pods' builds by kind's DNS."""
    return [
        *("docker", "run", "--detach", "--name", REGISTRY, "--network", NETWORK),
        *("--restart", "no", "registry:2"),
    ]


def hosts_file() -> str:
    """What makes the node's containerd speak plain HTTP to the registry."""
    return f'[host."http://{REGISTRY}:5000"]\n'


def trust_command() -> list[str]:
    """Writes `hosts_file` on the node."""
    folder = f"/etc/containerd/certs.d/{REGISTRY}:5000"
    write = f"mkdir -p {folder} && cat > {folder}/hosts.toml"
    return ["docker", "exec", "--interactive", NODE, "sh", "-c", write]


def git_command() -> list[str]:
    """The git server of the test bed, in a container of the operator's image, which has git."""
    served = f"/srv/{paths.repositories().relative_to(paths.cache().parent)}"
    return [
        *("docker", "run", "--detach", "--name", GIT, "--network", NETWORK, "--user", "0"),
        *("--volume", f"{paths.PROJECT / 'testbed'}:/project/testbed:ro", "--workdir", "/project"),
        *("--volume", f"{paths.repositories()}:{served}:ro", "--env", "XDG_CACHE_HOME=/srv"),
        *("--entrypoint", "/opt/goservice/bin/python", OPERATOR),
        *("-m", "testbed.node", "serve-git", "--address", "0.0.0.0"),
    ]


def _address(container: str) -> str:
    template = f"{{{{(index .NetworkSettings.Networks {NETWORK!r}).IPAddress}}}}".replace("'", '"')
    return commands.run(["docker", "inspect", "--format", template, container], timeout=30).strip()
