/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The decoder: encodings as GNU as and the kernel's modules have them. */
#include "check.h"
#include "x86.h"

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static struct fake fake;
static const struct cpu cpu = {.ops = &fake_ops, .opaque = &fake};

static const struct {
	const char *text;
	enum op op;
	uint8_t length;
	uint8_t bytes[X86_MAX_LENGTH];
} encodings[] = {
	{"vmxon (%rsp)", OP_VMXON, 5, {0xf3, 0x0f, 0xc7, 0x34, 0x24}},
	{"vmxon 8(%r12)", OP_VMXON, 7, {0xf3, 0x41, 0x0f, 0xc7, 0x74, 0x24, 0x08}},
	{"vmclear (%rax)", OP_VMCLEAR, 4, {0x66, 0x0f, 0xc7, 0x30}},
	{"vmptrld 0x10(%rip)", OP_VMPTRLD, 7, {0x0f, 0xc7, 0x35, 0x10, 0, 0, 0}},
	{"vmptrst %gs:0x20", OP_VMPTRST, 9, {0x65, 0x0f, 0xc7, 0x3c, 0x25, 0x20, 0, 0, 0}},
	{"rdrand %eax", OP_OTHER, 0, {0x0f, 0xc7, 0xf0}},
	{"cmpxchg16b (%rsi)", OP_OTHER, 0, {0x48, 0x0f, 0xc7, 0x0e}},
	{"xsavec (%rdi)", OP_OTHER, 0, {0x0f, 0xc7, 0x27}},
	{"vmread %rdx,%rax", OP_VMREAD, 3, {0x0f, 0x78, 0xd0}},
	{"vmread %r8,(%rdi)", OP_VMREAD, 4, {0x44, 0x0f, 0x78, 0x07}},
	{"vmwrite %rax,%rdx", OP_VMWRITE, 3, {0x0f, 0x79, 0xd0}},
	{"insertq %xmm0,%xmm1", OP_OTHER, 0, {0xf2, 0x0f, 0x79, 0xc8}},
	{"extrq %xmm0,%xmm1", OP_OTHER, 0, {0x66, 0x0f, 0x79, 0xc8}},
	{"vmcall", OP_VMCALL, 3, {0x0f, 0x01, 0xc1}},
	{"vmlaunch", OP_VMLAUNCH, 3, {0x0f, 0x01, 0xc2}},
	{"vmresume", OP_VMRESUME, 3, {0x0f, 0x01, 0xc3}},
	{"vmxoff", OP_VMXOFF, 3, {0x0f, 0x01, 0xc4}},
	{"vmmcall", OP_OTHER, 0, {0x0f, 0x01, 0xd9}},
	{"stac", OP_OTHER, 0, {0x0f, 0x01, 0xcb}},
	{"encls", OP_OTHER, 0, {0x0f, 0x01, 0xcf}},
	{"tdcall", OP_TDCALL, 4, {0x66, 0x0f, 0x01, 0xcc}},
	{"seamret", OP_SEAMRET, 4, {0x66, 0x0f, 0x01, 0xcd}},
	{"seamops", OP_SEAMOPS, 4, {0x66, 0x0f, 0x01, 0xce}},
	{"seamcall", OP_SEAMCALL, 4, {0x66, 0x0f, 0x01, 0xcf}},
	{"invept (%rsp),%rax", OP_INVEPT, 6, {0x66, 0x0f, 0x38, 0x80, 0x04, 0x24}},
	{"invvpid (%rsp),%r9", OP_INVVPID, 7, {0x66, 0x44, 0x0f, 0x38, 0x81, 0x0c, 0x24}},
	{"invpcid (%rsp),%rax", OP_OTHER, 0, {0x66, 0x0f, 0x38, 0x82, 0x04, 0x24}},
	{"movdir64b (%rsi),%rdi", OP_MOVDIR64B, 5, {0x66, 0x0f, 0x38, 0xf8, 0x3e}},
	{"enqcmd (%rsi),%rdi", OP_OTHER, 0, {0xf2, 0x0f, 0x38, 0xf8, 0x3e}},
	{"mov %rdi,%cr4", OP_MOV_TO_CR, 3, {0x0f, 0x22, 0xe7}},
	{"mov %rax,%cr8", OP_MOV_TO_CR, 4, {0x44, 0x0f, 0x22, 0xc0}},
	{"rdmsr", OP_RDMSR, 2, {0x0f, 0x32}},
	{"wrmsr", OP_WRMSR, 2, {0x0f, 0x30}},
	{"lock wrmsr", OP_OTHER, 0, {0xf0, 0x0f, 0x30}},
	{"jbe +0x10", OP_JCC, 2, {0x76, 0x10}},
	{"jbe,pn +0x10", OP_JCC, 3, {0x2e, 0x76, 0x10}},
	{"jbe,pt +0x10", OP_JCC, 3, {0x3e, 0x76, 0x10}},
	{"jbe,pn near", OP_JCC, 7, {0x2e, 0x0f, 0x86, 0x78, 0x56, 0x34, 0x12}},
	{"setna %al", OP_SETCC, 3, {0x0f, 0x96, 0xc0}},
	{"cmovc %rdi,%rax", OP_CMOVCC, 4, {0x48, 0x0f, 0x42, 0xc7}},
	{"nop", OP_OTHER, 0, {0x90}},
};

