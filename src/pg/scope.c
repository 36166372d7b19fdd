/*
 * Catching an error of user code whole, so that it can be raised again as it was: a pgrx boundary keeps only its code,
 * message, detail and hint. And the line that the scope in which user code runs adds to an error's context.
 *
 * Every function of these files that may run user code returns the caught error, or NULL. Rust calls them through pgrx's
 * guard, for what is raised while an error is caught (no memory for its copy), so that no frame of Rust is ever jumped
 * over.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

#include "scope.h"

/* Attribute numbers of refold.event that the line of context shows. */
#define EVENT_STREAM_ID 2
#define EVENT_TYPE 4

static RefoldScope *current_scope = NULL;

ErrorData  *refold_raise(int code, const char *message, const char *detail, const char *hint, RefoldScope *scope);
ErrorData  *refold_copy_error(ErrorData *error);
void		refold_warn(const char *message, const char *detail, const char *hint);
void		refold_log(const char *message);

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

/* Keeps the columns that a fold's rows have, before what may call its handler. */
void
refold_pin_columns(RefoldScope *scope)
{
	if (scope == NULL || !OidIsValid(scope->state_type))
		return;
	scope->columns = lookup_rowtype_tupdesc(scope->state_type, -1);
	scope->state_entry = lookup_type_cache(scope->state_type, 0);
}

/*
 * After a call of the handler: a row that was made before it altered its table has another layout than its type has by
 * now, and nothing in it tells. Its bytes would be read as what they are not. A statement that reads the table keeps it
 * from being altered meanwhile; a call without one does not. The cache's entry lives as long as the backend, and forgets
 * its columns when the type changes.
 */
void
refold_require_same_columns(const RefoldScope *scope)
{
	TupleDesc	now;

	if (scope == NULL || scope->columns == NULL || scope->state_entry->tupDesc == scope->columns)
		return;
	now = lookup_type_cache(scope->state_type, TYPECACHE_TUPDESC)->tupDesc;
	if (now != scope->columns && (now == NULL || !equalTupleDescs(now, scope->columns)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("handler of projection \"%s\" has altered the table whose rows it folds", scope->projection),
				 errhint("Alter the table outside of the handler.")));
}

/* The end of what refold_pin_columns began. */
void
refold_unpin_columns(RefoldScope *scope)
{
	refold_require_same_columns(scope);
	if (scope == NULL || scope->columns == NULL)
		return;
	ReleaseTupleDesc(scope->columns);
	scope->columns = NULL;
}

RefoldScope *
refold_current_scope(void)
{
	return current_scope;
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
