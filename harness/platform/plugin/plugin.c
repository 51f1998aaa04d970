/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The glue between QEMU's TCG and the emulated platform.
 *
 * An instruction that TCG cannot decode still gets its execution callback, before the #UD is raised. When the callback
 * returns, the guest gets its #UD; when it sets the pc, the instruction has been emulated.
 *
 * Flags cannot be written: TCG computes them lazily, and a plugin sees the raw field only. VMX and SEAMCALL report
 * through CF and ZF, and compilers consume these in the next instruction, so that one is executed here as well
 * (x86_consume_flags). Where nobody asks for them they have to be overwritten before they are read (x86_flags_dead):
 * KVM follows VMLAUNCH with a JMP, since whatever comes back there has failed, and looks at VMXON's faults only.
 *
 * A #GP is raised by going on at an address that is not canonical, which faults in the fetch. TCG calls the
 * discontinuity callback when it has the exception, but has not delivered it; setting the pc there puts right what the
 * frame will say, and the kernel's exception table finds the instruction. Everything else (stack switch, flags, error
 * code 0) is TCG's own work; CR2, which it writes as well, is restored. An interrupt may come in between, and there the
 * callback follows the delivery: then the frame is mended, and the instruction faults when it is reached again, without
 * being executed twice: a SEAMCALL changes the module. Seen at boot, where the timer's interrupt waits for the model's answer.
 * Seen with Debian 6.12: wrmsr_safe() of a locked IA32_FEAT_CTL gives -EIO, "VMXON faulted" with IA32_VMX_CR4_FIXED1
 * lacking a bit that is set.
 */
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qemu_api.h"

#define RESET_VECTOR 0xfffffff0
#define GP_PC 0x8000000000000000ull
#define HOLD_US 200	/* between two looks at whether a held task may go; for so long the vCPU answers nobody */
#define FRAME_RSP 24	/* in an interrupt's frame without an error code: rip, cs, rflags, rsp */

__attribute__((visibility("default"))) int qemu_plugin_version = QEMU_API_VERSION;

static struct platform platform;
static qemu_plugin_id_t plugin_id;
static struct qemu_plugin_register *handles[REG_COUNT];

/* One buffer per thread: callbacks are left by longjmp, so that none could be freed. */
static GByteArray *buffer(size_t size)
{
	static __thread GByteArray *array;

	if (!array)
		array = g_byte_array_new();
	return g_byte_array_set_size(array, (unsigned int)size);
}

static uint64_t get_register(void *opaque, enum reg reg)
{
	GByteArray *bytes = buffer(0);
	uint64_t value = 0;

	(void)opaque;
	qemu_plugin_read_register(handles[reg], bytes);
	memcpy(&value, bytes->data, bytes->len < sizeof(value) ? bytes->len : sizeof(value));
	return value;
}

static void set_register(void *opaque, enum reg reg, uint64_t value)
{
	GByteArray *bytes = buffer(sizeof(value));

	(void)opaque;
	memcpy(bytes->data, &value, sizeof(value));
	qemu_plugin_write_register(handles[reg], bytes);
}

static bool read_virt(void *opaque, uint64_t va, void *dest, size_t size)
{
	GByteArray *bytes = buffer(0);

	(void)opaque;
	if (!qemu_plugin_read_memory_vaddr(va, bytes, size))
		return false;
	memcpy(dest, bytes->data, size);
	return true;
}

static bool write_virt(void *opaque, uint64_t va, const void *src, size_t size)
{
	GByteArray *bytes = buffer(size);

	(void)opaque;
	memcpy(bytes->data, src, size);
	return qemu_plugin_write_memory_vaddr(va, bytes);
}

static bool read_phys(void *opaque, uint64_t pa, void *dest, size_t size)
{
	GByteArray *bytes = buffer(0);

	(void)opaque;
	if (qemu_plugin_read_memory_hwaddr(pa, bytes, size))
		return false;
	memcpy(dest, bytes->data, size);
	return true;
}

static bool write_phys(void *opaque, uint64_t pa, const void *src, size_t size)
{
	GByteArray *bytes = buffer(size);

	(void)opaque;
	memcpy(bytes->data, src, size);
	return !qemu_plugin_write_memory_hwaddr(pa, bytes);
}

static const struct cpu_ops qemu_ops = {get_register, set_register, read_virt, write_virt, read_phys, write_phys};

static void emit(const struct vcpu *vcpu, const struct event *event)
{
	event_emit(&platform.log, &vcpu->cpu, vcpu->index, event);
}

/* Translations are thrown away with all callbacks; see register_callbacks. */
static void register_callbacks(void *userdata);

