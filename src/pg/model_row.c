/*
 * A handler's call, and the row of a fold, without statements around them: each costs several times what it is for. A row
 * is found by its primary key and written as the executor's UPDATE does it. Where a table has what only a statement knows
 * how to do (triggers, rules, policies, generated columns, rights that are missing, a hook that must see each access), or
 * where somebody else has changed the row meanwhile, nothing is done, and the caller runs the statement.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/reltrigger.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

#include "scope.h"

#define MOST_KEYS 4

/* What was found, or where; laid out as in model_row.rs. */
typedef struct RefoldRow
{
	Oid			relation;		/* the live table, or a rebuild's copy of it */
	Oid			row_type;		/* of the live table */
	int			keys;
	const Oid  *key_types;
	const Datum *key;
	ItemPointerData place;		/* valid where there is a row */
} RefoldRow;

ErrorData  *refold_call_handler(Oid handler, int nargs, const NullableDatum *arguments, bool is_row,
								RefoldScope *scope, NullableDatum *result, bool *called);
ErrorData  *refold_load_row(RefoldRow *row, RefoldScope *scope, NullableDatum *state, bool *loaded);
ErrorData  *refold_update_row(RefoldRow *row, Datum state, RefoldScope *scope, bool *updated);

static bool
may_execute(Oid function)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, GetUserId(), ACL_EXECUTE) == ACLCHECK_OK;
#else
	return pg_proc_aclcheck(function, GetUserId(), ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

static bool
has_null(const NullableDatum *arguments, int count)
{
	for (int i = 0; i < count; i++)
		if (arguments[i].isnull)
			return true;
	return false;
}

/* What the function returned, in the caller's memory; a row flat, whatever form it has. */
static Datum
keep_result(Datum value, MemoryContext memory)
{
	HeapTupleHeader row = DatumGetHeapTupleHeader(value);
	Size		length = HeapTupleHeaderGetDatumLength(row);
	void	   *copy = MemoryContextAlloc(memory, length);

	memcpy(copy, row, length);
	return PointerGetDatum(copy);
}

/*
 * Calls the function as `SELECT handler(...)` does: on a new snapshot, with the rights of the current user. Its result
 * counts only where it is a row. Its FmgrInfo lives as long as the call: after an error, what a function keeps there
 * would be in no known state.
 */
ErrorData *
refold_call_handler(Oid handler, int nargs, const NullableDatum *arguments, bool is_row, RefoldScope *scope,
					NullableDatum *result, bool *called)
{
	MemoryContext caller = CurrentMemoryContext;
	RefoldScope *outer = refold_current_scope();
	ErrorContextCallback line;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		refold_enter_scope(scope, &line);
		*called = may_execute(handler);
		if (*called)
		{
			MemoryContext memory = AllocSetContextCreate(caller, "refold handler", ALLOCSET_SMALL_SIZES);
			FmgrInfo	function;
			PgStat_FunctionCallUsage usage;
			Datum		value = (Datum) 0;

			LOCAL_FCINFO(call, 2);

			MemoryContextSwitchTo(memory);
			InvokeFunctionExecuteHook(handler);
			CommandCounterIncrement();
			refold_pin_columns(scope);
			PushActiveSnapshot(GetTransactionSnapshot());
			fmgr_info_cxt(handler, &function, memory);
			InitFunctionCallInfoData(*call, &function, nargs, InvalidOid, NULL, NULL);
			memcpy(call->args, arguments, sizeof(NullableDatum) * nargs);
			result->isnull = true;
			/* CREATE OR REPLACE may have made it STRICT since it was checked. */
			if (!function.fn_strict || !has_null(arguments, nargs))
			{
				pgstat_init_function_usage(call, &usage);
				value = FunctionCallInvoke(call);
				pgstat_end_function_usage(&usage, true);
				result->isnull = call->isnull || !is_row;
			}
			PopActiveSnapshot();
			CommandCounterIncrement();
			refold_unpin_columns(scope);
			if (!result->isnull)
				result->value = keep_result(value, caller);
			MemoryContextSwitchTo(caller);
			MemoryContextDelete(memory);
		}
		refold_leave_scope(scope, outer, &line);
	}
	PG_CATCH();
	{
		error = refold_take_error(caller, outer);
	}
	PG_END_TRY();
	return error;
}

/*
 * Whether the table's columns are those of the row type: a copy has another row type of the same columns. A statement finds
 * them by their names, so two that have exchanged theirs are others.
 */
static bool
has_columns(Relation table, TupleDesc columns)
{
	TupleDesc	own = RelationGetDescr(table);

	if (own->tdtypeid == columns->tdtypeid)
		return true;
	if (own->natts != columns->natts)
		return false;
	for (int i = 0; i < own->natts; i++)
	{
		Form_pg_attribute one = TupleDescAttr(own, i);
		Form_pg_attribute other = TupleDescAttr(columns, i);

		if (one->atttypid != other->atttypid || one->atttypmod != other->atttypmod ||
			one->attisdropped != other->attisdropped || one->attgenerated != other->attgenerated ||
			(!one->attisdropped && strcmp(NameStr(one->attname), NameStr(other->attname)) != 0))
			return false;
	}
	return true;
}

