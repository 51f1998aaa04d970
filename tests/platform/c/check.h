/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checks of the host programs, and a CPU made of arrays for what is tested in them. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cpu.h"

static int failures;

#define CHECK(condition)                                                                                  \
	do {                                                                                              \
		if (!(condition)) {                                                                       \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, __func__, #condition);     \
			failures++;                                                                       \
		}                                                                                         \
	} while (0)

#define CHECK_EQUAL(found, expected)                                                                      \
	do {                                                                                              \
		uint64_t found_ = (uint64_t)(found), expected_ = (uint64_t)(expected);                    \
		if (found_ != expected_) {                                                                \
			fprintf(stderr, "%s:%d: %s: %s is 0x%" PRIx64 ", not 0x%" PRIx64 "\n", __FILE__,  \
				__LINE__, __func__, #found, found_, expected_);                           \
			failures++;                                                                       \
		}                                                                                         \
	} while (0)

#define RAM 0x10000	/* bytes of physical memory, from 0 */
#define VIRTUAL 0xffff888000000000ull	/* where it is mapped */

struct fake {
	uint64_t regs[REG_COUNT];
	uint8_t ram[RAM];
};

static uint64_t fake_get(void *opaque, enum reg reg)
{
	return ((struct fake *)opaque)->regs[reg];
}

static void fake_set(void *opaque, enum reg reg, uint64_t value)
{
	((struct fake *)opaque)->regs[reg] = value;
}

static bool in_ram(uint64_t pa, size_t size)
{
	return pa < RAM && size <= RAM - pa;
}

static bool fake_read_phys(void *opaque, uint64_t pa, void *dest, size_t size)
{
	if (!in_ram(pa, size))
		return false;
	memcpy(dest, ((struct fake *)opaque)->ram + pa, size);
	return true;
}

static bool fake_write_phys(void *opaque, uint64_t pa, const void *src, size_t size)
{
	if (!in_ram(pa, size))
		return false;
	memcpy(((struct fake *)opaque)->ram + pa, src, size);
	return true;
}

static bool fake_read_virt(void *opaque, uint64_t va, void *dest, size_t size)
{
	return fake_read_phys(opaque, va - VIRTUAL, dest, size);
}

static bool fake_write_virt(void *opaque, uint64_t va, const void *src, size_t size)
{
	return fake_write_phys(opaque, va - VIRTUAL, src, size);
}

static const struct cpu_ops fake_ops = {
	fake_get, fake_set, fake_read_virt, fake_write_virt, fake_read_phys, fake_write_phys,
};

#endif
