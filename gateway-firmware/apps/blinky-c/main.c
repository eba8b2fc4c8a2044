/**
 * The LED of a board that has none: a timer's interrupt says when it changes, the console and the log say what it would show.
 *
 * It says that it works once the LED was on and off again.
 */
#include <stdbool.h>
#include <stddef.h>

#include "holdfast.h"

/** CMSDK timer 0: control (enable, interrupt enable), count, reload, and what clears its interrupt. */
struct timer {
    volatile uint32_t control, value, reload, interrupt_clear;
};
/** CMSDK UART1: data, state (bit 0: full), control (bit 0: transmit), interrupt, divider. */
struct uart {
    volatile uint32_t data, state, control, interrupt, divider;
};
#define TIMER0 ((struct timer *)0x40000000)
#define UART1 ((struct uart *)0x40201000)
#define TIMER0_IRQ 3
#define NVIC_ENABLE ((volatile uint32_t *)0xE000E100)

#define CHANGES_A_SECOND 2
#define BAUD 115200

static volatile uint32_t changes;
static uint8_t log_memory[2048] __attribute__((aligned(MV_LOG_BUFFER_UNIT_BYTES)));

void TIMER0_Handler(void) {
    TIMER0->interrupt_clear = 1;
    changes++;
}

/** A call whose failure would be this application's own: it ends here, and the microvisor notes where. */
static void must(enum MvStatus status) {
    if (status != MV_STATUS_OKAY) {
        __builtin_trap();
    }
}

static void say(const char *text) {
    uint16_t length = 0;
    for (; text[length] != '\0'; length++) {
        while ((UART1->state & 1) != 0) {
        }
        UART1->data = (uint8_t)text[length];
    }
    UART1->data = '\n';
    // A message without room is lost, and counted by the microvisor: the next one says as much.
    (void)mvServerLog((const uint8_t *)text, length);
}

int main(void) {
    uint32_t clock_hz;
    must(mvGetPClk1(&clock_hz));
    must(mvServerLoggingInit(log_memory, sizeof log_memory));
    UART1->divider = clock_hz / BAUD;
    UART1->control = 1;
    say("blinky-c " VERSION " starts");

    TIMER0->reload = clock_hz / CHANGES_A_SECOND - 1;
    TIMER0->value = clock_hz / CHANGES_A_SECOND - 1;
    TIMER0->control = 1 | 1 << 3;
    NVIC_ENABLE[0] = 1 << TIMER0_IRQ;
    for (uint32_t seen = 0;; seen++) {
        while (changes == seen) {
            __asm volatile("wfi");
        }
        bool on = seen % 2 == 0;
        must(mvSystemLedEnable(on));
        say(on ? "blinky-c: on" : "blinky-c: off");
        if (seen == 1) {
            must(hfHealthy());
        }
    }
}
