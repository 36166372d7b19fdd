/* What storage_check.c offers to storage.c. */
#ifndef REFOLD_STORAGE_H
#define REFOLD_STORAGE_H

#include "access/htup.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

void		refold_require_same_tables(Relation live, Relation shadow);
void		refold_require_toast_at_rest(Oid toast);
List	   *refold_open_indexes(Relation table);
List	   *refold_match_indexes(Relation live, Relation shadow, List *live_indexes, List *shadow_indexes);
bool		refold_same_attribute(int cache, HeapTuple left, HeapTuple right, AttrNumber number, bool is_expression);

#endif
