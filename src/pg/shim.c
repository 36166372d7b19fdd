/*
 * The few things that must be done in C: catching an error of user code whole, so that it can be raised again as it
 * was (a pgrx boundary keeps only its code, message, detail and hint); locks with a timeout; the two hooks; and the
 * step functions that call a handler once per event from inside PostgreSQL's executor.
 *
 * Every function that may run user code returns the caught error, or NULL. Rust calls them through pgrx's guard, for
 * what is raised while an error is caught (no memory for its copy), so that no frame of Rust is ever jumped over.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_database.h"
#include "commands/progress.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "tcop/tcopprot.h"
#include "utils/backend_progress.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "scope.h"

/* Attribute numbers of refold.event that the line of context shows. */
#define EVENT_POSITION 1
#define EVENT_STREAM_ID 2
#define EVENT_TYPE 4

#define PROGRESS_EVENTS_DONE 7
#define PROGRESS_INTERVAL 1024

/* What is known about user code while it runs. Laid out as in shim.rs. */
struct RefoldScope
{
	const char *projection;
	TupleDesc	event_desc;
	HeapTupleHeader event;		/* the event being handled, or NULL */
	Oid			handler;		/* for the step functions */
	Oid			state_type;		/* of a fold; InvalidOid for a per-event handler */
	Oid			event_type;
	int			nest_level;		/* of transactions, when the scope was entered */
	const Oid  *guarded;		/* live tables the handler must not touch during a replay */
	int			guarded_count;
	int64		events_done;
	int			batch_length;	/* most events of one call of a per-batch handler; 0 for any other */
	int64		batch_bytes;	/* and most bytes, but for a single event */
	MemoryContext batch_memory; /* while events are collected for the next call */
	ArrayBuildState *batch;
	int64		batch_used;
};

static RefoldScope *current_scope = NULL;
static Oid	gate_oid = InvalidOid;
static ExecutorCheckPerms_hook_type next_check_perms = NULL;

ErrorData  *refold_prepare(const char *sql, int nargs, Oid *types, SPIPlanPtr *plan);
ErrorData  *refold_execute(SPIPlanPtr plan, const char *sql, Datum *values, const char *nulls, Snapshot snapshot,
						   RefoldScope *scope);
ErrorData  *refold_raise(int code, const char *message, const char *detail, const char *hint, RefoldScope *scope);
void		refold_log(const char *message);
void		refold_warn(const char *message, const char *detail, const char *hint);
ErrorData  *refold_lock_together(int count, const Oid *relations, const LOCKMODE *modes, const int *timeouts_ms,
								 bool *granted);
ErrorData  *refold_begin_subtransaction(void);
ErrorData  *refold_end_subtransaction(bool release, ResourceOwner owner);
ErrorData  *refold_copy_error(ErrorData *error);
Datum		refold_event_step_in(FunctionCallInfo fcinfo);
void		refold_begin_batches(RefoldScope *scope);
Datum		refold_last_batch(RefoldScope *scope);
Datum		refold_fold_step_in(FunctionCallInfo fcinfo);
Datum		refold_fold_result_in(FunctionCallInfo fcinfo);
void		refold_set_gate(Oid gate);
void		refold_handle_signals(void);
TableScanDesc refold_begin_databases(void);
const char *refold_next_database(TableScanDesc scan, Oid *oid);
int			refold_pid_of(int backend);
void		refold_install_hooks(void);

/* Adds the line `projection "cart", event "item_added" of stream "cart-1", position 17` to an error's context. */
static void
add_context(void *arg)
{
	RefoldScope *scope = (RefoldScope *) arg;
	HeapTupleData tuple;
	Datum		position,
				stream_id,
				event_type;
	bool		position_null,
				stream_null,
				type_null;

	if (scope->event == NULL)
	{
		errcontext("projection \"%s\"", scope->projection);
		return;
	}
	tuple.t_len = HeapTupleHeaderGetDatumLength(scope->event);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = scope->event;
	position = heap_getattr(&tuple, EVENT_POSITION, scope->event_desc, &position_null);
	stream_id = heap_getattr(&tuple, EVENT_STREAM_ID, scope->event_desc, &stream_null);
	event_type = heap_getattr(&tuple, EVENT_TYPE, scope->event_desc, &type_null);
	if (stream_null || type_null)
		errcontext("projection \"%s\"", scope->projection);
	else if (position_null)		/* a key function runs before the position is drawn */
		errcontext("projection \"%s\", event \"%s\" of stream \"%s\"", scope->projection,
				   TextDatumGetCString(event_type), TextDatumGetCString(stream_id));
	else
		errcontext("projection \"%s\", event \"%s\" of stream \"%s\", position " INT64_FORMAT, scope->projection,
				   TextDatumGetCString(event_type), TextDatumGetCString(stream_id), DatumGetInt64(position));
}

