# How an application in C is built. A Makefile says SDK (this folder), APP (its name) and SOURCES (.c and .S), and includes this.
#
# No C library: what the compiler itself needs is in holdfast_memory.c and libgcc. There is no FPU: floats are computed by libgcc.
CROSS ?= arm-none-eabi-
OUT ?= build

HOLDFAST_SOURCES := $(SDK)/holdfast_start.S $(SDK)/holdfast_calls.S $(SDK)/holdfast_memory.c
TARGET_FLAGS := -mcpu=cortex-m33+nofp+nodsp -mthumb -mfloat-abi=soft
CFLAGS ?= -Os -g -Wall -Wextra -Werror
HOLDFAST_CFLAGS := $(TARGET_FLAGS) -std=gnu11 -ffreestanding -fno-common -ffunction-sections -fdata-sections -I$(SDK) \
    -ffile-prefix-map=$(CURDIR)=.
HOLDFAST_LDFLAGS := $(TARGET_FLAGS) -nostdlib -Wl,--gc-sections -Wl,--fatal-warnings -T$(SDK)/holdfast.ld

OBJECTS := $(addprefix $(OUT)/,$(addsuffix .o,$(notdir $(SOURCES) $(HOLDFAST_SOURCES))))
vpath %.c $(sort $(dir $(SOURCES) $(HOLDFAST_SOURCES)))
vpath %.S $(sort $(dir $(SOURCES) $(HOLDFAST_SOURCES)))

$(OUT)/$(APP).elf: $(OBJECTS) $(SDK)/holdfast.ld
	$(CROSS)gcc $(HOLDFAST_LDFLAGS) $(LDFLAGS) -o $@ $(OBJECTS) -lgcc

$(OUT)/%.c.o: %.c $(MAKEFILE_LIST) | $(OUT)
	$(CROSS)gcc $(HOLDFAST_CFLAGS) $(CFLAGS) -MMD -c -o $@ $<

$(OUT)/%.S.o: %.S $(MAKEFILE_LIST) | $(OUT)
	$(CROSS)gcc $(HOLDFAST_CFLAGS) $(CFLAGS) -MMD -c -o $@ $<

$(OUT):
	mkdir -p $@

-include $(OBJECTS:.o=.d)

.PHONY: clean
clean:
	rm -rf $(OUT)
