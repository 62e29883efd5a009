"""Clients of what the runtime talks to, behind the protocols of `ports`."""
