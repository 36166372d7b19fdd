"""Python's eventsourcing as its users drive it: its own client feeds a projection, event by event.

The first argument says what to do, the second is JSON; the answer is JSON on the standard output. PGHOST and its like
say where the database is.
"""

import json
import os
import sys
import time
from functools import singledispatchmethod
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "packages"))

from eventsourcing.application import Application  # noqa: E402
from eventsourcing.persistence import InfrastructureFactory, Tracking  # noqa: E402
from eventsourcing.postgres import PostgresTrackingRecorder  # noqa: E402
from eventsourcing.projection import Projection, ProjectionRunner  # noqa: E402
from eventsourcing.utils import Environment, get_topic  # noqa: E402

ENVIRONMENT = {
    "PERSISTENCE_MODULE": "eventsourcing.postgres",
    "POSTGRES_HOST": os.environ["PGHOST"],
    "POSTGRES_PORT": os.environ["PGPORT"],
    "POSTGRES_USER": os.environ["PGUSER"],
    "POSTGRES_PASSWORD": "",
    "POSTGRES_DBNAME": os.environ["PGDATABASE"],
    "ORIGINATOR_ID_TYPE": "text",
    "POSTGRES_ENABLE_DB_FUNCTIONS": "y",
}
HOURS = 24 * 3600.0


class Carts(Application[str]):
    """Its table is carts_events."""


class ItemAdded:
    originator_id: str
    originator_version: int
    quantity: int
    price: float


class CartViewed:
    originator_id: str
    originator_version: int


class CartView(PostgresTrackingRecorder):
    """The model, with how far it has got."""

    def add(self, event: ItemAdded, version: int, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(
                "INSERT INTO cart_1 AS c VALUES (%s, %s, %s) ON CONFLICT (cart_id) DO UPDATE"
                " SET items = c.items + excluded.items, total = c.total + excluded.total",
                (event.originator_id, event.quantity, event.quantity * event.price * version),
                prepare=True,
            )
            self._insert_tracking(cursor, tracking)

    def empty(self) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute("TRUNCATE cart_1")
            cursor.execute(f"DELETE FROM {self.tracking_table_name} WHERE application_name = 'Carts'")

    def last_taken(self) -> int:
        with self.datastore.transaction() as cursor:
            cursor.execute("SELECT max(notification_id) AS last FROM carts_events WHERE topic = %s", (get_topic(ItemAdded),))
            return cursor.fetchone()["last"]


class CartProjection(Projection[CartView]):
    name = "cart"
    topics = (get_topic(ItemAdded),)
    version = 1

    @singledispatchmethod
    def process_event(self, domain_event: object, tracking: Tracking) -> None:
        raise TypeError(domain_event)

    @process_event.register
    def _(self, domain_event: ItemAdded, tracking: Tracking) -> None:
        self.view.add(domain_event, self.version, tracking)


def create(_: None) -> None:
    Carts(env=ENVIRONMENT).close()


def rebuild(task: dict) -> dict:
    CartProjection.version = task["version"]
    # A runner goes on where its view has got to: from the beginning, once that is empty.
    environment = Environment(CartProjection.name, ENVIRONMENT)
    view = InfrastructureFactory.construct(environment).tracking_recorder(CartView)
    last = view.last_taken()
    view.empty()
    view.datastore.close()
    started = time.perf_counter()
    with ProjectionRunner(
        application_class=Carts, projection_class=CartProjection, view_class=CartView, env=ENVIRONMENT
    ) as runner:
        runner.wait(last, timeout=HOURS)
        return {"seconds": time.perf_counter() - started}


if __name__ == "__main__":
    answer = {"create": create, "rebuild": rebuild}[sys.argv[1]](json.loads(sys.argv[2]))
    print(json.dumps(answer))
