"""Certificates and kubeconfigs of the local node, made anew at each start.

Two authorities: one for the cluster, one for the API server's own calls to aggregated servers.
"""

import base64
import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from testbed.node import paths

VALID = datetime.timedelta(days=30)
"""Longer than any cluster of tests is up."""


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    """Never leaves the run folder."""
    certificate: x509.Certificate
    """What the others trust."""


def _name(common: str, organization: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + VALID)
    )


def authority(common: str) -> Authority:
    """A new self-signed authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(common)
    certificate = (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


def pem_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """A private key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def issue(
    issuer: Authority, common: str, organization: str = "", names: tuple[str, ...] = ()
) -> tuple[bytes, bytes]:
    """Certificate and key as PEM; with names it serves, without it is a client's."""
    key = ec.generate_private_key(ec.SECP256R1())
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = _builder(_name(common, organization), issuer.certificate.subject, key)
    if names:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
        )
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return pem(builder.sign(issuer.key, hashes.SHA256())), pem_key(key)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def kubeconfig(certificate: bytes, key: bytes, root: bytes, user: str) -> str:
    """A kubeconfig with everything inside it."""

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "goservice-testbed",
        "clusters": [
            {
                "name": "goservice-testbed",
                "cluster": {
                    "server": paths.API_SERVER,
                    "certificate-authority-data": encoded(root),
                },
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": encoded(certificate),
                    "client-key-data": encoded(key),
                },
            }
        ],
        "contexts": [
            {
                "name": "goservice-testbed",
                "context": {"cluster": "goservice-testbed", "user": user},
            }
        ],
    }
    return yaml.safe_dump(config, sort_keys=False)


def _write(file: Path, data: bytes | str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(data.encode() if isinstance(data, str) else data)


def write_all(folder: Path) -> bytes:
    """Make every key, certificate and kubeconfig of a node; return the authority's certificate.

    Args:
        folder: The run folder; certificates go to `pki/`, kubeconfigs to `config/`.
    """
    root = authority("goservice-testbed")
    front = authority("goservice-testbed-front-proxy")
    pki = folder / "pki"
    _write(pki / "ca.crt", pem(root.certificate))
    _write(pki / "front-proxy-ca.crt", pem(front.certificate))
    # kube-controller-manager reads service account keys as RSA or EC; RSA is what clusters use.
    _write(pki / "sa.key", pem_key(rsa.generate_private_key(public_exponent=65537, key_size=2048)))

    def pair(file: str, certificate_and_key: tuple[bytes, bytes]) -> None:
        _write(pki / f"{file}.crt", certificate_and_key[0])
        _write(pki / f"{file}.key", certificate_and_key[1])

    served = (
        "127.0.0.1",
        paths.BRIDGE_ADDRESS,
        paths.FIRST_SERVICE,
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    )
    pair("apiserver", issue(root, "kube-apiserver", names=served))
    pair("apiserver-kubelet", issue(root, "kube-apiserver-kubelet-client", "system:masters"))
    pair("front-proxy", issue(front, "front-proxy-client"))
    pair("kubelet", issue(root, paths.NODE, names=(paths.BRIDGE_ADDRESS, paths.NODE)))
    pair("metrics", issue(root, "metrics-server", names=("metrics-server.kube-system.svc",)))

    users = {
        "kubelet": (f"system:node:{paths.NODE}", "system:nodes"),
        "kube-controller-manager": ("system:kube-controller-manager", ""),
        "kube-scheduler": ("system:kube-scheduler", ""),
        "kube-proxy": ("system:kube-proxy", ""),
        "metrics-server": ("system:metrics-server", ""),
    }
    certificate = pem(root.certificate)
    for name, (common, organization) in users.items():
        issued = issue(root, common, organization)
        _write(folder / "config" / f"{name}.kubeconfig", kubeconfig(*issued, certificate, name))
    admin = issue(root, "admin", "system:masters")
    _write(folder / "pki" / "admin.crt", admin[0])
    _write(folder / "pki" / "admin.key", admin[1])
    _write(folder / "kubeconfig", kubeconfig(*admin, certificate, "admin"))
    return certificate
