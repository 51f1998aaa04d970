/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmx.h"

#include <string.h>

#include "vmcs.h"

/* TCG's physical-address width when -cpu does not give another; CPUID is out of a plugin's reach. */
#define PHYSICAL_BITS 40

#define REVISION_MASK 0x7fffffffu
#define MISC_VMWRITE_ANY_FIELD (1u << 29)

#define CAP_EPT_4_LEVELS (1ull << 6)
#define CAP_EPT_5_LEVELS (1ull << 7)
#define CAP_EPT_UC (1ull << 8)
#define CAP_EPT_WB (1ull << 14)
#define CAP_EPT_ACCESSED_DIRTY (1ull << 21)
#define EPTP_ACCESSED_DIRTY (1ull << 6)
#define EPTP_RESERVED 0xf80ull

#define CAP_INVEPT (1ull << 20)
#define CAP_INVEPT_TYPE(type) (1ull << (24 + (type)))	/* types 1, 2 */
#define CAP_INVVPID (1ull << 32)
#define CAP_INVVPID_TYPE(type) (1ull << (40 + (type)))	/* types 0-3 */

/* What is reserved on every CPU. The rest depends on CPUID, which is out of reach: TCG drops such bits silently. */
#define CR4_RESERVED (~0x1ff7fffull & ~(1ull << 25) & ~(1ull << 27) & ~(1ull << 28) & ~(1ull << 32))
#define CR3_PCID 0xfffull

struct context {
	struct vmx *vmx;
	struct msrs *msrs;
	const struct cpu *cpu;
	const struct insn *insn;
	uint64_t pc;
	struct vmx_report *report;
};

static const struct outcome succeed = {.kind = OUTCOME_SUCCEED};
static const struct outcome fail_invalid = {.kind = OUTCOME_FAIL_INVALID};
static const struct outcome ud = {.kind = OUTCOME_UD};
static const struct outcome gp = {.kind = OUTCOME_GP};

void vmx_reset(struct vmx *vmx)
{
	*vmx = (struct vmx){.vmxon = VMCS_NONE, .current = VMCS_NONE};
}

/* SDM's VMfail(error): valid when there is a current VMCS to hold the error number. */
static struct outcome fail(const struct context *c, enum vmx_error error)
{
	if (c->vmx->current == VMCS_NONE)
		return fail_invalid;
	vmcs_write(c->cpu, c->vmx->current, VMCS_INSTRUCTION_ERROR, error);
	return (struct outcome){.kind = OUTCOME_FAIL_VALID, .error = error};
}

/* The faults that all instructions but VMXON share; OUTCOME_DONE when there is none. */
static struct outcome guard(const struct context *c)
{
	if (!c->vmx->root)
		return ud;
	if (cpu_cpl(c->cpu))
		return gp;
	return (struct outcome){.kind = OUTCOME_DONE};
}

/*
 * The operand in memory. A page that is not mapped would be a #PF, which cannot be raised from here; #GP stands for
 * it. No kernel has these operands in memory that can be paged out.
 */
static bool load(const struct context *c, void *dest, size_t size)
{
	return cpu_read_virt(c->cpu, x86_address(c->insn, c->cpu, c->pc), dest, size);
}

static bool load_pointer(const struct context *c, uint64_t *pointer)
{
	if (!load(c, pointer, sizeof(*pointer)))
		return false;
	c->report->has_address = true;
	c->report->address = *pointer;
	return true;
}

static bool valid_pointer(uint64_t pointer)
{
	return !(pointer & 0xfff) && !(pointer >> PHYSICAL_BITS);
}

/* A region outside RAM reads as all ones, whose bit 31 no revision identifier has. */
static bool revision_matches(const struct context *c, uint64_t pointer)
{
	uint32_t revision = UINT32_MAX;

	cpu_read_phys(c->cpu, pointer, &revision, sizeof(revision));
	return revision == (msr_value(c->msrs, MSR_VMX_BASIC) & REVISION_MASK);
}

static bool fixed_bits_hold(struct msrs *msrs, uint32_t fixed0, uint64_t value)
{
	uint64_t must_be_one = msr_value(msrs, fixed0), may_be_one = msr_value(msrs, fixed0 + 1);

	return !(must_be_one & ~value) && !(value & ~may_be_one);
}

