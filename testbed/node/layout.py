"""What the node runs: every program's arguments and configuration files, as pure functions.

`node` writes them to the run folder, `nodeinit` starts them. Nothing here touches the system.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from testbed.node import paths


@dataclass(frozen=True)
class Service:
    """One supervised program of the node."""

    name: str
    """Also the name of its log."""
    arguments: tuple[str, ...]
    """The program and its arguments."""
    listens: str = ""
    """`address:port` that must accept a connection before the next one starts."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables beside the node's own."""


def services(run: Path, binaries: dict[str, Path], python: str) -> list[Service]:
    """The node's programs, in the order of their start."""
    pki, config = run / "pki", run / "config"
    bridge = paths.BRIDGE_ADDRESS
    kube = run / "bin"
    proxy_names = {
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
    }
    return [
        Service(
            "etcd",
            (
                str(binaries["etcd"]),
                f"--data-dir={run / 'etcd'}",
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ),
            "127.0.0.1:2379",
        ),
        Service(
            "registry",
            ("docker-registry", "serve", str(config / "registry.yaml")),
            environment={"OTEL_TRACES_EXPORTER": "none"},
        ),
        Service(
            "closed-registry",
            ("docker-registry", "serve", str(config / "closed-registry.yaml")),
            environment={"OTEL_TRACES_EXPORTER": "none"},
        ),
        Service("git", (python, "-m", "testbed.node", "serve-git")),
        Service("modules", (python, "-m", "testbed.node", "serve-modules")),
        Service(
            "containerd",
            (str(binaries["containerd"]), "--config", str(config / "containerd.toml")),
        ),
        Service(
            "kube-apiserver",
            (
                str(kube / "kube-apiserver"),
                *_flags(
                    {
                        "etcd-servers": "http://127.0.0.1:2379",
                        "advertise-address": bridge,
                        "bind-address": "0.0.0.0",
                        "secure-port": "6443",
                        "service-cluster-ip-range": paths.SERVICE_SUBNET,
                        "authorization-mode": "Node,RBAC",
                        "enable-admission-plugins": "NodeRestriction",
                        "allow-privileged": "true",
                        "client-ca-file": pki / "ca.crt",
                        "tls-cert-file": pki / "apiserver.crt",
                        "tls-private-key-file": pki / "apiserver.key",
                        "kubelet-preferred-address-types": "InternalIP",
                        "kubelet-client-certificate": pki / "apiserver-kubelet.crt",
                        "kubelet-client-key": pki / "apiserver-kubelet.key",
                        "kubelet-certificate-authority": pki / "ca.crt",
                        "service-account-issuer": "https://kubernetes.default.svc",
                        "service-account-key-file": pki / "sa.key",
                        "service-account-signing-key-file": pki / "sa.key",
                        "proxy-client-cert-file": pki / "front-proxy.crt",
                        "proxy-client-key-file": pki / "front-proxy.key",
                        "enable-aggregator-routing": "true",
                        "audit-log-path": run / "audit.log",
                        "audit-log-maxsize": "100000",
                        "audit-policy-file": config / "audit.yaml",
                        "profiling": "false",
                        **proxy_names,
                    }
                ),
            ),
            f"{bridge}:6443",
        ),
        Service(
            "kube-controller-manager",
            (
                str(kube / "kube-controller-manager"),
                *_flags(
                    {
                        "kubeconfig": config / "kube-controller-manager.kubeconfig",
                        "authentication-kubeconfig": config / "kube-controller-manager.kubeconfig",
                        "authorization-kubeconfig": config / "kube-controller-manager.kubeconfig",
                        "leader-elect": "false",
                        "use-service-account-credentials": "true",
                        "root-ca-file": pki / "ca.crt",
                        "service-account-private-key-file": pki / "sa.key",
                        "horizontal-pod-autoscaler-sync-period": "5s",
                        "bind-address": "127.0.0.1",
                    }
                ),
            ),
        ),
        Service(
            "kube-scheduler",
            (
                str(kube / "kube-scheduler"),
                *_flags(
                    {
                        "kubeconfig": config / "kube-scheduler.kubeconfig",
                        "authentication-kubeconfig": config / "kube-scheduler.kubeconfig",
                        "authorization-kubeconfig": config / "kube-scheduler.kubeconfig",
                        "leader-elect": "false",
                        "bind-address": "127.0.0.1",
                    }
                ),
            ),
        ),
        Service(
            "kubelet",
            (
                str(kube / "kubelet"),
                *_flags(
                    {
                        "config": config / "kubelet.yaml",
                        "kubeconfig": config / "kubelet.kubeconfig",
                        "hostname-override": paths.NODE,
                        "node-ip": bridge,
                        "root-dir": run / "kubelet",
                    }
                ),
            ),
        ),
        Service(
            "kube-proxy",
            (
                str(kube / "kube-proxy"),
                *_flags(
                    {
                        "kubeconfig": config / "kube-proxy.kubeconfig",
                        "hostname-override": paths.NODE,
                        "proxy-mode": "nftables",
                        "cluster-cidr": paths.POD_SUBNET,
                        "conntrack-max-per-core": "0",
                        "conntrack-tcp-timeout-established": "0s",
                        "conntrack-tcp-timeout-close-wait": "0s",
                    }
                ),
            ),
        ),
        Service(
            "metrics-server",
            (
                str(binaries["metrics-server"]),
                *_flags(
                    {
                        "kubeconfig": config / "metrics-server.kubeconfig",
                        "authentication-kubeconfig": config / "metrics-server.kubeconfig",
                        "authorization-kubeconfig": config / "metrics-server.kubeconfig",
                        "bind-address": bridge,
                        "secure-port": paths.METRICS_PORT,
                        "tls-cert-file": pki / "metrics.crt",
                        "tls-private-key-file": pki / "metrics.key",
                        "kubelet-preferred-address-types": "InternalIP",
                        "kubelet-certificate-authority": pki / "ca.crt",
                        "metric-resolution": "15s",
                    }
                ),
            ),
        ),
    ]


