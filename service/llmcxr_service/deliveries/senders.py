"""Which function sends to which kind of destination."""

from __future__ import annotations

from collections.abc import Mapping

from llmcxr_service.deliveries.cstore import send_cstore
from llmcxr_service.deliveries.fhir import send_fhir
from llmcxr_service.deliveries.mllp import send_mllp
from llmcxr_service.deliveries.sending import Send
from llmcxr_service.deliveries.stow import send_stow

SENDERS: Mapping[str, Send] = {
    "stow": send_stow,
    "c-store": send_cstore,
    "fhir": send_fhir,
    "mllp": send_mllp,
}
