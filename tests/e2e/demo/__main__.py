"""`python -m tests.e2e.demo`: cluster, chart, quickstart, documents, a streamed and cited answer.

The last line is ``demo: ok, ...``, or ``demo: failed at STEP: ...`` and exit status 1. Run again it
finds what is there and only does what is missing.
"""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.e2e.cluster import choose
from tests.e2e.demo.documents import LIBRARY, TUTORIAL, Page, pages
from tests.e2e.demo.kube import Tools
from tests.e2e.demo.tenant import Answer, Tenant
from tests.e2e.localnode.shell import say

_QUESTIONS = {
    "tutorial": "What is a virtual environment?",
    "library": "What is the tempfile module for?",
}
# A model of 135 million parameters cites its sources only when the conversation has shown it how.
_EARLIER = (
    (
        "What does the list method append do?",
        "According to [1], append adds an item to the end of the list.",
    ),
    (
        "What is a module?",
        "According to [1], a module is a file that contains Python definitions and statements.",
    ),
)
_PARTS = {"tutorial": TUTORIAL, "library": LIBRARY}
_MODELS_SECONDS = 1800  # kind downloads images and models on its first run
_TENANT_SECONDS = 120


class Failed(Exception):
    """The demo saw something that must not be."""


class Progress:
    """Says what goes on, and remembers the step that runs."""

    def __init__(self) -> None:
        self.step = "start"
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the demo was started."""
        return time.monotonic() - self._started

    def tell(self, text: str) -> None:
        """Say a line, in step with what the cluster's own steps say."""
        say(text)

    @contextmanager
    def doing(self, step: str, what: str) -> Iterator[None]:
        """Name a step while it runs."""
        self.step = step
        self.tell(what)
        yield


def _connect(tools: Tools, name: str, address: str) -> Tenant:
    secret = tools.secret(f"team-{name}", f"{name}-default-rag")
    return Tenant(name, secret, address)


def _load(progress: Progress, tenant: Tenant, documents: list[Page]) -> None:
    started = time.monotonic()
    chunks = tenant.load(documents)
    progress.tell(
        f"  {tenant.name}: {len(documents)} documents, {chunks} chunks "
        f"in {time.monotonic() - started:.1f} s"
    )


def _ask(tenant: Tenant, own: list[Page]) -> Answer:
    question = _QUESTIONS[tenant.name]
    print(f"\n  {tenant.name} asks: {question}\n")
    answer = tenant.ask(question, _EARLIER)
    print()
    for source in answer.sources:
        heading = f", {source['heading']}" if source["heading"] else ""
        print(f"  [{source['index']}] {source['document_id']}: {source['title']}{heading}")
    cited = sorted({citation["index"] for citation in answer.citations})
    print(f"  cited: {', '.join(f'[{index}]' for index in cited)}\n")
    if answer.pieces < 2:
        raise Failed(f"the answer came in {answer.pieces} pieces: it was not streamed")
    if not answer.sources:
        raise Failed("the answer has no sources")
    if not cited:
        raise Failed("the answer cites none of its sources")
    strangers = {s["document_id"] for s in answer.sources} - {page.id for page in own}
    if strangers:
        raise Failed(f"the answer rests on documents that are not the tenant's: {strangers}")
    return answer


def _check_isolation(progress: Progress, one: Tenant, other: Tenant, own: list[Page]) -> None:
    query, mine = _QUESTIONS[one.name], {page.id for page in own}
    found, foreign = one.find(query), other.find(query)
    if not mine.issuperset(found) or not found:
        raise Failed(f"{one.name} finds {found}")
    if mine.intersection(foreign):
        raise Failed(f"{other.name} finds documents of {one.name}: {foreign}")
    progress.tell(f"  {one.name}'s question finds {found[0]} for {one.name}")
    progress.tell(f"  the same question finds nothing of {one.name}'s for {other.name}")
    if not one.refuses("rtk_" + "0" * 43):
        raise Failed("a wrong key was let in")
    progress.tell("  a wrong key gets 401")


def _demo(progress: Progress) -> str:
    cluster = choose()
    with progress.doing("up", "cluster: up (the very first time builds it; see docs)"):
        cluster.up()
    with progress.doing("images", "images: the operator's and the runtime's"):
        cluster.images()
    tools = Tools.of(cluster)
    with progress.doing("install", "chart: helm upgrade --install ragtenancy charts/ragtenancy"):
        tools.install()
    with progress.doing("apply", f"quickstart: examples/quickstart/{tools.flavour}"):
        tools.apply_quickstart()
    with progress.doing("documents", "documents: Python's documentation"):
        parts = {name: pages(names) for name, names in _PARTS.items()}
    with progress.doing("deployment", "waiting for RAGDeployment rag/main"):
        tools.wait_ready("ragdeployment", "rag", "main", _MODELS_SECONDS, progress.tell)
        tools.wait_current(_TENANT_SECONDS)
    with progress.doing("tenants", "waiting for the RAGTenants"):
        for name in parts:
            tools.wait_ready("ragtenant", f"team-{name}", name, _TENANT_SECONDS, progress.tell)
    print(tools.kubectl("get", "ragdeployments,ragtenants", "--all-namespaces"))
    with tools.forwarded("rag", "main-api", 80) as address:
        tenants = {name: _connect(tools, name, address) for name in parts}
        with (
            progress.doing("load", "loading the documents through POST /v1/documents"),
            ThreadPoolExecutor() as pool,
        ):
            list(pool.map(lambda name: _load(progress, tenants[name], parts[name]), parts))
        with progress.doing("ask", "asking through the openai client, answers streamed"):
            answers = {name: _ask(tenants[name], parts[name]) for name in parts}
        with progress.doing("isolation", "what is one tenant's is no other's"):
            _check_isolation(progress, tenants["tutorial"], tenants["library"], parts["tutorial"])
    count, answer = sum(map(len, parts.values())), answers["tutorial"]
    return (
        f"{count} documents in {len(parts)} tenants, answer streamed in {answer.total_s:.1f} s "
        f"(first token {answer.first_token_s:.1f} s), total {progress.seconds:.0f} s"
    )


def main() -> int:
    """Run the demo; the exit status."""
    progress = Progress()
    try:
        done = _demo(progress)
    except (Exception, SystemExit) as error:
        print(f"demo: failed at {progress.step}: {error}", flush=True)
        return 1
    except KeyboardInterrupt:
        print(f"demo: failed at {progress.step}: interrupted", flush=True)
        return 130
    print(f"demo: ok, {done}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
