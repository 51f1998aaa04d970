/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Points: executions of functions at which one task is held until the harness lets it go.
 *
 * A held task executes the same instruction again and again, with a pause; interrupts land in between, so that it may be
 * preempted and go on being held on another CPU. It is known by its task_struct and its stack pointer.
 */
#ifndef POINT_H
#define POINT_H

#include <pthread.h>

#include "cpu.h"
#include "event.h"
#include "probe.h"

#define POINTS_MAX 64
#define POINT_PLACES 8		/* a function and the copies that the compiler made of it */
#define POINT_CONDITIONS 4
#define POINT_COMM 16		/* TASK_COMM_LEN */
#define POINT_TEXT 64		/* bytes of a string that a condition asks for, with its NUL */
#define AGAIN_MAX 64		/* tasks that are to execute an instruction again: rarely more than there are CPUs */

/* A task at an instruction. Only the task itself can come there again with the same stack pointer. */
struct visit {
	uint64_t task, rsp, pc;
};

/* What an argument has to be. */
struct condition {
	struct spec spec;
	uint64_t value;
	char text[POINT_TEXT];	/* of a spec that is a string */
};

enum point_state {
	POINT_FREE,	/* nothing in this slot */
	POINT_ARMED,
	POINT_AWAITED,	/* the call was made; its return at `visit` is where it is to be held */
	POINT_HELD,	/* `visit` is held */
	POINT_RELEASED,	/* `visit` may go, and has not yet */
};

struct point {
	uint32_t id;
	bool ret;			/* hold after the return, not before the call */
	char name[PROBE_NAME];
	uint64_t pid;			/* the task or a descendant of it; 0: any */
	char comm[POINT_COMM];		/* "": any */
	bool on_cpu;
	unsigned int cpu;
	size_t condition_count;
	struct condition conditions[POINT_CONDITIONS];
	uint64_t hit;			/* which of the executions that pass, from 1 */

	size_t place_count;
	uint64_t places[POINT_PLACES];
	uint64_t hits;			/* executions that passed */
	enum point_state state;
	struct visit visit;
};

struct points {
	pthread_mutex_t lock;
	struct point points[POINTS_MAX];	/* each stays in its slot */
	size_t end;				/* the slots from here on have never been used */
	struct visit again[AGAIN_MAX];	/* a ring; a task of 0 at pc 0 is nobody */
	size_t again_next;
};

/* What a task is held with: whether another can take its CPU depends on it. */
struct hold_context {
	uint32_t pid;
	char comm[POINT_COMM + 1];
	uint32_t preempt_count;		/* without the bit that says "no reschedule needed" */
	bool interrupts;		/* EFLAGS.IF */
};

void points_init(struct points *points);

/* Replaces one of the same id; false when the table is full. It has no places yet. */
bool points_add(struct points *points, const struct point *point);

/* Where the function is now: nowhere while its module is not loaded. A reset may have taken the point away meanwhile. */
void points_place(struct points *points, uint32_t id, const uint64_t *places, size_t count);

/* Disarms the point and lets go whoever is held there. An id that there is not, e.g. after a reset, is no error. */
void points_release(struct points *points, uint32_t id);

/* Whether the task is held at this instruction, or was when it was here last: it has arrived before. */
bool points_know(struct points *points, const struct visit *visit);

/* Copies the armed point at visit->pc whose slot is *cursor or later, and advances *cursor beyond it. */
bool points_next(struct points *points, uint64_t pc, size_t *cursor, struct point *point);

/* Whether the execution of the point's function is of those that count. */
bool point_matches(const struct point *point, const struct symbols *symbols, const struct cpu *cpu, unsigned int index);

/* Counts an execution that matches. True when it is the wanted one; it is then held, or its return awaited at `visit`. */
bool points_count(struct points *points, uint32_t id, const struct visit *visit);

/* Holds those whose return this is, one at a time: true, with a copy in *point, until there is none left. */
bool points_take_return(struct points *points, const struct visit *visit, struct point *point);

/* Whether the task has to stay. */
bool points_hold(struct points *points, const struct visit *visit);

/* Takes out a point that let go the task; false when there is none left. */
bool points_take_released(struct points *points, const struct visit *visit, struct point *point);

/*
 * The kernel is gone, and its tasks with it: takes out a point whose task was held, or false when there is none left. Then
 * no return is awaited any more, and points for a process of that kernel are gone too.
 */
bool points_take_lost(struct points *points, struct point *point);

/* The task will execute the instruction again, and shall find nothing to do there then. */
void points_again(struct points *points, const struct visit *visit);
bool points_take_again(struct points *points, const struct visit *visit);

struct hold_context point_context(const struct symbols *symbols, const struct cpu *cpu, uint64_t task);

/* The event of a point. */
struct event point_event(const struct point *point, const char *phase);

#endif
