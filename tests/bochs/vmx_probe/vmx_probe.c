// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmx_probe - what each VMX instruction answers in each situation.
 *
 * Loading it runs the steps below in their order, on CPU 0 with interrupts
 * off, and prints one line per step into the kernel log:
 *
 *	vmx_probe: 17 VMXON in VMX operation: VMfailValid 15
 *
 * An answer is "succeeds", "VMfailInvalid", "VMfailValid" with the
 * VM-instruction error, or the exception. What an instruction gives (VMREAD,
 * VMPTRST) follows. No line depends on addresses or on the CPU's revision
 * identifier, so that two CPUs with the same VMX print the same lines.
 *
 * VMX must be off: kvm_intel is not loaded. The CPU is left as it was found.
 */
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <asm/asm.h>
#include <asm/io.h>
#include <asm/msr.h>
#include <asm/processor-flags.h>
#include <asm/trapnr.h>

#define VM_INSTRUCTION_ERROR	0x4400
#define GUEST_ES_SELECTOR	0x0800	/* 16 bits */
#define IO_BITMAP_A		0x2000	/* 64 bits, the high half at 0x2001 */
#define IO_BITMAP_A_HIGH	0x2001
#define EXCEPTION_BITMAP	0x4004	/* 32 bits */
#define GUEST_RIP		0x681e	/* natural width */
#define NO_FIELD		0x1000	/* bit 12 of an encoding is reserved */
#define HIGH_BITS		0x100000000ULL

/* Pages of the test, and operands that are not pages. */
enum address {
	REGION,		/* for VMXON */
	FIRST, SECOND,	/* VMCSs */
	PAGES,
	MISALIGNED = PAGES,
	BEYOND,		/* above any MAXPHYADDR */
};

enum op {
	/* Instructions with a pointer in memory */
	VMXON, VMCLEAR, VMPTRLD,
	VMXON_UNMAPPED, VMXON_NONCANONICAL,
	/* … and those with other operands */
	VMPTRST, VMPTRST_FORMS, VMPTRST_LOCK,
	VMREAD, VMREAD_TO_MEMORY, VMWRITE, VMWRITE_FROM_MEMORY,
	INVEPT, INVVPID,
	VMXOFF, VMLAUNCH, VMLAUNCH_AFTER_MOV_SS, VMRESUME, VMCALL, VMFUNC,
	/* Registers */
	CR4_SET_VMXE, CR4_CLEAR_VMXE, CR0_CLEAR_NE, WRITE_MSR,
	/* The identifier that a region or a VMCS begins with; they print nothing */
	REVISION_RIGHT, REVISION_WRONG, REVISION_SHADOW,
};

struct step {
	const char *when;	/* what makes it a case of its own */
	enum op op;
	u64 operand;		/* an enum address, a field, a type or an MSR */
	u64 value[2];		/* to write; a descriptor */
};

static const char * const op_names[] = {
	[VMXON] = "VMXON", [VMCLEAR] = "VMCLEAR", [VMPTRLD] = "VMPTRLD",
	[VMXON_UNMAPPED] = "VMXON", [VMXON_NONCANONICAL] = "VMXON",
	[VMPTRST] = "VMPTRST", [VMPTRST_FORMS] = "VMPTRST", [VMPTRST_LOCK] = "LOCK VMPTRST",
	[VMREAD] = "VMREAD", [VMREAD_TO_MEMORY] = "VMREAD",
	[VMWRITE] = "VMWRITE", [VMWRITE_FROM_MEMORY] = "VMWRITE",
	[INVEPT] = "INVEPT", [INVVPID] = "INVVPID",
	[VMXOFF] = "VMXOFF", [VMLAUNCH] = "VMLAUNCH", [VMLAUNCH_AFTER_MOV_SS] = "VMLAUNCH",
	[VMRESUME] = "VMRESUME", [VMCALL] = "VMCALL", [VMFUNC] = "VMFUNC",
	[CR4_SET_VMXE] = "MOV CR4 that sets VMXE", [CR4_CLEAR_VMXE] = "MOV CR4 that clears VMXE",
	[CR0_CLEAR_NE] = "MOV CR0 that clears NE", [WRITE_MSR] = "WRMSR",
};

