/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "x86.h"

#include <string.h>

/* Flags are consumed at once or lost; no kernel has more than two branches on one VMX instruction. */
#define MAX_CONSUMERS 8
#define MAX_LOOK_AHEAD 32
#define MAX_IRQ_SAVE 8

#define OPCODE_PUSHF 0x9c
#define OPCODE_CLI 0xfa

struct cursor {
	const uint8_t *bytes;
	size_t size;
	size_t at;
	bool overrun;
};

struct prefixes {
	bool opsize, rep, repne, lock, address32;
	uint8_t rex;
	enum reg segment;
};

static const char *const names[OP_COUNT] = {
	[OP_OTHER] = "other",
	[OP_VMXON] = "vmxon", [OP_VMXOFF] = "vmxoff", [OP_VMCLEAR] = "vmclear", [OP_VMPTRLD] = "vmptrld",
	[OP_VMPTRST] = "vmptrst", [OP_VMREAD] = "vmread", [OP_VMWRITE] = "vmwrite",
	[OP_INVEPT] = "invept", [OP_INVVPID] = "invvpid", [OP_VMLAUNCH] = "vmlaunch", [OP_VMRESUME] = "vmresume",
	[OP_VMCALL] = "vmcall",
	[OP_SEAMCALL] = "seamcall", [OP_SEAMRET] = "seamret", [OP_SEAMOPS] = "seamops", [OP_TDCALL] = "tdcall",
	[OP_MOVDIR64B] = "movdir64b", [OP_MOV_TO_CR] = "mov_to_cr", [OP_RDMSR] = "rdmsr", [OP_WRMSR] = "wrmsr",
	[OP_JCC] = "jcc", [OP_SETCC] = "setcc", [OP_CMOVCC] = "cmovcc",
};

const char *x86_name(enum op op)
{
	return names[op];
}

static uint8_t next(struct cursor *cursor)
{
	if (cursor->at >= cursor->size) {
		cursor->overrun = true;
		return 0;
	}
	return cursor->bytes[cursor->at++];
}

static int32_t next_signed(struct cursor *cursor, size_t size)
{
	uint32_t value = 0;

	for (size_t i = 0; i < size; i++)
		value |= (uint32_t)next(cursor) << (8 * i);
	return size == 1 ? (int8_t)value : (int32_t)value;
}

/* Reads prefixes; returns the first byte that is none. */
static uint8_t next_opcode(struct cursor *cursor, struct prefixes *prefixes)
{
	*prefixes = (struct prefixes){.segment = REG_NONE};
	for (;;) {
		uint8_t byte = next(cursor);

		switch (byte) {
		case 0x66: prefixes->opsize = true; break;
		case 0x67: prefixes->address32 = true; break;
		case 0xf0: prefixes->lock = true; break;
		case 0xf2: prefixes->repne = true; prefixes->rep = false; break;
		case 0xf3: prefixes->rep = true; prefixes->repne = false; break;
		case 0x64: prefixes->segment = FS_BASE; break;
		case 0x65: prefixes->segment = GS_BASE; break;
		/* Without meaning for addresses in 64-bit mode; before a Jcc they are branch hints. */
		case 0x26: case 0x2e: case 0x36: case 0x3e: break;
		default:
			if ((byte & 0xf0) != 0x40)
				return byte;
			prefixes->rex = byte;
			byte = next(cursor);
			return byte;
		}
		if (cursor->overrun)
			return 0;
	}
}

static enum reg extended(uint8_t low, bool high)
{
	return (enum reg)(low | (high ? 8 : 0));
}

static void decode_sib(struct cursor *cursor, const struct prefixes *prefixes, uint8_t mod, struct operand *operand)
{
	uint8_t sib = next(cursor);
	enum reg index = extended(sib >> 3 & 7, prefixes->rex & 2);

	operand->scale = (uint8_t)(1u << (sib >> 6));
	operand->index = index == RSP ? REG_NONE : index;
	if ((sib & 7) == 5 && mod == 0)
		operand->displacement = next_signed(cursor, 4);
	else
		operand->base = extended(sib & 7, prefixes->rex & 1);
}

static void decode_memory(struct cursor *cursor, const struct prefixes *prefixes, uint8_t modrm,
			  struct operand *operand)
{
	uint8_t mod = modrm >> 6;

