"""What every kind shares: the base model, metadata, conditions, and the scalar types."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP: Final = "ragtenancy.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

_DURATION: Final = re.compile(r"^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$")


class Model(BaseModel):
    """A part of a spec: camelCase on the wire, immutable, and closed to unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid"
    )

    def wire(self) -> dict[str, Any]:
        """This model as a manifest holds it: camelCase names, nothing that is None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OpenModel(Model):
    """A part that others may extend (metadata, status): unknown fields are passed over."""

    model_config = ConfigDict(extra="ignore")


def rule(expression: str, message: str, **more: str) -> dict[str, str]:
    """One CEL validation rule, as ``x-kubernetes-validations`` holds it."""
    return {"rule": expression, "message": message, **more}


def rules(*validations: dict[str, str]) -> dict[str, Any]:
    """The ``json_schema_extra`` that carries CEL rules into the CRD."""
    return {"x-kubernetes-validations": list(validations)}


def parse_duration(text: str) -> timedelta:
    """Read a duration such as ``1h30m`` or ``45s``; one beyond ``timedelta.max`` is that.

    Raises:
        ValueError: The text is not hours, minutes and seconds in that order.
    """
    match = _DURATION.match(text)
    if not match or not text:
        raise ValueError(f"{text!r} is not a duration such as 1h30m or 45s")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    try:
        return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        return timedelta.max


def parse_timestamp(text: str) -> datetime:
    """Read a moment.

    Raises:
        ValueError: The text is none.
    """
    return datetime.fromisoformat(text)


Duration = Annotated[
    str, Field(pattern=r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", min_length=2, max_length=16)
]
"""Hours, minutes and seconds: ``1h``, ``90s``, ``1h30m``."""

Quantity = Annotated[
    str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$", max_length=32)
]
"""A Kubernetes quantity, such as ``10Gi`` or ``500m``."""

IntOrQuantity = Annotated[int | str, Field(json_schema_extra={"x-kubernetes-int-or-string": True})]
"""A quantity that may be written as a bare number, as Kubernetes lets ``cpu: 2``."""

Name = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)
]
"""The name of a Kubernetes object (a DNS subdomain)."""

Namespace = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)
]
"""The name of a namespace (a DNS label)."""

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$", max_length=256)]
"""The name of a model, as the model hub or the provider spells it."""

Label = Annotated[str, Field(max_length=63)]
"""The value of a label."""

HTTPURL = Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=1024)]
"""An absolute http or https URL."""


Timestamp = Annotated[
    str,
    Field(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$",
        max_length=40,
    ),
]
"""A moment, as RFC 3339 writes it: ``2027-01-31T00:00:00Z``."""

OpenObject = Annotated[
    dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
]
"""A Kubernetes type of many fields. The API server checks it in the child that it goes into: a
fully typed copy of each would make the CRD a megabyte."""


def exactly_one(first: str, second: str) -> dict[str, str]:
    """The rule of a union of two members."""
    return rule(
        f"has(self.{first}) != has(self.{second})", f"set exactly one of {first} and {second}"
    )


def at_most_one(first: str, second: str) -> dict[str, str]:
    """The rule of an optional union of two members."""
    return rule(f"!(has(self.{first}) && has(self.{second}))", f"set {first} or {second}, not both")


class SecretKeyRef(Model):
    """One entry of a Secret in the same namespace."""

    name: Name = Field(description="Name of the Secret.")
    key: str = Field(
        pattern=r"^[-._a-zA-Z0-9]+$", max_length=253, description="Entry of the Secret's data."
    )


class ClientTLS(Model):
    """How the certificate of a server that somebody else runs is verified."""

    ca_secret_ref: SecretKeyRef = Field(
        description="Secret with the certificates (PEM) of the CAs that are trusted for it."
    )


class LabelSelectorRequirement(Model):
    """One requirement of a label selector."""

    key: str = Field(max_length=316, description="Label key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label's value relates to the values."
    )
    values: list[Label] = Field(default_factory=list, max_length=64, description="Label values.")


class LabelSelector(Model):
    """A label selector, as Kubernetes defines it."""

    match_labels: dict[str, Label] | None = Field(
        default=None, max_length=32, description="Labels that must be there with these values."
    )
    match_expressions: list[LabelSelectorRequirement] | None = Field(
        default=None, max_length=32, description="Requirements that must all hold."
    )


class Metadata(OpenModel):
    """The part of an object's metadata that ragtenancy reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    deletion_timestamp: str | None = None
    finalizers: list[str] = Field(default_factory=list)
    annotations: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)


class Condition(OpenModel):
    """One condition, as ``metav1.Condition``."""

    type: str = Field(max_length=64, description="What the condition is about, in CamelCase.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(max_length=256, description="Why, as one CamelCase word.")
    message: str = Field(
        default="", max_length=4096, description="Why, for a person, and what to do about it."
    )
    observed_generation: int = Field(
        default=0, description="The metadata.generation that this condition was computed from."
    )
    last_transition_time: str = Field(
        default="",
        json_schema_extra={"format": "date-time"},
        description="When the status last changed.",
    )


class Object(OpenModel):
    """A Kubernetes object of one of our kinds."""

    api_version: str = API_VERSION
    kind: str = ""
    metadata: Metadata