#define EVERY_INSTRUCTION(when)						\
	{ when, VMXOFF }, { when, VMCLEAR, FIRST }, { when, VMPTRLD, FIRST },	\
	{ when, VMPTRST }, { when, VMREAD, GUEST_RIP }, { when, VMWRITE, GUEST_RIP },	\
	{ when, VMLAUNCH }, { when, VMRESUME }, { when, INVEPT, 2 }, { when, INVVPID, 2 }, \
	{ when, VMCALL }, { when, VMFUNC }

static const struct step steps[] = {
	{ "with VMXE clear", VMXON, REGION },
	EVERY_INSTRUCTION("with VMXE clear"),

	{ "outside VMX operation", CR4_SET_VMXE },
	EVERY_INSTRUCTION("outside VMX operation"),
	{ "of a misaligned pointer", VMXON, MISALIGNED },
	{ "of a pointer beyond MAXPHYADDR", VMXON, BEYOND },
	{ "of a pointer at an unmapped address", VMXON_UNMAPPED },
	{ "of a pointer at a non-canonical address", VMXON_NONCANONICAL },
	{ .op = REVISION_WRONG, .operand = REGION },
	{ "of a wrong revision identifier", VMXON, REGION },
	{ .op = REVISION_SHADOW, .operand = REGION },
	{ "of a region with the shadow bit", VMXON, REGION },
	{ .op = REVISION_RIGHT, .operand = REGION },
	{ "of a good region", VMXON, REGION },

	{ "in VMX operation", CR4_CLEAR_VMXE },
	{ "in VMX operation", CR0_CLEAR_NE },
	{ "of IA32_FEATURE_CONTROL, which is locked", WRITE_MSR, MSR_IA32_FEAT_CTL, { 7 } },
	{ "of IA32_VMX_BASIC", WRITE_MSR, MSR_IA32_VMX_BASIC, { 1 } },

	/* VMfail without a current VMCS has nowhere to put an error number. */
	{ "without a current VMCS, in VMX operation", VMXON, REGION },
	{ "without a current VMCS", VMPTRST },
	{ "without a current VMCS", VMREAD, GUEST_RIP },
	{ "of no field, without a current VMCS", VMREAD, NO_FIELD },
	{ "without a current VMCS", VMWRITE, GUEST_RIP },
	{ "without a current VMCS", VMLAUNCH },
	{ "without a current VMCS", VMRESUME },
	/* With one it might enter the dual-monitor treatment of SMIs: Bochs panics there. */
	{ "without a current VMCS", VMCALL },
	{ "in VMX root operation", VMFUNC },
	{ "of a bad type, without a current VMCS", INVEPT, 9 },
	{ "of a bad type, without a current VMCS", INVVPID, 9 },
	{ "of the VMXON pointer, without a current VMCS", VMCLEAR, REGION },
	{ "of a misaligned pointer, without a current VMCS", VMCLEAR, MISALIGNED },
	{ "of the VMXON pointer, without a current VMCS", VMPTRLD, REGION },
	{ "of a misaligned pointer, without a current VMCS", VMPTRLD, MISALIGNED },
	{ .op = REVISION_WRONG, .operand = FIRST },
	{ "of a wrong revision identifier, without a current VMCS", VMPTRLD, FIRST },
	{ "after that", VMPTRST },
	{ .op = REVISION_RIGHT, .operand = FIRST },

	/* With one */
	{ "of the first VMCS", VMCLEAR, FIRST },
	{ "of the first VMCS", VMPTRLD, FIRST },
	{ "after that", VMPTRST },
	{ "by other addressing modes", VMPTRST_FORMS },
	{ "which no VMX instruction may have", VMPTRST_LOCK },
	{ "in VMX operation", VMXON, REGION },
	{ "of a misaligned pointer, in VMX operation", VMXON, MISALIGNED },
	{ "of the VMXON pointer", VMPTRLD, REGION },
	{ "of a misaligned pointer", VMPTRLD, MISALIGNED },
	{ "of a pointer beyond MAXPHYADDR", VMPTRLD, BEYOND },
	{ .op = REVISION_WRONG, .operand = SECOND },
	{ "of a wrong revision identifier", VMPTRLD, SECOND },
	{ .op = REVISION_RIGHT, .operand = SECOND },
	{ "after those failed", VMPTRST },
	{ "of the VMXON pointer", VMCLEAR, REGION },
	{ "of a misaligned pointer", VMCLEAR, MISALIGNED },
	{ "of a pointer beyond MAXPHYADDR", VMCLEAR, BEYOND },
	{ "after those failed", VMPTRST },

	{ "of the VM-instruction error", VMREAD, VM_INSTRUCTION_ERROR },
	{ "of the natural-width field GUEST_RIP", VMWRITE, GUEST_RIP, { 0x1122334455667788 } },
	{ "of it", VMREAD, GUEST_RIP },
	{ "of it, to memory", VMREAD_TO_MEMORY, GUEST_RIP },
	{ "of the 16-bit field GUEST_ES_SELECTOR with 64 bits", VMWRITE, GUEST_ES_SELECTOR, { 0x99aabbccddeeff00 } },
	{ "of it", VMREAD, GUEST_ES_SELECTOR },
	{ "of the 32-bit field EXCEPTION_BITMAP with 64 bits", VMWRITE, EXCEPTION_BITMAP, { 0x99aabbccddeeff00 } },
	{ "of it", VMREAD, EXCEPTION_BITMAP },
	{ "of the 64-bit field IO_BITMAP_A, from memory", VMWRITE_FROM_MEMORY, IO_BITMAP_A, { 0x1234567890000000 } },
	{ "of its high half with 64 bits", VMWRITE, IO_BITMAP_A_HIGH, { 0x99aabbccddeeff00 } },
	{ "of its high half", VMREAD, IO_BITMAP_A_HIGH },
	{ "of all of it, to memory", VMREAD_TO_MEMORY, IO_BITMAP_A },
	{ "of no field", VMREAD, NO_FIELD },
	{ "of no field", VMWRITE, NO_FIELD },
	{ "of no field, to memory", VMREAD_TO_MEMORY, NO_FIELD },
	{ "of a field with bit 32 set", VMREAD, GUEST_RIP | HIGH_BITS },
	{ "of a field with bit 32 set", VMWRITE, GUEST_RIP | HIGH_BITS },
	{ "of the high half of a 32-bit field", VMREAD, EXCEPTION_BITMAP | 1 },
	{ "of a read-only field", VMWRITE, VM_INSTRUCTION_ERROR, { 0 } },

	{ "of a VMCS that is not launched", VMRESUME },
	{ "of a VMCS with bad controls", VMLAUNCH },
	{ "after MOV SS", VMLAUNCH_AFTER_MOV_SS },

	{ "of one context", INVEPT, 1, { 0x1000 | 6 | 3 << 3 } },
	{ "of all contexts", INVEPT, 2 },
	{ "of type 0", INVEPT, 0 },
	{ "of type 9", INVEPT, 9 },
	{ "of one context with memory type 7", INVEPT, 1, { 0x1000 | 7 | 3 << 3 } },
	{ "of one context with reserved bits in the descriptor", INVEPT, 1, { 0x1000 | 6 | 3 << 3, 1 } },
	{ "of one address", INVVPID, 0, { 1, 0x1000 } },
	{ "of one context", INVVPID, 1, { 1 } },
	{ "of all contexts", INVVPID, 2 },
	{ "of one context but its global translations", INVVPID, 3, { 1 } },
	{ "of type 9", INVVPID, 9 },
	{ "of VPID 0", INVVPID, 1, { 0 } },
	{ "with reserved bits in the descriptor", INVVPID, 1, { 0x10001 } },
	{ "of a non-canonical address", INVVPID, 0, { 1, 1ULL << 63 } },

	/* Two VMCSs */
	{ "of the second VMCS, not current", VMCLEAR, SECOND },
	{ "after that", VMPTRST },
	{ "of the second VMCS", VMPTRLD, SECOND },
	{ "after that", VMPTRST },
	{ "of another VMCS's field", VMWRITE, GUEST_RIP, { 0xabcdef } },
	{ "of the first VMCS again", VMPTRLD, FIRST },
	{ "of its own field", VMREAD, GUEST_RIP },
	{ "of the current VMCS", VMCLEAR, FIRST },
	{ "after that", VMPTRST },
	{ "after that", VMREAD, GUEST_RIP },
	{ "of the cleared VMCS", VMPTRLD, FIRST },
	{ "of what it had", VMREAD, GUEST_RIP },
	{ "of the current VMCS", VMCLEAR, FIRST },
	{ "of the other VMCS", VMCLEAR, SECOND },

	/* Out, in again, and out */
	{ "in VMX operation", VMXOFF },
	{ "once more", VMXOFF },
	{ "after VMXOFF", VMPTRST },
	{ "after VMXOFF", VMREAD, GUEST_RIP },
	{ "after VMXOFF", VMCLEAR, FIRST },
	{ "after VMXOFF", VMXON, REGION },
	{ "after that", VMPTRST },
	{ "in VMX operation", VMXOFF },
	{ "after VMXOFF", CR4_CLEAR_VMXE },
	{ "with VMXE clear again", VMXON, REGION },
};

