/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VMX operation of one vCPU: SDM vol. 3, chapters 24 (introduction) and 31 (instruction reference). */
#ifndef VMX_H
#define VMX_H

#include "cpu.h"
#include "msr.h"
#include "x86.h"

/* VM-instruction errors: SDM vol. 3, 31.4. */
enum vmx_error {
	VMX_ERROR_VMCALL_IN_ROOT = 1,
	VMX_ERROR_VMCLEAR_ADDRESS = 2,
	VMX_ERROR_VMCLEAR_VMXON_POINTER = 3,
	VMX_ERROR_VMLAUNCH_NOT_CLEAR = 4,
	VMX_ERROR_VMRESUME_NOT_LAUNCHED = 5,
	VMX_ERROR_ENTRY_CONTROLS = 7,
	VMX_ERROR_VMPTRLD_ADDRESS = 9,
	VMX_ERROR_VMPTRLD_VMXON_POINTER = 10,
	VMX_ERROR_VMPTRLD_REVISION = 11,
	VMX_ERROR_UNSUPPORTED_FIELD = 12,
	VMX_ERROR_READ_ONLY_FIELD = 13,
	VMX_ERROR_VMXON_IN_ROOT = 15,
	VMX_ERROR_INVALIDATION_OPERAND = 28,
};

struct vmx {
	bool root;		/* in VMX root operation: after VMXON, before VMXOFF or a reset */
	uint64_t vmxon;		/* physical address of the VMXON region while in VMX operation */
	uint64_t current;	/* current-VMCS pointer; VMCS_NONE when there is none */
};

/* What an instruction did, for the event that tells of it. */
struct vmx_report {
	bool has_address;
	uint64_t address;	/* the operand: a physical address, for INVEPT/INVVPID the type */
	bool has_field;
	uint64_t field, value;	/* VMREAD, VMWRITE */
	bool not_emulated;	/* a VM entry that real hardware might have made */
};

void vmx_reset(struct vmx *vmx);

/* Executes a VMX instruction at `pc`. Registers and memory are only written when it completes. */
struct outcome vmx_execute(struct vmx *vmx, struct msrs *msrs, const struct cpu *cpu, const struct insn *insn,
			   uint64_t pc, struct vmx_report *report);

/*
 * MOV to CR0 and CR4: OUTCOME_GP, OUTCOME_NATIVE, or OUTCOME_DONE when `value` has to be written to CR4 in TCG's
 * place, because TCG takes CR4.VMXE for a reserved bit.
 */
struct outcome vmx_mov_to_cr(const struct vmx *vmx, struct msrs *msrs, const struct cpu *cpu, unsigned int cr,
			     uint64_t value);

#endif
