/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VMX state machine: every fault and failure of SDM vol. 3, chapter 31, that it can give. */
#include "check.h"
#include "vmcs.h"
#include "vmx.h"

#define REVISION 4
#define VMXON_REGION 0x1000
#define VMCS_A 0x2000
#define VMCS_B 0x3000
#define NO_REVISION 0x4000	/* a page without a revision identifier */
#define SHADOW 0x5000		/* a page whose revision identifier has bit 31 */
#define OPERAND 0x6000		/* where the operands in memory are */

#define CR4_ON 0x753ef0ull	/* what Debian 6.12 has on `-cpu max`, with VMXE */

static struct fake fake;
static const struct cpu cpu = {.ops = &fake_ops, .opaque = &fake};
static struct vmx vmx;
static struct msrs msrs;
static struct vmx_report report;

static void put(uint64_t pa, uint32_t revision)
{
	memcpy(fake.ram + pa, &revision, sizeof(revision));
}

/* A CPU that may execute VMXON. */
static void start(void)
{
	memset(&fake, 0, sizeof(fake));
	memset(&msrs, 0, sizeof(msrs));
	vmx_reset(&vmx);
	put(VMXON_REGION, REVISION);
	put(VMCS_A, REVISION);
	put(VMCS_B, REVISION);
	put(SHADOW, REVISION | 1u << 31);
	fake.regs[CR0] = 0x80050033;
	fake.regs[CR4] = CR4_ON;
	fake.regs[EFER] = 0xd01;
	fake.regs[CS] = 0x10;
	fake.regs[RDI] = VIRTUAL + OPERAND;
	msr_define(&msrs, MSR_FEAT_CTL, 5);
	msr_define(&msrs, MSR_VMX_BASIC, 0x10da100000000004);
	msr_define(&msrs, MSR_VMX_MISC, 0x7004c1e7);
	msr_define(&msrs, MSR_VMX_CR0_FIXED0, 0x80000021);
	msr_define(&msrs, MSR_VMX_CR0_FIXED1, 0xffffffff);
	msr_define(&msrs, MSR_VMX_CR4_FIXED0, 0x2000);
	msr_define(&msrs, MSR_VMX_CR4_FIXED1, 0x1ff7fff);
	msr_define(&msrs, MSR_VMX_EPT_VPID_CAP, 0x00000f0106734141);
}

/* Executes `op` with (%rdi) or %rdi as operand and %rsi as the register. */
static struct outcome run_form(enum op op, bool memory)
{
	const struct insn insn = {
		.op = op,
		.length = 4,
		.reg = RSI,
		.rm = {.memory = memory, .reg = RDI, .base = RDI, .index = REG_NONE, .segment = REG_NONE},
	};

	return vmx_execute(&vmx, &msrs, &cpu, &insn, 0, &report);
}

static enum outcome_kind run(enum op op)
{
	return run_form(op, true).kind;
}

static enum outcome_kind run_on(enum op op, uint64_t pointer)
{
	memcpy(fake.ram + OPERAND, &pointer, sizeof(pointer));
	return run(op);
}

/* The error of an instruction that has to fail with one; it must be in the VMCS as well. */
static uint32_t error_of(struct outcome outcome)
{
	uint64_t stored = 0;

	CHECK_EQUAL(outcome.kind, OUTCOME_FAIL_VALID);
	CHECK_EQUAL(vmcs_read(&cpu, vmx.current, VMCS_INSTRUCTION_ERROR, &stored), VMCS_OK);
	CHECK_EQUAL(stored, outcome.error);
	return outcome.error;
}

static uint32_t error_on(enum op op, uint64_t pointer)
{
	memcpy(fake.ram + OPERAND, &pointer, sizeof(pointer));
	return error_of(run_form(op, true));
}

static void start_in_root(void)
{
	start();
	CHECK_EQUAL(run_on(OP_VMXON, VMXON_REGION), OUTCOME_SUCCEED);
}

static void start_with_vmcs(void)
{
	start_in_root();
	CHECK_EQUAL(run_on(OP_VMCLEAR, VMCS_A), OUTCOME_SUCCEED);
	CHECK_EQUAL(run_on(OP_VMPTRLD, VMCS_A), OUTCOME_SUCCEED);
}

