"""Certificates and kubeconfigs, made with openssl for each new node."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.localnode.shell import run

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_DAYS = "3650"


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder, with the service accounts' key pair beside it."""

    home: Path

    @classmethod
    def create(cls, home: Path) -> "Authority":
        home.mkdir(parents=True, mode=0o700)
        run(
            "openssl", "req", "-x509", *_KEY, "-keyout", home / "ca.key", "-out", home / "ca.crt",
            "-subj", "/CN=ragtenancy-test-ca", "-days", _DAYS,
            # without it Python 3.13 (VERIFY_X509_STRICT) refuses every certificate of this CA
            "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
        )  # fmt: skip
        signing, public = home / "service-accounts.key", home / "service-accounts.pub"
        run(
            "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-out", signing,
        )  # fmt: skip
        run("openssl", "pkey", "-in", signing, "-pubout", "-out", public)
        return cls(home)

    @property
    def certificate(self) -> Path:
        return self.home / "ca.crt"

    def issue(self, name: str, user: str, group: str = "", hosts: tuple[str, ...] = ()) -> None:
        """Make NAME.crt and NAME.key for a user and group; `hosts` are `IP:...`, `DNS:...`."""
        request, extensions = self.home / f"{name}.csr", self.home / f"{name}.ext"
        subject = (f"/O={group}" if group else "") + f"/CN={user}"
        names = f"subjectAltName={','.join(hosts)}\n" if hosts else ""
        extensions.write_text(
            "basicConstraints=CA:FALSE\nsubjectKeyIdentifier=hash\n"
            f"authorityKeyIdentifier=keyid\nkeyUsage=critical,digitalSignature\n{names}"
        )
        run(
            "openssl", "req", *_KEY, "-keyout", self.home / f"{name}.key", "-out", request,
            "-subj", subject,
        )  # fmt: skip
        run(
            "openssl", "x509", "-req", "-in", request, "-out", self.home / f"{name}.crt",
            "-CA", self.certificate, "-CAkey", self.home / "ca.key", "-CAcreateserial",
            "-days", _DAYS, "-extfile", extensions,
        )  # fmt: skip
        request.unlink()
        extensions.unlink()

    def write_kubeconfig(self, path: Path, user: str, server: str, context: str) -> None:
        """Write a kubeconfig (as JSON, which is YAML too) that only its owner can read."""

        def encoded(file: Path) -> str:
            return base64.b64encode(file.read_bytes()).decode()

        cluster = {"server": server, "certificate-authority-data": encoded(self.certificate)}
        credentials = {
            "client-certificate-data": encoded(self.home / f"{user}.crt"),
            "client-key-data": encoded(self.home / f"{user}.key"),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": cluster}],
            "users": [{"name": context, "user": credentials}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
            "current-context": context,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text(json.dumps(config, indent=1))
