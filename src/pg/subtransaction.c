/*
 * Subtransactions, and locks with timeouts, which are taken in one.
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/resowner.h"

#include "scope.h"

ErrorData  *refold_begin_subtransaction(void);
ErrorData  *refold_end_subtransaction(bool release, ResourceOwner owner);
ErrorData  *refold_lock_together(int count, const Oid *relations, const LOCKMODE *modes, const int *timeouts_ms,
								 bool *granted);

/* Begins a subtransaction; the caller's memory stays the current one, as it is freed later. */
ErrorData *
refold_begin_subtransaction(void)
{
	MemoryContext caller = CurrentMemoryContext;
	RefoldScope *outer = refold_current_scope();
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
	RefoldScope *outer = refold_current_scope();
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
	RefoldScope *outer = refold_current_scope();
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
