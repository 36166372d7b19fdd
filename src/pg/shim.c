#include "postgres.h"
int refold_shim_version(void);
int refold_shim_version(void) { return PG_VERSION_NUM; }
