"""Specs that are accepted and specs that are refused, by the parser and by a real API server alike."""

from __future__ import annotations

from typing import Any

Change = dict[str, Any]
DIGEST = "sha256:" + "a" * 64
GIT = "https://git.example.com/shop/checkout.git"
IMAGE = "registry.example.com/shop/checkout"

ACCEPTED: dict[str, Change] = {
    "nothing more": {},
    "digest alone": {"source": None, "image": {"repository": IMAGE, "digest": DIGEST}},
    "source and digest": {"image": {"repository": IMAGE, "digest": DIGEST}},
    "plain http": {"source": {"git": {"url": "http://10.0.0.1:3000/a.git"}}},
    "a port in the registry": {"image": {"repository": "10.0.0.1:5000/shop/checkout"}},
    "a tag with placeholders": {"image": {"repository": IMAGE, "tag": "$(REVISION)-$(INPUTS)"}},
    "revision refs": {"source": {"git": {"url": GIT, "revision": "refs/tags/v1.0"}}},
    "poll never": {"source": {"git": {"url": GIT}, "pollIntervalSeconds": 0}},
    "custom base": {"build": {"base": "Custom", "baseImage": "alpine"}},
    "packages and mirror": {
        "build": {"packages": ["tzdata", "g++"], "packageMirror": "https://m.example.com/x"}
    },
    "files": {"build": {"files": [{"from": "a-b/.c", "to": "/etcetera/x"}]}},
    "build resources": {"build": {"resources": {"limits": {"memory": "4Gi", "cpu": 2}}}},
    "worker": {"ports": []},
    "two ports": {"ports": [{"name": "http", "port": 8080}, {"name": "grpc", "port": 9090}]},
    "service ports apart": {
        "ports": [
            {"name": "http", "port": 8080, "servicePort": 8000}, {"name": "b", "port": 80},
        ]
    },
    "env": {
        "env": [
            {"name": "A", "value": ""}, {"name": "B"},
            {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "D", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        ],
        "envFrom": [{"prefix": "X_", "configMapRef": {"name": "c", "optional": True}}],
    },
    "probes": {
        "probes": {
            "startup": {"tcpSocket": {"port": "http"}, "failureThreshold": 30},
            "readiness": {"httpGet": {"path": "/ready", "port": 8080}},
            "liveness": {"exec": {"command": ["/app/checkout", "check"]}},
        }
    },
    "no readiness": {"probes": {"readiness": {}}},
    "quantities": {"resources": {"requests": {"cpu": "0.5", "memory": "1e6", "example.com/gpu": 1}}},
    "autoscaling": {
        "autoscaling": {
            "maxReplicas": 3,
            "metrics": [
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 80}}}
            ],
            "behavior": {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}},
        }
    },
    "rollout in numbers": {"rollout": {"maxSurge": 2, "maxUnavailable": "50%"}},
    "a link as zone": {"timeZone": "US/Pacific"},
    "nobody's number": {"user": {"uid": 65534, "name": "svc"}},
    "suspended": {"suspend": True, "replicas": 0},
}  # fmt: skip

