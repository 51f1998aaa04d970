/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Probes on kernel functions, the returns that they wait for, hooks, and the addresses that must be watched for them. */
#ifndef PROBE_H
#define PROBE_H

#include <pthread.h>

#include "cpu.h"
#include "event.h"

#define PROBE_NAME 64
#define PROBE_SPECS 8
#define SPEC_TEXT 64		/* bytes of a string */
#define PROBES_MAX 1024
#define HOOKS_MAX 64
#define PENDING_MAX 1024	/* calls that have not returned; a kernel has a few hundred tasks */
#define WATCH_SLOTS 16384	/* a power of two, several times what can be watched */

enum spec_kind { SPEC_REGISTER, SPEC_MEMORY, SPEC_INDIRECT };

/* One argument of a call: where it is, and how much of it. */
struct spec {
	enum spec_kind kind;
	enum reg reg;
	uint64_t address;	/* of SPEC_MEMORY; of SPEC_INDIRECT the offset from the register */
	unsigned int size;
	bool string;
	char name[PROBE_NAME];
};

struct probe {
	uint32_t id;
	uint64_t address;
	bool call, ret;
	char name[PROBE_NAME];
	size_t spec_count;
	struct spec specs[PROBE_SPECS];
};

struct hook {
	uint32_t id;
	uint64_t address;
	enum reg reg;
};

/* A call whose return is awaited. */
struct pending {
	uint32_t id;
	uint64_t task, rsp, return_address;	/* rsp as the call has it: where the return address is */
	char name[PROBE_NAME];
};

struct probes {
	pthread_mutex_t lock;
	struct probe probes[PROBES_MAX];
	size_t probe_count;
	struct hook hooks[HOOKS_MAX];
	size_t hook_count;
	struct pending pending[PENDING_MAX];	/* oldest first */
	size_t pending_count;
	uint64_t watched[WATCH_SLOTS];		/* open addressing; 0: free. Addresses are never taken out */
	size_t watched_count;
};

void probes_init(struct probes *probes);

/* Whether the instruction at `address` has to be instrumented. Called for every instruction that is translated. */
bool probes_watched(const struct probes *probes, uint64_t address);

/* Adds `address` to what is watched; false when there is no room, `*new` tells whether it was not watched before. */
bool probes_watch(struct probes *probes, uint64_t address, bool *new);

/* Replace one of the same id; false when the table is full. */
bool probes_add(struct probes *probes, const struct probe *probe);
bool probes_add_hook(struct probes *probes, const struct hook *hook);

bool probes_remove(struct probes *probes, uint32_t id);

/*
 * Copies the probe or hook at `address` whose place in the table is *cursor or later, and advances *cursor beyond it:
 * a snapshot, because the table may change while an event is written.
 */
bool probes_next(struct probes *probes, uint64_t address, size_t *cursor, struct probe *probe);
bool probes_next_hook(struct probes *probes, uint64_t address, size_t *cursor, struct hook *hook);

/*
 * A call of `probe` waits for its return. A tail call has the same return address in the same place as the function
 * that it ends, and both return there. What is deeper in the same stack can never return any more, and is dropped.
 * Where there is no room the oldest call makes it: returns true, and that call in *lost, whose return goes unseen.
 */
bool probes_call(struct probes *probes, const struct pending *pending, struct pending *lost);

/* The calls that return at `address` with the stack pointer `rsp`, innermost first; false when there is none left. */
bool probes_return(struct probes *probes, uint64_t address, uint64_t task, uint64_t rsp, struct pending *pending);

/* Forgets the calls of a kernel that is gone. */
void probes_forget_calls(struct probes *probes);

/* The number at the place of `spec`, false when it cannot be read. */
bool spec_value(const struct spec *spec, const struct cpu *cpu, uint64_t *value);

/* The string there, up to what can be read of it and not terminated; returns its length. */
size_t spec_text(const struct spec *spec, const struct cpu *cpu, char text[SPEC_TEXT]);

/* The event of a call, with its arguments. */
struct event probe_call_event(const struct probe *probe, const struct cpu *cpu);

#endif
