"""The main job: documents in, grounded and streamed answers out, each tenant for itself."""

import json
import time
from typing import Any

import httpx
import pytest

from tests.e2e.product.team import App, Team, until

TOWER = "The Quillon Tower in the town of Marrow is 412 metres tall. It was built in 1987."
BRIDGE = "The Haldane Bridge crosses the river Orle. Its toll is 7 pence, paid in the north."


@pytest.fixture(scope="module")
def tower(team: Team) -> App:
    """A tenant that knows of a tower."""
    app = team.new("tower")
    assert app.put("tower", TOWER, "Quillon Tower").status_code == 201
    return app


@pytest.fixture(scope="module")
def bridge(team: Team) -> App:
    """A tenant that knows of a bridge."""
    app = team.new("bridge")
    assert app.put("bridge", BRIDGE, "Haldane Bridge").status_code == 201
    return app


def test_an_openai_client_gets_an_answer_with_its_sources(tower: App) -> None:
    answer = tower.openai.chat.completions.create(
        model=tower.model,
        messages=[{"role": "user", "content": "How tall is the Quillon Tower?"}],
        max_tokens=24,
    )
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    (source,) = (answer.choices[0].message.model_extra or {})["sources"]
    assert source["document_id"] == "tower"
    assert "412 metres" in source["text"]


