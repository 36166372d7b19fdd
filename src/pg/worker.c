/*
 * What background workers ask of the server.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/worker_internal.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "tcop/tcopprot.h"

void		refold_handle_signals(void);
TableScanDesc refold_begin_databases(void);
const char *refold_next_database(TableScanDesc scan, Oid *oid);
int			refold_pid_of(int backend);
bool		refold_applies_in_parallel(void);

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

/* Whether this process applies a subscription whose large transactions are applied by workers of their own meanwhile. */
bool
refold_applies_in_parallel(void)
{
#if PG_VERSION_NUM >= 160000
	return MySubscription != NULL && MySubscription->stream == LOGICALREP_STREAM_PARALLEL;
#else
	return false;
#endif
}
