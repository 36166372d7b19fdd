/*
 * The hooks: what a handler must not touch during a replay, that it makes no temporary object, and that a transaction
 * which holds the gate is not prepared.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"

#include "scope.h"

static Oid	gate_oid = InvalidOid;
static ExecutorCheckPerms_hook_type next_check_perms = NULL;
static ProcessUtility_hook_type next_process_utility = NULL;

void		refold_set_gate(Oid gate);
void		refold_install_hooks(void);

static bool
is_guarding(void)
{
	RefoldScope *scope = refold_current_scope();

	return scope != NULL && scope->guarded_count > 0;
}

static void
refuse_guarded(Oid relation)
{
	RefoldScope *scope = refold_current_scope();

	for (int i = 0; i < scope->guarded_count; i++)
		if (scope->guarded[i] == relation)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("handler of projection \"%s\" uses the live table \"%s\" during a replay",
							scope->projection, get_rel_name(relation)),
					 errdetail("A replay leads the handler's unqualified table names to a copy; this one went past it."),
					 errhint("Name the projection's tables without a schema in the handler, set no search_path in it, "
							 "and read them through no view.")));
}

/* Refuses access to live tables while a handler is replayed: what it wrote there would be lost or doubled. */
#if PG_VERSION_NUM >= 160000
static bool
check_perms(List *range_table, List *permissions, bool report)
{
	if (is_guarding())
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
	if (is_guarding())
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

static void
process_utility(PlannedStmt *statement, const char *text, bool read_only, ProcessUtilityContext context,
				ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *destination,
				QueryCompletion *completion)
{
	ProcessUtility_hook_type next = next_process_utility != NULL ? next_process_utility : standard_ProcessUtility;

	next(statement, text, read_only, context, parameters, environment, destination, completion);
	refold_refuse_temporary_schema();
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
	next_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(refuse_prepare, NULL);
}