def test_the_first_token_arrives_while_vllm_still_generates(tower: App, team: Team) -> None:
    """vLLM's own metrics are asked between the first piece and the last."""
    (pod,) = json.loads(
        team.tools.kubectl(
            "get", "pods", "--namespace=rag", "--selector=app.kubernetes.io/component=generation",
            "--output=json",
        )
    )["items"]  # fmt: skip
    path = f"/api/v1/namespaces/rag/pods/{pod['metadata']['name']}:8000/proxy/metrics"

    def metric(name: str) -> float:
        lines = team.tools.kubectl("get", "--raw", path).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{"))

    finished = metric("vllm:request_success_total")
    times, running, done_then = [], 0.0, -1.0
    stream = tower.openai.chat.completions.create(
        model=tower.model,
        messages=[{"role": "user", "content": "Tell me a long story about a dragon."}],
        max_tokens=96,
        stream=True,
        extra_body={"rag": {"cache": "off", "mode": "None"}},
    )
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            times.append(time.monotonic())
            if len(times) == 1:
                running = metric("vllm:num_requests_running")
                done_then = metric("vllm:request_success_total")
                asked = time.monotonic()
    assert len(times) > 10
    assert running >= 1
    assert done_then == finished
    assert metric("vllm:request_success_total") == finished + 1
    assert times[0] < asked < times[-1]


def test_what_one_tenant_loads_no_other_finds(tower: App, bridge: App) -> None:
    question = "How tall is the Quillon Tower, and what is the toll of the Haldane Bridge?"
    for app, own, foreign in ((tower, "tower", "412"), (bridge, "bridge", "7 pence")):
        assert {found["document_id"] for found in app.search(question)} == {own}
        answer = app.chat(question)
        message = answer.json()["choices"][0]["message"]
        assert {source["document_id"] for source in message["sources"]} == {own}
        other = bridge if app is tower else tower
        assert foreign not in json.dumps(other.search(question))
        assert foreign not in other.chat(question).text
        assert other.request("GET", f"/documents/{own}").status_code == 404


def test_a_foreign_and_an_unknown_document_get_the_same_answer(tower: App, bridge: App) -> None:
    foreign = bridge.request("GET", "/documents/tower")
    unknown = bridge.request("GET", "/documents/tower".replace("tower", "rewot"))
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.text.replace("tower", "") == unknown.text.replace("rewot", "")


def test_unknown_malformed_and_missing_keys_get_the_same_bytes(team: Team) -> None:
    def ask(headers: dict[str, str]) -> tuple[int, bytes]:
        answer = httpx.get(f"{team.address}/v1/models", headers=headers)
        return answer.status_code, answer.content

    unknown = ask({"Authorization": f"Bearer rtk_{'0' * 43}"})
    assert unknown[0] == 401
    assert json.loads(unknown[1])["error"]["code"] == "invalid_api_key"
    assert unknown == ask({"Authorization": "Bearer x"}) == ask({"Authorization": "Basic x"})
    assert unknown == ask({})


def test_the_request_limit_answers_429_and_says_when_to_come_back(team: Team) -> None:
    app = team.new("paced", quotas={"requestsPerMinute": 6, "burst": 3})
    answers = [app.request("POST", "/search", json={"query": "x"}) for _ in range(8)]
    admitted = [a for a in answers if a.status_code == 200]
    denied = [a for a in answers if a.status_code == 429]
    assert len(admitted) + len(denied) == len(answers)
    assert len(admitted) <= 3 + 6 * 1  # burst, and what a minute would bring
    assert denied
    for answer in denied:
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.headers["x-ratelimit-limit-requests"] == "6"


def test_a_quota_changed_in_the_resource_holds_at_once(team: Team) -> None:
    app = team.new("changed")
    assert all(app.search("x") == [] for _ in range(5))
    team.apply("changed", quotas={"requestsPerMinute": 1, "burst": 1})
    app = team.app("changed")
    codes = [app.request("POST", "/search", json={"query": "x"}).status_code for _ in range(4)]
    assert 429 in codes


def test_the_same_question_again_is_answered_from_the_cache_until_a_document_changes(
    team: Team,
) -> None:
    app = team.new("cached")
    app.put("doc", TOWER)
    question = "How tall is the Quillon Tower?"
    first, second = app.chat(question), app.chat(question)
    header = "x-ragtenancy-cache"
    assert [first.headers[header], second.headers[header]] == ["miss", "hit"]
    assert first.json()["choices"] == second.json()["choices"]
    app.put("doc", TOWER.replace("412", "413"))
    third = app.chat(question)
    assert third.headers[header] == "miss"
    assert "413 metres" in third.json()["choices"][0]["message"]["sources"][0]["text"]


def test_usage_counts_what_the_answers_said(team: Team) -> None:
    app = team.new("counted")
    used = [app.chat("Hello there", max_tokens=8).json()["usage"] for _ in range(2)]

    def total(kind: str) -> int:
        answer = app.request("GET", "/usage")
        assert answer.status_code == 200
        return sum(day[kind] for day in answer.json()["data"])

    # settled after the answer, off its path
    until(lambda: total("requests") == len(used), 5, "requests counted")
    for kind in ("prompt_tokens", "completion_tokens"):
        assert total(kind) == sum(usage[kind] for usage in used)


USER = {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{not json", 400, None),
        (b"\xff\xfe", 400, None),
        (b"[]", 400, None),
        ({"messages": [USER]}, 400, "model"),
        ({"model": "default", "messages": []}, 400, "messages"),
        ({"model": "other", "messages": [USER]}, 404, "model"),
        ({"model": "default", "messages": [USER], "temperature": 9}, 400, "temperature"),
        ({"model": "default", "messages": [USER], "cache_salt": "s"}, 400, "cache_salt"),
        (
            {"model": "default", "messages": [USER | {"content": "word " * 20_000}]},
            400,
            "messages",
        ),
    ],
    ids=["json", "utf8", "list", "no model", "empty", "model", "range", "field", "long"],
)
def test_a_bad_request_gets_an_openai_error_that_names_the_field(
    tower: App, body: bytes | dict[str, Any], status: int, param: str | None
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    answer = tower.request("POST", "/chat/completions", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param


def test_an_oversized_document_is_refused_and_loses_nothing(tower: App) -> None:
    answer = tower.put("tower", "x" * 3_000_000)
    assert answer.status_code == 413
    assert answer.json()["error"]["param"] == "text"
    assert tower.search("Quillon Tower")[0]["document_id"] == "tower"
