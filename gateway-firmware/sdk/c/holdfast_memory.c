/**
 * What a compiler calls without being asked to: a freestanding one expects these four. A C library, where one is linked, has its own.
 */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *one, const void *other, size_t bytes);

/* Each would be recognised as what it implements, and call itself. */
#define PLAIN __attribute__((weak, optimize("no-tree-loop-distribute-patterns")))

PLAIN void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    uint8_t *target = to;
    const uint8_t *source = from;
    while (bytes-- > 0) {
        *target++ = *source++;
    }
    return to;
}

PLAIN void *memmove(void *to, const void *from, size_t bytes) {
    uint8_t *target = to;
    const uint8_t *source = from;
    if ((uintptr_t)target <= (uintptr_t)source) {
        return memcpy(to, from, bytes);
    }
    while (bytes-- > 0) {
        target[bytes] = source[bytes];
    }
    return to;
}

PLAIN void *memset(void *to, int value, size_t bytes) {
    uint8_t *target = to;
    while (bytes-- > 0) {
        *target++ = (uint8_t)value;
    }
    return to;
}

PLAIN int memcmp(const void *one, const void *other, size_t bytes) {
    const uint8_t *left = one;
    const uint8_t *right = other;
    for (; bytes > 0; bytes--, left++, right++) {
        if (*left != *right) {
            return *left < *right ? -1 : 1;
        }
    }
    return 0;
}
