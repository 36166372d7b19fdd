import os
import time

import psycopg
from psycopg.errors import SerializationFailure
from psycopg.types.json import Jsonb


def restock(connection, article, wanted):
    """Orders what is missing, by what this transaction reads: if that has changed, it fails."""
    with connection.transaction():
        found = connection.execute("SELECT quantity FROM stock WHERE article = %s", [article])
        quantity = wanted - found.fetchone()[0]
        data = Jsonb({"quantity": quantity})
        connection.execute("SELECT refold.append_event(%s, 'restocked', %s)", [article, data])
        return quantity


def retried(work, attempts=5):
    """Does the work again, from its start, where another session was faster (40001)."""
    for _ in range(attempts - 1):
        try:
            return work()
        except SerializationFailure:
            pass
    return work()


def rebuild(connection, projection):
    (job,) = connection.execute("SELECT refold.start_rebuild(%s)", [projection]).fetchone()
    progress = """SELECT phase, events_done, events_total FROM refold.rebuild_progress
                   WHERE projection = %s"""
    while now := connection.execute(progress, [projection]).fetchone():
        print("{}: {} of {} events".format(*now), flush=True)
        time.sleep(0.1)
    outcome = "SELECT state, error_message FROM refold.rebuild_jobs WHERE job_id = %s"
    state, message = connection.execute(outcome, [job]).fetchone()
    if state != "done":
        raise RuntimeError(f"the rebuild is {state}: {message}")


with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    ordered = retried(lambda: restock(connection, "apple", 100))
    stock = connection.execute("SELECT quantity FROM stock WHERE article = 'apple'").fetchone()
    print(f"apple: {ordered} ordered, {stock[0]} in stock")
    rebuild(connection, "stock")
    print("stock is rebuilt")
