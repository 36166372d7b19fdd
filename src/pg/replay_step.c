/*
 * The step functions of a replay, which call a handler once per event from inside PostgreSQL's executor: what they have
 * in common, and those of the handlers that write for themselves.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/progress.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/backend_progress.h"
#include "utils/memutils.h"

#include "replay_step.h"

#define PROGRESS_EVENTS_DONE 7
#define PROGRESS_INTERVAL 1024

Datum		refold_event_step_in(FunctionCallInfo fcinfo);
void		refold_begin_batches(RefoldScope *scope);
Datum		refold_last_batch(RefoldScope *scope);

void
refold_refuse_step(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("this function is internal to refold's replay")));
}

/* Whether a replay's own statement has called: no handler that it calls, nor a subtransaction of user code. */
bool
refold_is_replaying(const RefoldScope *scope)
{
	return scope != NULL && OidIsValid(scope->handler) && scope->event == NULL &&
		GetCurrentTransactionNestLevel() == scope->nest_level;
}

/*
 * Prepares the call of the current scope's handler. Users can call the step functions too, while a replay runs: what
 * does not have the handler's own arguments never gets to it. Nor does a call inside a handler, or inside a
 * subtransaction of user code: an error of a call then ends the scope, so that scope->event never outlives its event.
 */
FmgrInfo *
refold_step_handler(FunctionCallInfo fcinfo, RefoldScope *scope, int event_argument)
{
	FmgrInfo   *handler = (FmgrInfo *) fcinfo->flinfo->fn_extra;

	if (!refold_is_replaying(scope) || PG_ARGISNULL(event_argument))
		refold_refuse_step();
	if (handler != NULL && handler->fn_oid == scope->handler)
		return handler;
	if (OidIsValid(scope->state_type) != (event_argument == 2) ||
		get_fn_expr_argtype(fcinfo->flinfo, event_argument) != scope->event_type ||
		(event_argument == 2 && get_fn_expr_argtype(fcinfo->flinfo, 1) != scope->state_type))
		refold_refuse_step();
	handler = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(FmgrInfo));
	fmgr_info_cxt(scope->handler, handler, fcinfo->flinfo->fn_mcxt);
	fcinfo->flinfo->fn_extra = handler;
	return handler;
}

/* Counts events as handled, for the progress report too. */
void
refold_count_events(RefoldScope *scope, int64 count)
{
	int64		before = scope->events_done;

	scope->events_done += count;
	if (before / PROGRESS_INTERVAL != scope->events_done / PROGRESS_INTERVAL)
		pgstat_progress_update_param(PROGRESS_EVENTS_DONE, scope->events_done);
}

/* Calls the handler, whose last argument is the event. */
Datum
refold_call_replayed(FunctionCallInfo call, RefoldScope *scope, HeapTupleHeader event)
{
	Datum		result;

	scope->event = event;
	call->args[call->nargs - 1].value = PointerGetDatum(event);
	call->args[call->nargs - 1].isnull = false;
	result = FunctionCallInvoke(call);
	refold_require_same_columns(scope);
	scope->event = NULL;
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
		refold_refuse_step();
	if (scope->batch != NULL && scope->batch_used + size > scope->batch_bytes)
		call_batch_handler(scope);
	scope->batch = accumArrayResult(scope->batch, PointerGetDatum(event), false, scope->event_type, scope->batch_memory);
	scope->batch_used += size;
	refold_count_events(scope, 1);
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
	FmgrInfo   *handler = refold_step_handler(fcinfo, scope, 0);
	LOCAL_FCINFO(call, 1);
	Datum		result;

	if (scope->batch_length > 0)
	{
		collect(scope, PG_GETARG_HEAPTUPLEHEADER(0));
		PG_RETURN_VOID();
	}
	InitFunctionCallInfoData(*call, handler, 1, fcinfo->fncollation, fcinfo->context, NULL);
	result = refold_call_replayed(call, scope, PG_GETARG_HEAPTUPLEHEADER(0));
	refold_count_events(scope, 1);
	fcinfo->isnull = call->isnull;
	return result;
}