void
refold_enter_scope(RefoldScope *scope, ErrorContextCallback *line)
{
	if (scope == NULL)
		return;
	line->callback = add_context;
	line->arg = scope;
	line->previous = error_context_stack;
	error_context_stack = line;
	scope->nest_level = GetCurrentTransactionNestLevel();
	current_scope = scope;
}

void
refold_leave_scope(RefoldScope *scope, RefoldScope *outer, ErrorContextCallback *line)
{
	if (scope == NULL)
		return;
	error_context_stack = line->previous;
	current_scope = outer;
}

/*
 * SPI names each statement in the context of an error that it runs into. Of a statement of refold's own that would only
 * tell how refold works: take the lines out that quote it.
 */
static void
hide_statement(ErrorData *error, const char *sql)
{
	char	   *found = error->context == NULL ? NULL : strstr(error->context, sql);
	char	   *start,
			   *end;

	if (found == NULL || sql[0] == '\0')
		return;
	for (start = found; start > error->context && start[-1] != '\n'; start--)
		;
	end = strchr(found + strlen(sql), '\n');	/* a literal in the statement may hold a line break */
	if (end != NULL)
		memmove(start, end + 1, strlen(end + 1) + 1);
	else if (start > error->context)
		start[-1] = '\0';
	else
		error->context = NULL;
}

/* Takes the error off PostgreSQL's stack, into the caller's memory. PG_CATCH has restored error_context_stack. */
ErrorData *
refold_take_error(MemoryContext caller, RefoldScope *outer)
{
	ErrorData  *error;

	MemoryContextSwitchTo(caller);
	error = CopyErrorData();
	FlushErrorState();
	current_scope = outer;
	return error;
}

RefoldScope *
refold_current_scope(void)
{
	return current_scope;
}

/* Prepares and keeps a plan; the caller is connected to SPI. */
ErrorData *
refold_prepare(const char *sql, int nargs, Oid *types, SPIPlanPtr *plan)
{
	MemoryContext caller = CurrentMemoryContext;
	RefoldScope *outer = current_scope;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		*plan = SPI_prepare(sql, nargs, types);
		if (*plan == NULL)
			elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
		if (SPI_keepplan(*plan) != 0)
			elog(ERROR, "SPI_keepplan failed");
	}
	PG_CATCH();
	{
		error = refold_take_error(caller, outer);
	}
	PG_END_TRY();
	return error;
}

/* Runs a plan on the given snapshot, or with NULL on the one that any command of the transaction would take. */
ErrorData *
refold_execute(SPIPlanPtr plan, const char *sql, Datum *values, const char *nulls, Snapshot snapshot,
			   RefoldScope *scope)
{
	MemoryContext caller = CurrentMemoryContext;
	RefoldScope *outer = current_scope;
	ErrorContextCallback line;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		int			rc;

		refold_enter_scope(scope, &line);
		if (snapshot != InvalidSnapshot)
			CommandCounterIncrement();
		rc = SPI_execute_snapshot(plan, values, nulls, snapshot, InvalidSnapshot, false, true, 0);
		if (rc < 0)
			elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(rc));
		refold_leave_scope(scope, outer, &line);
	}
	PG_CATCH();
	{
		error = refold_take_error(caller, outer);
		hide_statement(error, sql);
	}
	PG_END_TRY();
	return error;
}

/* Makes an error of refold's own, with the context that an error of user code in this scope would have. */
ErrorData *
refold_raise(int code, const char *message, const char *detail, const char *hint, RefoldScope *scope)
{
	MemoryContext caller = CurrentMemoryContext;
	RefoldScope *outer = current_scope;
	ErrorContextCallback line;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		refold_enter_scope(scope, &line);
		ereport(ERROR,
				(errcode(code),
				 errmsg_internal("%s", message),
				 detail == NULL ? 0 : errdetail_internal("%s", detail),
				 hint == NULL ? 0 : errhint("%s", hint)));
	}
	PG_CATCH();
	{
		error = refold_take_error(caller, outer);
	}
	PG_END_TRY();
	return error;
}

/* Sends a warning; as all that is sent, it ends with a check for interrupts, so that it may raise an error. */
void
refold_warn(const char *message, const char *detail, const char *hint)
{
	ereport(WARNING,
			(errmsg_internal("%s", message),
			 errdetail_internal("%s", detail),
			 errhint("%s", hint)));
}

