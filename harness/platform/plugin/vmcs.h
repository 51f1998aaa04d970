/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VMCS data, kept in the VMCS region in guest memory, so that a snapshot of the guest has it.
 *
 * The first eight bytes are the SDM's (vol. 3, 25.2): revision identifier, VMX-abort indicator. The rest is
 * implementation-specific there, and ours here: the launch state, then one 64-bit slot per supported field.
 */
#ifndef VMCS_H
#define VMCS_H

#include "cpu.h"

#define VMCS_SIZE 4096		/* of a region, in bytes; what IA32_VMX_BASIC must say (harness/platform/cpu.py) */
#define VMCS_NONE UINT64_MAX		/* the current-VMCS pointer when there is none */
#define VMCS_INSTRUCTION_ERROR 0x4400	/* encoding of the VM-instruction error field */

enum vmcs_result {
	VMCS_OK,
	VMCS_UNSUPPORTED,	/* no such field */
	VMCS_NO_MEMORY,		/* the region is not in RAM */
};

bool vmcs_supported(uint32_t encoding);
bool vmcs_read_only(uint32_t encoding);

/* Field access by encoding, high halves (bit 0) included. Values are truncated to the field's width. */
enum vmcs_result vmcs_read(const struct cpu *cpu, uint64_t vmcs, uint32_t encoding, uint64_t *value);
enum vmcs_result vmcs_write(const struct cpu *cpu, uint64_t vmcs, uint32_t encoding, uint64_t value);

bool vmcs_launched(const struct cpu *cpu, uint64_t vmcs);
void vmcs_clear_launch_state(const struct cpu *cpu, uint64_t vmcs);

#endif
