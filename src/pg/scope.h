/*
 * The scope in which user code runs, and the errors that are put aside; both are in shim.c.
 */
#ifndef REFOLD_SCOPE_H
#define REFOLD_SCOPE_H

typedef struct RefoldScope RefoldScope;

extern RefoldScope *refold_current_scope(void);
extern void refold_enter_scope(RefoldScope *scope, ErrorContextCallback *line);
extern void refold_leave_scope(RefoldScope *scope, RefoldScope *outer, ErrorContextCallback *line);

/* Takes the error that was caught out of the error stack, copied to `caller`, and makes `outer` the scope again. */
extern ErrorData *refold_take_error(MemoryContext caller, RefoldScope *outer);

/* Whether nobody else checks, or records, each access to a table: an access without a statement would pass them by. */
extern bool refold_checks_are_ours(void);

#endif
