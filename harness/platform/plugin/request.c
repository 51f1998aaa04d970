/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a vCPU asks the harness, and waits for: SEAMCALLs and hooks. One at a time, by the link's lock. */
#include "platform.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ANSWER_MS 10000

static const enum reg seamcall_regs[] = {RAX, RCX, RDX, R8, R9, R10, R11};
#define SEAMCALL_REGS (sizeof(seamcall_regs) / sizeof(seamcall_regs[0]))

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* Returns the number of bytes, -1 when the text is not hexadecimal or too long. */
static int from_hex(const char *text, uint8_t *bytes, size_t size)
{
	size_t length = strlen(text);

	if (length % 2 || length / 2 > size)
		return -1;
	for (size_t i = 0; i < length / 2; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return -1;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return (int)(length / 2);
}

static void to_hex(char *text, const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		text[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
		text[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
	}
	text[2 * size] = '\0';
}

static void send_data(struct link *link, const uint8_t *bytes, size_t size)
{
	static __thread char text[2 * LINK_DATA_MAX + 1];

	to_hex(text, bytes, size);
	link_send(link, "data %s", text);
}

static void answer_read(struct platform *platform, struct vcpu *vcpu, bool physical, uint64_t address, uint64_t size)
{
	static __thread uint8_t bytes[LINK_DATA_MAX];
	bool done = size && size <= sizeof(bytes) &&
		    (physical ? cpu_read_phys : cpu_read_virt)(&vcpu->cpu, address, bytes, size);

	if (done)
		send_data(&platform->link, bytes, size);
	else
		link_send(&platform->link, "data -");
}

static void answer_write(struct platform *platform, struct vcpu *vcpu, uint64_t address, const char *hex)
{
	static __thread uint8_t bytes[LINK_DATA_MAX];
	int size = from_hex(hex, bytes, sizeof(bytes));

	if (size > 0 && cpu_write_phys(&vcpu->cpu, address, bytes, (size_t)size))
		link_send(&platform->link, "ok");
	else
		link_send(&platform->link, "error write: no such memory, or not hexadecimal");
}

/* Serves reads, writes and commands until a line that is none of them, which is the answer. */
static char *answer_of(struct platform *platform, struct vcpu *vcpu, const char *request)
{
	int64_t deadline = link_now() + ANSWER_MS;

	for (;;) {
		char *line = link_receive(&platform->link, deadline);
		uint64_t address, size;
		int hex = 0;

		if (!line)
			link_die("the harness did not answer `%s` of vCPU %u within %d s", request, vcpu->index,
				 ANSWER_MS / 1000);
		if (sscanf(line, "read %" SCNx64 " %" SCNx64, &address, &size) == 2)
			answer_read(platform, vcpu, true, address, size);
		else if (sscanf(line, "readv %" SCNx64 " %" SCNx64, &address, &size) == 2)
			answer_read(platform, vcpu, false, address, size);
		else if (sscanf(line, "write %" SCNx64 " %n", &address, &hex) == 1 && hex)
			answer_write(platform, vcpu, address, line + hex);
		else if (!strncmp(line, "done", 4) || !strcmp(line, "vmfail") || !strncmp(line, "fault ", 6))
			return line;
		else
			command_execute(platform, line);
	}
}

static bool take_results(const struct vcpu *vcpu, const char *line)
{
	uint64_t values[SEAMCALL_REGS];
	int length = 0;

	if (sscanf(line, "done %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 "%n",
		   &values[0], &values[1], &values[2], &values[3], &values[4], &values[5], &values[6], &length) !=
		    (int)SEAMCALL_REGS || line[length])
		return false;
	for (size_t i = 0; i < SEAMCALL_REGS; i++)
		cpu_set(&vcpu->cpu, seamcall_regs[i], values[i]);
	return true;
}

struct outcome request_seamcall(struct platform *platform, struct vcpu *vcpu)
{
	struct outcome outcome = {.kind = OUTCOME_SUCCEED};
	uint64_t in[SEAMCALL_REGS];
	const char *line;

	for (size_t i = 0; i < SEAMCALL_REGS; i++)
		in[i] = cpu_get(&vcpu->cpu, seamcall_regs[i]);
	pthread_mutex_lock(&platform->link.lock);
	link_send(&platform->link,
		  "seamcall %x %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64,
		  vcpu->index, in[0], in[1], in[2], in[3], in[4], in[5], in[6]);
	line = answer_of(platform, vcpu, "seamcall");
	if (!strcmp(line, "vmfail"))
		outcome.kind = OUTCOME_FAIL_INVALID;
	else if (!strcmp(line, "fault ud"))
		outcome.kind = OUTCOME_UD;
	else if (!strcmp(line, "fault gp"))
		outcome.kind = OUTCOME_GP;
	else if (!take_results(vcpu, line))
		link_die("not an answer to a seamcall: `%.60s`", line);
	command_execute_waiting(platform);
	pthread_mutex_unlock(&platform->link.lock);
	return outcome;
}

void request_hook(struct platform *platform, struct vcpu *vcpu, const struct hook *hook)
{
	const char *line;

	pthread_mutex_lock(&platform->link.lock);
	link_send(&platform->link, "hook %x %x %" PRIx64, hook->id, vcpu->index, cpu_get(&vcpu->cpu, hook->reg));
	line = answer_of(platform, vcpu, "hook");
	if (strcmp(line, "done"))
		link_die("not an answer to a hook: `%.60s`", line);
	command_execute_waiting(platform);
	pthread_mutex_unlock(&platform->link.lock);
}

void request_held_notice(struct platform *platform, unsigned int vcpu, uint32_t point, const struct hold_context *context)
{
	char comm[2 * sizeof(context->comm)];

	to_hex(comm, (const uint8_t *)context->comm, strlen(context->comm));
	pthread_mutex_lock(&platform->link.lock);
	link_send(&platform->link, "held %x %x %x %x %x %s", point, vcpu, context->pid, context->preempt_count,
		  context->interrupts, comm[0] ? comm : "-");
	pthread_mutex_unlock(&platform->link.lock);
}

void request_lost_notice(struct platform *platform, uint32_t point)
{
	pthread_mutex_lock(&platform->link.lock);
	link_send(&platform->link, "lost %x", point);
	pthread_mutex_unlock(&platform->link.lock);
}

void request_reset_notice(struct platform *platform, unsigned int vcpu)
{
	pthread_mutex_lock(&platform->link.lock);
	link_send(&platform->link, "reset %x", vcpu);
	pthread_mutex_unlock(&platform->link.lock);
}
