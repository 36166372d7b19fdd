/*
 * The step functions of a fold that is replayed: the transition and the result of an aggregate, in one piece or in parts
 * that parallel workers take.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "replay_step.h"

Datum		refold_fold_step_in(FunctionCallInfo fcinfo);
Datum		refold_fold_result_in(FunctionCallInfo fcinfo);
Datum		refold_fold_part_step_in(FunctionCallInfo fcinfo);
Datum		refold_count_part_in(FunctionCallInfo fcinfo);

/* What the aggregate has folded so far. */
typedef struct FoldState
{
	MemoryContext memory;		/* the aggregate's */
	Datum		row;			/* valid unless isnull; kept all the same */
	bool		isnull;
	Size		room;			/* bytes that there are for row */
	int64		position;		/* of the last event */
} FoldState;

/* A row as the aggregate keeps it: in the place of the one before, where it is not larger. */
static void
keep_row(FoldState *state, Datum row, bool isnull)
{
	struct varlena *from = (struct varlena *) DatumGetPointer(row);

	state->isnull = isnull;
	if (isnull)
		return;
	/* What is no plain composite, an expanded record say, is PostgreSQL's to flatten. */
	if (VARATT_IS_4B_U(from) && VARSIZE_4B(from) <= state->room)
		memmove(DatumGetPointer(state->row), from, VARSIZE_4B(from));
	else
	{
		MemoryContext caller = MemoryContextSwitchTo(state->memory);
		void	   *before = DatumGetPointer(state->row);

		state->row = datumCopy(row, false, -1);
		state->room = VARSIZE_ANY(DatumGetPointer(state->row));
		MemoryContextSwitchTo(caller);
		if (before != NULL)
			pfree(before);
	}
}

static int64
position_of(const RefoldScope *scope, HeapTupleHeader event)
{
	HeapTupleData tuple;
	bool		isnull;
	Datum		position;

	tuple.t_len = HeapTupleHeaderGetDatumLength(event);
	tuple.t_data = event;
	position = heap_getattr(&tuple, EVENT_POSITION, scope->event_desc, &isnull);
	return isnull ? PG_INT64_MIN : DatumGetInt64(position);
}

/*
 * The aggregate's transition: (internal, T, event, ...). The second argument is the row before the first event; a type of
 * state of its own tells "no event yet" from "the row was deleted".
 */
static Datum
fold_event(FunctionCallInfo fcinfo, RefoldScope *scope, FmgrInfo *handler, bool is_counted)
{
	MemoryContext aggregate;
	FoldState  *state;
	HeapTupleHeader event = PG_GETARG_HEAPTUPLEHEADER(2);
	int64		position = position_of(scope, event);
	LOCAL_FCINFO(call, 2);
	Datum		row;

	if (PG_ARGISNULL(0))
	{
		if (AggCheckCallContext(fcinfo, &aggregate) == 0)
			elog(ERROR, "refold._fold_step called outside an aggregate");
		state = MemoryContextAllocZero(aggregate, sizeof(FoldState));
		state->memory = aggregate;
		state->position = PG_INT64_MIN;
		keep_row(state, PG_GETARG_DATUM(1), PG_ARGISNULL(1));
	}
	else
		state = (FoldState *) PG_GETARG_POINTER(0);	/* no other value of type internal gets here from SQL */
	if (position > scope->last_position)
		PG_RETURN_POINTER(state);	/* the replay has not come to it */
	if (position < state->position)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("events of one stream have another order by stream_version than by position"),
				 errdetail("The event at position " INT64_FORMAT " follows the one at position " INT64_FORMAT ".",
						   position, state->position)));
	state->position = position;
	InitFunctionCallInfoData(*call, handler, 2, fcinfo->fncollation, fcinfo->context, NULL);
	call->args[0].value = state->row;
	call->args[0].isnull = state->isnull;
	row = refold_call_replayed(call, scope, event);
	if (is_counted)
		refold_count_events(scope, 1);
	keep_row(state, row, call->isnull);
	PG_RETURN_POINTER(state);
}

/* A fold in one piece, by the replay's own process. */
Datum
refold_fold_step_in(FunctionCallInfo fcinfo)
{
	RefoldScope *scope = refold_current_scope();

	return fold_event(fcinfo, scope, refold_step_handler(fcinfo, scope, 2), true);
}

