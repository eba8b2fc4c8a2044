/**
 * Three tasks on a scheduler of their own, beside the microvisor: one samples every 100 ms into a queue, one takes samples out and
 * logs, one computes and is preempted by both.
 *
 * It says that it works when ten samples came through. Every line says how many ticks of 1 kHz there were too few, by the
 * microvisor's clock, and how often a task was preempted.
 */
#include "holdfast.h"
#include "kernel.h"

struct uart {
    volatile uint32_t data, state, control, interrupt, divider;
};
#define UART1 ((struct uart *)0x40201000)
#define BAUD 115200

#define SAMPLE_TICKS 100
#define HEALTHY_AFTER 10
#define LINE_SAMPLES 10
#define COMPUTE_ROUNDS 20000

static struct queue samples;
static uint8_t log_memory[2048] __attribute__((aligned(MV_LOG_BUFFER_UNIT_BYTES)));
static uint64_t reporter_stack[128], sampler_stack[64], computer_stack[64];
static volatile uint32_t computed;

/** A call whose failure would be this application's own: it ends here, and the microvisor notes where. */
static void must(enum MvStatus status) {
    if (status != MV_STATUS_OKAY) {
        __builtin_trap();
    }
}

/** Text with numbers in it; what does not fit is cut. */
struct line {
    char text[128];
    uint16_t used;
};

static void put(struct line *line, const char *text) {
    while (*text != '\0' && line->used < sizeof line->text) {
        line->text[line->used++] = *text++;
    }
}

static void put_number(struct line *line, uint32_t number) {
    char digits[11] = {0};
    char *first = &digits[10];
    do {
        *--first = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    put(line, first);
}

static void say(const struct line *line) {
    for (uint16_t at = 0; at < line->used; at++) {
        while ((UART1->state & 1) != 0) {
        }
        UART1->data = (uint8_t)line->text[at];
    }
    UART1->data = '\n';
    // A message without room is lost, and counted by the microvisor: the next one says as much.
    (void)mvServerLog((const uint8_t *)line->text, line->used);
}

static uint64_t now_us(void) {
    uint64_t us;
    must(mvGetMicroseconds(&us));
    return us;
}

static void reporter(void) {
    uint64_t started_us = now_us() - ticks() * (1000000ull / TICKS_A_SECOND);
    for (uint32_t count = 1;; count++) {
        uint32_t sample = queue_receive(&samples);
        if (count == HEALTHY_AFTER) {
            must(hfHealthy());
        }
        if (count % LINE_SAMPLES != 0) {
            continue;
        }
        uint32_t due = (uint32_t)((now_us() - started_us) * TICKS_A_SECOND / 1000000);
        uint32_t had = ticks();
        struct line line = {.used = 0};
        put(&line, "rtos-c " VERSION ": sample ");
        put_number(&line, count);
        put(&line, " of tick ");
        put_number(&line, sample);
        put(&line, ", ");
        put_number(&line, due > had ? due - had : 0);
        put(&line, " ticks lost, ");
        put_number(&line, preemptions());
        put(&line, " preemptions");
        say(&line);
    }
}

static void sampler(void) {
    for (;;) {
        task_sleep(SAMPLE_TICKS);
        if (!queue_send(&samples, ticks())) {
            __builtin_trap();
        }
    }
}

static void computer(void) {
    for (;;) {
        for (uint32_t round = 0; round < COMPUTE_ROUNDS; round++) {
            computed = computed * 1103515245u + 12345u;
        }
        task_sleep(1);
    }
}

int main(void) {
    uint32_t clock_hz;
    must(mvGetSysClk(&clock_hz));
    must(mvServerLoggingInit(log_memory, sizeof log_memory));
    UART1->divider = clock_hz / BAUD;
    UART1->control = 1;
    task_add(reporter, reporter_stack, sizeof reporter_stack);
    task_add(sampler, sampler_stack, sizeof sampler_stack);
    task_add(computer, computer_stack, sizeof computer_stack);
    kernel_start(clock_hz);
}
