/*
 * Exchanging the storage of two tables of the same definition: heap, toast table and every index. What a file means is
 * said by a few rows of the catalogs, so this takes time by the number of indexes, never by the number of rows, and an
 * abort undoes it like any other change of a catalog. After PostgreSQL's own swap_relation_files (cluster.c), which is
 * static, swaps one relation only, and takes one of the two to be new in this transaction.
 *
 * What belongs to the files goes with them: sizes, relfrozenxid and relminmxid, the visibility and free space maps (forks
 * of the file), toast table, missing values of columns added later, collected statistics. What belongs to the names
 * stays: OIDs, constraints, options, privileges, policies, triggers, dependencies, the cumulative statistics.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/toast_internals.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_statistic_ext.h"
#include "catalog/pg_statistic_ext_data.h"
#include "commands/tablecmds.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

#include "storage.h"

void		refold_swap_storage(Oid live, Oid shadow);

/*
 * A copy of a row of a catalog that stays the latest until it is updated. GRANT changes such rows without a lock on their
 * table; it is not waited for, for everybody waits for us.
 */
static HeapTuple
claim_row(Relation catalog, HeapTuple row)
{
	HeapTupleData latest;
	Buffer		buffer;
	TM_FailureData failure;
	TM_Result	result;

	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed in \"%s\"", RelationGetRelationName(catalog));
	latest.t_self = row->t_self;
	result = heap_lock_tuple(catalog, &latest, GetCurrentCommandId(false), LockTupleNoKeyExclusive, LockWaitSkip, false,
							 &buffer, &failure);
	ReleaseBuffer(buffer);
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("a row of \"%s\" is being changed by another session", RelationGetRelationName(catalog)),
				 errdetail("A GRANT on one of the tables, most likely."),
				 errhint("Try again.")));
	return row;
}

#define EXCHANGE(type, left, right) \
	do { type swapped = (left); (left) = (right); (right) = swapped; } while (0)

/* Exchanges what two rows of pg_class say of their relation's files. Closes both relations. */
static void
exchange_files(Relation left, Relation right)
{
	Relation	pg_class = table_open(RelationRelationId, RowExclusiveLock);
	Oid			left_oid = RelationGetRelid(left);
	Oid			right_oid = RelationGetRelid(right);
	HeapTuple	left_row = claim_row(pg_class, SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(left_oid)));
	HeapTuple	right_row = claim_row(pg_class, SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(right_oid)));
	Form_pg_class a,
				b;
	CatalogIndexState indexes;

	a = (Form_pg_class) GETSTRUCT(left_row);
	b = (Form_pg_class) GETSTRUCT(right_row);
	if (!OidIsValid(a->relfilenode) || !OidIsValid(b->relfilenode) || a->relpersistence != b->relpersistence ||
		a->relam != b->relam)
		elog(ERROR, "relations \"%s\" and \"%s\" have different kinds of storage", NameStr(a->relname),
			 NameStr(b->relname));

	EXCHANGE(Oid, a->relfilenode, b->relfilenode);
	EXCHANGE(Oid, a->reltablespace, b->reltablespace);
	EXCHANGE(int32, a->relpages, b->relpages);
	EXCHANGE(float4, a->reltuples, b->reltuples);
	EXCHANGE(int32, a->relallvisible, b->relallvisible);
#if PG_VERSION_NUM >= 180000
	EXCHANGE(int32, a->relallfrozen, b->relallfrozen);
#endif
	EXCHANGE(Oid, a->reltoastrelid, b->reltoastrelid);
	EXCHANGE(TransactionId, a->relfrozenxid, b->relfrozenxid);
	EXCHANGE(MultiXactId, a->relminmxid, b->relminmxid);

	/* Neither keeps a way to its old file: the invalidations below come one after the other. */
	RelationCloseSmgr(left);
	RelationCloseSmgr(right);
	relation_close(left, NoLock);
	relation_close(right, NoLock);

	indexes = CatalogOpenIndexes(pg_class);
	CatalogTupleUpdateWithInfo(pg_class, &left_row->t_self, left_row, indexes);
	CatalogTupleUpdateWithInfo(pg_class, &right_row->t_self, right_row, indexes);
	CatalogCloseIndexes(indexes);
	InvokeObjectPostAlterHook(RelationRelationId, left_oid, 0);
	InvokeObjectPostAlterHook(RelationRelationId, right_oid, 0);
	heap_freetuple(left_row);
	heap_freetuple(right_row);
	table_close(pg_class, RowExclusiveLock);
}