static void test_vmxon_enters_root_operation(void)
{
	start_in_root();
	CHECK(vmx.root);
	CHECK_EQUAL(vmx.vmxon, VMXON_REGION);
	CHECK_EQUAL(vmx.current, VMCS_NONE);
	CHECK(report.has_address);
	CHECK_EQUAL(report.address, VMXON_REGION);
}

static void test_vmxon_faults(void)
{
	start();
	fake.regs[CR4] &= ~(uint64_t)CR4_VMXE;
	fake.regs[CS] |= 3;
	CHECK_EQUAL(run_on(OP_VMXON, VMXON_REGION), OUTCOME_UD);	/* before the privilege is looked at */
	start();
	fake.regs[CS] |= 3;
	CHECK_EQUAL(run_on(OP_VMXON, VMXON_REGION), OUTCOME_GP);
	for (uint64_t feat_ctl = 0; feat_ctl < 8; feat_ctl++) {
		start();
		msr_define(&msrs, MSR_FEAT_CTL, feat_ctl);
		CHECK_EQUAL(run_on(OP_VMXON, VMXON_REGION), (feat_ctl & 5) == 5 ? OUTCOME_SUCCEED : OUTCOME_GP);
	}
	start();
	fake.regs[CR0] &= ~0x20ull;	/* NE is fixed to 1 */
	CHECK_EQUAL(run_on(OP_VMXON, VMXON_REGION), OUTCOME_GP);
	start();
	msr_define(&msrs, MSR_VMX_CR4_FIXED1, 0x3767ff);	/* allows no PKE, which is set */
	CHECK_EQUAL(run_on(OP_VMXON, VMXON_REGION), OUTCOME_GP);
	start();
	fake.regs[RDI] = VIRTUAL + RAM;
	CHECK_EQUAL(run(OP_VMXON), OUTCOME_GP);	/* stands for the #PF */
	CHECK(!vmx.root);
}

static void test_vmxon_fails(void)
{
	const uint64_t bad[] = {VMXON_REGION + 8, 1ull << 40, RAM, NO_REVISION, SHADOW};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		start();
		CHECK_EQUAL(run_on(OP_VMXON, bad[i]), OUTCOME_FAIL_INVALID);
		CHECK(!vmx.root);
	}
	start_in_root();
	CHECK_EQUAL(run_on(OP_VMXON, VMXON_REGION), OUTCOME_FAIL_INVALID);	/* no VMCS to hold the error */
	start_with_vmcs();
	CHECK_EQUAL(error_on(OP_VMXON, VMXON_REGION), VMX_ERROR_VMXON_IN_ROOT);
	fake.regs[CS] |= 3;
	CHECK_EQUAL(run_on(OP_VMXON, VMXON_REGION), OUTCOME_GP);
}

/* All but VMXON: #UD outside VMX operation, whatever the privilege; #GP inside without privilege. */
static void test_common_faults(void)
{
	const enum op ops[] = {OP_VMXOFF, OP_VMCLEAR, OP_VMPTRLD, OP_VMPTRST, OP_VMREAD, OP_VMWRITE,
			       OP_INVEPT, OP_INVVPID, OP_VMLAUNCH, OP_VMRESUME, OP_VMCALL};

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		start();
		fake.regs[CS] |= 3;
		CHECK_EQUAL(run_on(ops[i], VMCS_A), OUTCOME_UD);
		start_with_vmcs();
		fake.regs[CS] |= 3;
		CHECK_EQUAL(run_on(ops[i], VMCS_A), OUTCOME_GP);
		CHECK(vmx.root);
	}
	start_in_root();
	CHECK_EQUAL(run(OP_SEAMCALL), OUTCOME_NATIVE);
}

static void test_vmxoff(void)
{
	start_with_vmcs();
	CHECK_EQUAL(run(OP_VMXOFF), OUTCOME_SUCCEED);
	CHECK(!vmx.root);
	CHECK_EQUAL(vmx.current, VMCS_NONE);
	CHECK_EQUAL(run(OP_VMXOFF), OUTCOME_UD);
	CHECK_EQUAL(run_on(OP_VMXON, VMXON_REGION), OUTCOME_SUCCEED);
}