/* Whether a statement would do no more than to read the row, or to write it if `write`. */
static bool
is_plain(Relation table, TupleDesc columns, bool write)
{
	Form_pg_class form = table->rd_rel;
	AclMode		rights = write ? ACL_SELECT | ACL_UPDATE : ACL_SELECT;
	const TriggerDesc *triggers = table->trigdesc;

	if (form->relkind != RELKIND_RELATION || !has_columns(table, columns) || form->relhasrules ||
		form->relrowsecurity || !refold_checks_are_ours() ||
		pg_class_aclmask(RelationGetRelid(table), GetUserId(), rights, ACLMASK_ALL) != rights)
		return false;
	if (write && form->relispartition)
		return false;
	if (write && RelationGetDescr(table)->constr != NULL && RelationGetDescr(table)->constr->has_generated_stored)
		return false;
	for (int i = 0; write && triggers != NULL && i < triggers->numtriggers; i++)
		if (TRIGGER_FOR_UPDATE(triggers->triggers[i].tgtype))
			return false;
	return true;
}

/* Opens the primary key's index, if its columns are of the key's types; NULL otherwise. */
static Relation
open_key(Relation table, const RefoldRow *row, ScanKey keys)
{
	Oid			oid = InvalidOid;
	Relation	index;
	Form_pg_index form;

	list_free(RelationGetIndexList(table));
	oid = table->rd_pkindex;
	if (!OidIsValid(oid) || row->keys > MOST_KEYS)
		return NULL;
	index = index_open(oid, RowExclusiveLock);
	form = index->rd_index;
	if (form->indisprimary && form->indisvalid && form->indimmediate && form->indnkeyatts == row->keys)
	{
		int			i;

		for (i = 0; i < row->keys && index->rd_opcintype[i] == row->key_types[i]; i++)
		{
			Oid			type = index->rd_opcintype[i];
			Oid			equals = get_opfamily_member(index->rd_opfamily[i], type, type, BTEqualStrategyNumber);

			if (!OidIsValid(equals))
				break;
			ScanKeyEntryInitialize(&keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid, index->rd_indcollation[i],
								   get_opcode(equals), row->key[i]);
		}
		if (i == row->keys)
			return index;
	}
	index_close(index, NoLock);
	return NULL;
}

/* The row as a value of the live table's row type, as the statement forms it: what is generated or dropped is NULL. */
static Datum
row_value(TupleDesc columns, TupleTableSlot *slot)
{
	HeapTuple	tuple;
	Datum		value;

	slot_getallattrs(slot);
	for (int i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (column->attisdropped || column->attgenerated != '\0')
			slot->tts_isnull[i] = true;
	}
	tuple = heap_form_tuple(columns, slot->tts_values, slot->tts_isnull);
	value = heap_copy_tuple_as_datum(tuple, columns);
	heap_freetuple(tuple);
	return value;
}

/*
 * Loads the row of a key as a statement would see it: on a new snapshot, with the marks that a serializable transaction
 * leaves on what it has read. Sets `loaded` to false where the statement is needed.
 */
ErrorData *
refold_load_row(RefoldRow *row, RefoldScope *scope, NullableDatum *state, bool *loaded)
{
	MemoryContext caller = CurrentMemoryContext;
	RefoldScope *outer = refold_current_scope();
	ErrorContextCallback line;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		Relation	table;
		TupleDesc	columns;
		Relation	index = NULL;
		ScanKeyData keys[MOST_KEYS];

		refold_enter_scope(scope, &line);
		table = table_open(row->relation, RowExclusiveLock);
		columns = lookup_rowtype_tupdesc(row->row_type, -1);
		ItemPointerSetInvalid(&row->place);
		state->isnull = true;
		if (is_plain(table, columns, false))
			index = open_key(table, row, keys);
		*loaded = index != NULL;
		if (index != NULL)
		{
			TupleTableSlot *slot = table_slot_create(table, NULL);
			IndexScanDesc scan;
			Snapshot	snapshot;

			CommandCounterIncrement();
			snapshot = RegisterSnapshot(GetTransactionSnapshot());
#if PG_VERSION_NUM >= 180000
			scan = index_beginscan(table, index, snapshot, NULL, row->keys, 0);
#else
			scan = index_beginscan(table, index, snapshot, row->keys, 0);
#endif
			index_rescan(scan, keys, row->keys, NULL, 0);
			if (index_getnext_slot(scan, ForwardScanDirection, slot))
			{
				state->isnull = false;
				state->value = row_value(columns, slot);
				row->place = slot->tts_tid;
			}
			index_endscan(scan);
			ExecDropSingleTupleTableSlot(slot);
			UnregisterSnapshot(snapshot);
			index_close(index, NoLock);
		}
		ReleaseTupleDesc(columns);
		table_close(table, NoLock);
		refold_leave_scope(scope, outer, &line);
	}
	PG_CATCH();
	{
		error = refold_take_error(caller, outer);
	}
	PG_END_TRY();
	return error;
}

