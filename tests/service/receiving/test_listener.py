"""`llmcxr dicom-listen`: a process of its own puts into the queue that the gateway works on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from pydicom.uid import generate_uid
from tests.service.receiving.conftest import AE_TITLE, ROUTER, free_port, instance, wait_for
from tests.service.receiving.test_dimse import answers, associated, store


def test_the_gateway_reports_what_the_listener_received(hospital, tmp_path):
    settings = hospital.settings
    environment = {
        "PATH": os.environ["PATH"],
        "LLMCXR_CHECKPOINT": str(settings.checkpoint),
        "LLMCXR_DICOM_RULES": str(settings.dicom_rules),
        "LLMCXR_DESTINATIONS": str(settings.destinations),
        "LLMCXR_SPOOL": str(settings.spool),
        "LLMCXR_DICOM_AE_TITLE": AE_TITLE,
        "LLMCXR_DICOM_CALLING_AE_TITLES": ROUTER,
        "LLMCXR_DECODE_WORKERS": "1",
    }
    port = free_port()
    command = [sys.executable, "-m", "llmcxr_service", "dicom-listen", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        try:
            wait_for(lambda: process.poll() is not None or answers(port), seconds=60)
            study = generate_uid()
            with associated(hospital, port=port) as association:
                assert store(association, instance(StudyInstanceUID=study)) == 0x0000
            assert len(hospital.results_in(study, 1)) == 1
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert study.encode() not in errors
