"""Drafts -> what hospitals store: DICOM SR and Secondary Capture, FHIR, HL7 v2. Pure functions.

Everything made here is preliminary, unverified and says that a machine wrote it. Nothing here
knows HTTP, a network or a file. `formats.render` is the way in.
"""