/* The aggregate's result: the row after the last event. */
Datum
refold_fold_result_in(FunctionCallInfo fcinfo)
{
	FoldState  *state = PG_ARGISNULL(0) ? NULL : (FoldState *) PG_GETARG_POINTER(0);

	if (state == NULL || state->isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(state->row);
}

/* One process's part of a fold. A worker knows nothing of the replay's scope, so each part has one of its own. */
typedef struct FoldPart
{
	RefoldScope scope;
	FmgrInfo	handler;
	Oid			live;			/* the table whose rows are folded, which the handler must not touch */
} FoldPart;

/*
 * Prepares the calls of the handler that the fourth argument names, for the projection that the fifth does. Here that must
 * be the replay's own. Whoever calls from a worker could call the handler as well: it must be a fold of a table's rows
 * that they may execute.
 */
static FoldPart *
begin_part(FunctionCallInfo fcinfo, const RefoldScope *outer)
{
	MemoryContext caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	FoldPart   *part = palloc0(sizeof(FoldPart));
	RefoldScope *scope = &part->scope;
	Oid		   *arguments;
	int			count;
	AclResult	may;

	if (PG_ARGISNULL(3) || PG_ARGISNULL(4))
		refold_refuse_step();
	scope->handler = PG_GETARG_OID(3);
	scope->projection = text_to_cstring(PG_GETARG_TEXT_PP(4));
	scope->state_type = get_fn_expr_argtype(fcinfo->flinfo, 1);
	scope->event_type = get_fn_expr_argtype(fcinfo->flinfo, 2);
	scope->last_position = PG_INT64_MAX;
	part->live = get_typ_typrelid(scope->state_type);
	if (!OidIsValid(part->live) ||
		(outer != NULL && (outer->handler != scope->handler || outer->state_type != scope->state_type ||
						   outer->event_type != scope->event_type)))
		refold_refuse_step();
	if (get_func_signature(scope->handler, &arguments, &count) != scope->state_type || count != 2 ||
		arguments[0] != scope->state_type || arguments[1] != scope->event_type ||
		get_func_prokind(scope->handler) != PROKIND_FUNCTION || get_func_retset(scope->handler) ||
		func_strict(scope->handler))
		refold_refuse_step();
#if PG_VERSION_NUM >= 160000
	may = object_aclcheck(ProcedureRelationId, scope->handler, GetUserId(), ACL_EXECUTE);
#else
	may = pg_proc_aclcheck(scope->handler, GetUserId(), ACL_EXECUTE);
#endif
	if (may != ACLCHECK_OK)
		aclcheck_error(may, OBJECT_FUNCTION, get_func_name(scope->handler));
	scope->event_desc = lookup_rowtype_tupdesc_copy(scope->event_type, -1);
	scope->guarded = &part->live;
	scope->guarded_count = 1;
	fmgr_info(scope->handler, &part->handler);
	MemoryContextSwitchTo(caller);
	fcinfo->flinfo->fn_extra = part;
	return part;
}

/*
 * A fold in parts, by the replay's own process and by parallel workers; each part has all events of its streams. Parallel
 * mode refuses what a handler must not do: to write, to define, to lock a table against reads.
 */
Datum
refold_fold_part_step_in(FunctionCallInfo fcinfo)
{
	RefoldScope *outer = refold_current_scope();
	FoldPart   *part = (FoldPart *) fcinfo->flinfo->fn_extra;
	ErrorContextCallback line;
	Datum		state;

	if ((IsParallelWorker() ? outer != NULL : !refold_is_replaying(outer)) || PG_ARGISNULL(2))
		refold_refuse_step();
	if (part == NULL)
		part = begin_part(fcinfo, outer);
	if (outer != NULL)
	{
		/* The plan may be a serial one, and let the handler alter its table. */
		part->scope.columns = outer->columns;
		part->scope.state_entry = outer->state_entry;
	}
	refold_enter_scope(&part->scope, &line);
	state = fold_event(fcinfo, &part->scope, &part->handler, false);
	refold_leave_scope(&part->scope, outer, &line);
	return state;
}

/* Counts the events of a row that a part has folded, in the replay's own process. */
Datum
refold_count_part_in(FunctionCallInfo fcinfo)
{
	RefoldScope *scope = refold_current_scope();

	if (IsParallelWorker() || !refold_is_replaying(scope) || PG_ARGISNULL(0))
		refold_refuse_step();
	refold_count_events(scope, PG_GETARG_INT64(0));
	PG_RETURN_BOOL(true);
}
