"""The error tree of the product. It knows no HTTP status: the service maps each class to one.

    CxrError
    |-- InvalidInput                    the caller sent something that cannot be used
    |   |-- InvalidRadiograph           the bytes are damaged, or no picture at all
    |   |-- UnsupportedMedia            the bytes are of a kind that is not accepted
    |   |-- UnsupportedRadiograph       a sound file, but not one this model may read
    |   `-- InvalidText                 report, question or instruction text cannot be used
    |-- InvalidImageTokens              token ids that are not one whole image
    |-- CheckpointError
    |   |-- InvalidCheckpoint           manifest or files are missing, damaged or of another version
    |   `-- DigestMismatch              a file is not the one that the manifest names
    `-- GenerationError
        |-- GeneratorUnavailable        the language-model server cannot be reached, or is not ready
        |-- GeneratorTimeout            it did not answer within the deadline
        |-- GeneratorRejected           it refused the request
        `-- GeneratorMisbehaved         it answered something that breaks the protocol

Messages are safe to show and to log: they never quote file contents, header values or text
that came from a caller.
"""

from __future__ import annotations


class CxrError(Exception):
    """Anything this product raises on purpose.

    Attributes:
        reason: a short machine-readable word for the cause, from a closed set for each class.
    """

    default_reason = "error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason


class InvalidInput(CxrError):
    """The caller sent something that cannot be used."""

    default_reason = "invalid-input"


class InvalidRadiograph(InvalidInput):
    """The bytes are damaged, or hold no picture."""

    default_reason = "corrupt"


class UnsupportedMedia(InvalidInput):
    """The bytes are not of a kind that is accepted (DICOM, PNG, JPEG)."""

    default_reason = "media-type"


class UnsupportedRadiograph(InvalidInput):
    """The file is sound, but the model may not read it: a CT, several frames, another body part."""

    default_reason = "unsupported"


class InvalidText(InvalidInput):
    """A report, question or instruction: empty, too long, or with control characters."""

    default_reason = "text"


class InvalidImageTokens(CxrError):
    """Token ids that do not make exactly one image: wrong count, or an id outside the codebook."""

    default_reason = "image-tokens"


class CheckpointError(CxrError):
    """A checkpoint directory cannot be used."""

    default_reason = "checkpoint"


class InvalidCheckpoint(CheckpointError):
    """The manifest or a file is missing, damaged, or of a format version that is not known."""

    default_reason = "invalid-checkpoint"


class DigestMismatch(CheckpointError):
    """A file's SHA-256 is not the one in the manifest."""

    default_reason = "digest"


class GenerationError(CxrError):
    """The language-model server did not give a usable answer."""

    default_reason = "generation"


class GeneratorUnavailable(GenerationError):
    """The language-model server cannot be reached, is starting, or went away before answering.

    Attributes:
        retry_after_seconds: when it is worth trying again.
    """

    default_reason = "unavailable"

    def __init__(
        self, message: str, *, reason: str | None = None, retry_after_seconds: int = 5
    ) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_seconds = retry_after_seconds


class GeneratorTimeout(GenerationError):
    """No answer within the deadline."""

    default_reason = "timeout"


class GeneratorRejected(GenerationError):
    """The language-model server refused the request (HTTP 4xx)."""

    default_reason = "rejected"


class GeneratorMisbehaved(GenerationError):
    """The answer breaks the protocol: no JSON, no token ids, another model."""

    default_reason = "misbehaved"