static void test_encodings(void)
{
	for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++) {
		struct insn insn;
		bool ours = x86_decode(encodings[i].bytes, X86_MAX_LENGTH, &insn) == DECODED;

		if (ours != (encodings[i].op != OP_OTHER) ||
		    (ours && (insn.op != encodings[i].op || insn.length != encodings[i].length))) {
			fprintf(stderr, "%s: decoded as %s, %u bytes\n", encodings[i].text, x86_name(insn.op),
				insn.length);
			failures++;
		}
	}
}

/* The translator may show fewer bytes than an instruction has. Each beginning is too short to say, none is wrong. */
static void test_truncated(void)
{
	for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++) {
		for (size_t size = 0; size < encodings[i].length; size++) {
			struct insn insn;

			CHECK_EQUAL(x86_decode(encodings[i].bytes, size, &insn), DECODED_SHORT);
		}
	}
}

static uint64_t address_of(const uint8_t *bytes, size_t size)
{
	struct insn insn;

	CHECK_EQUAL(x86_decode(bytes, size, &insn), DECODED);
	CHECK(insn.rm.memory);
	return x86_address(&insn, &cpu, 0x1000);
}

static void test_addresses(void)
{
	memset(&fake, 0, sizeof(fake));
	fake.regs[RAX] = 0x100000000;
	fake.regs[RSP] = 0x7000;
	fake.regs[R12] = 0x8000;
	fake.regs[R13] = 0x20;
	fake.regs[RBP] = 0x9000;
	fake.regs[GS_BASE] = VIRTUAL;
	CHECK_EQUAL(address_of(BYTES(0x0f, 0xc7, 0x30)), 0x100000000);
	CHECK_EQUAL(address_of(BYTES(0x0f, 0xc7, 0x34, 0x24)), 0x7000);
	CHECK_EQUAL(address_of(BYTES(0x0f, 0xc7, 0x74, 0x24, 0xf8)), 0x6ff8);
	CHECK_EQUAL(address_of(BYTES(0x0f, 0xc7, 0x75, 0x00)), 0x9000);			/* (%rbp) needs a disp8 */
	CHECK_EQUAL(address_of(BYTES(0x0f, 0xc7, 0xb0, 0, 0, 0, 0x80)), 0x80000000);		/* disp32 is signed */
	CHECK_EQUAL(address_of(BYTES(0x43, 0x0f, 0xc7, 0x34, 0xec)), 0x8000 + 0x20 * 8);	/* (%r12,%r13,8) */
	CHECK_EQUAL(address_of(BYTES(0x0f, 0xc7, 0x34, 0x25, 0x40, 0, 0, 0)), 0x40);		/* no base, no index */
	CHECK_EQUAL(address_of(BYTES(0x0f, 0xc7, 0x35, 0x10, 0, 0, 0)), 0x1000 + 7 + 0x10);	/* rip-relative */
	CHECK_EQUAL(address_of(BYTES(0x65, 0x0f, 0xc7, 0x30)), VIRTUAL + 0x100000000);
	CHECK_EQUAL(address_of(BYTES(0x67, 0x0f, 0xc7, 0x70, 0x08)), 8);			/* (%eax) */
}

