/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * start64 - from a bzImage's 32-bit entry to the kernel's startup_64.
 *
 * harness/images/direct.py puts this where a bzImage has its decompressor, in
 * front of the kernel's uncompressed segments, which the boot loader has then
 * already put where they belong. What remains of the decompressor's work is to
 * enter long mode with memory mapped one to one.
 *
 * On entry %esi is the address of boot_params, paging is off and the segments
 * are flat (Documentation/arch/x86/boot.rst, "32-bit Boot Protocol"). On exit
 * %rsi is the same address (arch/x86/kernel/head_64.S, startup_64).
 *
 * direct.py fills in the page tables at PAGE_TABLES and the address at ENTRY.
 */
#define PAGE_TABLES	0x102000
#define ENTRY		0x100ff8
#define CR0_PG		0x80000000
#define CR4_PAE		0x20
#define MSR_EFER	0xc0000080
#define EFER_LME	0x100

/* The selectors that the 64-bit boot protocol asks for. */
#define BOOT_CS		0x10
#define BOOT_DS		0x18

	.code32
	.globl	_start
_start:
	cli
	lgdt	gdt_pointer
	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$PAGE_TABLES, %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$CR0_PG, %eax
	movl	%eax, %cr0
	ljmpl	$BOOT_CS, $long_mode

	.code64
long_mode:
	movl	$BOOT_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	$PAGE_TABLES, %esp	/* the page below: startup_64 soon takes its own */
	movl	%esi, %esi		/* clears the upper half of %rsi */
	jmp	*ENTRY

	.balign	8
gdt:
	.quad	0, 0
	.quad	0x00af9b000000ffff	/* code, 64 bits */
	.quad	0x00cf93000000ffff	/* data */
gdt_pointer:
	.word	gdt_pointer - gdt - 1
	.long	gdt
