"""Settings that every component's pods share."""

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from ragtenancy_api.meta import (
    IntOrQuantity,
    Label,
    Model,
    Name,
    OpenObject,
    Quantity,
    rule,
    rules,
)

Annotation = Annotated[str, Field(max_length=4096)]
Argument = Annotated[str, Field(max_length=1024)]


class Resources(Model):
    """Compute resources of the component's main container."""

    requests: dict[str, IntOrQuantity] | None = Field(
        default=None, max_length=16, description="What the scheduler sets aside for the container."
    )
    limits: dict[str, IntOrQuantity] | None = Field(
        default=None, max_length=16, description="What the container may use at most."
    )


class Toleration(Model):
    """A taint that the pods tolerate."""

    key: str | None = Field(default=None, max_length=316, description="Key of the taint.")
    operator: Literal["Exists", "Equal"] | None = Field(
        default=None, description="How the value is compared; Equal when absent."
    )
    value: str | None = Field(default=None, max_length=63, description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; every effect when absent."
    )
    toleration_seconds: int | None = Field(
        default=None, ge=0, description="How long a NoExecute taint is tolerated."
    )


class EnvVar(Model):
    """An environment variable of the component's main container."""

    name: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128, description="Name of the variable."
    )
    value: str = Field(max_length=4096, description="Its value.")


class ImagePullSecret(Model):
    """A Secret with a registry's credentials."""

    name: Name = Field(description="Name of the Secret.")


class PodSettings(Model):
    """Where and how a component's pods run."""

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Image of the component. When absent, the operator's default at the time the "
        "component was first made; it is recorded in status.images.",
    )
    resources: Resources | None = Field(
        default=None, description="Compute resources of the component's main container."
    )
    env: list[EnvVar] | None = Field(
        default=None,
        max_length=64,
        description="More environment variables for the component's main container.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    node_selector: dict[str, Label] | None = Field(
        default=None, max_length=32, description="Labels that a node must have."
    )
    tolerations: list[Toleration] | None = Field(
        default=None, max_length=32, description="Taints that the pods tolerate."
    )
    affinity: OpenObject | None = Field(
        default=None,
        description="Affinity of the pods, as in a pod's spec. When absent, several pods of a "
        "component prefer different nodes.",
    )
    topology_spread_constraints: list[OpenObject] | None = Field(
        default=None,
        max_length=16,
        description="How the pods are spread, as in a pod's spec. When absent, several pods of a "
        "component are spread over zones as far as that goes.",
    )
    priority_class_name: Name | None = Field(default=None, description="PriorityClass of the pods.")
    runtime_class_name: Name | None = Field(default=None, description="RuntimeClass of the pods.")
    image_pull_secrets: list[ImagePullSecret] | None = Field(
        default=None, max_length=16, description="Secrets with credentials for the image registry."
    )
    pod_annotations: dict[str, Annotation] | None = Field(
        default=None, max_length=64, description="Annotations that the pods get."
    )
    pod_labels: dict[str, Label] | None = Field(
        default=None,
        max_length=64,
        description="Labels that the pods get, beside those the operator selects by.",
    )
    extra_volumes: list[OpenObject] | None = Field(
        default=None, max_length=32, description="More volumes of the pods, as in a pod's spec."
    )
    extra_volume_mounts: list[OpenObject] | None = Field(
        default=None,
        max_length=32,
        description="Where the component's main container mounts them, as in a container's spec.",
    )


_GROWS: Final = rule(
    "quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
    "size can only grow: a volume cannot be made smaller. Declare a new RAGDeployment and load the "
    "documents there",
)
_SAME_CLASS: Final = rule(
    "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) "
    "|| self.storageClassName == oldSelf.storageClassName)",
    "storageClassName is immutable: a claim cannot move to another class. Declare a new "
    "RAGDeployment and load the documents there",
)


def claim_rules() -> list[dict[str, str]]:
    """The rules of a claim, for a model that adds its own."""
    return [_GROWS, _SAME_CLASS]


class Claim(Model):
    """A volume claimed for a component. Its size can grow; its class is immutable."""

    model_config = ConfigDict(json_schema_extra=rules(*claim_rules()))

    size: Quantity = Field(
        default="10Gi", description="Size of the volume. It can grow where the class allows it."
    )
    storage_class_name: Name | None = Field(
        default=None, description="StorageClass of the claim; the cluster's default when absent."
    )


class Storage(Claim):
    """Volumes that hold what cannot be made again."""

    retain: bool = Field(
        default=False,
        description="Whether the volumes stay when the RAGDeployment is deleted. They are found "
        "again by a RAGDeployment of the same name in the same namespace.",
    )
