/*
 * The scope in which user code runs, and the errors that are put aside.
 */
#ifndef REFOLD_SCOPE_H
#define REFOLD_SCOPE_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/array.h"

/* What is known about user code while it runs. Laid out as in shim.rs. */
typedef struct RefoldScope
{
	const char *projection;
	TupleDesc	event_desc;
	HeapTupleHeader event;		/* the event being handled, or NULL */
	Oid			handler;		/* for the step functions */
	Oid			state_type;		/* of a fold, a table's row type; InvalidOid for any other handler */
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
	TupleDesc	columns;		/* of state_type, pinned while a handler may run; else NULL */
	const struct TypeCacheEntry *state_entry;	/* state_type's, while columns are pinned */
	int64		last_position;	/* a fold's step passes over the events after it */
} RefoldScope;

/* The attribute number of an event's position. */
#define EVENT_POSITION 1

extern RefoldScope *refold_current_scope(void);
extern void refold_enter_scope(RefoldScope *scope, ErrorContextCallback *line);
extern void refold_leave_scope(RefoldScope *scope, RefoldScope *outer, ErrorContextCallback *line);

/* Refuse a fold's handler that alters its table. */
extern void refold_pin_columns(RefoldScope *scope);
extern void refold_require_same_columns(const RefoldScope *scope);
extern void refold_unpin_columns(RefoldScope *scope);

/* Takes the error that was caught out of the error stack, copied to `caller`, and makes `outer` the scope again. */
extern ErrorData *refold_take_error(MemoryContext caller, RefoldScope *outer);

/* Whether nobody else checks, or records, each access to a table: an access without a statement would pass them by. */
extern bool refold_checks_are_ours(void);

/* Refuses the session's first temporary object, in a handler that runs on the session's own search_path. */
extern void refold_refuse_temporary_schema(void);

#endif