static void throw_translations_away(void)
{
	/* One is enough however many vCPUs come here: it takes effect with all of them stopped. */
	if (__atomic_exchange_n(&platform.retranslate, false, __ATOMIC_ACQ_REL))
		qemu_plugin_reset(plugin_id, register_callbacks, NULL);
}

__attribute__((noreturn)) static void raise_gp(struct vcpu *vcpu, uint64_t pc)
{
	pthread_mutex_lock(&platform.lock);
	vcpu->gp.pc = pc;
	vcpu->gp.cr2 = cpu_get(&vcpu->cpu, CR2);
	pthread_mutex_unlock(&platform.lock);
	qemu_plugin_set_pc(GP_PC);
}

/* Puts the true address of the instruction where the exception or interrupt that was raised takes it from. */
static void mend_pc(struct vcpu *vcpu)
{
	uint64_t frame = cpu_get(&vcpu->cpu, RSP), saved = 0, pc;

	pthread_mutex_lock(&platform.lock);
	pc = vcpu->gp.pc;
	vcpu->gp.pc = 0;
	pthread_mutex_unlock(&platform.lock);
	cpu_set(&vcpu->cpu, CR2, vcpu->gp.cr2);
	if (cpu_get(&vcpu->cpu, RIP) == GP_PC)
		qemu_plugin_set_pc(pc);
	cpu_read_virt(&vcpu->cpu, frame, &saved, sizeof(saved));
	if (saved != GP_PC)
		link_die("vCPU %u: no interrupt frame at 0x%" PRIx64, vcpu->index, frame);
	cpu_write_virt(&vcpu->cpu, frame, &pc, sizeof(pc));
	pthread_mutex_lock(&platform.lock);
	vcpu->gp.due_pc = pc;
	cpu_read_virt(&vcpu->cpu, frame + FRAME_RSP, &vcpu->gp.due_rsp, sizeof(vcpu->gp.due_rsp));
	pthread_mutex_unlock(&platform.lock);
}

/* Whether the instruction owes a #GP; the task may have been moved from the vCPU that took the interrupt. */
static bool gp_is_due(uint64_t pc, uint64_t rsp)
{
	bool due = false;

	pthread_mutex_lock(&platform.lock);
	for (unsigned int i = 0; i < platform.max_vcpus && !due; i++) {
		struct vcpu *vcpu = &platform.vcpus[i];

		due = vcpu->gp.due_pc == pc && vcpu->gp.due_rsp == rsp;
		if (due)
			vcpu->gp.due_pc = 0;
	}
	pthread_mutex_unlock(&platform.lock);
	return due;
}

static void on_discontinuity(unsigned int index, enum qemu_plugin_discon_type type, uint64_t from_pc, uint64_t to_pc,
			     void *userdata)
{
	struct vcpu *vcpu = &platform.vcpus[index];

	(void)type;
	(void)to_pc;
	(void)userdata;
	if (from_pc == GP_PC)
		mend_pc(vcpu);
	if (__atomic_load_n(&platform.retranslate, __ATOMIC_ACQUIRE))
		throw_translations_away();
}

static bool in_long_mode(const struct vcpu *vcpu)
{
	return cpu_get(&vcpu->cpu, EFER) & EFER_LMA;
}

/* What the guest sees from now on may not be what hardware would have shown it. */
static void report_not_emulated(const struct vcpu *vcpu, const char *what, const struct insn *insn, uint64_t pc)
{
	struct event event = event_point("not_emulated");

	event_text(&event, "what", what, strlen(what));
	event_hex(&event, "pc", pc);
	emit(vcpu, &event);
	fprintf(stderr, "platform: %s: %s at 0x%" PRIx64 "\n", what, x86_name(insn->op), pc);
}

/* Goes on after an instruction with the outcome, the way its flags say. Returns when TCG shall raise the #UD. */
static void complete(struct vcpu *vcpu, const struct insn *insn, uint64_t pc, struct outcome outcome)
{
	uint64_t next = pc + insn->length;
	uint32_t flags = 0;
	bool used;

	switch (outcome.kind) {
	case OUTCOME_NATIVE:
	case OUTCOME_UD:
		return;
	case OUTCOME_GP:
		if (!in_long_mode(vcpu)) {
			report_not_emulated(vcpu, "#GP outside of long mode", insn, pc);
			return;
		}
		raise_gp(vcpu, pc);
	case OUTCOME_DONE:
		qemu_plugin_set_pc(next);
	case OUTCOME_FAIL_INVALID: flags = FLAG_CF; break;
	case OUTCOME_FAIL_VALID: flags = FLAG_ZF; break;
	case OUTCOME_SUCCEED: break;
	}
	next = x86_consume_flags(&vcpu->cpu, next, flags, &used);
	/* What is looked at later would be whatever the flags were before: a failure, or a success. */
	if (!used && !x86_flags_dead(&vcpu->cpu, next))
		report_not_emulated(vcpu, "flags not consumed", insn, pc);
	qemu_plugin_set_pc(next);
}

