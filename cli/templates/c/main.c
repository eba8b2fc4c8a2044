/** @NAME@: says every second that it is there. */
#include "holdfast.h"

#define SYST_CSR (*(volatile uint32_t *)0xE000E010)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018)
#define TICKS_A_SECOND 1000

static volatile uint32_t ticks;
static uint8_t log_memory[2048] __attribute__((aligned(MV_LOG_BUFFER_UNIT_BYTES)));

void SysTick_Handler(void) {
    ticks++;
}

/** A call whose failure would be this application's own: it ends here, and `holdfast crash list` shows where. */
static void must(enum MvStatus status) {
    if (status != MV_STATUS_OKAY) {
        __builtin_trap();
    }
}

int main(void) {
    uint32_t clock_hz;
    must(mvServerLoggingInit(log_memory, sizeof log_memory));
    must(mvGetSysClk(&clock_hz));
    SYST_RVR = clock_hz / TICKS_A_SECOND - 1;
    SYST_CVR = 0;
    SYST_CSR = 7;

    static const char text[] = "@NAME@ is here";
    // Until it says that it works, a new version is on trial; without it the device takes the old one back.
    must(hfHealthy());
    for (uint32_t second = 0;; second++) {
        // A message without room is lost, and counted: the next one says as much.
        (void)mvServerLog((const uint8_t *)text, sizeof text - 1);
        while (ticks < (second + 1) * TICKS_A_SECOND) {
            __asm volatile("wfi");
        }
    }
}
