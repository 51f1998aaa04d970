/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cpu.h"

const char *const cpu_reg_names[REG_COUNT] = {
	[RAX] = "rax", [RCX] = "rcx", [RDX] = "rdx", [RBX] = "rbx", [RSP] = "rsp", [RBP] = "rbp", [RSI] = "rsi",
	[RDI] = "rdi", [R8] = "r8", [R9] = "r9", [R10] = "r10", [R11] = "r11", [R12] = "r12", [R13] = "r13",
	[R14] = "r14", [R15] = "r15", [RIP] = "rip", [RFLAGS] = "eflags", [FS_BASE] = "fs_base", [GS_BASE] = "gs_base", [CS] = "cs", [CR0] = "cr0",
	[CR2] = "cr2", [CR3] = "cr3", [CR4] = "cr4", [EFER] = "efer",
};