	operand->memory = true;
	operand->segment = prefixes->segment;
	operand->address32 = prefixes->address32;
	if ((modrm & 7) == 4) {
		decode_sib(cursor, prefixes, mod, operand);
	} else if ((modrm & 7) == 5 && mod == 0) {
		operand->rip_relative = true;
		operand->displacement = next_signed(cursor, 4);
	} else {
		operand->base = extended(modrm & 7, prefixes->rex & 1);
	}
	if (mod == 1)
		operand->displacement = next_signed(cursor, 1);
	if (mod == 2)
		operand->displacement = next_signed(cursor, 4);
}

/* Returns the ModRM byte. */
static uint8_t decode_modrm(struct cursor *cursor, const struct prefixes *prefixes, struct insn *insn)
{
	uint8_t modrm = next(cursor);

	insn->reg = (uint8_t)extended(modrm >> 3 & 7, prefixes->rex & 4);
	insn->rm = (struct operand){.reg = REG_NONE, .base = REG_NONE, .index = REG_NONE, .segment = REG_NONE};
	if (modrm >> 6 == 3)
		insn->rm.reg = extended(modrm & 7, prefixes->rex & 1);
	else
		decode_memory(cursor, prefixes, modrm, &insn->rm);
	return modrm;
}

/* 0F 01 with a register-form ModRM byte is an opcode of its own. */
static enum op system_op(uint8_t modrm, const struct prefixes *prefixes)
{
	if (prefixes->rep || prefixes->repne)
		return OP_OTHER;
	switch (modrm | (prefixes->opsize ? 0x6600 : 0)) {
	case 0xc1: return OP_VMCALL;
	case 0xc2: return OP_VMLAUNCH;
	case 0xc3: return OP_VMRESUME;
	case 0xc4: return OP_VMXOFF;
	case 0x66cc: return OP_TDCALL;
	case 0x66cd: return OP_SEAMRET;
	case 0x66ce: return OP_SEAMOPS;
	case 0x66cf: return OP_SEAMCALL;
	default: return OP_OTHER;
	}
}

/* 0F C7 /6 and /7 on memory: which instruction it is depends on the mandatory prefix. */
static enum op pointer_op(uint8_t extension, const struct prefixes *prefixes)
{
	if (extension == 7)
		return prefixes->rep || prefixes->repne || prefixes->opsize ? OP_OTHER : OP_VMPTRST;
	if (extension != 6 || prefixes->repne)
		return OP_OTHER;
	if (prefixes->rep)
		return OP_VMXON;
	return prefixes->opsize ? OP_VMCLEAR : OP_VMPTRLD;
}

static enum op decode_0f38(struct cursor *cursor, const struct prefixes *prefixes, struct insn *insn)
{
	uint8_t opcode = next(cursor);
	enum op op = opcode == 0x80 ? OP_INVEPT : opcode == 0x81 ? OP_INVVPID : opcode == 0xf8 ? OP_MOVDIR64B
		   : OP_OTHER;

	if (op == OP_OTHER || !prefixes->opsize || prefixes->rep || prefixes->repne)
		return OP_OTHER;
	decode_modrm(cursor, prefixes, insn);
	return insn->rm.memory ? op : OP_OTHER;
}

static enum op decode_vmaccess(struct cursor *cursor, const struct prefixes *prefixes, struct insn *insn, enum op op)
{
	/* With 66 or F2 these opcodes are SSE4a's EXTRQ and INSERTQ. */
	if (prefixes->opsize || prefixes->rep || prefixes->repne)
		return OP_OTHER;
	decode_modrm(cursor, prefixes, insn);
	return op;
}

static enum op decode_mov_cr(struct cursor *cursor, const struct prefixes *prefixes, struct insn *insn)
{
	uint8_t modrm = next(cursor);

	/* The mod bits are ignored: the operand is always a register (SDM vol. 2, MOV to/from control registers). */
	insn->reg = (uint8_t)extended(modrm >> 3 & 7, prefixes->rex & 4);
	insn->rm = (struct operand){.reg = extended(modrm & 7, prefixes->rex & 1)};
	return OP_MOV_TO_CR;
}

static enum op decode_conditional(struct cursor *cursor, const struct prefixes *prefixes, struct insn *insn,
				  uint8_t opcode)
{
	insn->condition = opcode & 0xf;
	switch (opcode & 0xf0) {
	case 0x40:
		insn->operand_size = prefixes->rex & 8 ? 8 : prefixes->opsize ? 2 : 4;
		decode_modrm(cursor, prefixes, insn);
		return OP_CMOVCC;
	case 0x80:
		insn->relative = next_signed(cursor, 4);
		return OP_JCC;
	default:
		decode_modrm(cursor, prefixes, insn);
		return OP_SETCC;
	}
}

