/*
 * That a rebuild which is undone does not keep the server from starting after a crash.
 *
 * PostgreSQL deletes the files of a table that an aborted transaction has made, and does not wait until the abort's record
 * is on disk. If a crash then loses that record, but not the older one that has made an unlogged table, recovery makes the
 * table's init fork anew, finds the old main file where it copies it to, and gives up: "could not create file ...: File
 * exists" (PostgreSQL's bug 17731; the second start succeeds). So the record is flushed before the files go, as a commit
 * that deletes files does it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"

void		refold_make_unlogged(void);

/* The innermost nesting level of this transaction whose end may delete unlogged tables; 0 if there are none. */
static int	made_at = 0;

/* Where the last record that anybody has inserted ends. Callbacks of an abort come after its record. */
static XLogRecPtr
end_of_log(void)
{
	XLogRecPtr	next = GetXLogInsertRecPtr();
	uint64		header = XLogSegmentOffset(next, wal_segment_size) < XLOG_BLCKSZ ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;

	/* The next one would follow the header of a page that is not there yet, and cannot be waited for. */
	return next % XLOG_BLCKSZ == header ? next - header : next;
}

static void
at_end(XactEvent event, void *arg)
{
	if (made_at > 0 && event == XACT_EVENT_ABORT)
		XLogFlush(end_of_log());
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		made_at = 0;
}

/* What was made in a subtransaction that is released is its parent's. */
static void
at_end_of_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (level > made_at || (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB))
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		XLogFlush(end_of_log());
	made_at = level - 1;
}

/* To be called before this (sub)transaction makes an unlogged table. */
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
	made_at = Max(made_at, GetCurrentTransactionNestLevel());
}
