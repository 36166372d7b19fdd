/*
 * Whether a session's search_path may stand for a projection's, whatever anybody does while the handler runs.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "scope.h"

static bool without_temporary_schema = false;

bool		refold_path_stands_for(const char *session, const char *path);
bool		refold_expect_no_temporary_schema(bool expected);

static List *
names_of(const char *path)
{
	List	   *names;

	if (!SplitIdentifierString(pstrdup(path), ',', &names))
		elog(ERROR, "invalid search_path: %s", path);
	return names;
}

/* Whether a schema is named like a role. As catalogs are read for name look-ups: whatever is committed counts. */
static bool
some_role_has_a_schema(void)
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

/* Whether nobody makes or renames schemas but superusers and the current role. */
static bool
only_trusted_make_schemas(void)
{
	HeapTuple	database = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	bool		only,
				is_default;
	Datum		rights;
	Oid			owner;

	if (!HeapTupleIsValid(database))
		return false;
	rights = SysCacheGetAttr(DATABASEOID, database, Anum_pg_database_datacl, &is_default);
	owner = ((Form_pg_database) GETSTRUCT(database))->datdba;
	only = owner == GetUserId() || superuser_arg(owner);
	if (!is_default)
	{
		Acl		   *acl = DatumGetAclP(rights);

		for (int i = 0; i < ACL_NUM(acl); i++)
		{
			AclItem    *item = &ACL_DAT(acl)[i];

			if ((ACLITEM_GET_PRIVS(*item) & ACL_CREATE) != 0 && item->ai_grantee != owner)
				only = false;
		}
	}
	ReleaseSysCache(database);
	return only;
}

/*
 * Both name the same schemas in the same order; a projection's ends with pg_temp. Names are compared, not what they mean
 * by now: a name that means nothing yet, or nothing to the handler's owner, may come to mean something while the handler
 * runs, and does mean it to another role whose function the handler calls. "$user" is passed over where it means nothing
 * to anybody, and nobody but superusers and the handler's owner can change that.
 */
bool
refold_path_stands_for(const char *session, const char *path)
{
	List	   *wanted = names_of(path);
	bool		has_user = false;
	int			n = 0;
	ListCell   *cell;

	if (wanted == NIL || strcmp(llast(wanted), "pg_temp") != 0)
		return false;
	wanted = list_delete_last(wanted);
	foreach(cell, names_of(session))
	{
		if (strcmp(lfirst(cell), "$user") == 0)
			has_user = true;
		else if (n == list_length(wanted) || strcmp(lfirst(cell), list_nth(wanted, n++)) != 0)
			return false;
	}
	return n == list_length(wanted) && (!has_user || (!some_role_has_a_schema() && only_trusted_make_schemas()));
}

/*
 * From now on, whether a statement is refused that made the session's temporary schema; returns what was so before. The
 * session's path has temporary types before all others, a projection's after them. PostgreSQL refuses temporary tables
 * where handlers run, but no other temporary objects: a function that the handler calls, of another role's, might make one
 * to be found in the place of a type that the handler names.
 */
bool
refold_expect_no_temporary_schema(bool expected)
{
	bool		before = without_temporary_schema;

	without_temporary_schema = expected;
	return before;
}

/* After a statement that may have made a temporary object. */
void
refold_refuse_temporary_schema(void)
{
	Oid			schema,
				toast_schema;

	if (!without_temporary_schema)
		return;
	GetTempNamespaceState(&schema, &toast_schema);
	if (OidIsValid(schema))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot create temporary objects in a handler"),
				 errdetail("They would be found before what the handler names."),
				 errhint("Create them in a schema, outside of the handler.")));
}
