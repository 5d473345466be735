"""The release. Written here, since a host that runs the code from its folder has no package to ask for it."""

VERSION = "0.1.0"

AGENT = f"viral-dashboard-workers/{VERSION}"
"""How we name ourselves to others."""
