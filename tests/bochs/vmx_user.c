/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmx_user - what VMX instructions answer to a program in user mode.
 *
 * Prints a line per instruction as vmx_probe does, with the signal that the
 * exception became: SIGILL for #UD, SIGSEGV for #GP. The argument says when.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>

static sigjmp_buf back;
static uint64_t memory[2];

static void on_signal(int signal)
{
	siglongjmp(back, signal);
}

#define INSTRUCTION(name, text)						\
static void do_##name(void)						\
{									\
	asm volatile(text : : "m" (memory[0]), "r" (0ULL) : "cc", "memory");	\
}

INSTRUCTION(vmxon, "vmxon %0")
INSTRUCTION(vmxoff, "vmxoff")
INSTRUCTION(vmclear, "vmclear %0")
INSTRUCTION(vmptrld, "vmptrld %0")
INSTRUCTION(vmptrst, "vmptrst %0")
INSTRUCTION(vmread, "vmread %1, %0")
INSTRUCTION(vmwrite, "vmwrite %0, %1")
INSTRUCTION(vmlaunch, "vmlaunch")
INSTRUCTION(vmresume, "vmresume")
INSTRUCTION(invept, "invept %0, %1")
INSTRUCTION(invvpid, "invvpid %0, %1")
INSTRUCTION(vmcall, "vmcall")
INSTRUCTION(vmfunc, "xor %%eax, %%eax; vmfunc")

static const struct {
	const char *name;
	void (*run)(void);
} instructions[] = {
	{ "VMXON", do_vmxon }, { "VMXOFF", do_vmxoff }, { "VMCLEAR", do_vmclear }, { "VMPTRLD", do_vmptrld },
	{ "VMPTRST", do_vmptrst }, { "VMREAD", do_vmread }, { "VMWRITE", do_vmwrite },
	{ "VMLAUNCH", do_vmlaunch }, { "VMRESUME", do_vmresume }, { "INVEPT", do_invept },
	{ "INVVPID", do_invvpid }, { "VMCALL", do_vmcall }, { "VMFUNC", do_vmfunc },
};

static const char *answer(void (*run)(void))
{
	switch (sigsetjmp(back, 1)) {
	case 0:
		run();
		return "succeeds";
	case SIGILL:
		return "SIGILL";
	case SIGSEGV:
		return "SIGSEGV";
	default:
		return "SIGBUS";
	}
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	signal(SIGILL, on_signal);
	signal(SIGSEGV, on_signal);
	signal(SIGBUS, on_signal);
	for (size_t i = 0; i < sizeof(instructions) / sizeof(instructions[0]); i++)
		printf("vmx_user: %zu %s %s: %s\n", i + 1, instructions[i].name, argv[1],
		       answer(instructions[i].run));
	return 0;
}
