"""Pure builders: one file per component, from a spec to manifests.

Builders set only ``args`` and ``env`` of the official images; what differs on a local node lives
in its images and volumes.
"""