struct answer {
	int fault;		/* vector, or 0 */
	bool carry, zero;
	u64 error;		/* VM-instruction error when zero */
	u64 value;		/* what the instruction gave */
};

static u64 pointers[BEYOND + 1];	/* physical addresses */
static void *pages[PAGES];
static u32 revision;
static u64 cr0, cr4;
static struct answer answers[ARRAY_SIZE(steps)];

/*
 * Runs @text and takes the flags into registers at once, before anything can
 * disturb them. @text may use %[value], which is a->value before and after.
 */
#define RUN_AFTER(a, before, text, ...)					\
do {									\
	unsigned long fault_ = 0, carry_ = 0, zero_ = 0;		\
									\
	asm volatile("	" before "\n"					\
		     "1:	" text "\n"				\
		     "	setc	%b[carry]\n"				\
		     "	setz	%b[zero]\n"				\
		     "2:\n"						\
		     _ASM_EXTABLE_TYPE(1b, 2b, EX_TYPE_FAULT)		\
		     : "+a" (fault_), [carry] "+r" (carry_),		\
		       [zero] "+r" (zero_), [value] "+r" ((a)->value)	\
		     : __VA_ARGS__					\
		     : "cc", "memory");					\
	(a)->fault = fault_;						\
	(a)->carry = carry_;						\
	(a)->zero = zero_;						\
} while (0)

