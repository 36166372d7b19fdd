/*
 * What the step functions of a replay have in common.
 */
#ifndef REFOLD_REPLAY_STEP_H
#define REFOLD_REPLAY_STEP_H

#include "fmgr.h"

#include "scope.h"

extern void refold_refuse_step(void);
extern bool refold_is_replaying(const RefoldScope *scope);
extern FmgrInfo *refold_step_handler(FunctionCallInfo fcinfo, RefoldScope *scope, int event_argument);
extern Datum refold_call_replayed(FunctionCallInfo call, RefoldScope *scope, HeapTupleHeader event);
extern void refold_count_events(RefoldScope *scope, int64 count);

#endif
