/*
 * Writes rows of the log as the executor's INSERT does, without a statement around it: the heap, the indexes, NOT NULL and
 * CHECK. Planning apart, the statement would cost half as much again as the rows do. Where the table has anything that only
 * the statement knows how to do (other triggers, rules, policies, columns, a hook that must see each access), it refuses,
 * and the caller runs the statement.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

#include "scope.h"

#define EVENT_COLUMNS 9

/* How many rows are written at once, and after how many bytes no more: as COPY buffers them. */
#define MOST_ROWS 100
#define MOST_BYTES 65535

static const Oid column_types[EVENT_COLUMNS] = {
	INT8OID, TEXTOID, INT8OID, TEXTOID, JSONBOID, JSONBOID, UUIDOID, TIMESTAMPTZOID, XID8OID
};

ErrorData  *refold_insert_events(Oid log_oid, const Oid *triggers, int count, const Datum *values, bool *inserted);

static bool
has_known_columns(TupleDesc columns)
{
	if (columns->natts != EVENT_COLUMNS)
		return false;
	for (int i = 0; i < EVENT_COLUMNS; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (column->attisdropped || column->attgenerated != '\0' || column->atttypid != column_types[i])
			return false;
	}
	return true;
}

/*
 * Whether all that fires for an INSERT are the two statement triggers, whose work the caller does. The functions of refold's
 * row triggers, which come after theirs, have nothing to do for an append.
 */
static bool
has_known_triggers(const TriggerDesc *descriptor, const Oid *functions)
{
	bool		found[2] = {false, false};

	if (descriptor == NULL)
		return false;
	for (int i = 0; i < descriptor->numtriggers; i++)
	{
		const Trigger *trigger = &descriptor->triggers[i];
		int			after = TRIGGER_FOR_AFTER(trigger->tgtype) ? 1 : 0;

		if (!TRIGGER_FOR_INSERT(trigger->tgtype))
			continue;
		if (TRIGGER_FOR_ROW(trigger->tgtype) && (trigger->tgfoid == functions[2] || trigger->tgfoid == functions[3]))
			continue;
		if (TRIGGER_FOR_ROW(trigger->tgtype) || TRIGGER_FOR_INSTEAD(trigger->tgtype) || found[after] ||
			trigger->tgfoid != functions[after] || trigger->tgenabled != TRIGGER_FIRES_ALWAYS ||
			trigger->tgqual != NULL || trigger->tgnewtable != NULL)
			return false;
		found[after] = true;
	}
	return found[0] && found[1];
}

static bool
is_plain(Relation log, const Oid *triggers)
{
	Form_pg_class form = log->rd_rel;

	return form->relkind == RELKIND_RELATION && !form->relispartition && !form->relhasrules && !form->relrowsecurity &&
		has_known_columns(RelationGetDescr(log)) && has_known_triggers(log->trigdesc, triggers) &&
		refold_checks_are_ours() &&
		pg_class_aclcheck(RelationGetRelid(log), GetUserId(), ACL_INSERT) == ACLCHECK_OK;
}

/* Fills slots with rows, until they are as many, or as large, as are written at once; returns how many. */
static int
fill_slots(Relation log, int count, const Datum *values, ResultRelInfo *target, EState *estate, TupleTableSlot **slots)
{
	Size		used = 0;
	int			filled = 0;

	while (filled < count && filled < MOST_ROWS && used < MOST_BYTES)
	{
		TupleTableSlot *slot = slots[filled];

		if (slot == NULL)
			slot = slots[filled] = table_slot_create(log, &estate->es_tupleTable);
		ExecClearTuple(slot);
		memcpy(slot->tts_values, values + filled * EVENT_COLUMNS, sizeof(Datum) * EVENT_COLUMNS);
		memset(slot->tts_isnull, false, sizeof(bool) * EVENT_COLUMNS);
		ExecStoreVirtualTuple(slot);
		slot->tts_tableOid = RelationGetRelid(log);
		ExecConstraints(target, slot, estate);
		used += heap_compute_data_size(RelationGetDescr(log), slot->tts_values, slot->tts_isnull);
		filled++;
	}
	return filled;
}

static void
insert_rows(Relation log, int count, const Datum *values)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *target;
	TupleTableSlot *slots[MOST_ROWS] = {NULL};
	MemoryContext caller = MemoryContextSwitchTo(estate->es_query_cxt);
	int			filled;

	target = makeNode(ResultRelInfo);
	InitResultRelInfo(target, log, 0, NULL, 0);
	ExecOpenIndices(target, false);
	estate->es_output_cid = GetCurrentCommandId(true);

	for (int row = 0; row < count; row += filled)
	{
		CHECK_FOR_INTERRUPTS();
		filled = fill_slots(log, count - row, values + row * EVENT_COLUMNS, target, estate, slots);
		MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
		if (filled == 1)
			table_tuple_insert(log, slots[0], estate->es_output_cid, 0, NULL);
		else
			table_multi_insert(log, slots, filled, estate->es_output_cid, 0, NULL);
		/* An index whose check can wait has a trigger for that, and has_known_triggers has refused. */
		for (int i = 0; i < filled; i++)
			(void) ExecInsertIndexTuples(target, slots[i], estate, false, false, NULL, NIL
#if PG_VERSION_NUM >= 160000
										 ,false
#endif
				);
		MemoryContextSwitchTo(estate->es_query_cxt);
		ResetPerTupleExprContext(estate);
	}

	MemoryContextSwitchTo(caller);
	ExecCloseIndices(target);
	ExecResetTupleTable(estate->es_tupleTable, false);
	FreeExecutorState(estate);
	/* The rows are visible to what comes next in the transaction, as after any statement. */
	CommandCounterIncrement();
}

/*
 * Inserts rows of refold.event, of which `values` has all columns, none NULL; the current user is the table's owner.
 * `triggers` are the functions of the BEFORE and the AFTER trigger, and of refold's row triggers. Sets `inserted` to false where the statement is needed.
 */
ErrorData *
refold_insert_events(Oid log_oid, const Oid *triggers, int count, const Datum *values, bool *inserted)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		Relation	log = table_open(log_oid, RowExclusiveLock);

		*inserted = is_plain(log, triggers);
		if (*inserted)
			insert_rows(log, count, values);
		table_close(log, NoLock);
	}
	PG_CATCH();
	{
		error = refold_take_error(caller, refold_current_scope());
	}
	PG_END_TRY();
	return error;
}