static void report_vmx(const struct vcpu *vcpu, const struct insn *insn, const struct vmx_report *report,
		       struct outcome outcome)
{
	struct event event = event_point(x86_name(insn->op));

	if (report->has_address)
		event_hex(&event, insn->op == OP_INVEPT || insn->op == OP_INVVPID ? "type" : "pa", report->address);
	if (report->has_field) {
		event_hex(&event, "field", report->field);
		event_hex(&event, "value", report->value);
	}
	event_outcome(&event, outcome);
	emit(vcpu, &event);
	if (report->not_emulated) {
		event = event_point("not_emulated");
		event_text(&event, "what", x86_name(insn->op), 16);
		emit(vcpu, &event);
	}
}

static void do_vmx(struct vcpu *vcpu, const struct insn *insn, uint64_t pc)
{
	struct vmx_report report;
	struct outcome outcome;

	pthread_mutex_lock(&platform.lock);
	outcome = vmx_execute(&vcpu->vmx, &vcpu->msrs, &vcpu->cpu, insn, pc, &report);
	pthread_mutex_unlock(&platform.lock);
	report_vmx(vcpu, insn, &report, outcome);
	complete(vcpu, insn, pc, outcome);
}

static struct outcome seamcall(struct vcpu *vcpu)
{
	bool possible;

	pthread_mutex_lock(&platform.lock);
	possible = platform.tdx && vcpu->vmx.root;
	pthread_mutex_unlock(&platform.lock);
	if (!possible)
		return (struct outcome){.kind = OUTCOME_UD};
	if (cpu_cpl(&vcpu->cpu))
		return (struct outcome){.kind = OUTCOME_GP};
	return request_seamcall(&platform, vcpu);
}

static void do_seamcall(struct vcpu *vcpu, const struct insn *insn, uint64_t pc)
{
	static const struct {
		enum reg reg;
		const char *in, *out;
	} operands[] = {{RCX, "rcx", "out_rcx"}, {RDX, "rdx", "out_rdx"}, {R8, "r8", "out_r8"},
			{R9, "r9", "out_r9"}, {R10, "r10", "out_r10"}, {R11, "r11", "out_r11"}};
	const size_t count = sizeof(operands) / sizeof(operands[0]);
	struct event event = event_point("seamcall");
	struct outcome outcome;

	event_integer(&event, "leaf", (int64_t)cpu_get(&vcpu->cpu, RAX));
	for (size_t i = 0; i < count; i++)
		event_hex(&event, operands[i].in, cpu_get(&vcpu->cpu, operands[i].reg));
	outcome = seamcall(vcpu);
	event_outcome(&event, outcome);
	if (outcome.kind == OUTCOME_SUCCEED) {
		for (size_t i = 0; i < count; i++)
			event_hex(&event, operands[i].out, cpu_get(&vcpu->cpu, operands[i].reg));
		event_ret(&event, cpu_get(&vcpu->cpu, RAX));
	}
	emit(vcpu, &event);
	complete(vcpu, insn, pc, outcome);
}

/* SEAMRET, SEAMOPS and TDCALL exist inside SEAM only: #UD in VMX root operation and outside of VMX. */
static void do_seam_inside(struct vcpu *vcpu, const struct insn *insn, uint64_t pc)
{
	struct event event = event_point("seamret_fault");

	(void)pc;
	event_text(&event, "insn", x86_name(insn->op), 16);
	event_text(&event, "fault", "UD", 2);
	emit(vcpu, &event);
}

static void do_movdir64b(struct vcpu *vcpu, const struct insn *insn, uint64_t pc)
{
	uint64_t dest = cpu_get(&vcpu->cpu, (enum reg)insn->reg);
	struct event event = event_point("movdir64b");
	struct outcome outcome = {.kind = OUTCOME_DONE};
	uint8_t line[64];

	if (insn->rm.address32)
		dest = (uint32_t)dest;
	event_hex(&event, "va", dest);
	/* SDM vol. 2: a destination that is not 64-byte aligned is #GP(0). */
	if (dest % sizeof(line) || !cpu_read_virt(&vcpu->cpu, x86_address(insn, &vcpu->cpu, pc), line, sizeof(line)) ||
	    !cpu_write_virt(&vcpu->cpu, dest, line, sizeof(line)))
		outcome.kind = OUTCOME_GP;
	event_outcome(&event, outcome);
	emit(vcpu, &event);
	complete(vcpu, insn, pc, outcome);
}

