/*
 * What a search_path's "$user" may come to mean.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_namespace.h"
#include "utils/acl.h"

bool		refold_some_role_has_a_schema(void);

/* Whether a schema is named like a role. As catalogs are read for name look-ups: whatever is committed counts. */
bool
refold_some_role_has_a_schema(void)
{
	Relation	namespaces = table_open(NamespaceRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(namespaces, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	bool		found = false;

	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_namespace schema = (Form_pg_namespace) GETSTRUCT(tuple);

		found = OidIsValid(get_role_oid(NameStr(schema->nspname), true));
	}
	systable_endscan(scan);
	table_close(namespaces, AccessShareLock);
	return found;
}
