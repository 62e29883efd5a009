"""What can go wrong in a reconcile, by what is to be done about it."""

from pydantic import ValidationError

_FAILED = ("failed to create typed patch object", "failed to convert new object")


class Retry(Exception):
    """Something that is likely to pass: the reconcile is tried again, later each time."""


class Unreachable(Retry):
    """A server that does not answer."""


class Refused(Exception):
    """Something that only a person can mend: the reconcile waits for a change.

    Attributes:
        reason: One CamelCase word for the condition.
        message: What is wrong and what to do about it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Rejected(Refused):
    """A child that the API server does not take as it is.

    Attributes:
        child: Kind, namespace and name of the child.
        detail: What the API server says, with fields of the child.
    """

    def __init__(self, child: str, detail: str) -> None:
        super().__init__("Rejected", f"the API server rejects {child}: {detail}")
        self.child = child
        self.detail = detail


def invalid_spec(error: ValidationError) -> Refused:
    """An object that does not fit the models; its values are left out of the message."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    return Refused(
        "InvalidSpec",
        f"{path}: {first['msg']}. The CRDs may be of another version than the operator",
    )


def why(error: BaseException) -> str:
    """Why a connection failed, in words for a person."""
    cause = getattr(error, "os_error", None) or error.__cause__ or error
    text = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return "no answer in time" if isinstance(error, TimeoutError) else text


class KubeError(Retry):
    """An answer of the API server that is not a success.

    Attributes:
        status: The HTTP status.
        reason: The API server's reason, such as ``AlreadyExists``.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"the API server answered {status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def not_found(self) -> bool:
        """Whether the object is not there."""
        return self.status == 404

    @property
    def already_exists(self) -> bool:
        """Whether an object of this name is there already."""
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def invalid(self) -> bool:
        """Whether the API server will never take this object as it is."""
        # what an apply says that does not fit the schema is a 500 of the structured merge
        return self.status in (400, 422) or (
            self.status == 500 and self.message.startswith(_FAILED)
        )

    @property
    def terminating(self) -> bool:
        """Whether the namespace is on its way out and takes no new objects."""
        return self.status == 403 and "being terminated" in self.message
