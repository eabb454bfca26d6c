"""What MLflow has not been told yet (``ports.Outbox``), found through revisions.

Every row that MLflow shows carries the revision of its last change, drawn from one counter of the ledger. A
destination remembers the revision up to which all is delivered, so pending rows are a short range of an index.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_, select

from mlflow_pipes.model.publication import Publication, Receipt
from mlflow_pipes.workspace.ledger import tables
from mlflow_pipes.workspace.ledger.backends import Cursor
from mlflow_pipes.workspace.ledger.connection import Database, insert_into
from mlflow_pipes.workspace.ledger.publications import read_publications

_runs, _steps, _deliveries = tables.runs.c, tables.step_runs.c, tables.deliveries.c


@dataclass(slots=True)
class Shown:
    """A run of any kind that MLflow shows, or will.

    Attributes:
        parent_id: the run it stands in; None for a pipeline's run.
        revision: 0 when it has nothing to show yet, but a child of its has.
        mlflow_run_id: where it was delivered to, None when it never was.
    """

    id: str
    parent_id: str | None
    revision: int
    mlflow_run_id: str | None


class SqlOutbox:
    """Publications and receipts of any number of destinations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pending(self, destination: str, limit: int) -> list[Publication]:
        """Return up to *limit* runs whose newest revision was not delivered to *destination*, parents first."""
        changed = self._changed(destination, self._delivered_through(destination), limit)
        if not changed:
            return []
        known = self._with_ancestors(destination, changed)
        return read_publications(self._database, parents_first(changed, known)[:limit], destination)

    def delivered(self, destination: str, receipts: Sequence[Receipt]) -> None:
        """Remember that these revisions were delivered, and under which MLflow run ids."""
        if not receipts:
            return
        insert = insert_into(tables.deliveries, self._database.dialect)
        newest = {"revision": insert.excluded.revision, "mlflow_run_id": insert.excluded.mlflow_run_id}
        # A receipt that comes late must not take back a newer one.
        put = insert.on_conflict_do_update(
            index_elements=["destination", "run_id"],
            set_=newest,
            where=_deliveries.revision <= insert.excluded.revision,
        )
        values = [
            {
                "destination": destination,
                "run_id": receipt.run_id,
                "revision": receipt.revision,
                "mlflow_run_id": receipt.mlflow_run_id,
            }
            for receipt in receipts
        ]

        def work(_cursor: Cursor) -> None:
            self._database.change(put, values)
            self._advance(destination)

        self._database.write(work)

    def _advance(self, destination: str) -> None:
        """Raise what is delivered through, inside the transaction of the receipts."""
        first = self._changed(destination, self._delivered_through(destination), 1)
        newest = self._database.rows(select(tables.counters.c.revision))[0][0]
        through = first[0].revision - 1 if first else newest
        insert = insert_into(tables.destinations, self._database.dialect)
        put = insert.on_conflict_do_update(
            index_elements=["name"], set_={"delivered_through": insert.excluded.delivered_through}
        )
        self._database.change(put, {"name": destination, "delivered_through": through})

    def _delivered_through(self, destination: str) -> int:
        query = select(tables.destinations.c.delivered_through).where(tables.destinations.c.name == destination)
        found = self._database.rows(query)
        return int(found[0][0]) if found else 0

    def _changed(self, destination: str, through: int, limit: int) -> list[Shown]:
        """Return the undelivered of the lowest revisions above *through*."""
        undelivered = or_(_deliveries.revision.is_(None), _deliveries.revision < _runs.revision)
        of_runs = _shown_runs(destination).where(_runs.revision > through, undelivered).order_by(_runs.revision)
        undelivered = or_(_deliveries.revision.is_(None), _deliveries.revision < _steps.revision)
        of_steps = _shown_steps(destination).where(_steps.revision > through, undelivered).order_by(_steps.revision)
        found = self._shown(of_runs.limit(limit), of_steps.limit(limit))
        return sorted(found, key=lambda item: item.revision)[:limit]

    def _with_ancestors(self, destination: str, items: Sequence[Shown]) -> dict[str, Shown]:
        known = {item.id: item for item in items}
        looked_for = set(known)
        missing = {item.parent_id for item in items if item.parent_id} - looked_for
        while missing:
            looked_for |= missing
            found = self._by_ids(destination, missing)
            known.update((item.id, item) for item in found)
            missing = {item.parent_id for item in found if item.parent_id} - looked_for
        return known

    def _by_ids(self, destination: str, ids: Iterable[str]) -> list[Shown]:
        wanted = sorted(ids)
        found: list[Shown] = []
        for start in range(0, len(wanted), 500):
            some = wanted[start : start + 500]
            of_runs = _shown_runs(destination).where(_runs.run_id.in_(some))
            of_steps = _shown_steps(destination).where(_steps.step_run_id.in_(some))
            found += self._shown(of_runs, of_steps)
        return found

    def _shown(self, of_runs: Select[Any], of_steps: Select[Any]) -> list[Shown]:
        runs = [Shown(id_, None, revision, known) for id_, revision, known in self._database.rows(of_runs)]
        steps = [
            Shown(id_, parent_id, revision or 0, known)
            for id_, parent_id, revision, known in self._database.rows(of_steps)
        ]
        return runs + steps


def parents_first(changed: Sequence[Shown], known: dict[str, Shown]) -> list[str]:
    """Return the ids to publish: what changed, and its ancestors that were never delivered, parents before children."""
    wanted = {item.id for item in changed}
    for item in changed:
        above = known.get(item.parent_id or "")
        while above is not None and above.mlflow_run_id is None and above.id not in wanted:
            wanted.add(above.id)
            above = known.get(above.parent_id or "")

    def depth(item: Shown) -> int:
        levels = 0
        above = known.get(item.parent_id or "")
        while above is not None:
            levels += 1
            above = known.get(above.parent_id or "")
        return levels

    ordered = sorted((known[id_] for id_ in wanted), key=lambda item: (depth(item), item.revision))
    return [item.id for item in ordered]


def _receipt(destination: str, id_: ColumnElement[Any]) -> ColumnElement[bool]:
    return and_(_deliveries.destination == destination, _deliveries.run_id == id_)


def _shown_runs(destination: str) -> Select[Any]:
    joined = tables.runs.outerjoin(tables.deliveries, _receipt(destination, _runs.run_id))
    return select(_runs.run_id, _runs.revision, _deliveries.mlflow_run_id).select_from(joined)


def _shown_steps(destination: str) -> Select[Any]:
    joined = tables.step_runs.outerjoin(tables.deliveries, _receipt(destination, _steps.step_run_id))
    columns = (_steps.step_run_id, _steps.parent_id, _steps.revision, _deliveries.mlflow_run_id)
    return select(*columns).select_from(joined)
