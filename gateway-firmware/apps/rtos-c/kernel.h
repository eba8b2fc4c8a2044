/**
 * A scheduler as small as one can be and still preempt: tasks of fixed priority on stacks of their own, a tick, a queue.
 *
 * The task that is ready and was added first runs. SVC starts the first, SysTick wakes, PendSV switches. A task's stack has a
 * limit (PSPLIM): one that grows beyond it ends the application by a UsageFault, instead of spoiling its neighbour.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#define TICKS_A_SECOND 1000
#define TASKS_MAX 8
#define QUEUE_MESSAGES_MAX 8

/** Messages of one word, first in, first out. One task receives. */
struct queue {
    uint32_t messages[QUEUE_MESSAGES_MAX];
    uint32_t first, used;
    struct task *receiver;
};

/** Adds a task with this stack, of a higher priority than all that come after it. Before kernel_start; at most TASKS_MAX - 1. */
void task_add(void (*run)(void), uint64_t *stack, uint32_t stack_bytes);
/** Starts the tick and the first task; does not return. `clock_hz` is the core's. */
_Noreturn void kernel_start(uint32_t clock_hz);

/** Ticks since the start. */
uint32_t ticks(void);
/** Times that a task was switched to while another could have gone on. */
uint32_t preemptions(void);

/** Of a task: lets others run for so many ticks, at least. */
void task_sleep(uint32_t duration);
/** Of a task or a handler: false when there is no room. */
bool queue_send(struct queue *queue, uint32_t message);
/** Of a task: waits until there is a message. */
uint32_t queue_receive(struct queue *queue);

#endif