/* The value that the instruction would write, with a preset VMXE. */
static uint64_t cr_value(struct vcpu *vcpu, const struct insn *insn)
{
	uint64_t value = cpu_get(&vcpu->cpu, insn->rm.reg);

	if (insn->reg != 4 || !vcpu->vmxe_preset || !msr_find(&vcpu->msrs, MSR_VMX_BASIC))
		return value;
	if (value & CR4_VMXE)
		vcpu->vmxe_preset = false; /* the kernel knows of it from now on */
	return value | CR4_VMXE;
}

/*
 * Writing the register through the plugin interface runs all of TCG's own processing of CR4 (TLB flush, cached flags);
 * only the check for reserved bits, which refuses VMXE, is the instruction's.
 */
static void do_mov_to_cr(struct vcpu *vcpu, const struct insn *insn, uint64_t pc)
{
	uint64_t old = cpu_get(&vcpu->cpu, CR4), value;
	struct event event = event_point("cr4");
	struct outcome outcome;

	if (insn->reg != 4 && insn->reg != 0)
		return;
	pthread_mutex_lock(&platform.lock);
	value = cr_value(vcpu, insn);
	outcome = vmx_mov_to_cr(&vcpu->vmx, &vcpu->msrs, &vcpu->cpu, insn->reg, value);
	pthread_mutex_unlock(&platform.lock);
	if (outcome.kind == OUTCOME_NATIVE)
		return;
	if (insn->reg == 0)
		event.name = "cr0";
	event_hex(&event, "old", insn->reg ? old : cpu_get(&vcpu->cpu, CR0));
	event_hex(&event, "new", value);
	event_outcome(&event, outcome);
	/* Toggling other bits (PGE, for TLB flushes) is no event. */
	if (outcome.kind != OUTCOME_DONE || ((old ^ value) & CR4_VMXE))
		emit(vcpu, &event);
	if (outcome.kind == OUTCOME_DONE)
		cpu_set(&vcpu->cpu, CR4, value);
	complete(vcpu, insn, pc, outcome);
}

static void do_rdmsr(struct vcpu *vcpu, const struct insn *insn, uint64_t pc)
{
	uint32_t index = (uint32_t)cpu_get(&vcpu->cpu, RCX);
	const struct msr *msr;
	uint64_t value = 0;
	bool missing;

	pthread_mutex_lock(&platform.lock);
	missing = msr_missing(&vcpu->msrs, index);
	msr = msr_find(&vcpu->msrs, index);
	if (msr)
		value = msr->value;
	pthread_mutex_unlock(&platform.lock);
	if ((!msr && !missing) || cpu_cpl(&vcpu->cpu))
		return;
	if (missing)
		complete(vcpu, insn, pc, (struct outcome){.kind = OUTCOME_GP});
	cpu_set(&vcpu->cpu, RAX, (uint32_t)value);
	cpu_set(&vcpu->cpu, RDX, value >> 32);
	complete(vcpu, insn, pc, (struct outcome){.kind = OUTCOME_DONE});
}

static void do_wrmsr(struct vcpu *vcpu, const struct insn *insn, uint64_t pc)
{
	uint32_t index = (uint32_t)cpu_get(&vcpu->cpu, RCX);
	struct outcome outcome = {.kind = OUTCOME_NATIVE};
	struct event event = event_point("wrmsr");
	uint64_t value = cpu_get(&vcpu->cpu, RDX) << 32 | (uint32_t)cpu_get(&vcpu->cpu, RAX);

	pthread_mutex_lock(&platform.lock);
	if (!cpu_cpl(&vcpu->cpu))
		outcome = msr_write(&vcpu->msrs, index, value);
	pthread_mutex_unlock(&platform.lock);
	if (outcome.kind == OUTCOME_NATIVE)
		return;
	event_hex(&event, "msr", index);
	event_hex(&event, "value", value);
	/*
	 * SeaBIOS writes IA32_FEAT_CTL on every CPU, as QEMU tells it to, before any kernel runs; it would not survive the
	 * #GP. A lock that is there already wins.
	 */
	if (outcome.kind == OUTCOME_GP && index == MSR_FEAT_CTL && !in_long_mode(vcpu)) {
		event_integer(&event, "dropped", 1);
		outcome.kind = OUTCOME_DONE;
	}
	event_outcome(&event, outcome);
	emit(vcpu, &event);
	complete(vcpu, insn, pc, outcome);
}