static void test_vmclear(void)
{
	start_with_vmcs();
	CHECK_EQUAL(error_on(OP_VMCLEAR, VMCS_A + 1), VMX_ERROR_VMCLEAR_ADDRESS);
	CHECK_EQUAL(error_on(OP_VMCLEAR, 1ull << 40), VMX_ERROR_VMCLEAR_ADDRESS);
	CHECK_EQUAL(error_on(OP_VMCLEAR, VMXON_REGION), VMX_ERROR_VMCLEAR_VMXON_POINTER);
	CHECK_EQUAL(run_on(OP_VMCLEAR, VMCS_B), OUTCOME_SUCCEED);
	CHECK_EQUAL(vmx.current, VMCS_A);
	CHECK_EQUAL(run_on(OP_VMCLEAR, VMCS_A), OUTCOME_SUCCEED);
	CHECK_EQUAL(vmx.current, VMCS_NONE);
	CHECK_EQUAL(run_on(OP_VMCLEAR, VMXON_REGION), OUTCOME_FAIL_INVALID);
}

static void test_vmptrld_and_vmptrst(void)
{
	uint64_t stored = 0;

	start_with_vmcs();
	CHECK_EQUAL(error_on(OP_VMPTRLD, VMCS_B + 0x10), VMX_ERROR_VMPTRLD_ADDRESS);
	CHECK_EQUAL(error_on(OP_VMPTRLD, VMXON_REGION), VMX_ERROR_VMPTRLD_VMXON_POINTER);
	CHECK_EQUAL(error_on(OP_VMPTRLD, NO_REVISION), VMX_ERROR_VMPTRLD_REVISION);
	CHECK_EQUAL(error_on(OP_VMPTRLD, SHADOW), VMX_ERROR_VMPTRLD_REVISION);
	CHECK_EQUAL(run_on(OP_VMPTRLD, VMCS_B), OUTCOME_SUCCEED);
	CHECK_EQUAL(run(OP_VMPTRST), OUTCOME_SUCCEED);
	memcpy(&stored, fake.ram + OPERAND, sizeof(stored));
	CHECK_EQUAL(stored, VMCS_B);
	start_in_root();
	CHECK_EQUAL(run(OP_VMPTRST), OUTCOME_SUCCEED);
	memcpy(&stored, fake.ram + OPERAND, sizeof(stored));
	CHECK_EQUAL(stored, UINT64_MAX);
}

static struct outcome write_field(uint64_t field, uint64_t value)
{
	fake.regs[RSI] = field;
	fake.regs[RDI] = value;
	return run_form(OP_VMWRITE, false);
}

static uint64_t read_field(uint64_t field)
{
	fake.regs[RSI] = field;
	CHECK_EQUAL(run_form(OP_VMREAD, false).kind, OUTCOME_SUCCEED);
	return fake.regs[RDI];
}

static void test_fields(void)
{
	start_with_vmcs();
	CHECK_EQUAL(write_field(0x0000, 0x12345).kind, OUTCOME_SUCCEED);		/* VPID: 16 bits */
	CHECK_EQUAL(read_field(0x0000), 0x2345);
	CHECK_EQUAL(write_field(0x4000, 0x123456789).kind, OUTCOME_SUCCEED);	/* pin-based controls: 32 bits */
	CHECK_EQUAL(read_field(0x4000), 0x23456789);
	CHECK_EQUAL(write_field(0x201a, 0x1122334455667788).kind, OUTCOME_SUCCEED);	/* EPTP: 64 bits */
	CHECK_EQUAL(read_field(0x201b), 0x11223344);
	CHECK_EQUAL(write_field(0x201b, 0xaabbccdd).kind, OUTCOME_SUCCEED);
	CHECK_EQUAL(read_field(0x201a), 0xaabbccdd55667788);
	CHECK_EQUAL(write_field(0x6c16, VIRTUAL).kind, OUTCOME_SUCCEED);		/* host RIP: natural width */
	CHECK_EQUAL(read_field(0x6c16), VIRTUAL);
	CHECK_EQUAL(read_field(0x6c14), 0);						/* its neighbour */
	fake.regs[RSI] = 0x201a;
	fake.regs[RDI] = VIRTUAL + OPERAND;
	CHECK_EQUAL(run(OP_VMREAD), OUTCOME_SUCCEED);					/* to memory, and from it */
	fake.regs[RSI] = 0x2000;
	CHECK_EQUAL(run(OP_VMWRITE), OUTCOME_SUCCEED);
	CHECK_EQUAL(read_field(0x2000), 0xaabbccdd55667788);
}

