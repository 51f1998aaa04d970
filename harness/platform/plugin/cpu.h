/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an instruction's emulation needs of the CPU that executes it, and how the instruction ended.
 *
 * The state machines know a CPU only through `struct cpu_ops`, so that they run in a host program as well.
 */
#ifndef CPU_H
#define CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first sixteen in the order of the ModRM encoding. */
enum reg {
	RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15,
	RIP, RFLAGS, FS_BASE, GS_BASE, CS, CR0, CR2, CR3, CR4, EFER,
	REG_COUNT,
	REG_NONE = REG_COUNT,
};

/* As gdb, and QEMU with it, calls them. */
extern const char *const cpu_reg_names[REG_COUNT];

#define CR0_PE (1u << 0)
#define CR4_PAE (1u << 5)
#define CR4_LA57 (1u << 12)
#define CR4_VMXE (1u << 13)
#define CR4_PCIDE (1u << 17)
#define EFER_LMA (1u << 10)

struct cpu_ops {
	uint64_t (*get)(void *opaque, enum reg reg);
	void (*set)(void *opaque, enum reg reg, uint64_t value);
	bool (*read_virt)(void *opaque, uint64_t va, void *dest, size_t size);
	bool (*write_virt)(void *opaque, uint64_t va, const void *src, size_t size);
	bool (*read_phys)(void *opaque, uint64_t pa, void *dest, size_t size);
	bool (*write_phys)(void *opaque, uint64_t pa, const void *src, size_t size);
};

struct cpu {
	const struct cpu_ops *ops;
	void *opaque;
};

static inline uint64_t cpu_get(const struct cpu *cpu, enum reg reg)
{
	return cpu->ops->get(cpu->opaque, reg);
}

static inline void cpu_set(const struct cpu *cpu, enum reg reg, uint64_t value)
{
	cpu->ops->set(cpu->opaque, reg, value);
}

static inline bool cpu_read_virt(const struct cpu *cpu, uint64_t va, void *dest, size_t size)
{
	return cpu->ops->read_virt(cpu->opaque, va, dest, size);
}

static inline bool cpu_write_virt(const struct cpu *cpu, uint64_t va, const void *src, size_t size)
{
	return cpu->ops->write_virt(cpu->opaque, va, src, size);
}

static inline bool cpu_read_phys(const struct cpu *cpu, uint64_t pa, void *dest, size_t size)
{
	return cpu->ops->read_phys(cpu->opaque, pa, dest, size);
}

static inline bool cpu_write_phys(const struct cpu *cpu, uint64_t pa, const void *src, size_t size)
{
	return cpu->ops->write_phys(cpu->opaque, pa, src, size);
}

static inline unsigned int cpu_cpl(const struct cpu *cpu)
{
	return cpu_get(cpu, CS) & 3;
}

/* SDM vol. 3, 31.2: the three ways in which a VMX instruction completes, and the faults. */
enum outcome_kind {
	OUTCOME_NATIVE,		/* not ours: TCG goes on with the instruction */
	OUTCOME_SUCCEED,	/* VMsucceed: CF = ZF = 0 */
	OUTCOME_FAIL_INVALID,	/* VMfailInvalid: CF = 1 */
	OUTCOME_FAIL_VALID,	/* VMfailValid: ZF = 1, `error` is in the VM-instruction error field */
	OUTCOME_DONE,		/* completed; the flags are untouched */
	OUTCOME_UD,
	OUTCOME_GP,
};

struct outcome {
	enum outcome_kind kind;
	uint32_t error;
};

#endif
