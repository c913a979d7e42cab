// Pooling of maps that lie channels first. Vectors run along the last axis.
#pragma once

#include "pool_join.h"
#include "pool_select.h"
#include "pool_turned.h"
#include "pool_uneven.h"
#include "pool_whole.h"

static void FR_NAME(pool)(const fr_pool *s) {
    if (s->whole) pool_whole(s);
    else if (s->turned) pool_turned(s);
    else if (s->axis[2].stride == 0) pool_uneven(s);
    else if (s->mode != FR_POOL_SUM && s->taps) select_all(s);
    else join_all(s);
}
