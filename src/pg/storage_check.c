/*
 * Whether two tables may exchange their storage: locked and at rest, and each row and each index of one can be read under
 * the definition of the other.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "commands/tablecmds.h"
#include "nodes/nodes.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

#include "storage.h"

#if PG_VERSION_NUM >= 160000
#define FIRST_NEW_FILE(relation) ((relation)->rd_firstRelfilelocatorSubid)
#define NEW_FILE(relation) ((relation)->rd_newRelfilelocatorSubid)
#else
#define FIRST_NEW_FILE(relation) ((relation)->rd_firstRelfilenodeSubid)
#define NEW_FILE(relation) ((relation)->rd_newRelfilenodeSubid)
#endif

static void
refuse_difference(Relation live, Relation shadow, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("tables \"%s\" and \"%s\" cannot exchange their storage", RelationGetRelationName(live),
					RelationGetRelationName(shadow)),
			 errdetail_internal("%s", what)));
}

/*
 * Locked, not in use by this session, and not made or rewritten by this transaction: with wal_level = minimal such a file
 * is not logged but synced at commit, and which one that is PostgreSQL knows by the relation.
 */
static void
require_at_rest(Relation relation)
{
	if (!CheckRelationLockedByMe(relation, AccessExclusiveLock, false))
		elog(ERROR, "relation \"%s\" is not locked", RelationGetRelationName(relation));
	CheckTableNotInUse(relation, "swap");
	if (relation->rd_createSubid != InvalidSubTransactionId || NEW_FILE(relation) != InvalidSubTransactionId ||
		FIRST_NEW_FILE(relation) != InvalidSubTransactionId)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the storage of \"%s\" is new in this transaction", RelationGetRelationName(relation)),
				 errhint("Swap in a later transaction.")));
}

/* Values of a varlena type without a compressed or short form in one of them only. */
static bool
same_value(Datum left, bool left_null, Datum right, bool right_null)
{
	struct varlena *a,
			   *b;

	if (left_null || right_null)
		return left_null && right_null;
	a = PG_DETOAST_DATUM(left);
	b = PG_DETOAST_DATUM(right);
	return VARSIZE(a) == VARSIZE(b) && memcmp(VARDATA(a), VARDATA(b), VARSIZE(a) - VARHDRSZ) == 0;
}

/* A column of two rows of a catalog; an expression counts as the same wherever its text stood in its statement. */
bool
refold_same_attribute(int cache, HeapTuple left, HeapTuple right, AttrNumber number, bool is_expression)
{
	bool		left_null,
				right_null;
	Datum		a = SysCacheGetAttr(cache, left, number, &left_null);
	Datum		b = SysCacheGetAttr(cache, right, number, &right_null);

	if (is_expression && !left_null && !right_null)
		return equal(stringToNode(TextDatumGetCString(a)), stringToNode(TextDatumGetCString(b)));
	return same_value(a, left_null, b, right_null);
}

/* Whether a row of one relation can be read as a row of the other. */
static bool
same_columns(TupleDesc left, TupleDesc right)
{
	if (left->natts != right->natts)
		return false;
	for (int i = 0; i < left->natts; i++)
	{
		Form_pg_attribute a = TupleDescAttr(left, i);
		Form_pg_attribute b = TupleDescAttr(right, i);

		if (a->attlen != b->attlen || a->attalign != b->attalign || a->attbyval != b->attbyval ||
			a->attisdropped != b->attisdropped)
			return false;
		if (!a->attisdropped &&
			(a->atttypid != b->atttypid || a->atttypmod != b->atttypmod || a->attcollation != b->attcollation ||
			 a->attnotnull != b->attnotnull || a->attgenerated != b->attgenerated))
			return false;
	}
	return true;
}

