"""The operator on a cluster: repair, deletion, kill -9, and what is away comes back."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.demo.kube import NAMESPACE as SYSTEM
from tests.e2e.product.team import Team, until

READY_SECONDS = 90


def uid(team: Team, kind: str, namespace: str, name: str) -> str:
    """The uid of an object; empty while it is not there."""
    path = "--output=jsonpath={.metadata.uid}"
    return team.tools.kubectl(
        "get", kind, name, f"--namespace={namespace}", "--ignore-not-found", path
    )


def pods(team: Team, component: str) -> list[str]:
    """Names of a component's pods."""
    selector = f"--selector=app.kubernetes.io/component={component},app.kubernetes.io/instance=main"
    return team.tools.kubectl("get", "pods", "--namespace=rag", selector, "--output=name").split()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("service", "main-cache"),
        ("poddisruptionbudget", "main-api"),
        ("rolebinding", "main-api"),
        ("deployment", "main-cache"),
    ],
)
def test_a_child_deleted_by_hand_is_back_in_five_seconds(team: Team, kind: str, name: str) -> None:
    before = uid(team, kind, "rag", name)
    team.tools.kubectl("delete", kind, name, "--namespace=rag", "--wait=false")
    started = time.monotonic()
    until(lambda: uid(team, kind, "rag", name) not in ("", before), 5, f"{kind} {name}")
    assert time.monotonic() - started < 5


def test_a_deleted_tenant_is_gone_from_weaviate_redis_and_secrets(team: Team) -> None:
    app = team.new("leaver")
    assert app.put("note", "The leaver's note.").status_code == 201
    assert app.chat("What does the note say?").status_code == 200
    binding = json.loads(
        team.tools.kubectl("get", "ragbinding", app.uid, "--namespace=rag", "--output=json")
    )
    placement = binding["spec"]["placement"]

    def redis(which: str) -> set[str]:
        keys = team.tools.kubectl(
            "exec", pods(team, which)[0], "--namespace=rag", "--",
            "redis-cli", "--scan", "--pattern", f"*{app.uid}*",
        )  # fmt: skip
        return {key for key in keys.split() if not key.endswith(":gone")}

    key = team.tools.secret("rag", "main-weaviate-credentials")["weaviate-api-key"]
    with team.tools.forwarded("rag", "main-weaviate", 8080) as weaviate:

        def shards() -> set[str]:
            found = set()
            for collection in (placement["documents"], placement["chunks"]):
                answer = httpx.get(
                    f"{weaviate}/v1/schema/{collection}/tenants",
                    headers={"Authorization": f"Bearer {key}"},
                )
                found |= {entry["name"] for entry in answer.json()}
            return found

        assert app.uid in shards()
        assert redis("state")
        team.tools.kubectl("delete", "ragtenant", "leaver", f"--namespace={team.namespace}")
        until(lambda: not team.exists("ragbinding", "rag", app.uid), 30, "the binding is there")
        assert app.uid not in shards()
    assert redis("state") == set()
    assert redis("cache") == set()
    until(lambda: not team.exists("secret", team.namespace, "leaver-default-rag"), 10, "the Secret")
    assert app.request("GET", "/models").status_code == 401


def test_an_operator_killed_during_creation_converges(team: Team) -> None:
    names = [f"killed-{number}" for number in range(8)]
    for name in names:
        team.apply(name)
        if name == names[4]:
            team.tools.kubectl(
                "delete", "pod", f"--namespace={SYSTEM}", "--force", "--grace-period=0",
                "--selector=app.kubernetes.io/name=ragtenancy-operator",
            )  # fmt: skip
    apps = [team.app(name) for name in names]
    assert len({app.key for app in apps}) == len(names)
    assert [app.request("GET", "/models").status_code for app in apps] == [200] * len(names)


@pytest.fixture
def recovering(team: Team) -> Iterator[None]:
    """Leaves the deployment Ready for the next test."""
    yield
    team.tools.wait_ready("ragdeployment", "rag", "main", READY_SECONDS, print)


@pytest.mark.usefixtures("recovering")
@pytest.mark.parametrize("component", ["state", "weaviate"])
def test_a_store_that_is_away_means_503_and_comes_back_without_a_restart(
    team: Team, component: str
) -> None:
    app = team.new(f"without-{component}")
    restarts = {name: uid(team, name.partition("/")[0], "rag", name.partition("/")[2])
                for name in pods(team, "api")}  # fmt: skip
    (pod,) = pods(team, component)
    team.tools.kubectl("delete", pod, "--namespace=rag", "--force", "--grace-period=0")
    codes, slowest = set(), 0.0

    def back() -> bool:
        nonlocal slowest
        started = time.monotonic()
        answer = app.request("POST", "/search", json={"query": "anything"})
        slowest = max(slowest, time.monotonic() - started)
        codes.add(answer.status_code)
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        return answer.status_code == 200 and 503 in codes

    until(back, READY_SECONDS, f"a search without {component} and then with it: {codes}")
    assert codes == {200, 503}
    assert slowest < 5.5
    assert restarts.keys() == set(pods(team, "api"))


def test_deleting_a_deployment_with_tenants_is_denied_and_says_what_to_do(team: Team) -> None:
    with pytest.raises(Exception, match=r"still has tenants"):
        team.tools.kubectl("delete", "ragdeployment", "main", "--namespace=rag", "--wait=false")


def test_the_printed_columns_tell_the_state(team: Team) -> None:
    team.new("columns")
    row = team.tools.kubectl("get", "ragt", "columns", f"--namespace={team.namespace}").splitlines()
    assert row[0].split() == ["NAME", "READY", "REASON", "DEPLOYMENT", "DOCUMENTS", "AGE"]
    assert row[1].split()[:4] == ["columns", "True", "Ready", "main"]
    row = team.tools.kubectl("get", "ragd", "main", "--namespace=rag").splitlines()
    assert row[0].split() == ["NAME", "READY", "REASON", "TENANTS", "URL", "AGE"]


def test_events_tell_a_person_what_happened(team: Team) -> None:
    team.new("eventful")
    fields = "--field-selector=involvedObject.name=eventful"
    events = team.tools.kubectl(
        "get", "events", f"--namespace={team.namespace}", fields, "--output=json"
    )
    reasons = {event["reason"] for event in json.loads(events)["items"]}
    assert {"KeyIssued", "Ready"} <= reasons