static bool vmxon_forbidden(const struct context *c)
{
	const uint64_t wanted = FEAT_CTL_LOCK | FEAT_CTL_VMX_OUTSIDE_SMX;

	return cpu_cpl(c->cpu) || (msr_value(c->msrs, MSR_FEAT_CTL) & wanted) != wanted ||
	       !fixed_bits_hold(c->msrs, MSR_VMX_CR0_FIXED0, cpu_get(c->cpu, CR0)) ||
	       !fixed_bits_hold(c->msrs, MSR_VMX_CR4_FIXED0, cpu_get(c->cpu, CR4));
}

static struct outcome vmxon(const struct context *c)
{
	uint64_t pointer;

	if (!(cpu_get(c->cpu, CR4) & CR4_VMXE))
		return ud;
	if (c->vmx->root)
		return cpu_cpl(c->cpu) ? gp : fail(c, VMX_ERROR_VMXON_IN_ROOT);
	if (vmxon_forbidden(c) || !load_pointer(c, &pointer))
		return gp;
	if (!valid_pointer(pointer) || !revision_matches(c, pointer))
		return fail_invalid;
	*c->vmx = (struct vmx){.root = true, .vmxon = pointer, .current = VMCS_NONE};
	return succeed;
}

static struct outcome vmxoff(const struct context *c)
{
	vmx_reset(c->vmx);
	return succeed;
}

/* The operand of VMCLEAR and VMPTRLD, and what is wrong with it: each has error numbers of its own for the same. */
static struct outcome vmcs_pointer(const struct context *c, enum vmx_error address_error, enum vmx_error vmxon_error,
				   uint64_t *pointer)
{
	if (!load_pointer(c, pointer))
		return gp;
	if (!valid_pointer(*pointer))
		return fail(c, address_error);
	return *pointer == c->vmx->vmxon ? fail(c, vmxon_error) : succeed;
}

static struct outcome vmclear(const struct context *c)
{
	uint64_t pointer;
	struct outcome outcome =
		vmcs_pointer(c, VMX_ERROR_VMCLEAR_ADDRESS, VMX_ERROR_VMCLEAR_VMXON_POINTER, &pointer);

	if (outcome.kind != OUTCOME_SUCCEED)
		return outcome;
	vmcs_clear_launch_state(c->cpu, pointer);
	if (pointer == c->vmx->current)
		c->vmx->current = VMCS_NONE;
	return succeed;
}

static struct outcome vmptrld(const struct context *c)
{
	uint64_t pointer;
	struct outcome outcome =
		vmcs_pointer(c, VMX_ERROR_VMPTRLD_ADDRESS, VMX_ERROR_VMPTRLD_VMXON_POINTER, &pointer);

	if (outcome.kind != OUTCOME_SUCCEED)
		return outcome;
	if (!revision_matches(c, pointer))
		return fail(c, VMX_ERROR_VMPTRLD_REVISION);
	c->vmx->current = pointer;
	return succeed;
}

static struct outcome vmptrst(const struct context *c)
{
	uint64_t address = x86_address(c->insn, c->cpu, c->pc);

	c->report->has_address = true;
	c->report->address = c->vmx->current;
	return cpu_write_virt(c->cpu, address, &c->vmx->current, sizeof(c->vmx->current)) ? succeed : gp;
}

/* VMREAD's and VMWRITE's common part: is there a VMCS, and is there such a field in it? */
static struct outcome field_guard(const struct context *c, uint64_t encoding)
{
	c->report->has_field = true;
	c->report->field = encoding;
	if (c->vmx->current == VMCS_NONE)
		return fail_invalid;
	if (encoding >> 32 || !vmcs_supported((uint32_t)encoding))
		return fail(c, VMX_ERROR_UNSUPPORTED_FIELD);
	return succeed;
}

static struct outcome vmread(const struct context *c)
{
	uint64_t encoding = cpu_get(c->cpu, c->insn->reg), value = UINT64_MAX;
	struct outcome outcome = field_guard(c, encoding);