static void (*const handlers[OP_COUNT])(struct vcpu *vcpu, const struct insn *insn, uint64_t pc) = {
	[OP_VMXON] = do_vmx, [OP_VMXOFF] = do_vmx, [OP_VMCLEAR] = do_vmx, [OP_VMPTRLD] = do_vmx,
	[OP_VMPTRST] = do_vmx, [OP_VMREAD] = do_vmx, [OP_VMWRITE] = do_vmx, [OP_INVEPT] = do_vmx,
	[OP_INVVPID] = do_vmx, [OP_VMLAUNCH] = do_vmx, [OP_VMRESUME] = do_vmx, [OP_VMCALL] = do_vmx,
	[OP_SEAMCALL] = do_seamcall, [OP_SEAMRET] = do_seam_inside, [OP_SEAMOPS] = do_seam_inside,
	[OP_TDCALL] = do_seam_inside, [OP_MOVDIR64B] = do_movdir64b, [OP_MOV_TO_CR] = do_mov_to_cr,
	[OP_RDMSR] = do_rdmsr, [OP_WRMSR] = do_wrmsr,
};

/*
 * Firmware runs some of them in 32-bit mode, with flat segments. In real mode an instruction's address is not its
 * offset, which is what TCG takes for the pc; there, and for all others outside of 64-bit mode, TCG is left alone: it
 * raises #UD.
 */
static bool in_its_mode(const struct vcpu *vcpu, enum op op)
{
	if (op == OP_MOV_TO_CR || op == OP_RDMSR || op == OP_WRMSR)
		return cpu_get(&vcpu->cpu, CR0) & CR0_PE;
	return in_long_mode(vcpu);
}

static void on_instruction(unsigned int index, void *userdata)
{
	struct vcpu *vcpu = &platform.vcpus[index];
	uint64_t pc = (uint64_t)(uintptr_t)userdata;
	uint8_t bytes[X86_MAX_LENGTH];
	size_t size = sizeof(bytes);
	struct insn insn;

	/* The translator's bytes may end before the displacement. Those after a page's end may not be there. */
	while (size && !cpu_read_virt(&vcpu->cpu, pc, bytes, size))
		size--;
	if (x86_decode(bytes, size, &insn) != DECODED || !handlers[insn.op])
		return;
	if (!in_its_mode(vcpu, insn.op))
		return;
	if (gp_is_due(pc, cpu_get(&vcpu->cpu, RSP)))
		raise_gp(vcpu, pc);
	handlers[insn.op](vcpu, &insn, pc);
}

/* RDMSR and WRMSR, which a kernel executes at every tick of its timer: mostly of MSRs that are TCG's. */
static void on_msr_access(unsigned int index, void *userdata)
{
	struct vcpu *vcpu = &platform.vcpus[index];
	uint32_t msr = (uint32_t)cpu_get(&vcpu->cpu, RCX);
	bool ours;

	pthread_mutex_lock(&platform.lock);
	ours = msr_find(&vcpu->msrs, msr) || msr_missing(&vcpu->msrs, msr);
	pthread_mutex_unlock(&platform.lock);
	if (ours)
		on_instruction(index, userdata);
}

static void emit_reset(struct vcpu *vcpu, const char *name, bool was_root)
{
	struct event event = event_point(name);

	event_integer(&event, "root", was_root);
	emit(vcpu, &event);
}

/* RESET, which all vCPUs get: the boot CPU comes through the reset vector, the others wait for a SIPI. */
static void on_reset_vector(unsigned int index, void *userdata)
{
	(void)userdata;
	if (index)
		return;
	for (unsigned int i = 0; i < platform.max_vcpus; i++) {
		struct vcpu *vcpu = &platform.vcpus[i];
		bool known = vcpu->cpu.ops, was_root;

		pthread_mutex_lock(&platform.lock);
		was_root = vcpu->vmx.root;
		vmx_reset(&vcpu->vmx);
		vcpu->gp = (struct gp){0};
		msr_power_on(&vcpu->msrs);
		vcpu->vmxe_preset = vcpu->firmware_vmxe;
		pthread_mutex_unlock(&platform.lock);
		if (known)
			emit_reset(vcpu, "cpu_reset", was_root);
	}
	/* Calls and held tasks are those of a kernel that may go on: it wakes up from S3 through here too. */
	request_reset_notice(&platform, index);
}

/*
 * The first instruction after a SIPI. INIT came before it, which a real CPU in VMX root operation would have ignored:
 * it would still be where it was.
 */
static void on_sipi(unsigned int index, void *userdata)
{
	struct vcpu *vcpu = &platform.vcpus[index];
	uint64_t pc = (uint64_t)(uintptr_t)userdata;
	bool was_root;

	if (!index || (cpu_get(&vcpu->cpu, CR0) & CR0_PE) || cpu_get(&vcpu->cpu, CS) != pc >> 4)
		return;
	pthread_mutex_lock(&platform.lock);
	was_root = vcpu->vmx.root;
	vmx_reset(&vcpu->vmx);
	/* What was interrupted here is gone too. A task that was moved away has had the time of an offline and online. */
	vcpu->gp = (struct gp){0};
	pthread_mutex_unlock(&platform.lock);
	if (was_root)
		emit_reset(vcpu, "init_blocked", was_root);
	emit_reset(vcpu, "sipi", was_root);
}