static enum op decode_0f(struct cursor *cursor, const struct prefixes *prefixes, struct insn *insn)
{
	uint8_t opcode = next(cursor);

	switch (opcode) {
	case 0x01: {
		uint8_t modrm = next(cursor);

		return system_op(modrm, prefixes);
	}
	case 0x22: return decode_mov_cr(cursor, prefixes, insn);
	case 0x30: return OP_WRMSR;
	case 0x32: return OP_RDMSR;
	case 0x38: return decode_0f38(cursor, prefixes, insn);
	case 0x40 ... 0x4f:
	case 0x80 ... 0x8f:
	case 0x90 ... 0x9f: return decode_conditional(cursor, prefixes, insn, opcode);
	case 0x78: return decode_vmaccess(cursor, prefixes, insn, OP_VMREAD);
	case 0x79: return decode_vmaccess(cursor, prefixes, insn, OP_VMWRITE);
	case 0xc7:
		decode_modrm(cursor, prefixes, insn);
		return insn->rm.memory ? pointer_op(insn->reg & 7, prefixes) : OP_OTHER;
	default: return OP_OTHER;
	}
}

enum decoded x86_decode(const uint8_t *bytes, size_t size, struct insn *insn)
{
	struct cursor cursor = {.bytes = bytes, .size = size < X86_MAX_LENGTH ? size : X86_MAX_LENGTH};
	struct prefixes prefixes;
	uint8_t opcode = next_opcode(&cursor, &prefixes);
	bool conditional_jump = (opcode & 0xf0) == 0x70;

	/* Nearly all instructions end here: the translator asks about each of them. */
	insn->op = OP_OTHER;
	if (opcode != 0x0f && !conditional_jump && !cursor.overrun)
		return DECODED_OTHER;
	*insn = (struct insn){.op = OP_OTHER, .rm = {.reg = REG_NONE, .base = REG_NONE, .index = REG_NONE,
						     .segment = REG_NONE}};
	if (opcode == 0x0f) {
		insn->op = decode_0f(&cursor, &prefixes, insn);
	} else if (conditional_jump) {
		insn->op = OP_JCC;
		insn->condition = opcode & 0xf;
		insn->relative = next_signed(&cursor, 1);
	}
	if (cursor.overrun)
		return size < X86_MAX_LENGTH ? DECODED_SHORT : DECODED_OTHER;
	/* None of them may be locked: TCG raises the #UD. */
	if (insn->op == OP_OTHER || prefixes.lock)
		return DECODED_OTHER;
	insn->rex = prefixes.rex;
	insn->length = (uint8_t)cursor.at;
	return DECODED;
}

uint64_t x86_address(const struct insn *insn, const struct cpu *cpu, uint64_t pc)
{
	const struct operand *rm = &insn->rm;
	uint64_t address = (uint64_t)(int64_t)rm->displacement;

	if (rm->rip_relative)
		address += pc + insn->length;
	if (rm->base != REG_NONE)
		address += cpu_get(cpu, rm->base);
	if (rm->index != REG_NONE)
		address += cpu_get(cpu, rm->index) * rm->scale;
	if (rm->address32)
		address = (uint32_t)address;
	if (rm->segment != REG_NONE)
		address += cpu_get(cpu, rm->segment);
	return address;
}

bool x86_condition(uint8_t condition, uint32_t flags)
{
	bool cf = flags & FLAG_CF, zf = flags & FLAG_ZF, sf = flags & FLAG_SF, of = flags & FLAG_OF;
	bool pf = flags & FLAG_PF;
	const bool table[8] = {of, cf, zf, cf || zf, sf, pf, sf != of, zf || sf != of};

	return table[condition >> 1 & 7] != (condition & 1);
}

static void set_byte(const struct cpu *cpu, const struct insn *insn, bool value)
{
	bool high = !insn->rex && insn->rm.reg >= RSP && insn->rm.reg <= RDI;
	enum reg reg = high ? insn->rm.reg - 4 : insn->rm.reg;
	unsigned int shift = high ? 8 : 0;
	uint64_t rest = cpu_get(cpu, reg) & ~(0xffull << shift);

	cpu_set(cpu, reg, rest | (uint64_t)value << shift);
}

static void conditional_move(const struct cpu *cpu, const struct insn *insn, bool taken)
{
	uint64_t dest = cpu_get(cpu, insn->reg);
	uint64_t value = taken ? cpu_get(cpu, insn->rm.reg) : dest;

	if (insn->operand_size == 2)
		value = (dest & ~0xffffull) | (value & 0xffff);
	if (insn->operand_size == 4)
		value = (uint32_t)value; /* clears the upper half even when nothing is moved */
	cpu_set(cpu, insn->reg, value);
}

