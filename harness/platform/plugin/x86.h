/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Decoder of the instructions that the platform emulates, and of those that consume their flags. 64-bit mode. */
#ifndef X86_H
#define X86_H

#include "cpu.h"

#define X86_MAX_LENGTH 15 /* bytes of the longest instruction */

enum op {
	OP_OTHER,
	OP_VMXON, OP_VMXOFF, OP_VMCLEAR, OP_VMPTRLD, OP_VMPTRST, OP_VMREAD, OP_VMWRITE,
	OP_INVEPT, OP_INVVPID, OP_VMLAUNCH, OP_VMRESUME, OP_VMCALL,
	OP_SEAMCALL, OP_SEAMRET, OP_SEAMOPS, OP_TDCALL,
	OP_MOVDIR64B, OP_MOV_TO_CR, OP_RDMSR, OP_WRMSR,
	OP_JCC, OP_SETCC, OP_CMOVCC,
	OP_COUNT,
};

struct operand {
	bool memory;
	enum reg reg;		/* when not in memory */
	enum reg base, index;	/* REG_NONE: none */
	enum reg segment;	/* FS_BASE, GS_BASE or REG_NONE */
	uint8_t scale;		/* 1, 2, 4, 8 */
	bool rip_relative;
	bool address32;		/* truncated to 32 bits by the 67 prefix */
	int32_t displacement;
};

struct insn {
	enum op op;
	uint8_t length;
	uint8_t condition;	/* of JCC, SETCC and CMOVCC: the low nibble of the opcode */
	uint8_t operand_size;	/* bytes; of CMOVCC */
	bool rex;		/* SETCC: registers 4-7 are SPL-DIL rather than AH-BH */
	uint8_t reg;		/* ModRM.reg with REX.R: a register's number or an opcode's extension */
	struct operand rm;
	int64_t relative;	/* JCC: from the end of the instruction */
};

enum decoded {
	DECODED,	/* `insn` is complete */
	DECODED_OTHER,	/* an instruction that is of no interest */
	DECODED_SHORT,	/* perhaps of interest, but the bytes end too early to say */
};

enum decoded x86_decode(const uint8_t *bytes, size_t size, struct insn *insn);

/* The name of the operation, as events have it: "vmxon". */
const char *x86_name(enum op op);

/* Linear address of a memory operand of the instruction at `pc`. */
uint64_t x86_address(const struct insn *insn, const struct cpu *cpu, uint64_t pc);

/* The flags that conditions look at, as in RFLAGS. */
#define FLAG_CF (1u << 0)
#define FLAG_PF (1u << 2)
#define FLAG_ZF (1u << 6)
#define FLAG_SF (1u << 7)
#define FLAG_OF (1u << 11)

bool x86_condition(uint8_t condition, uint32_t flags);

/*
 * Executes the instructions at `pc` that consume `flags`: any run of Jcc, SETcc and CMOVcc between registers.
 * `used` tells whether there was at least one. Returns the address of the first instruction after the run.
 */
uint64_t x86_consume_flags(const struct cpu *cpu, uint64_t pc, uint32_t flags, bool *used);

/*
 * Whether nothing reads CF or ZF at `pc` before they are overwritten: a look at the next instructions, through direct
 * jumps. False where it cannot be told.
 */
bool x86_flags_dead(const struct cpu *cpu, uint64_t pc);

#endif