def _flags(values: dict[str, Any]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def containerd(run: Path) -> str:
    """containerd's configuration; state and socket lie in the node's own /run."""
    return f"""version = 3
root = "{run / "containerd"}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", \
"io.containerd.snapshotter.v1.zfs", "io.containerd.nri.v1.nri"]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "{run / "opt"}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  max_concurrent_downloads = 3
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{paths.REGISTRY}/pause:1"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{run / "config" / "hosts"}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE the kernel refuses a lower score than the parent's.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{run / "config" / "cni"}"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      runtime_path = "{run / "bin" / "containerd-shim-runc-v2"}"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def kubelet(run: Path) -> dict[str, Any]:
    """KubeletConfiguration."""
    pki = run / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet.key"),
        "address": paths.BRIDGE_ADDRESS,
        "readOnlyPort": 0,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": [],
        # Names are not resolved here; an answer of "nothing listens" is quicker than silence.
        "clusterDNS": [paths.BRIDGE_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(run / "config" / "resolv.conf"),
        "podLogsDir": "/var/log/pods",
        "volumePluginDir": str(run / "volume-plugins"),
        "maxPods": 200,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        "syncFrequency": "10s",
    }


def audit() -> dict[str, Any]:
    """The audit policy: who did what to which object; bodies only where replicas are decided."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "nonResourceURLs": ["/healthz*", "/readyz*", "/livez*", "/openapi*"]},
            {
                "level": "None",
                "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}],
            },
            {"level": "None", "users": ["system:apiserver"]},
            {
                "level": "Request",
                "verbs": ["create", "update", "patch"],
                "resources": [{"group": "apps", "resources": ["deployments", "deployments/scale"]}],
            },
            {"level": "Metadata"},
        ],
    }


def cni() -> dict[str, Any]:
    """The network of the pods: a bridge with masquerading, and host ports."""
    return {
        "cniVersion": "0.4.0",
        "name": "goservice",
        "plugins": [
            {
                "type": "bridge",
                "bridge": paths.BRIDGE,
                "isGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": paths.POD_SUBNET, "gateway": paths.BRIDGE_ADDRESS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def registry(storage: Path, address: str, passwords: Path | None = None) -> dict[str, Any]:
    """A registry's configuration; with a file of passwords it lets nobody else in."""
    closed = {"auth": {"htpasswd": {"realm": "goservice-testbed", "path": str(passwords)}}}
    return {
        **(closed if passwords else {}),
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(storage)},
            "delete": {"enabled": True},
        },
        "http": {"addr": address},
    }


def files(run: Path, storage: Path) -> dict[str, str]:
    """Every configuration file by its path below `config/`."""
    return {
        "containerd.toml": containerd(run),
        "kubelet.yaml": yaml.safe_dump(kubelet(run)),
        "audit.yaml": yaml.safe_dump(audit()),
        "cni/10-goservice.conflist": json.dumps(cni(), indent=2),
        "registry.yaml": yaml.safe_dump(registry(storage, paths.REGISTRY)),
        "closed-registry.yaml": yaml.safe_dump(
            registry(run / "closed-registry", paths.CLOSED_REGISTRY, run / "config" / "htpasswd")
        ),
        "htpasswd": paths.HTPASSWD,
        **{
            f"hosts/{host}/hosts.toml": (
                f'server = "http://{host}"\n\n[host."http://{host}"]\n'
                '  capabilities = ["pull", "resolve"]\n'
            )
            for host in (paths.REGISTRY, paths.CLOSED_REGISTRY)
        },
        "resolv.conf": f"nameserver {paths.BRIDGE_ADDRESS}\n",
    }


def plan(run: Path, binaries: dict[str, Path], python: str) -> str:
    """What `nodeinit` reads: the services as JSON."""
    return json.dumps([asdict(service) for service in services(run, binaries, python)], indent=2)
