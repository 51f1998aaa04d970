/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmcs.h"

#define LAUNCH_STATE 8	/* offset: u32, 0 clear, 1 launched */
#define FIELDS 64	/* offset of the first slot */

#define ENCODING_HIGH 1u
#define ENCODING_TYPE(encoding) ((encoding) >> 10 & 3)
#define ENCODING_WIDTH(encoding) ((encoding) >> 13 & 3)
#define TYPE_READ_ONLY 1
#define WIDTH_16 0
#define WIDTH_64 1
#define WIDTH_32 2

/* SDM vol. 3, appendix B: the encodings that are defined, as ranges in steps of 2. */
static const struct range {
	uint16_t first, last;
} ranges[] = {
	{0x0000, 0x0008}, {0x0800, 0x0814}, {0x0c00, 0x0c0c},			/* 16 bits */
	{0x2000, 0x2044}, {0x204a, 0x204c}, {0x2400, 0x2400}, {0x2800, 0x2818},
	{0x2c00, 0x2c06},							/* 64 bits */
	{0x4000, 0x4024}, {0x4400, 0x440e}, {0x4800, 0x482a}, {0x482e, 0x482e},
	{0x4c00, 0x4c00},							/* 32 bits */
	{0x6000, 0x600e}, {0x6400, 0x640a}, {0x6800, 0x682c}, {0x6c00, 0x6c1c},	/* natural width */
};

/* Index of the field's slot, -1 for a field that does not exist. */
static int slot_of(uint32_t encoding)
{
	int slot = 0;

	if (encoding & ENCODING_HIGH && ENCODING_WIDTH(encoding) != WIDTH_64)
		return -1;
	encoding &= ~ENCODING_HIGH;
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		if (encoding >= ranges[i].first && encoding <= ranges[i].last)
			return slot + (int)(encoding - ranges[i].first) / 2;
		slot += (ranges[i].last - ranges[i].first) / 2 + 1;
	}
	return -1;
}

static uint64_t address_of(uint64_t vmcs, int slot)
{
	return vmcs + FIELDS + 8 * (uint64_t)slot;
}

static uint64_t truncated(uint32_t encoding, uint64_t value)
{
	switch (ENCODING_WIDTH(encoding)) {
	case WIDTH_16: return (uint16_t)value;
	case WIDTH_32: return (uint32_t)value;
	default: return value;
	}
}

bool vmcs_supported(uint32_t encoding)
{
	return slot_of(encoding) >= 0;
}

bool vmcs_read_only(uint32_t encoding)
{
	return ENCODING_TYPE(encoding) == TYPE_READ_ONLY;
}

enum vmcs_result vmcs_read(const struct cpu *cpu, uint64_t vmcs, uint32_t encoding, uint64_t *value)
{
	int slot = slot_of(encoding);

	if (slot < 0)
		return VMCS_UNSUPPORTED;
	if (!cpu_read_phys(cpu, address_of(vmcs, slot), value, sizeof(*value)))
		return VMCS_NO_MEMORY;
	if (encoding & ENCODING_HIGH)
		*value >>= 32;
	return VMCS_OK;
}

enum vmcs_result vmcs_write(const struct cpu *cpu, uint64_t vmcs, uint32_t encoding, uint64_t value)
{
	int slot = slot_of(encoding);
	uint64_t old;

	if (slot < 0)
		return VMCS_UNSUPPORTED;
	value = truncated(encoding, value);
	if (encoding & ENCODING_HIGH) {
		if (!cpu_read_phys(cpu, address_of(vmcs, slot), &old, sizeof(old)))
			return VMCS_NO_MEMORY;
		value = value << 32 | (uint32_t)old;
	}
	return cpu_write_phys(cpu, address_of(vmcs, slot), &value, sizeof(value)) ? VMCS_OK : VMCS_NO_MEMORY;
}

bool vmcs_launched(const struct cpu *cpu, uint64_t vmcs)
{
	uint32_t state = 0;

	return cpu_read_phys(cpu, vmcs + LAUNCH_STATE, &state, sizeof(state)) && state;
}

void vmcs_clear_launch_state(const struct cpu *cpu, uint64_t vmcs)
{
	const uint32_t clear = 0;

	cpu_write_phys(cpu, vmcs + LAUNCH_STATE, &clear, sizeof(clear));
}
