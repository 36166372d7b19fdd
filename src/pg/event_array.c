/*
 * The elements of the array that append_events takes, read where they lie. To write the array as text, split that and
 * read each piece again costs as much as half of what the rows cost.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/jsonb.h"

/* One element: [{"type", "data", "metadata"?, "event_id"?}, ...]. Laid out as in jsonb.rs. */
typedef struct RefoldElement
{
	const char *type;			/* both texts lie in the array, and have no zero at their end */
	const char *event_id;		/* NULL where it is left out */
	Datum		data;
	Datum		metadata;		/* a null pointer where it is left out */
	int32		type_length;
	int32		event_id_length;
} RefoldElement;

int			refold_event_array(Datum events, int most, RefoldElement **elements);

static bool
is_key(const JsonbValue *key, const char *name)
{
	return key->val.string.len == (int) strlen(name) && memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

/* A value as jsonb of its own: what jsonb_in makes of its text. A container lies in its parent just as it would alone. */
static Datum
own_jsonb(JsonbValue *value)
{
	return PointerGetDatum(JsonbValueToJsonb(value));
}

static bool
read_field(RefoldElement *element, const JsonbValue *key, JsonbValue *value)
{
	if (is_key(key, "data"))
	{
		element->data = own_jsonb(value);
		return true;
	}
	if (is_key(key, "type"))
	{
		if (value->type != jbvString)
			return false;
		element->type = value->val.string.val;
		element->type_length = value->val.string.len;
		return true;
	}
	if (is_key(key, "metadata"))
	{
		if (value->type != jbvNull)
			element->metadata = own_jsonb(value);
		return true;
	}
	if (is_key(key, "event_id"))
	{
		if (value->type == jbvNull)
			return true;
		if (value->type != jbvString)
			return false;
		element->event_id = value->val.string.val;
		element->event_id_length = value->val.string.len;
		return true;
	}
	return false;
}

static bool
read_element(RefoldElement *element, JsonbContainer *object)
{
	JsonbIterator *fields = JsonbIteratorInit(object);
	JsonbIteratorToken token = JsonbIteratorNext(&fields, &(JsonbValue) {0}, false);
	JsonbValue	key,
				value;

	if (token != WJB_BEGIN_OBJECT)
		return false;
	while ((token = JsonbIteratorNext(&fields, &key, true)) == WJB_KEY)
	{
		token = JsonbIteratorNext(&fields, &value, true);
		if (token != WJB_VALUE || !read_field(element, &key, &value))
			return false;
	}
	return element->type != NULL && DatumGetPointer(element->data) != NULL;
}

/*
 * Reads the elements, and returns how many there are; -1 where something is not as it should be, or where there are more
 * than `most`: then the caller finds the words for it. The elements point into the array, which stays in the current
 * memory.
 */
int
refold_event_array(Datum events, int most, RefoldElement **elements)
{
	Jsonb	   *array = DatumGetJsonbP(events);
	JsonbIterator *rest;
	JsonbIteratorToken token;
	JsonbValue	value;
	int			count = 0;

	if (!JB_ROOT_IS_ARRAY(array) || JB_ROOT_IS_SCALAR(array) || JB_ROOT_COUNT(array) > (uint32) most)
		return -1;
	*elements = palloc0(sizeof(RefoldElement) * Max(JB_ROOT_COUNT(array), 1));
	rest = JsonbIteratorInit(&array->root);
	token = JsonbIteratorNext(&rest, &value, false);
	Assert(token == WJB_BEGIN_ARRAY);
	while ((token = JsonbIteratorNext(&rest, &value, true)) == WJB_ELEM)
	{
		CHECK_FOR_INTERRUPTS();
		if (value.type != jbvBinary || !read_element(&(*elements)[count], value.val.binary.data))
			return -1;
		count++;
	}
	return count;
}
