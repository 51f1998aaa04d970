/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The event file: one JSON object per line, written with one write(2) each, so that nothing that was told is lost when
 * QEMU, the harness or the guest dies.
 */
#ifndef EVENT_H
#define EVENT_H

#include <pthread.h>

#include "cpu.h"

/* Where the guest's kernel keeps what an event tells; 0: not known yet. */
struct symbols {
	uint64_t trace_counter;	/* the variable behind tracefs' clock "counter" */
	uint64_t current_task;	/* per CPU: read at gs_base + this */
	uint64_t kernel_start;	/* an address that every kernel executes once, on its boot CPU */
	uint64_t preempt_count;	/* per CPU too */
	uint64_t task_comm, task_pid, task_real_parent;	/* offsets in struct task_struct */
};

struct event_log {
	int fd;
	pthread_mutex_t lock;	/* orders events: `seq` is taken and the guest's counter is read under it */
	uint64_t seq;
	uint64_t boot, incarnation;
	struct symbols symbols;
};

#define EVENT_ARGS 1200 /* seventeen operands of 20 digits with their names, or strings */

struct event {
	const char *name;
	const char *phase;
	bool has_ret;
	int64_t ret;
	size_t used;
	char args[EVENT_ARGS];
};

struct event event_point(const char *name);
void event_hex(struct event *event, const char *key, uint64_t value);
void event_integer(struct event *event, const char *key, int64_t value);
void event_text(struct event *event, const char *key, const char *text, size_t size);
void event_outcome(struct event *event, struct outcome outcome);
void event_ret(struct event *event, uint64_t value);

/* Gives the event its place in the order and writes it. */
void event_emit(struct event_log *log, const struct cpu *cpu, unsigned int index, const struct event *event);

/* Reads a variable that each CPU has its own of; false where there is no per-CPU area yet, or `offset` is 0. */
bool event_read_percpu(const struct cpu *cpu, uint64_t offset, void *dest, size_t size);

/* Guest address of the current task, 0 when it is not known. */
uint64_t event_task(const struct event_log *log, const struct cpu *cpu);

#endif