static void test_conditions(void)
{
	CHECK(x86_condition(0x2, FLAG_CF) && !x86_condition(0x3, FLAG_CF));			/* jc, jnc */
	CHECK(x86_condition(0x4, FLAG_ZF) && !x86_condition(0x4, FLAG_CF));			/* jz */
	CHECK(x86_condition(0x6, FLAG_CF) && x86_condition(0x6, FLAG_ZF) && !x86_condition(0x6, 0)); /* jbe */
	CHECK(x86_condition(0x7, 0) && !x86_condition(0x7, FLAG_ZF));				/* ja */
	CHECK(!x86_condition(0x0, 0) && !x86_condition(0x8, 0) && !x86_condition(0xa, 0));	/* jo, js, jp */
	CHECK(x86_condition(0xc, FLAG_SF) && !x86_condition(0xc, FLAG_SF | FLAG_OF));		/* jl */
	CHECK(x86_condition(0xe, FLAG_ZF) && x86_condition(0xf, 0));				/* jle, jg */
}

/* Runs the consumers at the beginning of RAM; returns the offset that execution goes on at. */
static uint64_t consume(const uint8_t *bytes, size_t size, uint32_t flags, bool *used)
{
	memset(fake.ram, 0x90, 64);
	memcpy(fake.ram, bytes, size);
	return x86_consume_flags(&cpu, VIRTUAL, flags, used) - VIRTUAL;
}

static void test_flag_fusion(void)
{
	bool used;

	memset(&fake, 0, sizeof(fake));
	CHECK_EQUAL(consume(BYTES(0x2e, 0x76, 0x10), FLAG_CF, &used), 0x13);
	CHECK(used);
	CHECK_EQUAL(consume(BYTES(0x2e, 0x76, 0x10), 0, &used), 3);
	CHECK_EQUAL(consume(BYTES(0x0f, 0x86, 0xf0, 0xff, 0xff, 0x7f), FLAG_ZF, &used), 0x7ffffff6);
	/* jc over, jz on: both look at the same flags. */
	CHECK_EQUAL(consume(BYTES(0x72, 0x10, 0x74, 0x20), FLAG_ZF, &used), 4 + 0x20);
	CHECK_EQUAL(consume(BYTES(0x90), FLAG_CF, &used), 0);
	CHECK(!used);
	fake.regs[RAX] = 0x1122334455667788;
	consume(BYTES(0x0f, 0x96, 0xc0), FLAG_ZF, &used);	/* setna %al */
	CHECK_EQUAL(fake.regs[RAX], 0x1122334455667701);
	consume(BYTES(0x0f, 0x97, 0xc4), FLAG_ZF, &used);	/* seta %ah */
	CHECK_EQUAL(fake.regs[RAX], 0x1122334455660001);
	fake.regs[RDI] = 0xffffffffffffffff;
	consume(BYTES(0x48, 0x0f, 0x42, 0xc7), 0, &used);	/* cmovc %rdi,%rax */
	CHECK_EQUAL(fake.regs[RAX], 0x1122334455660001);
	consume(BYTES(0x0f, 0x42, 0xc7), 0, &used);		/* cmovc %edi,%eax clears the upper half */
	CHECK_EQUAL(fake.regs[RAX], 0x55660001);
	consume(BYTES(0x48, 0x0f, 0x42, 0xc7), FLAG_CF, &used);
	CHECK_EQUAL(fake.regs[RAX], 0xffffffffffffffff);
}

/* The next page is not mapped: what is left of this one has to do. */
static void test_fusion_at_the_end_of_memory(void)
{
	bool used;

	fake.ram[RAM - 2] = 0x74;
	fake.ram[RAM - 1] = 0x10;
	CHECK_EQUAL(x86_consume_flags(&cpu, VIRTUAL + RAM - 2, FLAG_ZF, &used), VIRTUAL + RAM + 0x10);
	CHECK(used);
	CHECK_EQUAL(x86_consume_flags(&cpu, VIRTUAL + RAM - 1, FLAG_ZF, &used), VIRTUAL + RAM - 1);
	CHECK(!used);
}

/* Whether the flags are dead at the beginning of RAM; what comes after `bytes` is NOPs for ever. */
static bool dead(const uint8_t *bytes, size_t size)
{
	memset(fake.ram, 0x90, 256);
	memcpy(fake.ram, bytes, size);
	return x86_flags_dead(&cpu, VIRTUAL);
}

