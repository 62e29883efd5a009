"""Which chat model answers while another one comes."""

from typing import Any

from tests.unit.builders import deployment, deployment_spec

SERVED = {"model": "org/old", "maxModelLen": 1024}


def generation(**changes: Any) -> dict[str, Any]:
    return {"model": "org/new", "maxModelLen": 2048, **changes}


def test_the_model_that_vllm_serves_answers_until_it_serves_the_new_one() -> None:
    spec = deployment_spec(generation=generation(vllm={}))
    old = deployment(spec, generation=SERVED).generation
    assert (old.model, old.max_model_len) == ("org/old", 1024)
    new = deployment(spec).generation
    assert (new.model, new.max_model_len) == ("org/new", 2048)


def test_an_external_model_answers_at_once() -> None:
    external = generation(external={"url": "http://models/v1"})
    given = deployment(deployment_spec(generation=external), generation=SERVED)
    assert given.generation.model == "org/new"
