"""The API: a Deployment with its Service, the ways to it, and a Role for what it watches."""

from typing import Any, Final

from ragtenancy_api import wiring
from ragtenancy_api.meta import GROUP, SecretKeyRef
from ragtenancy_operator.children import autoscaling, external, routing, secrets, vllm, weaviate
from ragtenancy_operator.children.base import (
    Context,
    container,
    empty_dir,
    env,
    http_probe,
    manifest,
    pod_template,
    service,
)
from ragtenancy_operator.children.workloads import budget, deployment, rolling
from ragtenancy_operator.names import Component
from ragtenancy_operator.store import Manifest

_CREDENTIALS: Final = "/etc/ragtenancy/credentials"
_MODELS: Final = "/var/lib/models"


def url(context: Context) -> str:
    """Base URL that tenants get, with /v1."""
    settings = context.deployment.spec.api
    if settings.public_url:
        base = settings.public_url.rstrip("/")
    elif settings.ingress:
        base = f"{'https' if settings.tls else 'http'}://{settings.ingress.host}"
    else:
        base = f"http://{context.host(Component.API)}"
    return f"{base}/v1"


def sources(context: Context) -> dict[str, SecretKeyRef]:
    """Where each file of the API's credentials comes from (wiring.CREDENTIAL_* and CA_*)."""

    def managed(component: str, entry: str) -> SecretKeyRef:
        return SecretKeyRef(name=secrets.name(context, component), key=entry)

    return {
        **{
            external.credential(component): managed(component, external.credential(component))
            for component in external.PATHS
            if component not in external.components(context)
        },
        **{entry: source.ref for entry, source in external.sources(context).items()},
        wiring.CREDENTIAL_CACHE_SALT: SecretKeyRef(
            name=secrets.salt_name(context), key=wiring.CREDENTIAL_CACHE_SALT
        ),
    }


def _credentials(context: Context) -> dict[str, Any]:
    return {
        "name": "credentials",
        "projected": {
            "defaultMode": 0o440,
            "sources": [
                {"secret": {"name": ref.name, "items": [{"key": ref.key, "path": entry}]}}
                for entry, ref in sources(context).items()
            ],
        },
    }


def _models(context: Context) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, str]]:
    """Volumes, mounts and environment for the models' tokenizers, read from their caches."""
    spec = context.deployment.spec
    volumes, mounts, variables = [], [], {}
    for component, model, variable in (
        (Component.EMBEDDING, spec.embedding, wiring.ENV_EMBEDDING_MODEL_CACHE),
        (Component.GENERATION, spec.generation, wiring.ENV_GENERATION_MODEL_CACHE),
    ):
        if model.vllm is None:
            continue
        path, name = f"{_MODELS}/{component}", f"{component}-model"
        claim = {"claimName": vllm.cache_claim(context, component), "readOnly": True}
        volumes.append({"name": name, "persistentVolumeClaim": claim})
        mounts.append({"name": name, "mountPath": path, "readOnly": True})
        variables[variable] = path
    return volumes, mounts, variables


def _access(context: Context) -> list[Manifest]:
    """The API's identity: it watches its own RAGDeployment and the bindings, nothing else."""
    name, component = context.child(Component.API), Component.API
    verbs = ["get", "list", "watch"]
    role = "rbac.authorization.k8s.io/v1"
    return [
        manifest(
            context,
            "v1",
            "ServiceAccount",
            name,
            component,
            automountServiceAccountToken=False,
        ),
        manifest(
            context,
            role,
            "Role",
            name,
            component,
            rules=[
                {"apiGroups": [GROUP], "resources": ["ragbindings"], "verbs": verbs},
                {
                    "apiGroups": [GROUP],
                    "resources": ["ragdeployments"],
                    "resourceNames": [context.name],
                    "verbs": verbs,
                },
            ],
        ),
        manifest(
            context,
            role,
            "RoleBinding",
            name,
            component,
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            subjects=[{"kind": "ServiceAccount", "name": name, "namespace": context.namespace}],
        ),
    ]


def build(context: Context) -> list[Manifest]:
    """The objects of the API."""
    settings = context.deployment.spec.api
    component = Component.API
    name = context.child(component)
    http_url, grpc_url = weaviate.urls(context)
    scratch, scratch_mount = empty_dir("tmp", "/tmp")  # noqa: S108
    models, model_mounts, model_variables = _models(context)
    variables = {
        wiring.ENV_DEPLOYMENT: context.name,
        wiring.ENV_NAMESPACE: context.namespace,
        wiring.ENV_WEAVIATE_HTTP_URL: http_url,
        wiring.ENV_WEAVIATE_GRPC_URL: grpc_url,
        wiring.ENV_EMBEDDING_URL: vllm.url(context, Component.EMBEDDING),
        wiring.ENV_GENERATION_URL: vllm.url(context, Component.GENERATION),
        wiring.ENV_CREDENTIALS: _CREDENTIALS,
        **model_variables,
    }
    if tracing := context.deployment.spec.observability.tracing:
        variables[wiring.ENV_OTLP_ENDPOINT] = tracing.otlp_endpoint
        variables[wiring.ENV_TRACE_SAMPLE_RATIO] = str(tracing.sample_ratio)
    main = container(
        settings.image or context.images[component],
        settings,
        name="api",
        env=env(variables, settings),
        ports=[
            {"name": "http", "containerPort": wiring.API_PORT, "protocol": "TCP"},
            {"name": "internal", "containerPort": wiring.INTERNAL_PORT, "protocol": "TCP"},
        ],
        # it is not ready before the models' tokenizers are there, but it lives
        startupProbe=http_probe("/healthz", wiring.API_PORT, period=1, timeout=2, failures=120),
        readinessProbe=http_probe("/readyz", wiring.API_PORT, period=2, timeout=3, failures=3),
        livenessProbe=http_probe("/healthz", wiring.API_PORT, period=10, timeout=5, failures=6),
        volumeMounts=[
            {"name": "credentials", "mountPath": _CREDENTIALS, "readOnly": True},
            *model_mounts,
            scratch_mount,
        ],
    )
    template = pod_template(
        context,
        component,
        settings,
        main,
        [_credentials(context), *models, scratch],
        serviceAccountName=name,
        automountServiceAccountToken=True,
        terminationGracePeriodSeconds=630,  # the runtime lets the longest answer end (600 s)
    )
    scaling = settings.autoscaling
    replicas = 2 if settings.replicas is None else settings.replicas
    return [
        *_access(context),
        service(
            context, name, component, {"http": routing.PORT}, targets={"http": wiring.API_PORT}
        ),
        *budget(context, component, scaling.max_replicas if scaling else replicas),
        deployment(
            context,
            component,
            template,
            replicas=None if scaling else replicas,
            strategy=rolling(surge=1, unavailable=0),
        ),
        *autoscaling.build(context),
        *routing.build(context),
    ]