	if (outcome.kind != OUTCOME_SUCCEED)
		return outcome;
	vmcs_read(c->cpu, c->vmx->current, (uint32_t)encoding, &value);
	c->report->value = value;
	if (!c->insn->rm.memory)
		cpu_set(c->cpu, c->insn->rm.reg, value);
	else if (!cpu_write_virt(c->cpu, x86_address(c->insn, c->cpu, c->pc), &value, sizeof(value)))
		return gp;
	return succeed;
}

static struct outcome vmwrite(const struct context *c)
{
	uint64_t encoding = cpu_get(c->cpu, c->insn->reg), value;
	struct outcome outcome;

	if (c->insn->rm.memory) {
		if (!load(c, &value, sizeof(value)))
			return gp;
	} else {
		value = cpu_get(c->cpu, c->insn->rm.reg);
	}
	outcome = field_guard(c, encoding);
	c->report->value = value;
	if (outcome.kind != OUTCOME_SUCCEED)
		return outcome;
	if (vmcs_read_only((uint32_t)encoding) && !(msr_value(c->msrs, MSR_VMX_MISC) & MISC_VMWRITE_ANY_FIELD))
		return fail(c, VMX_ERROR_READ_ONLY_FIELD);
	vmcs_write(c->cpu, c->vmx->current, (uint32_t)encoding, value);
	return succeed;
}

/* SDM vol. 3, 27.2.1.1: what VM entry wants of the EPT pointer. */
static bool eptp_valid(uint64_t eptp, uint64_t cap)
{
	uint64_t type = eptp & 7, levels = (eptp >> 3 & 7) + 1;
	bool type_supported = (type == 0 && cap & CAP_EPT_UC) || (type == 6 && cap & CAP_EPT_WB);
	bool levels_supported = (levels == 4 && cap & CAP_EPT_4_LEVELS) || (levels == 5 && cap & CAP_EPT_5_LEVELS);

	if (eptp & EPTP_ACCESSED_DIRTY && !(cap & CAP_EPT_ACCESSED_DIRTY))
		return false;
	return type_supported && levels_supported && !(eptp & EPTP_RESERVED) && !(eptp >> PHYSICAL_BITS);
}

/* TCG has no translations tagged by EPTP or VPID: after the checks there is nothing to invalidate. */
static struct outcome invept(const struct context *c)
{
	uint64_t type = cpu_get(c->cpu, c->insn->reg), cap = msr_value(c->msrs, MSR_VMX_EPT_VPID_CAP);
	uint64_t descriptor[2];

	c->report->has_address = true;
	c->report->address = type;
	if (!load(c, descriptor, sizeof(descriptor)))
		return gp;
	if (type < 1 || type > 2 || !(cap & CAP_INVEPT_TYPE(type)))
		return fail(c, VMX_ERROR_INVALIDATION_OPERAND);
	if (type == 1 && !eptp_valid(descriptor[0], cap))
		return fail(c, VMX_ERROR_INVALIDATION_OPERAND);
	return succeed;
}

static bool canonical(uint64_t address, bool la57)
{
	int64_t sign = (int64_t)address >> (la57 ? 56 : 47);

	return sign == 0 || sign == -1;
}

static bool invvpid_operand_valid(const struct context *c, uint64_t type, const uint64_t *descriptor)
{
	bool la57 = cpu_get(c->cpu, CR4) & CR4_LA57;

	if (descriptor[0] >> 16)
		return false;
	if (type != 2 && !descriptor[0])
		return false;
	return type != 0 || canonical(descriptor[1], la57);
}

static struct outcome invvpid(const struct context *c)
{
	uint64_t type = cpu_get(c->cpu, c->insn->reg), cap = msr_value(c->msrs, MSR_VMX_EPT_VPID_CAP);
	uint64_t descriptor[2];

	c->report->has_address = true;
	c->report->address = type;
	if (!load(c, descriptor, sizeof(descriptor)))
		return gp;
	if (type > 3 || !(cap & CAP_INVVPID_TYPE(type)) || !invvpid_operand_valid(c, type, descriptor))
		return fail(c, VMX_ERROR_INVALIDATION_OPERAND);
	return succeed;
}

/* VMLAUNCH and VMRESUME: a VM entry is never made; the guest is told that its controls are invalid. */
static struct outcome enter(const struct context *c)
{
	bool launched;

