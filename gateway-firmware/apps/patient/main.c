/**
 * The patient: an application to be examined with a debugger.
 *
 * Again and again it does a round of work whose calls, variables and results are always the same. What else it does is what
 * `mode` says, and nobody but a debugger writes that.
 */
#include <stdbool.h>
#include <stddef.h>

#include "holdfast.h"

/** What it does between two rounds of work. */
enum mode {
    /** Nothing else. */
    MODE_WORK = 0,
    /** Spins with its interrupts masked, until `mode` is another. */
    MODE_MASKED,
    /** Spins inside the handler of its timer. */
    MODE_IN_HANDLER,
    /** Calls the microvisor without a pause. */
    MODE_IN_CALLS,
    /** Sleeps until an interrupt, without end. */
    MODE_ASLEEP,
    /** Executes what is no instruction. */
    MODE_UNDEFINED,
    /** Reads what is not its own. */
    MODE_BAD_READ,
    /** A breakpoint instruction of its own. */
    MODE_BREAKPOINT,
    /** Asks to be started anew. */
    MODE_RESTART,
    /** Adds with exclusive accesses, without end. */
    MODE_EXCLUSIVE,
};

struct sample {
    uint32_t number;
    int32_t value;
    const char *name;
    uint8_t raw[4];
};

/** Two more of them, with something in between that only a pointer finds. */
struct link {
    struct sample sample;
    struct link *next;
};

static volatile enum mode mode = MODE_WORK;
/** Written by an interrupt. */
static volatile uint32_t ticks;
/** Written by exclusive accesses. */
static uint32_t added;
/** Rounds of work. */
static volatile uint32_t rounds;
static volatile uint32_t result;
static struct link links[3];
static uint8_t log_memory[1024] __attribute__((aligned(MV_LOG_BUFFER_UNIT_BYTES)));
/** A function in RAM that rewrites its own result: MOVS r0, #n; BX lr. */
static uint16_t changing[2] __attribute__((aligned(4))) = {0x2000, 0x4770};
static const uint32_t table[8] = {1, 1, 2, 3, 5, 8, 13, 21};

#define SYSTICK_CONTROL (*(volatile uint32_t *)0xE000E010)
#define SYSTICK_RELOAD (*(volatile uint32_t *)0xE000E014)
#define SYSTICK_VALUE (*(volatile uint32_t *)0xE000E018)

void SysTick_Handler(void) {
    ticks++;
    while (mode == MODE_IN_HANDLER) {
    }
}

__attribute__((noinline)) static int32_t leaf(int32_t a, int32_t b) {
    int32_t sum = a + b;
    return sum * 2;
}

__attribute__((noinline)) static int32_t middle(int32_t from, uint32_t count) {
    int32_t total = from;
    for (uint32_t i = 0; i < count; i++) {
        total += leaf(total, (int32_t)table[i & 7]);
    }
    return total;
}

__attribute__((noinline)) static uint32_t depth(uint32_t n) {
    uint8_t kept[8] = {(uint8_t)n, 1, 2, 3, 4, 5, 6, 7};
    __asm volatile("" : : "r"(kept) : "memory");
    return n == 0 ? kept[1] : n + depth(n - 1);
}

__attribute__((noinline)) static uint32_t chosen(uint32_t which) {
    switch (which) {
    case 0:
        return 10;
    case 1:
        return leaf(1, 2);
    case 2:
        return depth(2);
    case 3:
        return table[3];
    case 4:
        return which * which;
    default:
        return 0;
    }
}

static uint32_t changed(void) {
    changing[0] = (uint16_t)(0x2000 | (rounds & 0xff));
    __asm volatile("dsb\n\tisb" : : : "memory");
    return ((uint32_t(*)(void))((uintptr_t)changing | 1))();
}

__attribute__((noinline)) static uint32_t walked(const struct link *first) {
    uint32_t sum = 0;
    for (const struct link *at = first; at != NULL; at = at->next) {
        sum += (uint32_t)at->sample.value + at->sample.raw[at->sample.number & 3];
    }
    return sum;
}

/** One round: the same each time, but for what `rounds` counts. */
__attribute__((noinline)) static uint32_t work(uint32_t round) {
    uint32_t sum = (uint32_t)middle(3, 4);
    sum += depth(5);
    for (uint32_t which = 0; which < 6; which++) {
        sum += chosen(which);
    }
    sum += walked(links);
    sum += changed();
    result = sum;
    rounds = round + 1;
    return sum;
}

static void masked(void) {
    __asm volatile("cpsid i" : : : "memory");
    while (mode == MODE_MASKED) {
    }
    __asm volatile("cpsie i" : : : "memory");
}

static void in_calls(void) {
    while (mode == MODE_IN_CALLS) {
        (void)mvNoOp();
    }
}

static void exclusive(void) {
    while (mode == MODE_EXCLUSIVE) {
        __atomic_fetch_add(&added, 1, __ATOMIC_RELAXED);
    }
}

__attribute__((noinline)) static void behave(void) {
    switch (mode) {
    case MODE_WORK:
        break;
    case MODE_MASKED:
        masked();
        break;
    case MODE_IN_HANDLER:
        while (mode == MODE_IN_HANDLER) {
        }
        break;
    case MODE_IN_CALLS:
        in_calls();
        break;
    case MODE_ASLEEP:
        while (mode == MODE_ASLEEP) {
            __asm volatile("wfi");
        }
        break;
    case MODE_UNDEFINED:
        __asm volatile("udf #7");
        break;
    case MODE_BAD_READ:
        result = *(volatile uint32_t *)0x38000000;
        break;
    case MODE_BREAKPOINT:
        mode = MODE_WORK;
        __asm volatile("bkpt #1");
        break;
    case MODE_RESTART:
        (void)mvRestart(MV_RESTARTMODE_AUTOAPPLYUPDATE);
        break;
    case MODE_EXCLUSIVE:
        exclusive();
        break;
    }
}

static void prepare(void) {
    static const char *const names[3] = {"first", "second", "third"};
    for (uint32_t i = 0; i < 3; i++) {
        links[i].sample = (struct sample){i, (int32_t)(100 * i) - 50, names[i], {1, 2, 3, 4}};
        links[i].next = i < 2 ? &links[i + 1] : NULL;
    }
}

int main(void) {
    uint32_t clock_hz = 0;
    (void)mvServerLoggingInit(log_memory, sizeof log_memory);
    (void)mvGetHClk(&clock_hz);
    prepare();
    SYSTICK_RELOAD = clock_hz / 100 - 1;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 7;
    (void)mvServerLog((const uint8_t *)"patient " VERSION, sizeof "patient " VERSION - 1);
    (void)hfHealthy();
    for (uint32_t round = 0;; round++) {
        (void)work(round);
        behave();
        // Rounds come with the timer, and not as fast as can be.
        __asm volatile("wfi");
    }
}
