"""A product team of the tests: a namespace, its tenants, and their applications."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from openai import OpenAI

from tests.e2e.demo.kube import Tools

T = TypeVar("T")
READY_SECONDS = 60


def until(check: Callable[[], T | None], seconds: float, what: str) -> T:
    """Ask again and again until the answer is true; it must be so in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what}: still {answer!r} after {seconds} s"
        time.sleep(0.1)


@dataclass(frozen=True)
class App:
    """A tenant's application: what it can do with the tenant's Secret and nothing else."""

    tenant: str
    uid: str
    key: str = field(repr=False)
    model: str
    address: str

    @property
    def openai(self) -> OpenAI:
        """An OpenAI client that does not try again."""
        return OpenAI(api_key=self.key, base_url=f"{self.address}/v1", timeout=120, max_retries=0)

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """A request with the tenant's key."""
        headers = {"Authorization": f"Bearer {self.key}", **more.pop("headers", {})}
        return httpx.request(
            method, f"{self.address}/v1{path}", headers=headers, timeout=120, **more
        )

    def put(self, document: str, text: str, title: str = "") -> httpx.Response:
        """Put a document in."""
        body = {"id": document, "title": title or document, "text": text}
        return self.request("POST", "/documents", json=body)

    def search(self, query: str) -> list[dict[str, Any]]:
        """What a search finds."""
        answer = self.request("POST", "/search", json={"query": query, "top_k": 10})
        assert answer.status_code == 200, answer.text
        results: list[dict[str, Any]] = answer.json()["results"]
        return results

    def chat(self, question: str, **more: Any) -> httpx.Response:
        """Ask a question, for a plain answer."""
        messages = [{"role": "user", "content": question}]
        body = {"model": "default", "messages": messages, "max_tokens": 16, **more}
        return self.request("POST", "/chat/completions", json=body)


@dataclass(frozen=True)
class Team:
    """A namespace whose RAGTenants the quickstart's RAGDeployment takes."""

    tools: Tools
    namespace: str
    address: str

    def apply(self, name: str, **spec: Any) -> None:
        """Declare a tenant."""
        manifest = {
            "apiVersion": "ragtenancy.io/v1alpha1",
            "kind": "RAGTenant",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"deploymentRef": {"name": "main", "namespace": "rag"}, **spec},
        }
        self.tools.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))

    def wait(self, name: str) -> None:
        """Wait until a tenant is Ready."""
        self.tools.kubectl(
            "wait", "--for=condition=Ready", f"ragtenant/{name}", f"--namespace={self.namespace}",
            f"--timeout={READY_SECONDS}s",
        )  # fmt: skip

    def app(self, name: str) -> App:
        """The application of a tenant, once it is Ready."""
        self.wait(name)
        made = self.tools.get("ragtenant", self.namespace, name)
        secret = self.tools.secret(self.namespace, made["status"]["apiKeys"][0]["secretName"])
        return App(
            name,
            made["metadata"]["uid"],
            secret["OPENAI_API_KEY"],
            secret["OPENAI_MODEL"],
            self.address,
        )

    def new(self, name: str, **spec: Any) -> App:
        """Declare a tenant and wait for it."""
        self.apply(name, **spec)
        return self.app(name)

    def exists(self, kind: str, namespace: str, name: str) -> bool:
        """Whether an object is there."""
        found = self.tools.kubectl(
            "get", kind, name, f"--namespace={namespace}", "--ignore-not-found", "--output=name"
        )
        return bool(found.strip())
