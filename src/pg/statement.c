/*
 * Statements through SPI, as refold's own or in a scope of user code.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "utils/snapmgr.h"

#include "scope.h"

ErrorData  *refold_prepare(const char *sql, int nargs, Oid *types, SPIPlanPtr *plan);
ErrorData  *refold_execute(SPIPlanPtr plan, const char *sql, Datum *values, const char *nulls, Snapshot snapshot,
						   RefoldScope *scope);

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

/* Prepares and keeps a plan; the caller is connected to SPI. */
ErrorData *
refold_prepare(const char *sql, int nargs, Oid *types, SPIPlanPtr *plan)
{
	MemoryContext caller = CurrentMemoryContext;
	RefoldScope *outer = refold_current_scope();
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
	RefoldScope *outer = refold_current_scope();
	ErrorContextCallback line;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		int			rc;

		refold_enter_scope(scope, &line);
		refold_pin_columns(scope);
		if (snapshot != InvalidSnapshot)
			CommandCounterIncrement();
		rc = SPI_execute_snapshot(plan, values, nulls, snapshot, InvalidSnapshot, false, true, 0);
		if (rc < 0)
			elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(rc));
		refold_unpin_columns(scope);
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