	if (c->vmx->current == VMCS_NONE)
		return fail_invalid;
	launched = vmcs_launched(c->cpu, c->vmx->current);
	if (c->insn->op == OP_VMLAUNCH && launched)
		return fail(c, VMX_ERROR_VMLAUNCH_NOT_CLEAR);
	if (c->insn->op == OP_VMRESUME && !launched)
		return fail(c, VMX_ERROR_VMRESUME_NOT_LAUNCHED);
	c->report->not_emulated = true;
	return fail(c, VMX_ERROR_ENTRY_CONTROLS);
}

/* The dual-monitor treatment of SMIs is not there to be activated. */
static struct outcome vmcall(const struct context *c)
{
	return fail(c, VMX_ERROR_VMCALL_IN_ROOT);
}

static const struct {
	struct outcome (*execute)(const struct context *c);
	uint64_t capability; /* a bit of IA32_VMX_EPT_VPID_CAP without which it is #UD */
} instructions[OP_COUNT] = {
	[OP_VMXOFF] = {vmxoff, 0},	[OP_VMCLEAR] = {vmclear, 0},	[OP_VMPTRLD] = {vmptrld, 0},
	[OP_VMPTRST] = {vmptrst, 0},	[OP_VMREAD] = {vmread, 0},	[OP_VMWRITE] = {vmwrite, 0},
	[OP_INVEPT] = {invept, CAP_INVEPT}, [OP_INVVPID] = {invvpid, CAP_INVVPID},
	[OP_VMLAUNCH] = {enter, 0},	[OP_VMRESUME] = {enter, 0},	[OP_VMCALL] = {vmcall, 0},
};

struct outcome vmx_execute(struct vmx *vmx, struct msrs *msrs, const struct cpu *cpu, const struct insn *insn,
			   uint64_t pc, struct vmx_report *report)
{
	const struct context c = {vmx, msrs, cpu, insn, pc, report};
	uint64_t capability = instructions[insn->op].capability;
	struct outcome outcome;

	*report = (struct vmx_report){0};
	if (insn->op == OP_VMXON)
		return vmxon(&c);
	if (!instructions[insn->op].execute)
		return (struct outcome){.kind = OUTCOME_NATIVE};
	if (capability & ~msr_value(msrs, MSR_VMX_EPT_VPID_CAP))
		return ud;
	outcome = guard(&c);
	return outcome.kind == OUTCOME_DONE ? instructions[insn->op].execute(&c) : outcome;
}

/* SDM vol. 2, MOV to/from control registers: the #GPs that TCG would raise if it were given the value. */
static bool cr4_refused(const struct cpu *cpu, uint64_t old, uint64_t value)
{
	bool long_mode = cpu_get(cpu, EFER) & EFER_LMA;

	if (value & CR4_RESERVED)
		return true;
	if (long_mode && (!(value & CR4_PAE) || ((value ^ old) & CR4_LA57)))
		return true;
	return (value & ~old & CR4_PCIDE) && (!long_mode || (cpu_get(cpu, CR3) & CR3_PCID));
}

static struct outcome mov_to_cr4(const struct vmx *vmx, struct msrs *msrs, const struct cpu *cpu, uint64_t value)
{
	uint64_t old = cpu_get(cpu, CR4);

	if (!((old | value) & CR4_VMXE))
		return (struct outcome){.kind = OUTCOME_NATIVE};
	if (!msr_find(msrs, MSR_VMX_BASIC))
		return gp; /* a CPU without VMX, where the bit is reserved */
	if (cr4_refused(cpu, old, value))
		return gp;
	if (vmx->root && !fixed_bits_hold(msrs, MSR_VMX_CR4_FIXED0, value))
		return gp;
	return (struct outcome){.kind = OUTCOME_DONE};
}

struct outcome vmx_mov_to_cr(const struct vmx *vmx, struct msrs *msrs, const struct cpu *cpu, unsigned int cr,
			     uint64_t value)
{
	if (cpu_cpl(cpu))
		return (struct outcome){.kind = OUTCOME_NATIVE}; /* TCG raises the #GP */
	if (cr == 4)
		return mov_to_cr4(vmx, msrs, cpu, value);
	if (cr == 0 && vmx->root && !fixed_bits_hold(msrs, MSR_VMX_CR0_FIXED0, value))
		return gp;
	return (struct outcome){.kind = OUTCOME_NATIVE};
}