/* Writes a line into the server's log; it ends with a check for interrupts as well. */
void
refold_log(const char *message)
{
	ereport(LOG, (errmsg_internal("%s", message)));
}

/* Takes the locks in order, waiting for each no longer than its timeout. */
static void
lock_each(int count, const Oid *relations, const LOCKMODE *modes, const int *timeouts_ms)
{
	for (int i = 0; i < count; i++)
	{
		int			nest_level = NewGUCNestLevel();
		char		timeout[16];

		snprintf(timeout, sizeof(timeout), "%d", timeouts_ms[i]);
		(void) set_config_option("lock_timeout", timeout, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
		LockRelationOid(relations[i], modes[i]);
		AtEOXact_GUC(false, nest_level);
	}
}

/*
 * Takes all the locks, or none: in a subtransaction, whose rollback gives back what was had. Locks that were had belong
 * to the caller's (sub)transaction.
 */
ErrorData *
refold_lock_together(int count, const Oid *relations, const LOCKMODE *modes, const int *timeouts_ms, bool *granted)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	RefoldScope *outer = current_scope;
	ErrorData  *volatile error = NULL;
	volatile bool in_subtransaction = false;

	*granted = false;
	PG_TRY();
	{
		BeginInternalSubTransaction(NULL);
		in_subtransaction = true;
		MemoryContextSwitchTo(caller);
		lock_each(count, relations, modes, timeouts_ms);
		ReleaseCurrentSubTransaction();
		in_subtransaction = false;
		*granted = true;
	}
	PG_CATCH();
	{
		error = refold_take_error(caller, outer);
	}
	PG_END_TRY();

	if (error != NULL && in_subtransaction)
	{
		bool		timed_out = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;

		PG_TRY();
		{
			RollbackAndReleaseCurrentSubTransaction();
			if (timed_out)
				error = NULL;
		}
		PG_CATCH();
		{
			error = refold_take_error(caller, outer);
		}
		PG_END_TRY();
	}
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return error;
}

/* Begins a subtransaction; the caller's memory stays the current one, as it is freed later. */
ErrorData *
refold_begin_subtransaction(void)
{
	MemoryContext caller = CurrentMemoryContext;
	RefoldScope *outer = current_scope;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		BeginInternalSubTransaction(NULL);
		MemoryContextSwitchTo(caller);
	}
	PG_CATCH();
	{
		error = refold_take_error(caller, outer);
	}
	PG_END_TRY();
	return error;
}

/* Ends it, by release or rollback. */
ErrorData *
refold_end_subtransaction(bool release, ResourceOwner owner)
{
	MemoryContext caller = CurrentMemoryContext;
	RefoldScope *outer = current_scope;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		if (release)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		error = refold_take_error(caller, outer);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return error;
}

/* Copies an error into the current memory. PostgreSQL copies only from its stack, so it goes there once more. */
ErrorData *
refold_copy_error(ErrorData *error)
{
	MemoryContext caller = CurrentMemoryContext;
	RefoldScope *outer = current_scope;
	ErrorData  *volatile copy = NULL;

	PG_TRY();
	{
		ReThrowError(error);
	}
	PG_CATCH();
	{
		copy = refold_take_error(caller, outer);
	}
	PG_END_TRY();
	return copy;
}

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
	RefoldScope *scope = current_scope;
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
	Datum		row;
	bool		isnull;
} FoldState;

/* A row as the aggregate keeps it. */
static void
keep_row(FoldState *state, Datum row, bool isnull, MemoryContext aggregate)
{
	MemoryContext caller = MemoryContextSwitchTo(aggregate);
	Datum		kept = isnull ? (Datum) 0 : datumCopy(row, false, -1);

	MemoryContextSwitchTo(caller);
	if (!state->isnull)
		pfree(DatumGetPointer(state->row));
	state->row = kept;
	state->isnull = isnull;
}

/*
 * A fold, as the aggregate's transition: (internal, T, event). The second argument is the row before the first event;
 * a type of state of its own tells "no event yet" from "the row was deleted".
 */