static bool
same_index(Relation left, Relation right)
{
	Form_pg_index a = left->rd_index;
	Form_pg_index b = right->rd_index;

	if (left->rd_rel->relam != right->rd_rel->relam || a->indnatts != b->indnatts || a->indnkeyatts != b->indnkeyatts ||
		a->indisunique != b->indisunique || a->indnullsnotdistinct != b->indnullsnotdistinct ||
		a->indisprimary != b->indisprimary || a->indisexclusion != b->indisexclusion ||
		a->indimmediate != b->indimmediate || !same_columns(RelationGetDescr(left), RelationGetDescr(right)))
		return false;
	for (int i = 1; i <= a->indnatts; i++)
	{
		Datum		left_options = get_attoptions(RelationGetRelid(left), i);
		Datum		right_options = get_attoptions(RelationGetRelid(right), i);

		if (!same_value(left_options, left_options == (Datum) 0, right_options, right_options == (Datum) 0))
			return false;
	}
#define SAME(column, is_expression) \
	refold_same_attribute(INDEXRELID, left->rd_indextuple, right->rd_indextuple, Anum_pg_index_##column, is_expression)
	return SAME(indkey, false) && SAME(indclass, false) && SAME(indcollation, false) && SAME(indoption, false) &&
		SAME(indexprs, true) && SAME(indpred, true);
#undef SAME
}

/*
 * An index that was built while rows had been updated past it (indcheckxmin) must not be used by snapshots older than
 * its row in pg_index. Under the other's name that row would be another one, so there must be no such snapshot left.
 */
static void
require_index_for_all(Relation table, Relation index)
{
	if (!index->rd_index->indisvalid || !index->rd_index->indisready)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" is not valid", RelationGetRelationName(index)),
				 errhint("Use REINDEX, or drop it.")));
	if (index->rd_index->indcheckxmin &&
		!TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data),
							   GetOldestNonRemovableTransactionId(table)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("a snapshot is older than index \"%s\"", RelationGetRelationName(index)),
				 errhint("Wait until the transactions that are older than the index have ended.")));
}

/* The indexes of a table, locked and at rest. */
List *
refold_open_indexes(Relation table)
{
	List	   *opened = NIL;
	ListCell   *cell;

	foreach(cell, RelationGetIndexList(table))
	{
		Relation	index = index_open(lfirst_oid(cell), AccessExclusiveLock);

		require_at_rest(index);
		require_index_for_all(table, index);
		opened = lappend(opened, index);
	}
	return opened;
}

/* Brings the shadow's indexes into the order of those of live that they stand for. */
List *
refold_match_indexes(Relation live, Relation shadow, List *live_indexes, List *shadow_indexes)
{
	List	   *matched = NIL;
	ListCell   *cell;

	if (list_length(live_indexes) != list_length(shadow_indexes))
		refuse_difference(live, shadow, "One has more indexes than the other.");
	foreach(cell, live_indexes)
	{
		Relation	index = (Relation) lfirst(cell);
		Relation	found = NULL;
		ListCell   *candidate;

		foreach(candidate, shadow_indexes)
		{
			if (same_index(index, (Relation) lfirst(candidate)))
			{
				found = (Relation) lfirst(candidate);
				break;
			}
		}
		if (found == NULL)
			refuse_difference(live, shadow, psprintf("Index \"%s\" has no counterpart.", RelationGetRelationName(index)));
		shadow_indexes = list_delete_ptr(shadow_indexes, found);
		matched = lappend(matched, found);
	}
	return matched;
}

/* Locks a toast table before its row of pg_class is written: a VACUUM of it alone writes that row in place. */
void
refold_require_toast_at_rest(Oid toast)
{
	Relation	relation;

	if (!OidIsValid(toast))
		return;
	relation = table_open(toast, AccessExclusiveLock);
	require_at_rest(relation);
	table_close(relation, NoLock);
}

/* Two tables at rest whose rows are laid out alike. */
void
refold_require_same_tables(Relation live, Relation shadow)
{
	if (RelationGetRelid(live) == RelationGetRelid(shadow))
		refuse_difference(live, shadow, "They are one table.");
	require_at_rest(live);
	require_at_rest(shadow);
	if (live->rd_rel->relkind != RELKIND_RELATION || shadow->rd_rel->relkind != RELKIND_RELATION ||
		live->rd_rel->relam != HEAP_TABLE_AM_OID || shadow->rd_rel->relam != HEAP_TABLE_AM_OID ||
		live->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT ||
		shadow->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT || IsCatalogRelation(live) || IsCatalogRelation(shadow))
		refuse_difference(live, shadow, "One is not a permanent, ordinary table.");
	if (live->rd_rel->relowner != shadow->rd_rel->relowner)
		refuse_difference(live, shadow, "They have different owners.");
	if (!same_columns(RelationGetDescr(live), RelationGetDescr(shadow)))
		refuse_difference(live, shadow, "Their columns differ.");
}
