"""The download of a model: a Job per model and claim, which fills the claim for all who read it."""

from typing import Any, Final

from ragtenancy_api import wiring
from ragtenancy_api.deployment import ServedModel
from ragtenancy_operator import names
from ragtenancy_operator.children import vllm
from ragtenancy_operator.children.base import (
    Context,
    container,
    digest,
    empty_dir,
    env,
    manifest,
    pod_template,
    secret_env,
)
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest, annotations_of, holds

_SCRATCH: Final = "/tmp"  # noqa: S108 - an emptyDir
_ENVIRONMENT: Final = {
    "HF_HOME": vllm.MODEL_CACHE,
    "HOME": _SCRATCH,
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # other readers of the cache may be older than what shares files between models
    "HF_HUB_DISABLE_SHARED_BLOBS": "1",
    "HF_XET_CACHE": f"{_SCRATCH}/xet",
    "HF_XET_CHUNK_CACHE_SIZE_BYTES": "0",
}
_ALWAYS_AGAIN: Final = 2**31 - 1
"""The kubelet waits up to five minutes between two tries: what a person mends is then picked up
without anybody deleting the Job."""


def build(context: Context, component: str, claim_uid: str) -> Manifest | None:
    """The Job that downloads a component's model into its claim; None when it is external."""
    model = vllm.model_of(context, component)
    settings = model.vllm
    if settings is None:
        return None
    part, claim = names.download(component), vllm.cache_claim(context, component)
    scratch, scratch_mount = empty_dir("tmp", _SCRATCH)
    api = context.deployment.spec.api
    # where the component's pods run, with what reaches its hub, but without its GPUs
    pull = [*(settings.image_pull_secrets or ()), *(api.image_pull_secrets or ())]
    changes = {
        "resources": None,
        "runtime_class_name": None,
        "topology_spread_constraints": [],
        "image_pull_secrets": list(dict.fromkeys(pull)),
    }
    pod = settings.model_copy(update=changes)
    variables = env(_ENVIRONMENT, settings)
    if settings.token_secret_ref:
        token = settings.token_secret_ref
        variables.insert(0, secret_env("HF_TOKEN", token.name, token.key))
    main = container(
        api.image or context.images[Component.API],
        pod,
        name="download",
        command=["python", "-m", "ragtenancy_runtime.download"],
        args=[model.model],
        env=variables,
        ports=[{"name": "internal", "containerPort": wiring.INTERNAL_PORT, "protocol": "TCP"}],
        resources={"requests": {"cpu": "100m", "memory": "256Mi"}},
        volumeMounts=[{"name": "model-cache", "mountPath": vllm.MODEL_CACHE}, scratch_mount],
        # for what ends it before it can say why
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    template = pod_template(
        context,
        part,
        pod,
        main,
        [{"name": "model-cache", "persistentVolumeClaim": {"claimName": claim}}, scratch],
        restartPolicy="OnFailure",
        terminationGracePeriodSeconds=15,
    )
    job = manifest(
        context,
        "batch/v1",
        "Job",
        context.child(part, digest([model.model, claim])[:10]),
        part,
        spec={"backoffLimit": _ALWAYS_AGAIN, "template": template},
    )
    job["metadata"]["annotations"] = {names.ANNOTATION_CLAIM_UID: claim_uid}
    return job


def complete(job: Manifest | None, claim_uid: str) -> bool:
    """Whether a Job has filled this very claim."""
    return (
        job is not None
        and holds(job, "Complete")
        and annotations_of(job).get(names.ANNOTATION_CLAIM_UID) == claim_uid
    )


def outdated(job: Manifest, wanted: Manifest) -> bool:
    """Whether a Job has to be made anew: its pods' template cannot be changed.

    What has filled the claim stays, whatever it ran with.
    """
    held, asked = annotations_of(job), annotations_of(wanted)
    claim = names.ANNOTATION_CLAIM_UID
    if held.get(claim) != asked.get(claim):
        return True
    applied = names.ANNOTATION_APPLIED
    return not holds(job, "Complete") and (
        holds(job, "Failed") or held.get(applied) != asked.get(applied)
    )


def served(workload: Manifest | None) -> str | None:
    """The model that a vLLM's Deployment serves; None when there is none."""
    if workload is None:
        return None
    model: str = _arguments(workload)[0]
    return model


def _arguments(workload: Manifest) -> list[str]:
    pod: dict[str, Any] = workload["spec"]["template"]["spec"]
    return list(pod["containers"][0]["args"])


def in_service(workload: Manifest | None, before: ServedModel | None) -> ServedModel | None:
    """The model, with its window, that the API is to ask vLLM for.

    Args:
        workload: vLLM's Deployment.
        before: What it was until now; it stays so until every pod of vLLM has the new one.
    """
    if workload is None:
        return before
    spec, status = workload["spec"], workload.get("status", {})
    counts = {status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
    current = status.get("observedGeneration", 0) >= workload["metadata"].get("generation", 0)
    if not current or counts != {spec.get("replicas", 1)}:
        return before
    arguments = _arguments(workload)
    window = arguments[arguments.index("--max-model-len") + 1]
    return ServedModel(model=arguments[0], max_model_len=int(window))