/* Reads the bytes of the instruction at `pc`, and how many there are: at the end of a page it may be all there is. */
static size_t fetch(const struct cpu *cpu, uint64_t pc, uint8_t *bytes)
{
	size_t size = X86_MAX_LENGTH;

	while (size && !cpu_read_virt(cpu, pc, bytes, size))
		size--;
	return size;
}

/* Executes one consumer; false when the instruction at *pc is none. */
static bool consume_one(const struct cpu *cpu, uint64_t *pc, uint32_t flags)
{
	uint8_t bytes[X86_MAX_LENGTH];
	size_t size = fetch(cpu, *pc, bytes);
	struct insn insn;
	bool holds;

	if (x86_decode(bytes, size, &insn) != DECODED)
		return false;
	holds = x86_condition(insn.condition, flags);
	if (insn.op == OP_JCC)
		*pc += insn.length + (holds ? (uint64_t)insn.relative : 0);
	else if (insn.op == OP_SETCC && !insn.rm.memory)
		set_byte(cpu, &insn, holds), *pc += insn.length;
	else if (insn.op == OP_CMOVCC && !insn.rm.memory)
		conditional_move(cpu, &insn, holds), *pc += insn.length;
	else
		return false;
	return true;
}

uint64_t x86_consume_flags(const struct cpu *cpu, uint64_t pc, uint32_t flags, bool *used)
{
	*used = false;
	for (int i = 0; i < MAX_CONSUMERS && consume_one(cpu, &pc, flags); i++)
		*used = true;
	return pc;
}

/* What an instruction does with CF and ZF. */
enum fate {
	UNKNOWN,	/* reads them, or is not in the tables: with conditions, carries, PUSHF */
	LEAVES,
	KILLS,		/* overwrites both without having read them, or leaves the function */
};

struct shape {
	enum fate fate;
	bool modrm;
	uint8_t immediate;	/* bytes; Z: 4, or 2 with the 66 prefix; V: 8 with REX.W */
};

#define Z 4
#define V 0x14

/*
 * What compilers put after a VMX instruction whose flags nobody asks for. Calls and returns end the life of flags in
 * the System V ABI.
 */
static struct shape shape_of(uint8_t opcode)
{
	switch (opcode) {
	/* ADD, OR, AND, SUB, XOR, CMP: between registers and memory, and with the accumulator */
	case 0x00 ... 0x03: case 0x08 ... 0x0b: case 0x20 ... 0x23: case 0x28 ... 0x2b: case 0x30 ... 0x33:
	case 0x38 ... 0x3b: return (struct shape){KILLS, true, 0};
	case 0x04: case 0x0c: case 0x24: case 0x2c: case 0x34: case 0x3c: return (struct shape){KILLS, false, 1};
	case 0x05: case 0x0d: case 0x25: case 0x2d: case 0x35: case 0x3d: return (struct shape){KILLS, false, Z};
	case 0x84: case 0x85: return (struct shape){KILLS, true, 0};		/* TEST */
	case 0xa8: return (struct shape){KILLS, false, 1};
	case 0xa9: return (struct shape){KILLS, false, Z};
	case 0xc2: case 0xc3: case 0xe8: return (struct shape){KILLS, false, 0};	/* RET, CALL */
	case 0x50 ... 0x5f: case 0x90: return (struct shape){LEAVES, false, 0};	/* PUSH, POP, NOP */
	case 0xfa: case 0xfb: return (struct shape){LEAVES, false, 0};		/* CLI, STI */
	case 0x63: case 0x86 ... 0x8b: case 0x8d: return (struct shape){LEAVES, true, 0}; /* MOVSXD, XCHG, MOV, LEA */
	case 0xb8 ... 0xbf: return (struct shape){LEAVES, false, V};		/* MOV */
	case 0xc6: return (struct shape){LEAVES, true, 1};
	case 0xc7: return (struct shape){LEAVES, true, Z};
	case 0xeb: return (struct shape){LEAVES, false, 1};			/* JMP */
	case 0xe9: return (struct shape){LEAVES, false, 4};
	default: return (struct shape){UNKNOWN, false, 0};
	}
}

/* Opcodes that the ModRM byte extends. */
static struct shape shape_of_group(uint8_t opcode, uint8_t extension)
{
	bool carry = extension == 2 || extension == 3;	/* ADC, SBB */