Datum
refold_fold_step_in(FunctionCallInfo fcinfo)
{
	RefoldScope *scope = current_scope;
	MemoryContext aggregate;
	FmgrInfo   *handler;
	FoldState  *state;
	LOCAL_FCINFO(call, 2);
	Datum		row;

	if (AggCheckCallContext(fcinfo, &aggregate) == 0)
		elog(ERROR, "refold._fold_step called outside an aggregate");
	handler = handler_of(fcinfo, scope, 2);
	if (PG_ARGISNULL(0))
	{
		state = MemoryContextAlloc(aggregate, sizeof(FoldState));
		state->isnull = true;
		keep_row(state, PG_GETARG_DATUM(1), PG_ARGISNULL(1), aggregate);
	}
	else
		state = (FoldState *) PG_GETARG_POINTER(0);
	InitFunctionCallInfoData(*call, handler, 2, fcinfo->fncollation, fcinfo->context, NULL);
	call->args[0].value = state->row;
	call->args[0].isnull = state->isnull;
	row = call_handler(call, scope, PG_GETARG_HEAPTUPLEHEADER(2));
	keep_row(state, row, call->isnull, aggregate);
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

static void
refuse_guarded(Oid relation)
{
	for (int i = 0; i < current_scope->guarded_count; i++)
		if (current_scope->guarded[i] == relation)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("handler of projection \"%s\" uses the live table \"%s\" during a replay",
							current_scope->projection, get_rel_name(relation)),
					 errdetail("A replay leads the handler's unqualified table names to a copy; this one went past it."),
					 errhint("Name the projection's tables without a schema in the handler, set no search_path in it, "
							 "and read them through no view.")));
}

/* Refuses access to live tables while a handler is replayed: what it wrote there would be lost or doubled. */
#if PG_VERSION_NUM >= 160000
static bool
check_perms(List *range_table, List *permissions, bool report)
{
	if (current_scope != NULL && current_scope->guarded_count > 0)
	{
		ListCell   *cell;

		foreach(cell, permissions)
			refuse_guarded(lfirst_node(RTEPermissionInfo, cell)->relid);
	}
	return next_check_perms == NULL || next_check_perms(range_table, permissions, report);
}
#else
static bool
check_perms(List *range_table, bool report)
{
	if (current_scope != NULL && current_scope->guarded_count > 0)
	{
		ListCell   *cell;

		foreach(cell, range_table)
		{
			RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

			if (entry->rtekind == RTE_RELATION && entry->requiredPerms != 0)
				refuse_guarded(entry->relid);
		}
	}
	return next_check_perms == NULL || next_check_perms(range_table, report);
}
#endif

/* Whether nobody else checks, or records, each access to a table: an access without a statement would pass them by. */
bool
refold_checks_are_ours(void)
{
	return ExecutorCheckPerms_hook == check_perms && next_check_perms == NULL;
}

/* The gate must not stay closed for as long as a prepared transaction may live. */
static void
refuse_prepare(XactEvent event, void *arg)
{
	LOCKTAG		tag;

	if (event != XACT_EVENT_PRE_PREPARE || !OidIsValid(gate_oid))
		return;
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, gate_oid);
	if (LockHeldByMe(&tag, ShareRowExclusiveLock
#if PG_VERSION_NUM >= 170000
					 ,true
#endif
					 ))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot prepare a transaction that holds refold's gate"),
				 errdetail("Every append waits for the end of this transaction."),
				 errhint("Use COMMIT instead of PREPARE TRANSACTION.")));
}

/* A worker is cancelled, ended and told of new settings by the signals that a client's session obeys. */
void
refold_handle_signals(void)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
}

/* Starts a scan of the databases: of a shared catalog, which a worker without a database can read. */
TableScanDesc
refold_begin_databases(void)
{
	return table_beginscan_catalog(table_open(DatabaseRelationId, AccessShareLock), 0, NULL);
}

/* The next one that takes connections, its name valid until the next call; NULL at the end, which ends the scan. */
const char *
refold_next_database(TableScanDesc scan, Oid *oid)
{
	HeapTuple	tuple;

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (!database->datallowconn)
			continue;
		*oid = database->oid;
		return NameStr(database->datname);
	}
	{
		Relation	relation = scan->rs_rd;

		table_endscan(scan);
		table_close(relation, AccessShareLock);
	}
	return NULL;
}

/* The process of a backend, by the number that is in its virtual transaction ids; 0 if it has ended. */
int
refold_pid_of(int backend)
{
#if PG_VERSION_NUM >= 170000
	PGPROC	   *proc = ProcNumberGetProc(backend);
#else
	PGPROC	   *proc = BackendIdGetProc(backend);
#endif

	return proc == NULL ? 0 : proc->pid;
}

void
refold_set_gate(Oid gate)
{
	gate_oid = gate;
}

void
refold_install_hooks(void)
{
	next_check_perms = ExecutorCheckPerms_hook;
	ExecutorCheckPerms_hook = check_perms;
	RegisterXactCallback(refuse_prepare, NULL);
}
