/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "event.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COMM 16	/* TASK_COMM_LEN */
#define KERNEL_HALF (1ull << 63)

__attribute__((format(printf, 4, 5)))
static void append(char *buffer, size_t *used, size_t size, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(buffer + *used, size - *used, format, arguments);
	va_end(arguments);
	/* What does not fit is left out whole: a line has to stay JSON. */
	if (length > 0 && (size_t)length < size - *used)
		*used += (size_t)length;
	buffer[*used] = '\0';
}

struct event event_point(const char *name)
{
	return (struct event){.name = name, .phase = "point"};
}

void event_hex(struct event *event, const char *key, uint64_t value)
{
	append(event->args, &event->used, EVENT_ARGS, "%s\"%s\":\"0x%" PRIx64 "\"", event->used ? "," : "", key, value);
}

void event_integer(struct event *event, const char *key, int64_t value)
{
	append(event->args, &event->used, EVENT_ARGS, "%s\"%s\":%" PRId64, event->used ? "," : "", key, value);
}

/* Bytes outside printable ASCII become JSON escapes of the same code point. */
static void escape(char *dest, size_t size, const char *text, size_t length)
{
	size_t used = 0;

	dest[0] = '\0';
	for (size_t i = 0; i < length && text[i]; i++) {
		unsigned char byte = (unsigned char)text[i];
		bool plain = byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';

		append(dest, &used, size, plain ? "%c" : "\\u%04x", byte);
	}
}

void event_text(struct event *event, const char *key, const char *text, size_t size)
{
	char escaped[6 * 64 + 1];

	escape(escaped, sizeof(escaped), text, size);
	append(event->args, &event->used, EVENT_ARGS, "%s\"%s\":\"%s\"", event->used ? "," : "", key, escaped);
}

void event_outcome(struct event *event, struct outcome outcome)
{
	switch (outcome.kind) {
	case OUTCOME_UD: event_text(event, "fault", "UD", 2); break;
	case OUTCOME_GP: event_text(event, "fault", "GP", 2); break;
	case OUTCOME_FAIL_INVALID: event_text(event, "vmfail", "invalid", 7); break;
	case OUTCOME_FAIL_VALID: event_integer(event, "vmfail", outcome.error); break;
	default: break;
	}
}

void event_ret(struct event *event, uint64_t value)
{
	event->has_ret = true;
	event->ret = (int64_t)value;
}

bool event_read_percpu(const struct cpu *cpu, uint64_t offset, void *dest, size_t size)
{
	uint64_t address = cpu_get(cpu, GS_BASE) + offset;

	/* Before the kernel has set up its per-CPU area, GS is something else. */
	return offset && address & KERNEL_HALF && cpu_read_virt(cpu, address, dest, size);
}

uint64_t event_task(const struct event_log *log, const struct cpu *cpu)
{
	uint64_t task = 0;

	return event_read_percpu(cpu, log->symbols.current_task, &task, sizeof(task)) ? task : 0;
}

static void append_task(const struct event_log *log, const struct cpu *cpu, char *line, size_t *used, size_t size)
{
	uint64_t task = event_task(log, cpu);
	char comm[COMM], escaped[6 * COMM + 1];
	int32_t pid;

	if (!task)
		return;
	if (log->symbols.task_comm && cpu_read_virt(cpu, task + log->symbols.task_comm, comm, sizeof(comm))) {
		escape(escaped, sizeof(escaped), comm, sizeof(comm));
		append(line, used, size, ",\"task\":\"%s\"", escaped);
	}
	if (log->symbols.task_pid && cpu_read_virt(cpu, task + log->symbols.task_pid, &pid, sizeof(pid)))
		append(line, used, size, ",\"pid\":%d", pid);
}

static uint64_t guest_counter(const struct event_log *log, const struct cpu *cpu)
{
	uint64_t value;

	if (!log->symbols.trace_counter || !cpu_read_virt(cpu, log->symbols.trace_counter, &value, sizeof(value)))
		return 0;
	return value;
}

static void write_line(int fd, const char *line, size_t size)
{
	ssize_t written;

	do
		written = write(fd, line, size);
	while (written < 0 && errno == EINTR);
	if (written == (ssize_t)size)
		return;
	/* An event that is missing would pass for one that did not happen. */
	fprintf(stderr, "platform: cannot write the event file: %s\n", written < 0 ? strerror(errno) : "disk full");
	_exit(70);
}

void event_emit(struct event_log *log, const struct cpu *cpu, unsigned int index, const struct event *event)
{
	char line[EVENT_ARGS + 600];
	size_t used = 0;

	pthread_mutex_lock(&log->lock);
	append(line, &used, sizeof(line),
	       "{\"seq\":%" PRIu64 ",\"boot\":%" PRIu64 ",\"inc\":%" PRIu64 ",\"counter\":%" PRIu64
	       ",\"cpu\":%u,\"name\":\"%s\",\"phase\":\"%s\"",
	       log->seq++, log->boot, log->incarnation, guest_counter(log, cpu), index, event->name, event->phase);
	append_task(log, cpu, line, &used, sizeof(line));
	append(line, &used, sizeof(line), ",\"args\":{%s}", event->used ? event->args : "");
	if (event->has_ret)
		append(line, &used, sizeof(line), ",\"ret\":%" PRId64, event->ret);
	append(line, &used, sizeof(line), "}\n");
	write_line(log->fd, line, used);
	pthread_mutex_unlock(&log->lock);
}