/* Every field has a place of its own. */
static void test_fields_do_not_overlap(void)
{
	uint64_t count = 0;

	start_with_vmcs();
	for (uint32_t field = 0; field < 0x8000; field += 2)
		if (vmcs_supported(field))
			CHECK_EQUAL(write_field(field, ++count).kind, OUTCOME_SUCCEED);
	CHECK(count > 150);
	for (uint32_t field = 0x7ffe; count; field -= 2)
		if (vmcs_supported(field))
			CHECK_EQUAL(read_field(field), count--);
	/* And none is outside of the region: Linux zeroes no more of it than IA32_VMX_BASIC says. */
	start_with_vmcs();
	memset(fake.ram + VMCS_A + VMCS_SIZE, 0, OPERAND - VMCS_A - VMCS_SIZE);
	for (uint32_t field = 0; field < 0x8000; field += 2)
		if (vmcs_supported(field))
			write_field(field, UINT64_MAX);
	for (size_t at = VMCS_A + VMCS_SIZE; at < OPERAND; at++)
		CHECK(!fake.ram[at]);
}

static void test_field_failures(void)
{
	start_with_vmcs();
	CHECK_EQUAL(error_of(write_field(0x6ffe, 0)), VMX_ERROR_UNSUPPORTED_FIELD);
	CHECK_EQUAL(error_of(write_field(0x4001, 0)), VMX_ERROR_UNSUPPORTED_FIELD);	/* 32 bits have no high half */
	CHECK_EQUAL(error_of(write_field(1ull << 32, 0)), VMX_ERROR_UNSUPPORTED_FIELD);
	fake.regs[RSI] = 0x482c;
	CHECK_EQUAL(error_of(run_form(OP_VMREAD, false)), VMX_ERROR_UNSUPPORTED_FIELD);
	CHECK_EQUAL(write_field(0x4402, 1).kind, OUTCOME_SUCCEED);	/* exit reason: IA32_VMX_MISC[29] allows it */
	msr_define(&msrs, MSR_VMX_MISC, 0x5004c1e7);
	CHECK_EQUAL(error_of(write_field(0x4402, 1)), VMX_ERROR_READ_ONLY_FIELD);
	start_in_root();
	CHECK_EQUAL(write_field(0x4000, 0).kind, OUTCOME_FAIL_INVALID);
	CHECK_EQUAL(run_form(OP_VMREAD, false).kind, OUTCOME_FAIL_INVALID);
}

static struct outcome invalidate(enum op op, uint64_t type, uint64_t low, uint64_t high)
{
	const uint64_t descriptor[] = {low, high};

	memcpy(fake.ram + OPERAND, descriptor, sizeof(descriptor));
	fake.regs[RSI] = type;
	return run_form(op, true);
}

