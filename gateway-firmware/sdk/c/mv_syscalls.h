/** The name under which an application written for the ancestor includes its calls. */
#ifndef MV_SYSCALLS_H
#define MV_SYSCALLS_H

#include "holdfast.h"

#endif
