"""Receiving DICOM: STOW-RS, C-STORE, pulls by WADO-RS, and the rules for what was received.

Instances are handed to `receiving.Receiver`; what becomes of them there is not known here.
"""