/* A toast table depends on its table, and on nothing else. */
static void
depend_on(Oid toast, Oid table)
{
	ObjectAddress dependent,
				owner;

	if (!OidIsValid(toast))
		return;
	if (deleteDependencyRecordsFor(RelationRelationId, toast, false) != 1)
		elog(ERROR, "toast table %u depends on more than its table", toast);
	ObjectAddressSet(dependent, RelationRelationId, toast);
	ObjectAddressSet(owner, RelationRelationId, table);
	recordDependencyOn(&dependent, &owner, DEPENDENCY_INTERNAL);
}

/* Names a toast table and its index; CLUSTER and the like call theirs pg_toast_<OID of the table>, and must not find it taken. */
static void
name_toast(Oid toast, const char *prefix, Oid table)
{
	char		name[NAMEDATALEN];

	if (!OidIsValid(toast))
		return;
	snprintf(name, sizeof(name), "%s_%u", prefix, table);
	RenameRelationInternal(toast, name, true, false);
	snprintf(name, sizeof(name), "%s_%u_index", prefix, table);
	RenameRelationInternal(toast_get_valid_index(toast, AccessExclusiveLock), name, true, true);
	CommandCounterIncrement();
}

/* Takes the columns' missing values (those of rows written before the column was added) along with the rows. */
static void
exchange_missing_values(Oid left, Oid right, int natts)
{
	Relation	pg_attribute = table_open(AttributeRelationId, RowExclusiveLock);

	for (int number = 1; number <= natts; number++)
	{
		HeapTuple	rows[2];
		Datum		values[2];
		bool		nulls[2],
					missing[2];

		for (int side = 0; side < 2; side++)
		{
			rows[side] = SearchSysCacheCopy2(ATTNUM, ObjectIdGetDatum(side == 0 ? left : right), Int16GetDatum(number));
			if (!HeapTupleIsValid(rows[side]))
				elog(ERROR, "cache lookup failed for attribute %d", number);
			missing[side] = ((Form_pg_attribute) GETSTRUCT(rows[side]))->atthasmissing;
			values[side] = SysCacheGetAttr(ATTNUM, rows[side], Anum_pg_attribute_attmissingval, &nulls[side]);
		}
		for (int side = 0; (missing[0] || missing[1]) && side < 2; side++)
		{
			Datum		new_values[Natts_pg_attribute] = {0};
			bool		new_nulls[Natts_pg_attribute] = {false};
			bool		replaced[Natts_pg_attribute] = {false};
			HeapTuple	row;

			new_values[Anum_pg_attribute_atthasmissing - 1] = BoolGetDatum(missing[1 - side]);
			replaced[Anum_pg_attribute_atthasmissing - 1] = true;
			new_values[Anum_pg_attribute_attmissingval - 1] = values[1 - side];
			new_nulls[Anum_pg_attribute_attmissingval - 1] = nulls[1 - side];
			replaced[Anum_pg_attribute_attmissingval - 1] = true;
			row = heap_modify_tuple(claim_row(pg_attribute, rows[side]), RelationGetDescr(pg_attribute), new_values, new_nulls, replaced);
			CatalogTupleUpdate(pg_attribute, &row->t_self, row);
		}
		heap_freetuple(rows[0]);
		heap_freetuple(rows[1]);
	}
	table_close(pg_attribute, RowExclusiveLock);
}

/* Exchanges the rows of a catalog whose first column is one object's OID with those of another's. */
static void
exchange_owned_rows(Oid catalog, Oid index, Oid left, Oid right)
{
	Relation	relation = table_open(catalog, RowExclusiveLock);
	TupleDesc	desc = RelationGetDescr(relation);
	List	   *rows = NIL;
	ListCell   *cell;

	for (int side = 0; side < 2; side++)
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	row;

		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(side == 0 ? left : right));
		scan = systable_beginscan(relation, index, true, NULL, 1, &key);
		while (HeapTupleIsValid(row = systable_getnext(scan)))
		{
			Datum	   *values = palloc0(desc->natts * sizeof(Datum));
			bool	   *nulls = palloc0(desc->natts * sizeof(bool));
			bool	   *replaced = palloc0(desc->natts * sizeof(bool));

			values[0] = ObjectIdGetDatum(side == 0 ? right : left);
			replaced[0] = true;
			/* Whole, for the row's own toasted values go with it. */
			rows = lappend(rows, heap_modify_tuple(toast_flatten_tuple(row, desc), desc, values, nulls, replaced));
			CatalogTupleDelete(relation, &row->t_self);
		}
		systable_endscan(scan);
	}
	foreach(cell, rows)
		CatalogTupleInsert(relation, (HeapTuple) lfirst(cell));
	table_close(relation, RowExclusiveLock);
}