#define RUN(a, text, ...)	RUN_AFTER(a, "", text, __VA_ARGS__)

static void run_pointer(const struct step *step, struct answer *a)
{
	u64 *pointer = &pointers[step->operand];

	switch (step->op) {
	case VMCLEAR:
		RUN(a, "vmclear	(%[at])", [at] "r" (pointer));
		break;
	case VMPTRLD:
		RUN(a, "vmptrld	(%[at])", [at] "r" (pointer));
		break;
	case VMXON_UNMAPPED:
		pointer = (void *)(VMALLOC_START - PAGE_SIZE);
		fallthrough;
	case VMXON:
		RUN(a, "vmxon	(%[at])", [at] "r" (pointer));
		break;
	default:
		RUN(a, "vmxon	(%[at])", [at] "r" (1UL << 63));
	}
}

/*
 * Base and displacement; base and scaled index; R12, which needs a SIB byte,
 * and R13, which needs a displacement; RIP. Gives the pointer if all agree.
 */
static u64 vmptrst_forms(void)
{
	static u64 slot[5];

	memset(slot, 0, sizeof(slot));
	asm volatile("vmptrst	8(%[slots])\n\t"
		     "vmptrst	(%[slots],%[two],8)\n\t"
		     "lea	24(%[slots]), %%r12\n\t"
		     "vmptrst	(%%r12)\n\t"
		     "lea	32(%[slots]), %%r13\n\t"
		     "vmptrst	(%%r13)\n\t"
		     "vmptrst	%[first]\n\t"
		     : [first] "=m" (slot[0])
		     : [slots] "r" (slot), [two] "r" (2UL)
		     : "r12", "r13", "cc", "memory");
	for (int i = 1; i < ARRAY_SIZE(slot); i++)
		if (slot[i] != slot[0])
			return 0;
	return slot[0];
}

