"""Install the operator in a cluster as a platform team does: CRD, then an overlay of manifests/."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from testbed.node import commands, equipment, kubectl, paths, progress

NAMESPACE = "goservice-system"
"""Where the manifests install the operator."""
NAME = "goservice-operator"
"""The operator's Deployment."""
SECONDS = 120
"""Until the operator's pod must be ready."""


def folder() -> Path:
    """Where the overlay is written."""
    return paths.cache() / "overlay"


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The settings with changes: sections are merged, values and lists replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result


def settings(changes: dict[str, Any]) -> dict[str, Any]:
    """The settings of the manifests with changes."""
    return merged(
        yaml.safe_load((paths.PROJECT / "manifests/operator/settings.yaml").read_text()), changes
    )


def overlay(wanted: equipment.Equipment, base: str) -> dict[str, Any]:
    """The kustomization: the operator's image and the settings, nothing else."""
    name, at, digest = wanted.operator.partition("@")
    tag = "" if at else name.rpartition(":")[2]
    image: dict[str, Any] = {"name": "ghcr.io/goservice-dev/goservice-operator"}
    image |= {"newName": name, "digest": digest} if at else {"newName": name[: -len(tag) - 1]}
    if not at:
        image["newTag"] = tag
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [base],
        "images": [image],
        "configMapGenerator": [
            {
                "name": "goservice-settings",
                "namespace": NAMESPACE,
                "behavior": "replace",
                "files": ["settings.yaml"],
            }
        ],
    }


def write(wanted: equipment.Equipment) -> None:
    """Write the overlay."""
    target = folder()
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    up = "/".join([".."] * len(target.resolve().parts[1:]))
    base = f"{up}{paths.PROJECT / 'manifests'}"
    changes = merged({"images": {"operator": wanted.operator}}, wanted.settings)
    (target / "kustomization.yaml").write_text(yaml.safe_dump(overlay(wanted, base)))
    (target / "settings.yaml").write_text(yaml.safe_dump(settings(changes), sort_keys=False))


def install(wanted: equipment.Equipment, kubeconfig: Path) -> None:
    """Apply CRD and overlay, and wait until the operator says that it is ready."""
    with progress.step("install the operator") as step:
        step.note = "CRD"
        crds = str(paths.PROJECT / "crds")
        kubectl.kubectl("apply", "--server-side", "-f", crds, kubeconfig=kubeconfig)
        established = ("wait", "--for=condition=Established", "crd/goservices.goservice.dev")
        kubectl.kubectl(*established, "--timeout=30s", kubeconfig=kubeconfig)
        write(wanted)
        _apply(kubeconfig, step)


def change_settings(changes: dict[str, Any], kubeconfig: Path) -> dict[str, Any]:
    """Change settings of the installed operator, which restarts it; return the whole settings."""
    file = folder() / "settings.yaml"
    now = merged(yaml.safe_load(file.read_text()), changes)
    file.write_text(yaml.safe_dump(now, sort_keys=False))
    with progress.step("change the operator's settings") as step:
        _apply(kubeconfig, step)
    return now


def _apply(kubeconfig: Path, step: progress.Step) -> None:
    step.note = "manifests"
    kubectl.kubectl("apply", "--server-side", "-k", str(folder()), kubeconfig=kubeconfig)
    step.note = "waits for its pod"
    try:
        kubectl.kubectl(
            *("rollout", "status", f"deployment/{NAME}", "-n", NAMESPACE),
            f"--timeout={SECONDS}s",
            kubeconfig=kubeconfig,
            timeout=SECONDS + 30,
        )
    except commands.Failed as error:
        raise commands.Failed(f"{error}\n{why(kubeconfig)}") from error


def why(kubeconfig: Path) -> str:
    """What the cluster says of an operator that does not start."""
    try:
        pods = kubectl.kubectl("get", "pods", "-n", NAMESPACE, kubeconfig=kubeconfig)
        log = kubectl.kubectl(
            *("logs", f"deployment/{NAME}", "-n", NAMESPACE, "--tail=10"), kubeconfig=kubeconfig
        )
    except commands.Failed as error:
        pods, log = "", str(error)
    command = f"kubectl --kubeconfig {kubeconfig} describe pods -n {NAMESPACE}"
    return f"{pods}{log}\nLook at it: {command}"


def remove(kubeconfig: Path) -> None:
    """Remove the operator and, where no GoService is left, the CRD."""
    with progress.step("remove the operator"):
        if folder().exists():
            kubectl.kubectl(
                *("delete", "--ignore-not-found", "-k", str(folder())), kubeconfig=kubeconfig
            )
            shutil.rmtree(folder())
        try:
            left = kubectl.get("goservices", "-A", kubeconfig=kubeconfig)["items"]
        except commands.Failed:
            return  # the CRD is not there
        if not left:
            kubectl.kubectl(*("delete", "crd", "goservices.goservice.dev"), kubeconfig=kubeconfig)
