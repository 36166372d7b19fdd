/*
 * The step functions of a replay, which call a handler once per event from inside PostgreSQL's executor.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/progress.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/backend_progress.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "scope.h"

#define PROGRESS_EVENTS_DONE 7
#define PROGRESS_INTERVAL 1024

Datum		refold_event_step_in(FunctionCallInfo fcinfo);
void		refold_begin_batches(RefoldScope *scope);
Datum		refold_last_batch(RefoldScope *scope);
Datum		refold_fold_step_in(FunctionCallInfo fcinfo);
Datum		refold_fold_result_in(FunctionCallInfo fcinfo);

/*
 * Prepares the call of the current scope's handler. Users can call the step functions too, while a replay runs: what
 * does not have the handler's own arguments never gets to it. Nor does a call inside a handler, or inside a
 * subtransaction of user code: an error of a call then ends the scope, so that scope->event never outlives its event.
 */
static FmgrInfo *
handler_of(FunctionCallInfo fcinfo, RefoldScope *scope, int event_argument)
{
	FmgrInfo   *handler = (FmgrInfo *) fcinfo->flinfo->fn_extra;

	if (scope == NULL || !OidIsValid(scope->handler) || scope->event != NULL || PG_ARGISNULL(event_argument) ||
		GetCurrentTransactionNestLevel() != scope->nest_level)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this function is internal to refold's replay")));
	if (handler != NULL && handler->fn_oid == scope->handler)
		return handler;
	if (OidIsValid(scope->state_type) != (event_argument == 2) ||
		get_fn_expr_argtype(fcinfo->flinfo, event_argument) != scope->event_type ||
		(event_argument == 2 && get_fn_expr_argtype(fcinfo->flinfo, 1) != scope->state_type))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this function is internal to refold's replay")));
	handler = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(FmgrInfo));
	fmgr_info_cxt(scope->handler, handler, fcinfo->flinfo->fn_mcxt);
	fcinfo->flinfo->fn_extra = handler;
	return handler;
}

/* Calls the handler, whose last argument is the event. */
static Datum
call_handler(FunctionCallInfo call, RefoldScope *scope, HeapTupleHeader event)
{
	Datum		result;

	scope->event = event;
	call->args[call->nargs - 1].value = PointerGetDatum(event);
	call->args[call->nargs - 1].isnull = false;
	result = FunctionCallInvoke(call);
	refold_require_same_columns(scope);
	scope->event = NULL;
	if (++scope->events_done % PROGRESS_INTERVAL == 0)
		pgstat_progress_update_param(PROGRESS_EVENTS_DONE, scope->events_done);
	return result;
}

/*
 * Calls a per-batch handler with the events collected. Its FmgrInfo is made anew each time: a function in SQL keeps its
 * plans there, the first of which would be for empty tables.
 */
static void
call_batch_handler(RefoldScope *scope)
{
	MemoryContext caller = MemoryContextSwitchTo(scope->batch_memory);
	Oid			handler = scope->handler;
	FmgrInfo	function;
	LOCAL_FCINFO(call, 1);

	fmgr_info(handler, &function);
	InitFunctionCallInfoData(*call, &function, 1, InvalidOid, NULL, NULL);
	call->args[0].value = makeArrayResult(scope->batch, scope->batch_memory);
	call->args[0].isnull = false;
	scope->batch = NULL;
	scope->handler = InvalidOid;	/* no call of a step function from inside */
	FunctionCallInvoke(call);
	scope->handler = handler;
	MemoryContextSwitchTo(caller);
	MemoryContextReset(scope->batch_memory);
	scope->batch_used = 0;
}

/* A per-batch handler: keeps the event, and calls it when enough are there. */
static void
collect(RefoldScope *scope, HeapTupleHeader event)
{
	int64		size = HeapTupleHeaderGetDatumLength(event);

	if (scope->batch_memory == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this function is internal to refold's replay")));
	if (scope->batch != NULL && scope->batch_used + size > scope->batch_bytes)
		call_batch_handler(scope);
	scope->batch = accumArrayResult(scope->batch, PointerGetDatum(event), false, scope->event_type, scope->batch_memory);
	scope->batch_used += size;
	if (++scope->events_done % PROGRESS_INTERVAL == 0)
		pgstat_progress_update_param(PROGRESS_EVENTS_DONE, scope->events_done);
	if (scope->batch->nelems >= scope->batch_length)
		call_batch_handler(scope);
}

/* Makes room for events in the current memory; before a statement that hands them to the step function. */
void
refold_begin_batches(RefoldScope *scope)
{
	scope->batch_memory = AllocSetContextCreate(CurrentMemoryContext, "refold batch", ALLOCSET_DEFAULT_SIZES);
	scope->batch = NULL;
	scope->batch_used = 0;
}

/* After that statement: the events that are left, an array in the batches' memory; or 0. */
Datum
refold_last_batch(RefoldScope *scope)
{
	Datum		last = scope->batch == NULL ? (Datum) 0 : makeArrayResult(scope->batch, scope->batch_memory);

	scope->batch = NULL;
	scope->batch_memory = NULL;
	return last;
}

/* A handler that writes for itself, called once for each event or with many. */
Datum
refold_event_step_in(FunctionCallInfo fcinfo)
{
	RefoldScope *scope = refold_current_scope();
	FmgrInfo   *handler = handler_of(fcinfo, scope, 0);
	LOCAL_FCINFO(call, 1);
	Datum		result;

	if (scope->batch_length > 0)
	{
		collect(scope, PG_GETARG_HEAPTUPLEHEADER(0));
		PG_RETURN_VOID();
	}
	InitFunctionCallInfoData(*call, handler, 1, fcinfo->fncollation, fcinfo->context, NULL);
	result = call_handler(call, scope, PG_GETARG_HEAPTUPLEHEADER(0));
	fcinfo->isnull = call->isnull;
	return result;
}

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
 * A fold, as the aggregate's transition: (internal, T, event). The second argument is the row before the first event;
 * a type of state of its own tells "no event yet" from "the row was deleted".
 */
Datum
refold_fold_step_in(FunctionCallInfo fcinfo)
{
	RefoldScope *scope = refold_current_scope();
	MemoryContext aggregate;
	FmgrInfo   *handler = handler_of(fcinfo, scope, 2);
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
	row = call_handler(call, scope, event);
	keep_row(state, row, call->isnull);
	PG_RETURN_POINTER(state);
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
