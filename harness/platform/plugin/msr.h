/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The MSRs of one vCPU that the platform emulates because TCG does not know them. */
#ifndef MSR_H
#define MSR_H

#include "cpu.h"

#define MSR_FEAT_CTL 0x3a
#define MSR_TME_KEYID_PARTITIONING 0x87
#define MSR_VMX_BASIC 0x480
#define MSR_VMX_MISC 0x485
#define MSR_VMX_CR0_FIXED0 0x486
#define MSR_VMX_CR0_FIXED1 0x487
#define MSR_VMX_CR4_FIXED0 0x488
#define MSR_VMX_CR4_FIXED1 0x489
#define MSR_VMX_EPT_VPID_CAP 0x48c
#define MSR_VMX_LAST 0x493	/* IA32_VMX_EXIT_CTLS2 */

#define FEAT_CTL_LOCK (1u << 0)
#define FEAT_CTL_VMX_OUTSIDE_SMX (1u << 2)

#define MSR_MAX 64

struct msr {
	uint32_t index;
	uint64_t value;
	uint64_t power_on;
};

struct msrs {
	bool without_vmx;	/* the CPU has no VMX, whatever the table says of it */
	size_t count;
	struct msr table[MSR_MAX];
};

/* Defines an MSR by its power-on value, or gives a defined one another; false when the table is full. */
bool msr_define(struct msrs *msrs, uint32_t index, uint64_t power_on);

/* What RESET does, and INIT does not. */
void msr_power_on(struct msrs *msrs);

/* NULL for an MSR that is TCG's own, or that this CPU does not have. */
struct msr *msr_find(struct msrs *msrs, uint32_t index);

/*
 * Whether this CPU has no such MSR, so that any access is #GP: the VMX capabilities of one without VMX. It has
 * IA32_FEAT_CTL: so do all Xeons, for LMCE and SGX (SDM vol. 4, table 2-2).
 */
bool msr_missing(const struct msrs *msrs, uint32_t index);

/* The value, 0 for an MSR that is not defined: a capability that is not there. */
uint64_t msr_value(struct msrs *msrs, uint32_t index);

/* WRMSR with its faults: capability MSRs are read-only, IA32_FEAT_CTL is once it is locked. NATIVE: it is TCG's own. */
struct outcome msr_write(struct msrs *msrs, uint32_t index, uint64_t value);

#endif