static void run_vmptrst(const struct step *step, struct answer *a)
{
	u64 pointer = 0;

	switch (step->op) {
	case VMPTRST:
		RUN(a, "vmptrst	(%[at])", [at] "r" (&pointer));
		break;
	case VMPTRST_LOCK:
		RUN(a, ".byte 0xf0; vmptrst (%[at])", [at] "r" (&pointer));
		break;
	default:
		pointer = vmptrst_forms();
	}
	a->value = pointer;
}

static void run_field(const struct step *step, struct answer *a)
{
	u64 memory = step->value[0];

	a->value = step->value[0];
	switch (step->op) {
	case VMREAD:
		RUN(a, "vmread	%[field], %[value]", [field] "r" (step->operand));
		break;
	case VMREAD_TO_MEMORY:
		RUN(a, "vmread	%[field], (%[at])", [field] "r" (step->operand), [at] "r" (&memory));
		a->value = memory;
		break;
	case VMWRITE:
		RUN(a, "vmwrite	%[value], %[field]", [field] "r" (step->operand));
		break;
	default:
		RUN(a, "vmwrite	(%[at]), %[field]", [field] "r" (step->operand), [at] "r" (&memory));
	}
}

static void run_invalidation(const struct step *step, struct answer *a)
{
	if (step->op == INVEPT)
		RUN(a, "invept	(%[at]), %[type]", [at] "r" (step->value), [type] "r" (step->operand));
	else
		RUN(a, "invvpid	(%[at]), %[type]", [at] "r" (step->value), [type] "r" (step->operand));
}

static void run_bare(const struct step *step, struct answer *a)
{
	switch (step->op) {
	case VMXOFF:
		RUN(a, "vmxoff");
		break;
	case VMLAUNCH:
		RUN(a, "vmlaunch");
		break;
	case VMLAUNCH_AFTER_MOV_SS:
		RUN_AFTER(a, "mov %%ss, %[value]; mov %[value], %%ss", "vmlaunch");
		break;
	case VMRESUME:
		RUN(a, "vmresume");
		break;
	case VMCALL:
		RUN(a, "vmcall");
		break;
	default:
		/* EAX, which selects the VM function, is 0. */
		RUN(a, "vmfunc");
	}
}

/* They leave the flags alone or undefined. */
static void run_register(const struct step *step, struct answer *a)
{
	switch (step->op) {
	case CR4_SET_VMXE:
		RUN(a, "mov	%[cr4], %%cr4", [cr4] "r" (cr4 | X86_CR4_VMXE));
		break;
	case CR4_CLEAR_VMXE:
		RUN(a, "mov	%[cr4], %%cr4", [cr4] "r" (cr4 & ~X86_CR4_VMXE));
		break;
	case CR0_CLEAR_NE:
		RUN(a, "mov	%[cr0], %%cr0", [cr0] "r" (cr0 & ~X86_CR0_NE));
		asm volatile("mov	%0, %%cr0" : : "r" (cr0) : "memory");
		break;
	default:
		RUN(a, "wrmsr", "c" ((u32)step->operand), "d" (0));
	}
	a->carry = a->zero = false;
}

static void set_revision(const struct step *step)
{
	u32 *identifier = pages[step->operand];

	switch (step->op) {
	case REVISION_RIGHT:
		*identifier = revision;
		break;
	case REVISION_WRONG:
		*identifier = revision ^ 1;
		break;
	default:
		*identifier = revision | 1U << 31;
	}
}