static void
exchange_statistics(Oid left, Oid right)
{
	exchange_owned_rows(StatisticRelationId, StatisticRelidAttnumInhIndexId, left, right);
}

static bool
same_extended_statistics(Oid left, Oid right)
{
	HeapTuple	a = SearchSysCache1(STATEXTOID, ObjectIdGetDatum(left));
	HeapTuple	b = SearchSysCache1(STATEXTOID, ObjectIdGetDatum(right));
	bool		same;

	if (!HeapTupleIsValid(a) || !HeapTupleIsValid(b))
		elog(ERROR, "cache lookup failed for statistics object %u or %u", left, right);
	same = refold_same_attribute(STATEXTOID, a, b, Anum_pg_statistic_ext_stxkeys, false) &&
		refold_same_attribute(STATEXTOID, a, b, Anum_pg_statistic_ext_stxkind, false) &&
		refold_same_attribute(STATEXTOID, a, b, Anum_pg_statistic_ext_stxexprs, true);
	ReleaseSysCache(a);
	ReleaseSysCache(b);
	return same;
}

/* One without a counterpart keeps what it has until the next ANALYZE: nothing but a plan depends on it. */
static void
exchange_extended_statistics(Relation live, Relation shadow)
{
	List	   *candidates = RelationGetStatExtList(shadow);
	ListCell   *cell;

	foreach(cell, RelationGetStatExtList(live))
	{
		ListCell   *candidate;

		foreach(candidate, candidates)
		{
			if (same_extended_statistics(lfirst_oid(cell), lfirst_oid(candidate)))
			{
				exchange_owned_rows(StatisticExtDataRelationId, StatisticExtDataStxoidInhIndexId, lfirst_oid(cell),
									lfirst_oid(candidate));
				candidates = list_delete_oid(candidates, lfirst_oid(candidate));
				break;
			}
		}
	}
}

/*
 * Exchanges the storage of two tables. The caller holds AccessExclusiveLock on both and answers for what is not storage:
 * that checks, generated columns and the like are the same on both, and that no snapshot is older than the shadow's rows.
 * Waits for locks on the indexes and toast tables, if the caller has none.
 */
void
refold_swap_storage(Oid live_oid, Oid shadow_oid)
{
	Relation	live = table_open(live_oid, NoLock);
	Relation	shadow = table_open(shadow_oid, NoLock);
	Oid			live_toast = live->rd_rel->reltoastrelid;
	Oid			shadow_toast = shadow->rd_rel->reltoastrelid;
	int			natts = RelationGetNumberOfAttributes(live);
	List	   *live_indexes,
			   *shadow_indexes;
	ListCell   *left,
			   *right;

	refold_require_same_tables(live, shadow);
	refold_require_toast_at_rest(live_toast);
	refold_require_toast_at_rest(shadow_toast);
	live_indexes = refold_open_indexes(live);
	shadow_indexes = refold_match_indexes(live, shadow, live_indexes, refold_open_indexes(shadow));

	/* What serializable transactions have read is remembered by block and row: no longer true, so it becomes the table. */
	TransferPredicateLocksToHeapRelation(live);
	TransferPredicateLocksToHeapRelation(shadow);

	exchange_extended_statistics(live, shadow);
	exchange_statistics(live_oid, shadow_oid);
	exchange_missing_values(live_oid, shadow_oid, natts);
	forboth(left, live_indexes, right, shadow_indexes)
	{
		Relation	index = (Relation) lfirst(left);
		Relation	counterpart = (Relation) lfirst(right);

		exchange_statistics(RelationGetRelid(index), RelationGetRelid(counterpart));
		exchange_files(index, counterpart);
	}
	exchange_files(live, shadow);
	depend_on(live_toast, shadow_oid);
	depend_on(shadow_toast, live_oid);
	CommandCounterIncrement();

	name_toast(shadow_toast, "pg_toast_refold", live_oid);
	name_toast(live_toast, "pg_toast", shadow_oid);
	name_toast(shadow_toast, "pg_toast", live_oid);
}
