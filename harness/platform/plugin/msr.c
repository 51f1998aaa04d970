/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "msr.h"

static struct msr *defined(struct msrs *msrs, uint32_t index)
{
	for (size_t i = 0; i < msrs->count; i++)
		if (msrs->table[i].index == index)
			return &msrs->table[i];
	return NULL;
}

bool msr_missing(const struct msrs *msrs, uint32_t index)
{
	return msrs->without_vmx && index >= MSR_VMX_BASIC && index <= MSR_VMX_LAST;
}

struct msr *msr_find(struct msrs *msrs, uint32_t index)
{
	return msr_missing(msrs, index) ? NULL : defined(msrs, index);
}

bool msr_define(struct msrs *msrs, uint32_t index, uint64_t power_on)
{
	struct msr *msr = defined(msrs, index);

	if (!msr) {
		if (msrs->count == MSR_MAX)
			return false;
		msr = &msrs->table[msrs->count++];
	}
	*msr = (struct msr){.index = index, .value = power_on, .power_on = power_on};
	return true;
}

void msr_power_on(struct msrs *msrs)
{
	for (size_t i = 0; i < msrs->count; i++)
		msrs->table[i].value = msrs->table[i].power_on;
}

uint64_t msr_value(struct msrs *msrs, uint32_t index)
{
	const struct msr *msr = msr_find(msrs, index);

	return msr ? msr->value : 0;
}

static bool writable(const struct msr *msr)
{
	if (msr->index == MSR_FEAT_CTL)
		return !(msr->value & FEAT_CTL_LOCK);
	if (msr->index == MSR_TME_KEYID_PARTITIONING)
		return false;
	return msr->index < MSR_VMX_BASIC || msr->index > MSR_VMX_LAST;
}

struct outcome msr_write(struct msrs *msrs, uint32_t index, uint64_t value)
{
	struct msr *msr = msr_find(msrs, index);

	if (!msr && !msr_missing(msrs, index))
		return (struct outcome){.kind = OUTCOME_NATIVE};
	if (!msr || !writable(msr))
		return (struct outcome){.kind = OUTCOME_GP};
	msr->value = value;
	return (struct outcome){.kind = OUTCOME_DONE};
}