/* A return that goes unseen would pass for one that did not happen: the harness counts these. */
static void report_lost(const struct vcpu *vcpu, const char *name, const char *why)
{
	struct event event = event_point("lost");

	event_text(&event, "return_of", name, PROBE_NAME);
	event_text(&event, "why", why, strlen(why));
	emit(vcpu, &event);
}

/* The instruction that a call returns to must be instrumented: makes QEMU translate it again. False: no room. */
static bool watch_return(struct vcpu *vcpu, uint64_t address)
{
	uint8_t opcode;
	bool new;

	if (!probes_watch(&platform.probes, address, &new))
		return false;
	if (!new)
		return true;
	/*
	 * Writing back what is there invalidates just this translation. Another CPU may be patching the kernel's text:
	 * where the instruction is of a kind that is patched (nop, call, jmp, int3), all translations go instead.
	 */
	if (!cpu_read_virt(&vcpu->cpu, address, &opcode, 1) ||
	    memchr("\x0f\x2e\x3e\x66\x90\xcc\xe8\xe9\xeb", opcode, 9))
		__atomic_store_n(&platform.retranslate, true, __ATOMIC_RELEASE);
	else
		cpu_write_virt(&vcpu->cpu, address, &opcode, 1);
	return true;
}

static void await_return(struct vcpu *vcpu, const struct probe *probe)
{
	struct pending pending = {.id = probe->id, .rsp = cpu_get(&vcpu->cpu, RSP)}, lost;

	pending.task = event_task(&platform.log, &vcpu->cpu);
	memcpy(pending.name, probe->name, sizeof(pending.name));
	if (!cpu_read_virt(&vcpu->cpu, pending.rsp, &pending.return_address, sizeof(pending.return_address)))
		report_lost(vcpu, probe->name, "unreadable stack");
	else if (!watch_return(vcpu, pending.return_address))
		report_lost(vcpu, probe->name, "too many return addresses");
	else if (probes_call(&platform.probes, &pending, &lost))
		report_lost(vcpu, lost.name, "too many calls on their way");
}

static void report_call(struct vcpu *vcpu, const struct probe *probe)
{
	if (probe->call) {
		struct event event = probe_call_event(probe, &vcpu->cpu);

		emit(vcpu, &event);
	}
	if (probe->ret)
		await_return(vcpu, probe);
}

static void report_returns(struct vcpu *vcpu, const struct visit *visit)
{
	struct pending pending;

	while (probes_return(&platform.probes, visit->pc, visit->task, visit->rsp, &pending)) {
		struct event event = {.name = pending.name, .phase = "return"};

		event_ret(&event, cpu_get(&vcpu->cpu, RAX));
		emit(vcpu, &event);
	}
}

static void report_held(struct vcpu *vcpu, const struct point *point, uint64_t task)
{
	struct hold_context context = point_context(&platform.log.symbols, &vcpu->cpu, task);
	struct event event = point_event(point, "held");

	event_integer(&event, "preempt_count", context.preempt_count);
	event_integer(&event, "interrupts", context.interrupts);
	emit(vcpu, &event);
	request_held_notice(&platform, vcpu->index, point->id, &context);
}

/* Where the call that a task is about to make will return to. */
static void await_return_to_hold(struct vcpu *vcpu, const struct point *point, const struct visit *call)
{
	struct visit visit = {.task = call->task, .rsp = call->rsp + sizeof(uint64_t)};

	if (!cpu_read_virt(&vcpu->cpu, call->rsp, &visit.pc, sizeof(visit.pc)))
		report_lost(vcpu, point->name, "unreadable stack");
	else if (points_count(&platform.points, point->id, &visit) && !watch_return(vcpu, visit.pc))
		report_lost(vcpu, point->name, "too many return addresses");
}

/* A task that has come to the instruction, and has not been held at it: it is now, if there are points for it. */
static void arrive(struct vcpu *vcpu, const struct visit *visit)
{
	struct point point;

	while (points_take_return(&platform.points, visit, &point))
		report_held(vcpu, &point, visit->task);
	for (size_t cursor = 0; points_next(&platform.points, visit->pc, &cursor, &point);) {
		if (!point_matches(&point, &platform.log.symbols, &vcpu->cpu, vcpu->index))
			continue;
		if (point.ret)
			await_return_to_hold(vcpu, &point, visit);
		else if (points_count(&platform.points, point.id, visit))
			report_held(vcpu, &point, visit->task);
	}
}

/*
 * Lets the task try again after a while, or returns when nothing holds it any more. The vCPU does not wait here: it would
 * stop neither for QMP nor for others that need it to, whereas a loop takes interrupts, and with them other tasks.
 */
