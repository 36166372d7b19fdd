/*
 * That a rebuild which is undone does not keep the server from starting after a crash.
 *
 * PostgreSQL deletes the files of a table that an aborted (sub)transaction has made, and does not wait until the abort's
 * record is on disk. If a crash then loses that record, but not the older one that has made an unlogged table, recovery
 * makes the table's init fork anew, finds the old main file where it copies it to, and gives up: "could not create file
 * ...: File exists" (PostgreSQL's bug 17731; the second start succeeds). So the record is flushed before the files go, as a
 * commit that deletes files does it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/storage.h"

#if PG_VERSION_NUM < 160000
#define RelFileLocator RelFileNode
#endif

void		refold_make_unlogged(void);

/* Whether this transaction makes unlogged tables; a handler that is replayed into them may make further files of theirs. */
static bool makes = false;

/* Where the last record that anybody has inserted ends. */
static XLogRecPtr
end_of_log(void)
{
	XLogRecPtr	next = GetXLogInsertRecPtr();
	uint64		header = XLogSegmentOffset(next, wal_segment_size) < XLOG_BLCKSZ ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;

	/* The next one would follow the header of a page that is not there yet, and cannot be waited for. */
	return next % XLOG_BLCKSZ == header ? next - header : next;
}

/* Between the abort's record, which names the files, and their deletion. */
static void
flush_if_files_go(void)
{
	RelFileLocator *files;

	if (smgrGetPendingDeletes(false, &files) == 0)
		return;
	pfree(files);
	XLogFlush(end_of_log());
}

static void
at_end(XactEvent event, void *arg)
{
	bool		made = makes;

	if (event != XACT_EVENT_ABORT && event != XACT_EVENT_COMMIT && event != XACT_EVENT_PREPARE)
		return;
	makes = false;
	if (made && event == XACT_EVENT_ABORT)
		flush_if_files_go();
}

static void
at_end_of_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (makes && event == SUBXACT_EVENT_ABORT_SUB)
		flush_if_files_go();
}

/* To be called before this transaction makes its first unlogged table. */
void
refold_make_unlogged(void)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(at_end, NULL);
		RegisterSubXactCallback(at_end_of_subtransaction, NULL);
		registered = true;
	}
	makes = true;
}
