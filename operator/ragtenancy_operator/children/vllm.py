"""vLLM: a Deployment per model, its Service, and the claim that keeps the model."""

from typing import Any, Final

from ragtenancy_api import wiring
from ragtenancy_api.models import VLLM, Embedding, Generation
from ragtenancy_operator.children import secrets
from ragtenancy_operator.children.base import (
    DRAIN_SECONDS,
    Context,
    claim_spec,
    container,
    empty_dir,
    env,
    http_probe,
    manifest,
    pod_template,
    secret_env,
    serves_until_it_is_out_of_service,
    service,
)
from ragtenancy_operator.children.workloads import budget, deployment, rolling
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest

PORT: Final = 8000
MODEL_CACHE: Final = "/var/lib/model-cache"
"""Where a model's cache is mounted, in the layout of the Hugging Face hub's cache."""
_SCRATCH: Final = "/tmp"  # noqa: S108 - an emptyDir
_ENVIRONMENT: Final = {
    "HF_HOME": MODEL_CACHE,
    # its Job has downloaded the model; a server must not wait for the hub, nor change with it
    "HF_HUB_OFFLINE": "1",
    "HOME": _SCRATCH,
    "XDG_CACHE_HOME": f"{_SCRATCH}/cache",
    "VLLM_CACHE_ROOT": f"{_SCRATCH}/cache/vllm",
    "TRITON_CACHE_DIR": f"{_SCRATCH}/cache/triton",
    "TORCHINDUCTOR_CACHE_DIR": f"{_SCRATCH}/cache/torchinductor",
    "VLLM_NO_USAGE_STATS": "1",
}
_LONGEST_ANSWER_SECONDS: Final = 600
"""As the API lets the longest answer end."""
_ENTRIES: Final = {
    Component.EMBEDDING: wiring.CREDENTIAL_EMBEDDING,
    Component.GENERATION: wiring.CREDENTIAL_GENERATION,
}


def cache_claim(context: Context, component: str) -> str:
    """Name of the claim that keeps a component's model."""
    return context.child(component, "model-cache")


def model_of(context: Context, component: str) -> Embedding | Generation:
    """The model of a component."""
    spec = context.deployment.spec
    return spec.embedding if component == Component.EMBEDDING else spec.generation


def _arguments(component: str, model: Embedding | Generation, settings: VLLM) -> list[str]:
    args = [model.model, "--port", str(PORT)]
    if isinstance(model, Generation):
        args += ["--max-model-len", str(model.max_model_len)]
        # usage then tells the prompt's cached tokens apart
        args += ["--enable-prompt-tokens-details"]
    else:
        args += ["--runner", "pooling", "--max-model-len", str(model.max_input_tokens)]
    tensor = settings.tensor_parallel_size or settings.gpus or 1
    pipeline = (settings.gpus or 1) // tensor
    if tensor > 1:
        args += ["--tensor-parallel-size", str(tensor)]
    if pipeline > 1:
        args += ["--pipeline-parallel-size", str(pipeline)]
    # without it, SIGTERM cuts off the answers that are on their way
    args += ["--shutdown-timeout", str(_LONGEST_ANSWER_SECONDS)]
    return [*args, *(settings.args or ())]


def _strategy(settings: VLLM, replicas: int | None) -> dict[str, Any]:
    if settings.update_strategy == "Surge":
        return rolling(surge=1, unavailable=0)
    if replicas is None or replicas > 1:
        return rolling(surge=0, unavailable=1)
    # a surge would wait for a GPU that the old pod still holds
    return {"type": "Recreate"}


def _with_gpus(resources: dict[str, Any], gpus: int) -> dict[str, Any]:
    if not gpus:
        return resources
    return {**resources, "limits": {**resources.get("limits", {}), "nvidia.com/gpu": gpus}}


def build(context: Context, component: str) -> list[Manifest]:
    """The objects of a model's vLLM; none when the model is external."""
    model = model_of(context, component)
    settings = model.vllm
    if settings is None:
        return []
    name = context.child(component)
    scratch, scratch_mount = empty_dir("tmp", _SCRATCH)
    # torch passes tensors between its processes through shared memory
    shared, shared_mount = empty_dir("shm", "/dev/shm", medium="Memory")  # noqa: S108
    variables = [
        secret_env("VLLM_API_KEY", secrets.name(context, component), _ENTRIES[component]),
        *env(_ENVIRONMENT, settings),
    ]
    if settings.token_secret_ref:
        token = settings.token_secret_ref
        variables.insert(0, secret_env("HF_TOKEN", token.name, token.key))
    main = container(
        settings.image or context.images[component],
        settings,
        name="vllm",
        args=_arguments(component, model, settings),
        env=variables,
        ports=[{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        # a large model takes its time to load: up to two hours
        startupProbe=http_probe("/health", PORT, period=2, timeout=2, failures=3600),
        readinessProbe=http_probe("/health", PORT, period=3, timeout=5, failures=3),
        livenessProbe=http_probe("/health", PORT, period=10, timeout=10, failures=6),
        lifecycle=serves_until_it_is_out_of_service(),
        # its last words come with its exit code, and nobody needs a right to read its log
        terminationMessagePolicy="FallbackToLogsOnError",
        volumeMounts=[
            {"name": "model-cache", "mountPath": MODEL_CACHE},
            scratch_mount,
            shared_mount,
        ],
    )
    resources = _with_gpus(main.get("resources", {}), settings.gpus)
    if resources:
        main["resources"] = resources
    template = pod_template(
        context,
        component,
        settings,
        main,
        [
            {
                "name": "model-cache",
                "persistentVolumeClaim": {"claimName": cache_claim(context, component)},
            },
            scratch,
            shared,
        ],
        # As process 1 of its namespace vLLM would not hear a SIGTERM before it serves, and a pod
        # that is deleted while it loads its model would stay for the whole grace period.
        shareProcessNamespace=True,
        terminationGracePeriodSeconds=DRAIN_SECONDS + _LONGEST_ANSWER_SECONDS + 25,
    )
    wanted = settings.model_cache.persistent_volume_claim
    replicas = None if settings.autoscaling else 1
    if settings.replicas is not None:
        replicas = settings.replicas
    return [
        manifest(
            context,
            "v1",
            "PersistentVolumeClaim",
            cache_claim(context, component),
            component,
            spec=claim_spec(wanted.size, wanted.storage_class_name, wanted.access_mode),
        ),
        service(context, name, component, {"http": PORT}),
        deployment(
            context,
            component,
            template,
            replicas=replicas,
            strategy=_strategy(settings, replicas),
            progressDeadlineSeconds=7200,
        ),
        *budget(context, component, replicas),
    ]


def url(context: Context, component: str) -> str:
    """Base URL of a model's OpenAI API, managed or external."""
    model = model_of(context, component)
    if model.external is not None:
        return model.external.url.rstrip("/")
    return f"http://{context.host(component)}:{PORT}/v1"
