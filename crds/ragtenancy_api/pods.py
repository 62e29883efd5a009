"""Settings that every component's pods share."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ragtenancy_api.meta import IntOrQuantity, Model, Name, Quantity, rule, rules

Label = Annotated[str, Field(max_length=63)]
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


class Storage(Model):
    """A volume claimed for a component."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self == oldSelf",
                "storage is immutable: a claim cannot move to another class, and it is not resized "
                "in this version. Declare a new RAGDeployment and load the documents there",
            )
        )
    )

    size: Quantity = Field(default="10Gi", description="Size of the volume.")
    storage_class_name: Name | None = Field(
        default=None, description="StorageClass of the claim; the cluster's default when absent."
    )