static void stay_or_go(struct vcpu *vcpu, const struct visit *visit)
{
	struct point point;

	while (points_take_released(&platform.points, visit, &point)) {
		struct event event = point_event(&point, "released");

		emit(vcpu, &event);
	}
	if (!points_hold(&platform.points, visit))
		return;
	if (__atomic_load_n(&platform.retranslate, __ATOMIC_ACQUIRE))
		throw_translations_away();
	usleep(HOLD_US);
	qemu_plugin_set_pc(visit->pc);
}

/* The tasks of a kernel that is gone. */
static void report_lost_tasks(const struct vcpu *vcpu)
{
	struct point point;

	while (points_take_lost(&platform.points, &point)) {
		struct event event = point_event(&point, "lost");

		emit(vcpu, &event);
		request_lost_notice(&platform, point.id);
	}
}

static void start_kernel_incarnation(struct vcpu *vcpu)
{
	report_lost_tasks(vcpu);
	pthread_mutex_lock(&platform.lock);
	pthread_mutex_lock(&platform.log.lock);
	if (platform.boot_announced) {
		platform.log.boot = platform.next_boot;
		platform.log.incarnation = 0;
	} else {
		platform.log.incarnation++;
	}
	platform.boot_announced = false;
	pthread_mutex_unlock(&platform.log.lock);
	/* The tasks of a kernel that was replaced by kexec owe nothing any more. */
	for (unsigned int i = 0; i < platform.max_vcpus; i++)
		platform.vcpus[i].gp.due_pc = 0;
	pthread_mutex_unlock(&platform.lock);
	probes_forget_calls(&platform.probes);
}

static void run_hooks(struct vcpu *vcpu, uint64_t pc)
{
	struct hook hook;

	for (size_t cursor = 0; probes_next_hook(&platform.probes, pc, &cursor, &hook);)
		request_hook(&platform, vcpu, &hook);
}

/* An address that something waits for: a kernel's start, returns, calls, hooks. */
static void on_watched(unsigned int index, void *userdata)
{
	struct vcpu *vcpu = &platform.vcpus[index];
	uint64_t pc = (uint64_t)(uintptr_t)userdata;
	struct visit visit = {event_task(&platform.log, &vcpu->cpu), cpu_get(&vcpu->cpu, RSP), pc};
	struct probe probe;

	if (points_take_again(&platform.points, &visit))
		return;
	if (!points_know(&platform.points, &visit)) {
		if (pc == platform.log.symbols.kernel_start)
			start_kernel_incarnation(vcpu);
		report_returns(vcpu, &visit);
		arrive(vcpu, &visit);
	}
	stay_or_go(vcpu, &visit);
	for (size_t cursor = 0; probes_next(&platform.probes, pc, &cursor, &probe);)
		report_call(vcpu, &probe);
	run_hooks(vcpu, pc);
	/* What is watched since then must be seen from this instruction on. */
	if (__atomic_load_n(&platform.retranslate, __ATOMIC_ACQUIRE)) {
		throw_translations_away();
		if (!in_long_mode(vcpu))
			return; /* firmware, where the address is not the pc; the next block is translated anew */
		points_again(&platform.points, &visit);
		qemu_plugin_set_pc(pc);
	}
}

static void instrument(struct qemu_plugin_insn *insn, qemu_plugin_vcpu_udata_cb_t callback, uint64_t pc)
{
	qemu_plugin_register_vcpu_insn_exec_cb(insn, callback, QEMU_PLUGIN_CB_RW_REGS_PC, (void *)(uintptr_t)pc);
}

/* The callback of an instruction that the platform may have to execute, NULL for all others. */
static qemu_plugin_vcpu_udata_cb_t callback_of(const struct qemu_plugin_insn *insn)
{
	uint8_t bytes[X86_MAX_LENGTH];
	size_t size = qemu_plugin_insn_data(insn, bytes, sizeof(bytes));
	struct insn decoded;

	switch (x86_decode(bytes, size, &decoded)) {
	case DECODED_SHORT: return on_instruction;
	case DECODED_OTHER: return NULL;
	case DECODED: break;
	}
	if (decoded.op == OP_RDMSR || decoded.op == OP_WRMSR)
		return on_msr_access;
	return handlers[decoded.op] ? on_instruction : NULL;
}

