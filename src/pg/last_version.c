/*
 * The version that a stream is at. An SQL statement for that costs as much as half the INSERT that follows: this is what
 * its executor does in the end. As in any scan, rows are seen as the snapshot says, and serializable transactions leave
 * their marks. Privileges and policies are for statements of users; this is none.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

/* Attribute numbers in refold.event. */
#define EVENT_STREAM_ID 2
#define EVENT_STREAM_VERSION 3

int64		refold_last_version(Oid log, Datum stream_id, int64 at_least, bool latest);

/* Whether the index is over (stream_id, stream_version): the scan ends at its last entry of the stream. */
static bool
orders_streams(Relation index)
{
	Form_pg_index form = index->rd_index;

	return form->indisvalid && form->indisunique && form->indnkeyatts == 2 &&
		form->indkey.values[0] == EVENT_STREAM_ID && form->indkey.values[1] == EVENT_STREAM_VERSION &&
		(index->rd_indoption[1] & INDOPTION_DESC) == 0 && RelationGetIndexPredicate(index) == NIL;
}

/*
 * Opens the index. REINDEX CONCURRENTLY gives it another OID; the old one is in the list as long as everybody keeps it
 * up, so that the one that was found last is right while it is there.
 */
static Relation
open_index(Relation log)
{
	static Oid	found_last = InvalidOid;
	List	   *indexes = RelationGetIndexList(log);
	ListCell   *cell;

	if (list_member_oid(indexes, found_last))
	{
		list_free(indexes);
		return index_open(found_last, RowExclusiveLock);
	}
	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), RowExclusiveLock);

		if (orders_streams(index))
		{
			found_last = RelationGetRelid(index);
			list_free(indexes);
			return index;
		}
		index_close(index, NoLock);
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("refold.event has no valid unique index on (stream_id, stream_version)"),
			 errhint("Create it again, or REINDEX TABLE refold.event.")));
}

/* The largest version from this one on, or 0. Without a bound the scan reads all of the stream's entries on a page first. */
static int64
last_from(IndexScanDesc scan, ScanKey keys, int64 from, TupleTableSlot *slot)
{
	bool		isnull;

	keys[1].sk_argument = Int64GetDatum(from);
	index_rescan(scan, keys, 2, NULL, 0);
	if (!index_getnext_slot(scan, BackwardScanDirection, slot))
		return 0;
	return DatumGetInt64(slot_getattr(slot, EVENT_STREAM_VERSION, &isnull));
}

/*
 * The largest version, as the newest snapshot sees it or the transaction's; found faster if it is at least what is said,
 * which need not be true. The locks are those that the INSERT takes next, and stay as they would.
 */
int64
refold_last_version(Oid log_oid, Datum stream_id, int64 at_least, bool latest)
{
	Relation	log = table_open(log_oid, RowExclusiveLock);
	Relation	index = open_index(log);
	TupleTableSlot *slot = table_slot_create(log, NULL);
	IndexScanDesc scan;
	ScanKeyData keys[2];
	Snapshot	snapshot;
	int64		version;

	/* What this transaction appended before is seen: SPI has ended each INSERT with CommandCounterIncrement. */
	snapshot = RegisterSnapshot(latest ? GetLatestSnapshot() : GetTransactionSnapshot());
	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid, index->rd_indcollation[0], F_TEXTEQ, stream_id);
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTGreaterEqualStrategyNumber, InvalidOid, InvalidOid, F_INT8GE, 0);
#if PG_VERSION_NUM >= 180000
	scan = index_beginscan(log, index, snapshot, NULL, 2, 0);
#else
	scan = index_beginscan(log, index, snapshot, 2, 0);
#endif
	version = last_from(scan, keys, at_least, slot);
	if (version == 0 && at_least > PG_INT64_MIN)
		version = last_from(scan, keys, PG_INT64_MIN, slot);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	index_close(index, NoLock);
	table_close(log, NoLock);
	return version;
}
