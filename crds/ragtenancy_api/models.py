"""The models of a RAGDeployment, served by a vLLM of the operator's or by somebody else."""

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from ragtenancy_api.meta import (
    HTTPURL,
    ClientTLS,
    Model,
    ModelName,
    Quantity,
    SecretKeyRef,
    at_most_one,
    exactly_one,
    rule,
    rules,
)
from ragtenancy_api.pods import Argument, Claim, PodSettings, claim_rules


class ModelCacheClaim(Claim):
    """The claim that keeps a downloaded model."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *claim_rules(),
            rule(
                "self.accessMode == oldSelf.accessMode",
                "accessMode is immutable: a claim keeps its mode. Switch the model to external "
                "and back, or declare a new RAGDeployment",
            ),
        )
    )

    size: Quantity = Field(
        default="20Gi", description="Size of the volume. It can grow where the class allows it."
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = Field(
        default="ReadWriteOnce",
        description="ReadWriteMany lets model and API pods run on different nodes: both read the "
        "model's tokenizer from this volume.",
    )


class ModelCache(Model):
    """Where a model is kept between restarts."""

    persistent_volume_claim: ModelCacheClaim = Field(
        default=ModelCacheClaim(), description="The claim made for the model."
    )


class ModelAutoscaling(Model):
    """Who decides how many pods a model has."""

    mode: Literal["External"] = Field(
        description="External: the operator leaves the Deployment's replicas alone, for KEDA or a "
        "HorizontalPodAutoscaler of your own."
    )


class VLLM(PodSettings):
    """A vLLM server that the operator runs."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            at_most_one("replicas", "autoscaling"),
            rule(
                "!has(self.tensorParallelSize) || (self.gpus > 0 && "
                "self.gpus % self.tensorParallelSize == 0)",
                "gpus must be a multiple of tensorParallelSize: a pod's GPUs are split into equal "
                "pipeline stages of that many each",
            ),
        )
    )

    replicas: Annotated[int, Field(ge=0, le=256)] | None = Field(
        default=None, description="Number of pods; 1 when neither this nor autoscaling is set."
    )
    autoscaling: ModelAutoscaling | None = Field(
        default=None, description="Leaves the number of pods to somebody else."
    )
    gpus: int = Field(
        default=1,
        ge=0,
        le=16,
        description="GPUs (nvidia.com/gpu) of each pod; the model is split over all of them. "
        "0 runs on the CPU and needs an image built for that.",
    )
    tensor_parallel_size: Annotated[int, Field(ge=1, le=16)] | None = Field(
        default=None,
        description="GPUs that each layer is split over; all of the pod's when absent. What is "
        "left makes pipeline stages.",
    )
    update_strategy: Literal["Surge", "Recreate"] = Field(
        default="Recreate",
        description="How pods are replaced. Surge: a new pod is ready before an old one goes, "
        "which needs a free GPU. Recreate: one after the other in place.",
    )
    args: list[Argument] | None = Field(
        default=None, max_length=64, description="More arguments for `vllm serve`."
    )
    model_cache: ModelCache = Field(
        default=ModelCache(), description="Where the downloaded model is kept."
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret with the model hub's token, for gated models."
    )


class ExternalModel(Model):
    """An OpenAI-compatible server that somebody else runs."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.tls) || self.url.startsWith('https://')",
                "with tls, url must begin with https://",
            )
        )
    )

    url: HTTPURL = Field(description="Base URL, with its version part: https://HOST/v1.")
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret with its API key. None is sent when absent."
    )
    tls: ClientTLS | None = Field(
        default=None, description="How its certificate is verified; by public CAs when absent."
    )


_ONE_SERVER: Final = exactly_one("vllm", "external")


class Embedding(Model):
    """The embedding model."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            _ONE_SERVER,
            rule(
                "self.model == oldSelf.model && self.dimensions == oldSelf.dimensions",
                "the embedding model and its dimensions are immutable: vectors of two models "
                "cannot be compared. Declare a new RAGDeployment and load the documents there",
            ),
        )
    )

    model: ModelName = Field(description="Name of the model.")
    dimensions: int = Field(ge=1, le=65535, description="Length of its vectors.")
    max_input_tokens: int = Field(
        default=512, ge=16, le=131072, description="The longest text it takes, in its own tokens."
    )
    vllm: VLLM | None = Field(default=None, description="Served by a vLLM of the operator's.")
    external: ExternalModel | None = Field(default=None, description="Served by somebody else.")


class Generation(Model):
    """The chat model."""

    model_config = ConfigDict(json_schema_extra=rules(_ONE_SERVER))

    model: ModelName = Field(description="Name of the model.")
    max_model_len: int = Field(
        ge=256, le=10_485_760, description="Context window in tokens: prompt and answer together."
    )
    vllm: VLLM | None = Field(default=None, description="Served by a vLLM of the operator's.")
    external: ExternalModel | None = Field(default=None, description="Served by somebody else.")