static void run_step(const struct step *step, struct answer *a)
{
	switch (step->op) {
	case VMXON ... VMXON_NONCANONICAL:
		run_pointer(step, a);
		break;
	case VMPTRST ... VMPTRST_LOCK:
		run_vmptrst(step, a);
		break;
	case VMREAD ... VMWRITE_FROM_MEMORY:
		run_field(step, a);
		break;
	case INVEPT ... INVVPID:
		run_invalidation(step, a);
		break;
	case VMXOFF ... VMFUNC:
		run_bare(step, a);
		break;
	case CR4_SET_VMXE ... WRITE_MSR:
		run_register(step, a);
		break;
	default:
		set_revision(step);
	}
}

static u64 read_error(void)
{
	u64 error;

	asm volatile("vmread	%[field], %[error]" : [error] "=r" (error)
		     : [field] "r" ((u64)VM_INSTRUCTION_ERROR) : "cc");
	return error;
}

/* Called with interrupts off. */
static void run_steps(void *unused)
{
	cr0 = read_cr0();
	cr4 = native_read_cr4();
	for (int i = 0; i < ARRAY_SIZE(steps); i++) {
		run_step(&steps[i], &answers[i]);
		if (!answers[i].fault && answers[i].zero && !answers[i].carry)
			answers[i].error = read_error();
	}
}

static const char *vmcs_name(u64 pointer)
{
	if (pointer == pointers[FIRST])
		return "the first VMCS";
	if (pointer == pointers[SECOND])
		return "the second VMCS";
	return pointer == U64_MAX ? "no VMCS" : "something else";
}

static const char *fault_name(int vector)
{
	switch (vector) {
	case X86_TRAP_UD:
		return "#UD";
	case X86_TRAP_GP:
		return "#GP";
	case X86_TRAP_PF:
		return "#PF";
	default:
		return "another exception";
	}
}

static void describe(const struct step *step, const struct answer *a, char *text, size_t size)
{
	if (a->fault)
		scnprintf(text, size, "%s", fault_name(a->fault));
	else if (a->carry && a->zero)
		scnprintf(text, size, "CF and ZF");
	else if (a->carry)
		scnprintf(text, size, "VMfailInvalid");
	else if (a->zero)
		scnprintf(text, size, "VMfailValid %llu", a->error);
	else if (step->op == VMREAD || step->op == VMREAD_TO_MEMORY)
		scnprintf(text, size, "gives 0x%llx", a->value);
	else if (step->op == VMPTRST || step->op == VMPTRST_FORMS)
		scnprintf(text, size, "gives %s", vmcs_name(a->value));
	else
		scnprintf(text, size, "succeeds");
}

static void print_answers(void)
{
	char text[40];
	int number = 0;

	for (int i = 0; i < ARRAY_SIZE(steps); i++) {
		if (!steps[i].when)
			continue;
		describe(&steps[i], &answers[i], text, sizeof(text));
		pr_info("vmx_probe: %d %s %s: %s\n", ++number, op_names[steps[i].op], steps[i].when, text);
	}
}

static int __init vmx_probe_init(void)
{
	int error = 0;
	u64 basic;

	if (rdmsrl_safe(MSR_IA32_VMX_BASIC, &basic) || native_read_cr4() & X86_CR4_VMXE)
		return -EOPNOTSUPP;
	revision = lower_32_bits(basic) & ~(1U << 31);
	for (int i = 0; i < PAGES; i++) {
		pages[i] = (void *)get_zeroed_page(GFP_KERNEL);
		if (!pages[i]) {
			error = -ENOMEM;
			goto out;
		}
		pointers[i] = virt_to_phys(pages[i]);
		*(u32 *)pages[i] = revision;
	}
	pointers[MISALIGNED] = pointers[FIRST] + 8;
	pointers[BEYOND] = 1ULL << 60;
	/* Always CPU 0: Bochs 2.7 knows only there which fields it does not have. */
	error = smp_call_function_single(0, run_steps, NULL, true);
	if (!error)
		print_answers();
out:
	for (int i = 0; i < PAGES; i++)
		free_page((unsigned long)pages[i]);
	return error;
}
module_init(vmx_probe_init);

static void __exit vmx_probe_exit(void)
{
}
module_exit(vmx_probe_exit);

MODULE_DESCRIPTION("What each VMX instruction answers in each situation");
MODULE_LICENSE("GPL");