REFUSED: dict[str, tuple[str, Change]] = {
    "no source": ("spec.source", {"source": None}),
    "no image": ("spec.image", {"image": None}),
    "no repository": ("spec.image.repository", {"image": {"digest": DIGEST}}),
    "a tag in the repository": ("spec.image.repository", {"image": {"repository": IMAGE + ":1"}}),
    "a short digest": ("spec.image.digest", {"image": {"repository": IMAGE, "digest": "sha256:ab"}}),
    "an unknown placeholder": ("spec.image.tag", {"image": {"repository": IMAGE, "tag": "$(TIME)"}}),
    "ssh": ("spec.source.git.url", {"source": {"git": {"url": "git@example.com:a.git"}}}),
    "a password": ("spec.source.git.url", {"source": {"git": {"url": "https://u:p@example.com/a"}}}),
    "a path upwards": ("spec.source.git.directory", {"source": {"git": {"url": GIT, "directory": "../a"}}}),
    "a trailing newline": ("spec.source.git.revision", {"source": {"git": {"url": GIT, "revision": "main\n"}}}),
    "an option": ("spec.source.git.revision", {"source": {"git": {"url": GIT, "revision": "--upload-pack=x"}}}),
    "poll too seldom": ("spec.source.pollIntervalSeconds", {"source": {"git": {"url": GIT}, "pollIntervalSeconds": 86401}}),
    "custom without image": ("spec.build.baseImage", {"build": {"base": "Custom"}}),
    "scratch with image": ("spec.build.baseImage", {"build": {"baseImage": "alpine"}}),
    "an unknown base": ("spec.build.base", {"build": {"base": "Debian"}}),
    "a mirror for nothing": ("spec.build.packageMirror", {"build": {"packageMirror": "https://m.example.com"}}),
    "a package twice": ("spec.build.packages", {"build": {"packages": ["git", "git"]}}),
    "a package that is an option": ("spec.build.packages[0]", {"build": {"packages": ["--allow-untrusted"]}}),
    "a tag twice": ("spec.build.tags", {"build": {"tags": ["a", "a"]}}),
    "a file to /etc": ("spec.build.files[0].to", {"build": {"files": [{"from": "a", "to": "/etc"}]}}),
    "a file to /proc/x": ("spec.build.files[0].to", {"build": {"files": [{"from": "a", "to": "/proc/x"}]}}),
    "a file twice": ("spec.build.files", {"build": {"files": [{"from": "a", "to": "/a"}, {"from": "b", "to": "/a"}]}}),
    "a file over the program": ("spec.build.files", {"build": {"files": [{"from": "a", "to": "/app/checkout"}]}}),
    "a file over the named program": (
        "spec.build.files", {"build": {"binary": "b", "files": [{"from": "a", "to": "/app/b"}]}},
    ),
    "a quote in a variable": ("spec.build.variables[0].value", {"build": {"variables": [{"name": "main.a", "value": "'"}]}}),
    "a variable without package": ("spec.build.variables[0].name", {"build": {"variables": [{"name": "a", "value": "b"}]}}),
    "a proxy with a password": ("spec.build.modules.proxy", {"build": {"modules": {"proxy": "https://u:p@p.example.com"}}}),
    "a build of a second": ("spec.build.timeoutSeconds", {"build": {"timeoutSeconds": 1}}),
    "root": ("spec.user.uid", {"user": {"uid": 0}}),
    "root by name": ("spec.user.name", {"user": {"name": "root"}}),
    "a zone that is none": ("spec.timeZone", {"timeZone": "Europe/Pariss"}),
    "a port twice": ("spec.ports", {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 1}]}),
    "a port name twice": ("spec.ports", {"ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}),
    "a service port twice": ("spec.ports", {"ports": [{"name": "a", "port": 8080}, {"name": "b", "port": 80}]}),
    "a long port name": ("spec.ports[0].name", {"ports": [{"name": "a-very-long-name", "port": 1}]}),
    "value and source": (
        "spec.env[0]", {"env": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
    ),
    "a variable of two sources": (
        "spec.env[0].valueFrom",
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "a"}, "secretKeyRef": {"name": "a", "key": "b"}}}]},
    ),
    "a variable twice": ("spec.env", {"env": [{"name": "A"}, {"name": "A"}]}),
    "keys of nothing": ("spec.envFrom[0]", {"envFrom": [{"prefix": "A"}]}),
    "a probe of two kinds": ("spec.probes.readiness", {"probes": {"readiness": {"httpGet": {}, "tcpSocket": {}}}}),
    "a probe with a host": ("spec.probes.readiness.httpGet.host", {"probes": {"readiness": {"httpGet": {"host": "x"}}}}),
    "a quantity that is none": ("spec.resources.limits.memory", {"resources": {"limits": {"memory": "12Q"}}}),
    "a resource name that is none": ("spec.resources.limits.a b", {"resources": {"limits": {"a b": "1"}}}),
    "more at least than at most": ("spec.autoscaling.minReplicas", {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}),
    "a metric without its field": ("spec.autoscaling.metrics[0]", {"autoscaling": {"maxReplicas": 2, "metrics": [{"type": "Pods"}]}}),
    "a rollout that cannot move": ("spec.rollout.maxSurge", {"rollout": {"maxSurge": "0%"}}),
    "120 percent": ("spec.rollout.maxSurge", {"rollout": {"maxSurge": "120%"}}),
    "minus one": ("spec.rollout.maxUnavailable", {"rollout": {"maxUnavailable": -1}}),
    "a stop longer than the grace": ("spec.rollout.preStopSeconds", {"rollout": {"preStopSeconds": 30}}),
    "a number for a text": ("spec.build.binary", {"build": {"binary": 1}}),
    "a text for a number": ("spec.replicas", {"replicas": "1"}),
    "a fraction": ("spec.replicas", {"replicas": 1.5}),
    "too many": ("spec.replicas", {"replicas": 1001}),
    "a text for a truth": ("spec.suspend", {"suspend": "yes"}),
    "a mapping for a list": ("spec.args", {"args": {"a": "b"}}),
    "a list for a mapping": ("spec.build", {"build": []}),
    "a typo": ("spec.replica", {"replica": 1}),
    "a typo below": ("spec.source.git.ref", {"source": {"git": {"url": GIT, "ref": "x"}}}),
    "too many arguments": ("spec.args", {"args": ["a"] * 65}),
    "a long argument": ("spec.args[0]", {"args": ["a" * 4097]}),
}  # fmt: skip
"""What is refused, and the field that is named."""