static void test_invept(void)
{
	start_with_vmcs();
	CHECK_EQUAL(invalidate(OP_INVEPT, 2, 0, 0).kind, OUTCOME_SUCCEED);
	CHECK_EQUAL(invalidate(OP_INVEPT, 1, 0x701e, 0).kind, OUTCOME_SUCCEED);
	CHECK_EQUAL(error_of(invalidate(OP_INVEPT, 0, 0, 0)), VMX_ERROR_INVALIDATION_OPERAND);
	CHECK_EQUAL(error_of(invalidate(OP_INVEPT, 3, 0, 0)), VMX_ERROR_INVALIDATION_OPERAND);
	const uint64_t bad[] = {1ull << 40 | 0x1e, 0x701f, 0x7016, 0x7026, 0x709e, 0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQUAL(error_of(invalidate(OP_INVEPT, 1, bad[i], 0)), VMX_ERROR_INVALIDATION_OPERAND);
	CHECK_EQUAL(invalidate(OP_INVEPT, 1, 0x705e, 0).kind, OUTCOME_SUCCEED);	/* accessed and dirty flags */
	msr_define(&msrs, MSR_VMX_EPT_VPID_CAP, 0x00000f0100000000);
	CHECK_EQUAL(invalidate(OP_INVEPT, 2, 0, 0).kind, OUTCOME_UD);
	CHECK_EQUAL(invalidate(OP_INVVPID, 2, 0, 0).kind, OUTCOME_SUCCEED);
}

static void test_invvpid(void)
{
	start_with_vmcs();
	CHECK_EQUAL(invalidate(OP_INVVPID, 0, 1, VIRTUAL).kind, OUTCOME_SUCCEED);
	CHECK_EQUAL(invalidate(OP_INVVPID, 1, 1, 0).kind, OUTCOME_SUCCEED);
	CHECK_EQUAL(invalidate(OP_INVVPID, 2, 0, 0).kind, OUTCOME_SUCCEED);
	CHECK_EQUAL(error_of(invalidate(OP_INVVPID, 0, 1, 1ull << 63)), VMX_ERROR_INVALIDATION_OPERAND);
	CHECK_EQUAL(error_of(invalidate(OP_INVVPID, 1, 0, 0)), VMX_ERROR_INVALIDATION_OPERAND);
	CHECK_EQUAL(error_of(invalidate(OP_INVVPID, 1, 0x10001, 0)), VMX_ERROR_INVALIDATION_OPERAND);
	CHECK_EQUAL(error_of(invalidate(OP_INVVPID, 4, 1, 0)), VMX_ERROR_INVALIDATION_OPERAND);
}

static void test_entries(void)
{
	const uint32_t launched = 1;

	start_in_root();
	CHECK_EQUAL(run(OP_VMLAUNCH), OUTCOME_FAIL_INVALID);
	start_with_vmcs();
	CHECK_EQUAL(error_of(run_form(OP_VMRESUME, true)), VMX_ERROR_VMRESUME_NOT_LAUNCHED);
	CHECK(!report.not_emulated);
	CHECK_EQUAL(error_of(run_form(OP_VMLAUNCH, true)), VMX_ERROR_ENTRY_CONTROLS);
	CHECK(report.not_emulated);
	memcpy(fake.ram + VMCS_A + 8, &launched, sizeof(launched));
	CHECK_EQUAL(error_of(run_form(OP_VMLAUNCH, true)), VMX_ERROR_VMLAUNCH_NOT_CLEAR);
	CHECK_EQUAL(error_of(run_form(OP_VMRESUME, true)), VMX_ERROR_ENTRY_CONTROLS);
	CHECK_EQUAL(error_of(run_form(OP_VMCALL, true)), VMX_ERROR_VMCALL_IN_ROOT);
	CHECK_EQUAL(run_on(OP_VMCLEAR, VMCS_A), OUTCOME_SUCCEED);	/* clears the launch state */
	CHECK(!vmcs_launched(&cpu, VMCS_A));
}

static enum outcome_kind move(unsigned int cr, uint64_t value)
{
	return vmx_mov_to_cr(&vmx, &msrs, &cpu, cr, value).kind;
}

static void test_mov_to_cr4(void)
{
	start();
	fake.regs[CR4] &= ~(uint64_t)CR4_VMXE;
	CHECK_EQUAL(move(4, CR4_ON & ~(uint64_t)CR4_VMXE), OUTCOME_NATIVE);	/* no business of ours */
	CHECK_EQUAL(move(4, CR4_ON), OUTCOME_DONE);
	CHECK_EQUAL(move(4, CR4_ON | 1ull << 15), OUTCOME_GP);			/* reserved */
	CHECK_EQUAL(move(4, CR4_ON | 1ull << 40), OUTCOME_GP);
	CHECK_EQUAL(move(4, CR4_ON & ~(uint64_t)CR4_PAE), OUTCOME_GP);		/* in long mode */
	CHECK_EQUAL(move(4, CR4_ON ^ CR4_LA57), OUTCOME_GP);
	fake.regs[CR4] &= ~(uint64_t)CR4_PCIDE;
	fake.regs[CR3] = 0x1001;
	CHECK_EQUAL(move(4, CR4_ON | CR4_PCIDE), OUTCOME_GP);			/* CR3 has a PCID already */
	fake.regs[CS] |= 3;
	CHECK_EQUAL(move(4, CR4_ON), OUTCOME_NATIVE);
	start();
	fake.regs[CR4] &= ~(uint64_t)CR4_VMXE;
	msrs.count = 0;
	CHECK_EQUAL(move(4, CR4_ON), OUTCOME_GP);				/* a CPU without VMX */
}

static void test_control_registers_in_root(void)
{
	start_in_root();
	CHECK_EQUAL(move(4, CR4_ON & ~(uint64_t)CR4_VMXE), OUTCOME_GP);
	CHECK_EQUAL(move(4, CR4_ON ^ 0x80), OUTCOME_DONE);			/* PGE, as a TLB flush does */
	CHECK_EQUAL(move(0, 0x80050033), OUTCOME_NATIVE);
	CHECK_EQUAL(move(0, 0x00050033), OUTCOME_GP);				/* PG is fixed to 1 */
	CHECK_EQUAL(run(OP_VMXOFF), OUTCOME_SUCCEED);
	CHECK_EQUAL(move(4, CR4_ON & ~(uint64_t)CR4_VMXE), OUTCOME_DONE);
	CHECK_EQUAL(move(0, 0x00050033), OUTCOME_NATIVE);
}

static void test_msrs(void)
{
	start();
	CHECK_EQUAL(msr_write(&msrs, MSR_FEAT_CTL, 0).kind, OUTCOME_GP);		/* locked */
	CHECK_EQUAL(msr_value(&msrs, MSR_FEAT_CTL), 5);
	CHECK_EQUAL(msr_write(&msrs, MSR_VMX_BASIC, 0).kind, OUTCOME_GP);
	msr_define(&msrs, MSR_FEAT_CTL, 0);
	CHECK_EQUAL(msr_write(&msrs, MSR_FEAT_CTL, 5).kind, OUTCOME_DONE);
	CHECK_EQUAL(msr_write(&msrs, MSR_FEAT_CTL, 0).kind, OUTCOME_GP);
	msr_power_on(&msrs);
	CHECK_EQUAL(msr_value(&msrs, MSR_FEAT_CTL), 0);
	CHECK(msr_define(&msrs, 0x1234, 7));
	CHECK_EQUAL(msr_write(&msrs, 0x1234, 8).kind, OUTCOME_DONE);
	CHECK_EQUAL(msr_value(&msrs, 0x1234), 8);
	CHECK(!msr_find(&msrs, 0x1235));
	CHECK_EQUAL(msr_write(&msrs, 0x1235, 0).kind, OUTCOME_NATIVE);
	for (uint32_t index = 0x2000; msrs.count < MSR_MAX; index++)
		CHECK(msr_define(&msrs, index, 0));
	CHECK(!msr_define(&msrs, 0x3000, 0));
}

static void test_a_cpu_without_vmx(void)
{
	start();
	CHECK(msr_define(&msrs, MSR_TME_KEYID_PARTITIONING, 7));
	msrs.without_vmx = true;
	fake.regs[CR4] &= ~(uint64_t)CR4_VMXE;
	CHECK_EQUAL(move(4, CR4_ON), OUTCOME_GP);
	CHECK_EQUAL(move(4, CR4_ON & ~(uint64_t)CR4_VMXE), OUTCOME_NATIVE);
	CHECK_EQUAL(run_on(OP_VMXON, VMXON_REGION), OUTCOME_UD);
	CHECK(msr_missing(&msrs, MSR_VMX_BASIC) && msr_missing(&msrs, MSR_VMX_LAST) && !msr_find(&msrs, MSR_VMX_BASIC));
	CHECK_EQUAL(msr_write(&msrs, MSR_VMX_BASIC, 5).kind, OUTCOME_GP);
	CHECK(!msr_missing(&msrs, MSR_FEAT_CTL) && msr_find(&msrs, MSR_FEAT_CTL));
	CHECK(!msr_missing(&msrs, MSR_TME_KEYID_PARTITIONING) && msr_find(&msrs, MSR_TME_KEYID_PARTITIONING));
	CHECK_EQUAL(msr_write(&msrs, 0x1234, 0).kind, OUTCOME_NATIVE);
	CHECK(msr_define(&msrs, MSR_VMX_BASIC, 1) && !msr_find(&msrs, MSR_VMX_BASIC));	/* in either order */
}

int main(void)
{
	test_vmxon_enters_root_operation();
	test_vmxon_faults();
	test_vmxon_fails();
	test_common_faults();
	test_vmxoff();
	test_vmclear();
	test_vmptrld_and_vmptrst();
	test_fields();
	test_fields_do_not_overlap();
	test_field_failures();
	test_invept();
	test_invvpid();
	test_entries();
	test_mov_to_cr4();
	test_control_registers_in_root();
	test_msrs();
	test_a_cpu_without_vmx();
	return failures != 0;
}
