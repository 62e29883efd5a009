"""The API of a RAGDeployment: its pods, the way to them, and who may come in."""

from typing import Annotated, Final

from pydantic import ConfigDict, Field

from ragtenancy_api.meta import HTTPURL, Model, Name, Namespace, at_most_one, rule, rules
from ragtenancy_api.pods import Annotation, PodSettings
from ragtenancy_api.settings import Role

Host = Annotated[
    str,
    Field(
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        max_length=253,
    ),
]


class APIAutoscaling(Model):
    """A HorizontalPodAutoscaler on the API's CPU."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("self.minReplicas <= self.maxReplicas", "minReplicas must not pass maxReplicas")
        )
    )

    min_replicas: int = Field(default=2, ge=1, le=1000, description="Fewest pods.")
    max_replicas: int = Field(ge=1, le=1000, description="Most pods.")
    target_cpu: int = Field(
        default=70,
        ge=1,
        le=1000,
        alias="targetCPU",
        description="CPU that the pods use on average, in percent of what they request.",
    )


class APITLS(Model):
    """The certificate of the API's Ingress."""

    secret_name: Name = Field(description="Secret of type kubernetes.io/tls.")


class Ingress(Model):
    """An Ingress in front of the API."""

    host: Host = Field(description="Host name of the API.")
    class_name: Name | None = Field(
        default=None, description="IngressClass; the cluster's default when absent."
    )
    annotations: dict[str, Annotation] | None = Field(
        default=None, max_length=64, description="Annotations for the ingress controller."
    )


class ParentRef(Model):
    """A Gateway that takes the API's route."""

    name: Name = Field(description="Name of the Gateway.")
    namespace: Namespace | None = Field(
        default=None, description="Its namespace; the RAGDeployment's when absent."
    )
    section_name: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        default=None, description="Listener of the Gateway; all that match when absent."
    )


class HTTPRoute(Model):
    """A Gateway API route to the API."""

    parent_refs: list[ParentRef] = Field(
        min_length=1, max_length=8, description="Gateways that take the route."
    )
    hostnames: list[Host] = Field(
        default_factory=list, max_length=16, description="Host names of the route; any when empty."
    )


class APIKeyAuth(Model):
    """API keys of the tenants' Secrets."""

    enabled: bool = Field(default=True, description="Whether API keys are issued and accepted.")


class JWTAuth(Model):
    """Tokens of an issuer that the platform trusts."""

    issuer: HTTPURL = Field(
        description="The token's `iss`. Its keys are found by OpenID discovery."
    )
    audience: str = Field(min_length=1, max_length=1024, description="The token's `aud`.")
    jwks_url: HTTPURL | None = Field(
        default=None, description="URL of the issuer's keys, when it has no discovery document."
    )
    tenant_claim: str = Field(
        default="tenant",
        min_length=1,
        max_length=256,
        description="Claim that names the tenant as NAMESPACE/NAME: the issuer decides, never the "
        "tenant.",
    )
    role: Role = Field(
        default="Reader", description="What a token may do: Reader asks, Writer also loads."
    )


class Auth(Model):
    """Who may come in."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.apiKeys.enabled || has(self.jwt)",
                "nobody could come in: enable apiKeys or set jwt",
            )
        )
    )

    api_keys: APIKeyAuth = Field(default=APIKeyAuth(), description="API keys of the tenants.")
    jwt: JWTAuth | None = Field(default=None, description="Tokens of an issuer; none when absent.")


_RULES: Final = (
    at_most_one("replicas", "autoscaling"),
    at_most_one("ingress", "httpRoute"),
    rule(
        "!has(self.tls) || has(self.ingress)",
        "tls is the Ingress's: set ingress, or let the Gateway hold the certificate",
    ),
    rule(
        "!has(self.httpRoute) || has(self.publicURL)",
        "publicURL is required with httpRoute: only the Gateway knows its scheme and port",
    ),
    rule(
        "!has(self.ingress) || !self.ingress.host.startsWith('*') || has(self.publicURL)",
        "publicURL is required with a wildcard host: no client can use the wildcard",
    ),
    rule(
        "!has(self.autoscaling) || (has(self.resources) && has(self.resources.requests) && "
        "'cpu' in self.resources.requests)",
        "autoscaling needs resources.requests.cpu: the target is a share of it",
    ),
)


class API(PodSettings):
    """The service that answers tenants."""

    model_config = ConfigDict(json_schema_extra=rules(*_RULES))

    replicas: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        default=None, description="Number of pods; 2 when neither this nor autoscaling is set."
    )
    autoscaling: APIAutoscaling | None = Field(
        default=None, description="Pods by load, instead of replicas."
    )
    public_url: HTTPURL | None = Field(
        default=None,
        alias="publicURL",
        description="URL under which clients reach the API, without /v1. It goes into every "
        "tenant's Secret. When absent, the Ingress's host, else the Service's address inside the "
        "cluster.",
    )
    ingress: Ingress | None = Field(default=None, description="An Ingress in front of the API.")
    http_route: HTTPRoute | None = Field(
        default=None, alias="httpRoute", description="A Gateway API route to the API."
    )
    tls: APITLS | None = Field(default=None, description="The certificate of the Ingress.")
    auth: Auth = Field(default=Auth(), description="Who may come in.")