/* What stands after VMX instructions whose flags nobody asks for in Debian's kvm-intel.ko 6.1 and 6.12. */
static void test_flags_that_nobody_reads(void)
{
	/* VMLAUNCH in __vmx_vcpu_run(): jmp; mov $1,%rbx; jmp back; pop %rax; xor %eax,%eax */
	CHECK(dead(BYTES(0xe9, 5, 0, 0, 0, 0x58, 0x31, 0xc0, 0x73, 0x00, 0x48, 0xc7, 0xc3, 1, 0, 0, 0, 0xe9, 0xef, 0xff,
			 0xff, 0xff)));
	CHECK(dead(BYTES(0x31, 0xc0)));							/* VMXON, 6.12: xor */
	CHECK(dead(BYTES(0x80, 0x3d, 0, 0, 0, 0, 0)));					/* VMXON, 6.1: cmpb $0,(%rip) */
	CHECK(dead(BYTES(0xe8, 0, 0, 0, 0)));						/* VMXOFF: call */
	CHECK(dead(BYTES(0x48, 0x8b, 0x44, 0x24, 8, 0x65, 0x48, 0x2b, 4, 0x25, 0x28, 0, 0, 0))); /* mov; sub %gs: */
	CHECK(dead(BYTES(0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 0xc3)));			/* movabs; ret */
	CHECK(dead(BYTES(0xb8, 1, 2, 3, 4, 0xc3)));					/* mov $imm32,%eax; ret */
	CHECK(dead(BYTES(0x66, 0xc7, 0x07, 1, 2, 0xc3)));				/* movw $imm16,(%rdi); ret */
	CHECK(dead(BYTES(0x0f, 0x1f, 0x44, 0, 0, 0xeb, 2, 0x73, 0, 0x0f, 0x79, 0xd0)));	/* nop; jmp over jae; vmwrite */
	/* VMXOFF before an inlined cr4_clear_bits(): pushf; pop %rax; nopl; mov %rax,%rbx; cli; nopw; xor */
	CHECK(dead(BYTES(0x9c, 0x58, 0x0f, 0x1f, 0x40, 0, 0x48, 0x89, 0xc3, 0xfa, 0x66, 0x0f, 0x1f, 0x44, 0, 0, 0x31, 0xc0)));
}

static void test_flags_that_somebody_may_read(void)
{
	CHECK(!dead(BYTES(0x48, 0x89, 0xc3, 0x76, 0x10)));	/* mov; jbe */
	CHECK(!dead(BYTES(0xeb, 0, 0x0f, 0x92, 0xc0)));		/* jmp; setc %al */
	CHECK(!dead(BYTES(0x83, 0xd0, 0)));			/* adc $0,%eax */
	CHECK(!dead(BYTES(0x19, 0xc0)));			/* sbb %eax,%eax */
	CHECK(!dead(BYTES(0x9c, 0x58, 0x31, 0xc0)));		/* pushf; pop %rax; xor */
	CHECK(!dead(BYTES(0x9c, 0x58, 0xa8, 0x41, 0xfa)));	/* pushf; pop %rax; test $0x41,%al; cli */
	CHECK(!dead(BYTES(0x9c, 0x58, 0xfa, 0x76, 0x10)));	/* pushf; pop %rax; cli; jbe: they are there still */
	CHECK(!dead(BYTES(0xff, 0xc0, 0x31, 0xc0)));		/* inc leaves CF */
	CHECK(!dead(BYTES(0x90)));				/* too far to see */
	CHECK(!dead(BYTES(0xeb, 0xfe)));			/* jmp to itself */
	fake.ram[RAM - 1] = 0x80;				/* a group's opcode, and the page ends */
	CHECK(!x86_flags_dead(&cpu, VIRTUAL + RAM - 1));
	CHECK(!x86_flags_dead(&cpu, VIRTUAL + RAM));
}

int main(void)
{
	test_encodings();
	test_truncated();
	test_addresses();
	test_conditions();
	test_flag_fusion();
	test_fusion_at_the_end_of_memory();
	test_flags_that_nobody_reads();
	test_flags_that_somebody_may_read();
	return failures != 0;
}
