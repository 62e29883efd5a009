"""What the node's processes are told agrees with its layout."""

from pathlib import Path
from string import Template

import pytest

from tests.e2e.localnode import layout
from tests.e2e.localnode.components import BINARIES, COMPONENTS
from tests.e2e.localnode.gotools import TOOLS
from tests.e2e.localnode.layout import PACKAGE
from tests.e2e.localnode.node import settings


def test_every_binary_is_built() -> None:
    assert set(BINARIES) <= set(TOOLS)


def test_the_dns_address_is_a_service_address() -> None:
    assert layout.DNS_SERVICE_IP.startswith(layout.SERVICE_CIDR.removesuffix("0.0/16"))


@pytest.mark.parametrize("path", sorted(p for p in (PACKAGE / "config").rglob("*") if p.is_file()))
def test_configuration_has_no_unknown_placeholder(path: Path) -> None:
    assert "${" not in Template(path.read_text()).substitute(settings())


def test_components_write_only_to_the_nodes_folder() -> None:
    words = [word for component in COMPONENTS for word in component.command]
    paths = [word.partition("=")[2] for word in words if "=/" in word]
    assert all(path.startswith(str(layout.STATE)) for path in paths)
