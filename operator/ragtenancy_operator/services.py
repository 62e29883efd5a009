"""What a reconcile works with."""

import asyncio
from dataclasses import dataclass, field

from ragtenancy_operator.apply import Applier
from ragtenancy_operator.connections import Connections
from ragtenancy_operator.events import Events
from ragtenancy_operator.kube import Kube
from ragtenancy_operator.optional import OptionalKinds
from ragtenancy_operator.served import Served
from ragtenancy_operator.settings import Settings
from ragtenancy_operator.store import Key, Store
from ragtenancy_operator.workqueue import WorkQueue


@dataclass
class Findings:
    """What the keeper found in the stores, and the reconciles say in conditions.

    Attributes:
        state_lost: Since when a deployment's state Redis has only counted anew, by its uid.
        noting_loss: Held by who notes that the documents of all who share a place are lost.
    """

    state_lost: dict[str, str] = field(default_factory=dict)
    noting_loss: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True)
class Services:
    """One of each, shared by all reconciles of a process."""

    settings: Settings
    kube: Kube
    store: Store
    queue: WorkQueue[Key]
    applier: Applier
    events: Events
    connections: Connections
    served: Served
    optional: OptionalKinds
    findings: Findings = field(default_factory=Findings)