/* Whether the row's key is the one that it was found by. */
static bool
has_key(TupleTableSlot *slot, Relation index, const ScanKeyData *keys, int count)
{
	for (int i = 0; i < count; i++)
	{
		AttrNumber	column = index->rd_index->indkey.values[i];
		bool		isnull;
		Datum		value = slot_getattr(slot, column, &isnull);

		if (isnull || !DatumGetBool(FunctionCall2Coll(unconstify(FmgrInfo *, &keys[i].sk_func), keys[i].sk_collation,
													  value, keys[i].sk_argument)))
			return false;
	}
	return true;
}

static bool
write_row(Relation table, TupleDesc columns, const RefoldRow *row, Relation index, const ScanKeyData *keys,
		  HeapTupleHeader state)
{
	EState	   *estate = CreateExecutorState();
	MemoryContext caller = MemoryContextSwitchTo(estate->es_query_cxt);
	ResultRelInfo *target = makeNode(ResultRelInfo);
	TupleTableSlot *slot = table_slot_create(table, &estate->es_tupleTable);
	HeapTupleData tuple;
	bool		written = false;

	InitResultRelInfo(target, table, 0, NULL, 0);
	tuple.t_len = HeapTupleHeaderGetDatumLength(state);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = state;
	ExecClearTuple(slot);
	heap_deform_tuple(&tuple, columns, slot->tts_values, slot->tts_isnull);
	for (int i = 0; i < columns->natts; i++)
		if (TupleDescAttr(columns, i)->attisdropped)
			slot->tts_isnull[i] = true;
	ExecStoreVirtualTuple(slot);
	slot->tts_tableOid = RelationGetRelid(table);

	if (has_key(slot, index, keys, row->keys))
	{
		TM_FailureData failure;
		LockTupleMode lock_mode;
#if PG_VERSION_NUM >= 160000
		TU_UpdateIndexes indexes = TU_None;
#else
		bool		indexes = false;
#endif
		ItemPointerData place = row->place;
		Snapshot	snapshot;

		CommandCounterIncrement();
		snapshot = RegisterSnapshot(GetTransactionSnapshot());
		estate->es_snapshot = snapshot;
		estate->es_output_cid = GetCurrentCommandId(true);
		if (RelationGetDescr(table)->constr != NULL)
			ExecConstraints(target, slot, estate);
		CheckCmdReplicaIdentity(table, CMD_UPDATE);
		written = table_tuple_update(table, &place, slot, estate->es_output_cid, snapshot, InvalidSnapshot, true,
									 &failure, &lock_mode, &indexes) == TM_Ok;
		if (written && indexes)
		{
			ExecOpenIndices(target, false);
			(void) ExecInsertIndexTuples(target, slot, estate, true, false, NULL, NIL
#if PG_VERSION_NUM >= 160000
										 ,indexes == TU_Summarizing
#endif
				);
			ExecCloseIndices(target);
		}
		UnregisterSnapshot(snapshot);
	}
	MemoryContextSwitchTo(caller);
	ExecResetTupleTable(estate->es_tupleTable, false);
	FreeExecutorState(estate);
	if (written)
		CommandCounterIncrement();
	return written;
}

/*
 * Writes the row that was loaded. Sets `updated` to false, and has changed nothing, where the statement is needed: the
 * statement waits for and follows, or refuses, what others have made of the row, and a row of another key is none that it
 * finds.
 */
ErrorData *
refold_update_row(RefoldRow *row, Datum state, RefoldScope *scope, bool *updated)
{
	MemoryContext caller = CurrentMemoryContext;
	RefoldScope *outer = refold_current_scope();
	ErrorContextCallback line;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		HeapTupleHeader header = DatumGetHeapTupleHeader(state);
		Relation	table;
		TupleDesc	columns;
		Relation	index = NULL;
		ScanKeyData keys[MOST_KEYS];

		refold_enter_scope(scope, &line);
		table = table_open(row->relation, RowExclusiveLock);
		columns = lookup_rowtype_tupdesc(row->row_type, -1);
		*updated = false;
		/* With AccessExclusiveLock the handler may have emptied or rewritten the table: its rows would be elsewhere. */
		if (ItemPointerIsValid(&row->place) && HeapTupleHeaderGetTypeId(header) == row->row_type &&
			is_plain(table, columns, true) && !CheckRelationLockedByMe(table, AccessExclusiveLock, false))
			index = open_key(table, row, keys);
		if (index != NULL)
		{
			*updated = write_row(table, columns, row, index, keys, header);
			index_close(index, NoLock);
		}
		ReleaseTupleDesc(columns);
		table_close(table, NoLock);
		refold_leave_scope(scope, outer, &line);
	}
	PG_CATCH();
	{
		error = refold_take_error(caller, outer);
	}
	PG_END_TRY();
	return error;
}