static void on_translation(struct qemu_plugin_tb *tb, void *userdata)
{
	size_t count = qemu_plugin_tb_n_insns(tb);

	(void)userdata;
	for (size_t i = 0; i < count; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t pc = qemu_plugin_insn_vaddr(insn);
		qemu_plugin_vcpu_udata_cb_t callback = callback_of(insn);

		if (pc == RESET_VECTOR)
			instrument(insn, on_reset_vector, pc);
		/* A SIPI starts a CPU at a page below 1 MB. */
		if (pc && pc < 0x100000 && !(pc & 0xfff))
			instrument(insn, on_sipi, pc);
		if (probes_watched(&platform.probes, pc))
			instrument(insn, on_watched, pc);
		if (callback)
			instrument(insn, callback, pc);
	}
}

static void find_handles(void)
{
	GArray *array = qemu_plugin_get_registers();
	const qemu_plugin_reg_descriptor *registers = (const void *)array->data;

	for (unsigned int i = 0; i < array->len; i++)
		for (int reg = 0; reg < REG_COUNT; reg++)
			if (!strcmp(registers[i].name, cpu_reg_names[reg]))
				handles[reg] = registers[i].handle;
	g_array_free(array, 1);
	for (int reg = 0; reg < REG_COUNT; reg++)
		if (!handles[reg])
			link_die("this QEMU shows plugins no register %s", cpu_reg_names[reg]);
}

static void on_vcpu(unsigned int index, void *userdata)
{
	struct vcpu *vcpu = &platform.vcpus[index];

	(void)userdata;
	if (!handles[0])
		find_handles();
	vcpu->cpu = (struct cpu){.ops = &qemu_ops};
}

static void register_callbacks(void *userdata)
{
	(void)userdata;
	qemu_plugin_register_vcpu_init_cb(plugin_id, on_vcpu, NULL);
	qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, on_translation, NULL);
	qemu_plugin_register_vcpu_discon_cb(plugin_id, QEMU_PLUGIN_DISCON_INTERRUPT | QEMU_PLUGIN_DISCON_EXCEPTION,
					    on_discontinuity, NULL);
}

/* Executes the harness' commands that come while no vCPU waits for an answer. */
static void *read_link(void *userdata)
{
	struct link *link = &platform.link;

	(void)userdata;
	for (;;) {
		link_readable(link, -1);
		pthread_mutex_lock(&link->lock);
		/* A vCPU may have taken it in the meantime. */
		command_execute_waiting(&platform);
		pthread_mutex_unlock(&link->lock);
	}
	return NULL;
}

struct options {
	int fd;
	const char *events;
};

static bool parse_options(int argc, char **argv, struct options *options)
{
	*options = (struct options){.fd = -1};
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "fd=", 3)) {
			options->fd = atoi(argv[i] + 3);
		} else if (!strncmp(argv[i], "events=", 7)) {
			options->events = argv[i] + 7;
		} else {
			fprintf(stderr, "platform: unknown option %s; there are fd=N and events=FILE\n", argv[i]);
			return false;
		}
	}
	if (options->fd < 0 || !options->events)
		fprintf(stderr, "platform: both fd=N and events=FILE are needed\n");
	return options->fd >= 0 && options->events;
}

static bool make_platform(const qemu_info_t *info, const struct options *options)
{
	platform.max_vcpus = (unsigned int)info->system.max_vcpus;
	platform.vcpus = calloc(platform.max_vcpus, sizeof(platform.vcpus[0]));
	platform.log.fd = open(options->events, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (platform.log.fd < 0)
		fprintf(stderr, "platform: %s: %s\n", options->events, strerror(errno));
	if (platform.log.fd < 0 || !platform.vcpus)
		return false;
	for (unsigned int i = 0; i < platform.max_vcpus; i++) {
		platform.vcpus[i].index = i;
		vmx_reset(&platform.vcpus[i].vmx);
	}
	pthread_mutex_init(&platform.lock, NULL);
	pthread_mutex_init(&platform.log.lock, NULL);
	probes_init(&platform.probes);
	points_init(&platform.points);
	link_init(&platform.link, options->fd);
	return true;
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
							      char **argv);

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	struct options options;
	pthread_t reader;

	if (info->version.min > QEMU_API_VERSION || info->version.cur < QEMU_API_VERSION) {
		fprintf(stderr, "platform: built for QEMU's plugin API %d, this QEMU has %d to %d\n", QEMU_API_VERSION,
			info->version.min, info->version.cur);
		return -1;
	}
	if (!info->system_emulation || strcmp(info->target_name, "x86_64")) {
		fprintf(stderr, "platform: for qemu-system-x86_64, not for %s\n", info->target_name);
		return -1;
	}
	if (!parse_options(argc, argv, &options) || !make_platform(info, &options))
		return -1;
	plugin_id = id;
	link_send(&platform.link, "hello 1 %x %x", info->version.cur, platform.max_vcpus);
	command_set_up(&platform);
	platform.retranslate = false; /* nothing has been translated yet */
	register_callbacks(NULL);
	return pthread_create(&reader, NULL, read_link, NULL);
}
