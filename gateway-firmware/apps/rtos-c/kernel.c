#include "kernel.h"

#include <stddef.h>

#define ICSR (*(volatile uint32_t *)0xE000ED04)
#define ICSR_PENDSVSET (1u << 28)
#define SHPR3 (*(volatile uint32_t *)0xE000ED20)
/** PendSV and SysTick come after every other interrupt. */
#define SHPR3_LOWEST 0xFFFF0000u
#define SYST_CSR (*(volatile uint32_t *)0xE000E010)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018)
/** Enabled, with its interrupt, by the core's clock. */
#define SYST_CSR_RUN 7u

/** Armv8-M, table "EXC_RETURN": back to a thread on the process stack, without floating point, of this world. */
#define EXC_RETURN_THREAD 0xFFFFFFBCu
#define XPSR_THUMB (1u << 24)
/** r4 to r11 and the return value, as switch.S keeps them, below what the processor stacks. */
#define KEPT_WORDS 9
#define STACKED_WORDS 8
#define IDLE_STACK_WORDS 64

enum state { READY, SLEEPS, WAITS };

struct task {
    uint32_t *stack_pointer;
    uint64_t *stack_limit;
    enum state state;
    uint32_t wakes_at;
};

static struct task tasks[TASKS_MAX];
static uint32_t task_count;
static struct task *current;
static volatile uint32_t tick_count, preemption_count;
static uint64_t idle_stack[IDLE_STACK_WORDS];

/** switch.S */
_Noreturn void kernel_first(void);

/** What two tasks, or a task and a handler, change is changed with interrupts off. */
static uint32_t lock(void) {
    uint32_t masked;
    __asm volatile("mrs %0, primask\n\tcpsid i" : "=r"(masked)::"memory");
    return masked;
}

static void unlock(uint32_t masked) {
    __asm volatile("msr primask, %0" ::"r"(masked) : "memory");
}

static void idle(void) {
    for (;;) {
        __asm volatile("wfi");
    }
}

/** A task's function came to its end, which none may. */
static void ended(void) {
    __builtin_trap();
}

void task_add(void (*run)(void), uint64_t *stack, uint32_t stack_bytes) {
    if (task_count == TASKS_MAX) {
        __builtin_trap();
    }
    struct task *task = &tasks[task_count++];
    uint32_t *top = (uint32_t *)(stack + stack_bytes / sizeof *stack);
    uint32_t *stacked = top - STACKED_WORDS;
    stacked[5] = (uint32_t)ended;
    stacked[6] = (uint32_t)run & ~1u;
    stacked[7] = XPSR_THUMB;
    uint32_t *kept = stacked - KEPT_WORDS;
    kept[KEPT_WORDS - 1] = EXC_RETURN_THREAD;
    *task = (struct task){.stack_pointer = kept, .stack_limit = stack, .state = READY};
}

_Noreturn void kernel_start(uint32_t clock_hz) {
    task_add(idle, idle_stack, sizeof idle_stack);
    SHPR3 |= SHPR3_LOWEST;
    SYST_RVR = clock_hz / TICKS_A_SECOND - 1;
    SYST_CVR = 0;
    SYST_CSR = SYST_CSR_RUN;
    kernel_first();
}

/** The idle task is always ready. */
static struct task *choose(void) {
    struct task *task = tasks;
    while (task->state != READY) {
        task++;
    }
    return task;
}

/** Of switch.S: keeps where the current task's stack is, and gives the next task's. With interrupts off. */
uint32_t *kernel_switch(uint32_t *stack_pointer) {
    struct task *next = choose();
    if (current != NULL) {
        current->stack_pointer = stack_pointer;
        if (current->state == READY && current != next && current != &tasks[task_count - 1]) {
            preemption_count++;
        }
    }
    current = next;
    __asm volatile("msr psplim, %0" ::"r"(next->stack_limit));
    return next->stack_pointer;
}

void SysTick_Handler(void) {
    uint32_t masked = lock();
    tick_count++;
    for (struct task *task = tasks; task != &tasks[task_count]; task++) {
        if (task->state == SLEEPS && task->wakes_at == tick_count) {
            task->state = READY;
        }
    }
    if (choose() != current) {
        ICSR = ICSR_PENDSVSET;
    }
    unlock(masked);
}

uint32_t ticks(void) {
    return tick_count;
}

uint32_t preemptions(void) {
    return preemption_count;
}

void task_sleep(uint32_t duration) {
    uint32_t masked = lock();
    current->wakes_at = tick_count + (duration == 0 ? 1 : duration);
    current->state = SLEEPS;
    ICSR = ICSR_PENDSVSET;
    unlock(masked);
    // The switch comes here.
    __asm volatile("isb");
}

bool queue_send(struct queue *queue, uint32_t message) {
    uint32_t masked = lock();
    bool room = queue->used < QUEUE_MESSAGES_MAX;
    if (room) {
        queue->messages[(queue->first + queue->used++) % QUEUE_MESSAGES_MAX] = message;
        if (queue->receiver != NULL) {
            queue->receiver->state = READY;
            queue->receiver = NULL;
            ICSR = ICSR_PENDSVSET;
        }
    }
    unlock(masked);
    return room;
}

uint32_t queue_receive(struct queue *queue) {
    for (;;) {
        uint32_t masked = lock();
        if (queue->used > 0) {
            uint32_t message = queue->messages[queue->first];
            queue->first = (queue->first + 1) % QUEUE_MESSAGES_MAX;
            queue->used--;
            unlock(masked);
            return message;
        }
        queue->receiver = current;
        current->state = WAITS;
        ICSR = ICSR_PENDSVSET;
        unlock(masked);
        __asm volatile("isb");
    }
}