	switch (opcode) {
	case 0x80: case 0x83: return (struct shape){carry ? UNKNOWN : KILLS, true, 1};
	case 0x81: return (struct shape){carry ? UNKNOWN : KILLS, true, Z};
	case 0xf6: return (struct shape){extension == 0 ? KILLS : UNKNOWN, true, 1};	/* TEST */
	case 0xf7: return (struct shape){extension == 0 ? KILLS : UNKNOWN, true, Z};
	case 0xff: return (struct shape){extension == 2 ? KILLS : UNKNOWN, true, 0};	/* CALL */
	default: return shape_of(opcode);
	}
}

static struct shape shape_of_0f(uint8_t opcode)
{
	switch (opcode) {
	case 0x0b: return (struct shape){KILLS, false, 0};			/* UD2: its handler's concern */
	case 0x20: case 0x22: return (struct shape){KILLS, false, 0};		/* MOV to and from CRn: undefined after it */
	case 0x30: case 0x32: return (struct shape){LEAVES, false, 0};		/* WRMSR, RDMSR */
	case 0x1e: case 0x1f: return (struct shape){LEAVES, true, 0};		/* ENDBR, NOP */
	case 0xb6: case 0xb7: case 0xbe: case 0xbf: return (struct shape){LEAVES, true, 0}; /* MOVZX, MOVSX */
	default: return (struct shape){UNKNOWN, false, 0};
	}
}

static size_t immediate_size(struct shape shape, const struct prefixes *prefixes)
{
	if (shape.immediate == V)
		return prefixes->rex & 8 ? 8 : prefixes->opsize ? 2 : 4;
	return shape.immediate == Z && prefixes->opsize ? 2 : shape.immediate;
}

/* What the instruction at *pc does; for one that leaves the flags, *pc becomes the address of the next. */
static enum fate fate_of(const struct cpu *cpu, uint64_t *pc)
{
	uint8_t bytes[X86_MAX_LENGTH];
	struct cursor cursor = {.bytes = bytes, .size = fetch(cpu, *pc, bytes)};
	struct prefixes prefixes;
	struct shape shape;
	struct insn insn;
	uint8_t opcode;
	int64_t target = 0;

	/* Each VMX instruction sets all flags, and faults without looking at them. */
	if (x86_decode(bytes, cursor.size, &insn) == DECODED && insn.op <= OP_SEAMCALL)
		return KILLS;
	opcode = next_opcode(&cursor, &prefixes);
	if (opcode == 0x0f)
		shape = shape_of_0f(next(&cursor));
	else
		shape = shape_of_group(opcode, cursor.at < cursor.size ? bytes[cursor.at] >> 3 & 7 : 0);
	if (cursor.overrun || (shape.modrm && cursor.at == cursor.size))
		return UNKNOWN;
	if (shape.fate != LEAVES)
		return shape.fate;
	if (shape.modrm)
		decode_modrm(&cursor, &prefixes, &insn);
	if (opcode == 0xe9 || opcode == 0xeb)
		target = next_signed(&cursor, shape.immediate);
	else
		cursor.at += immediate_size(shape, &prefixes);
	if (cursor.overrun || cursor.at > cursor.size)
		return UNKNOWN;
	*pc += cursor.at + (uint64_t)target;
	return LEAVES;
}

/*
 * PUSHF, and up to eight instructions later CLI: local_irq_save(), with what paravirtualization left of its calls. CF and
 * ZF are saved with IF, which alone is looked at when it is restored (arch/x86/include/asm/irqflags.h, since 5.12; 5.11
 * and before had a POPF, where the compiler expects nothing of them). A PUSHF without CLI is a look at the flags.
 */
static bool skip_irq_save(const struct cpu *cpu, uint64_t *pc)
{
	uint64_t at = *pc + 1;
	uint8_t opcode;

	if (!cpu_read_virt(cpu, *pc, &opcode, 1) || opcode != OPCODE_PUSHF)
		return false;
	for (int i = 0; i < MAX_IRQ_SAVE && fate_of(cpu, &at) == LEAVES; i++) {
		if (!cpu_read_virt(cpu, at, &opcode, 1))
			return false;
		if (opcode == OPCODE_CLI) {
			*pc = at;
			return true;
		}
	}
	return false;
}

bool x86_flags_dead(const struct cpu *cpu, uint64_t pc)
{
	enum fate fate = LEAVES;

	for (int i = 0; i < MAX_LOOK_AHEAD && fate == LEAVES; i++)
		if (!skip_irq_save(cpu, &pc))
			fate = fate_of(cpu, &pc);
	return fate == KILLS;
}
