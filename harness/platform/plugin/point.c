/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "point.h"

#include <string.h>

#define GENERATIONS 16			/* between a task and an ancestor that a point is for */
#define PREEMPT_NEED_RESCHED 0x80000000u /* inverted, and not part of the count (arch/x86/include/asm/preempt.h) */
#define EFLAGS_IF (1u << 9)

void points_init(struct points *points)
{
	pthread_mutex_init(&points->lock, NULL);
}

static bool same_visit(const struct visit *one, const struct visit *other)
{
	return one->task == other->task && one->rsp == other->rsp && one->pc == other->pc;
}

/* NULL when there is none. Like all that is static here, with the lock held. */
static struct point *find(struct points *points, uint32_t id)
{
	for (size_t i = 0; i < points->end; i++)
		if (points->points[i].state != POINT_FREE && points->points[i].id == id)
			return &points->points[i];
	return NULL;
}

static struct point *find_free(struct points *points)
{
	for (size_t i = 0; i < points->end; i++)
		if (points->points[i].state == POINT_FREE)
			return &points->points[i];
	return points->end < POINTS_MAX ? &points->points[points->end++] : NULL;
}

/* In the state, and about this visit. */
static struct point *find_visit(struct points *points, const struct visit *visit, enum point_state state)
{
	for (size_t i = 0; i < points->end; i++)
		if (points->points[i].state == state && same_visit(&points->points[i].visit, visit))
			return &points->points[i];
	return NULL;
}

bool points_add(struct points *points, const struct point *point)
{
	struct point *slot;

	pthread_mutex_lock(&points->lock);
	slot = find(points, point->id);
	if (!slot)
		slot = find_free(points);
	if (slot) {
		*slot = *point;
		slot->state = POINT_ARMED;
	}
	pthread_mutex_unlock(&points->lock);
	return slot;
}

void points_place(struct points *points, uint32_t id, const uint64_t *places, size_t count)
{
	struct point *point;

	pthread_mutex_lock(&points->lock);
	point = find(points, id);
	if (point) {
		memcpy(point->places, places, count * sizeof(places[0]));
		point->place_count = count;
	}
	pthread_mutex_unlock(&points->lock);
}

void points_release(struct points *points, uint32_t id)
{
	struct point *point;

	pthread_mutex_lock(&points->lock);
	point = find(points, id);
	if (point && point->state == POINT_HELD)
		point->state = POINT_RELEASED;
	else if (point && point->state != POINT_RELEASED)
		point->state = POINT_FREE;
	pthread_mutex_unlock(&points->lock);
}

bool points_know(struct points *points, const struct visit *visit)
{
	bool known;

	pthread_mutex_lock(&points->lock);
	known = find_visit(points, visit, POINT_HELD) || find_visit(points, visit, POINT_RELEASED);
	pthread_mutex_unlock(&points->lock);
	return known;
}

static bool armed_at(const struct point *point, uint64_t pc)
{
	for (size_t i = 0; i < point->place_count; i++)
		if (point->places[i] == pc)
			return point->state == POINT_ARMED && point->hits < point->hit;
	return false;
}

bool points_next(struct points *points, uint64_t pc, size_t *cursor, struct point *point)
{
	bool found = false;

	pthread_mutex_lock(&points->lock);
	while (*cursor < points->end && !found)
		found = armed_at(&points->points[(*cursor)++], pc);
	if (found)
		*point = points->points[*cursor - 1];
	pthread_mutex_unlock(&points->lock);
	return found;
}

static bool descends(uint64_t pid, const struct symbols *symbols, const struct cpu *cpu, uint64_t task)
{
	for (int i = 0; i <= GENERATIONS && task; i++) {
		uint64_t parent = 0;
		int32_t found;

		if (!cpu_read_virt(cpu, task + symbols->task_pid, &found, sizeof(found)))
			return false;
		if ((uint64_t)found == pid)
			return true;
		/* The first of all tasks is its own parent. */
		if (!cpu_read_virt(cpu, task + symbols->task_real_parent, &parent, sizeof(parent)) || parent == task)
			return false;
		task = parent;
	}
	return false;
}

static bool comm_is(const char *comm, const struct symbols *symbols, const struct cpu *cpu, uint64_t task)
{
	char found[POINT_COMM];

	return cpu_read_virt(cpu, task + symbols->task_comm, found, sizeof(found)) &&
	       !strncmp(found, comm, sizeof(found));
}

static bool condition_holds(const struct condition *condition, const struct cpu *cpu)
{
	char text[SPEC_TEXT];
	uint64_t value;

	if (condition->spec.string) {
		size_t length = spec_text(&condition->spec, cpu, text);

		return length == strlen(condition->text) && !memcmp(text, condition->text, length);
	}
	return spec_value(&condition->spec, cpu, &value) && value == condition->value;
}

bool point_matches(const struct point *point, const struct symbols *symbols, const struct cpu *cpu, unsigned int index)
{
	uint64_t task = 0;

	if (!event_read_percpu(cpu, symbols->current_task, &task, sizeof(task)) || !task)
		return false;
	if (point->on_cpu && point->cpu != index)
		return false;
	if (point->comm[0] && !comm_is(point->comm, symbols, cpu, task))
		return false;
	if (point->pid && !descends(point->pid, symbols, cpu, task))
		return false;
	for (size_t i = 0; i < point->condition_count; i++)
		if (!condition_holds(&point->conditions[i], cpu))
			return false;
	return true;
}

bool points_count(struct points *points, uint32_t id, const struct visit *visit)
{
	struct point *point;
	bool wanted;

	pthread_mutex_lock(&points->lock);
	point = find(points, id);
	/* It may have been released, or have got its hit on another CPU, since it was looked up. */
	wanted = point && point->state == POINT_ARMED && ++point->hits == point->hit;
	if (wanted) {
		point->visit = *visit;
		point->state = point->ret ? POINT_AWAITED : POINT_HELD;
	}
	pthread_mutex_unlock(&points->lock);
	return wanted;
}

bool points_take_return(struct points *points, const struct visit *visit, struct point *point)
{
	struct point *found;

	pthread_mutex_lock(&points->lock);
	found = find_visit(points, visit, POINT_AWAITED);
	if (found) {
		found->state = POINT_HELD;
		*point = *found;
	}
	pthread_mutex_unlock(&points->lock);
	return found;
}

bool points_hold(struct points *points, const struct visit *visit)
{
	bool held;

	pthread_mutex_lock(&points->lock);
	held = find_visit(points, visit, POINT_HELD);
	pthread_mutex_unlock(&points->lock);
	return held;
}

bool points_take_released(struct points *points, const struct visit *visit, struct point *point)
{
	struct point *found;

	pthread_mutex_lock(&points->lock);
	found = find_visit(points, visit, POINT_RELEASED);
	if (found) {
		*point = *found;
		found->state = POINT_FREE;
	}
	pthread_mutex_unlock(&points->lock);
	return found;
}

static bool take_lost(struct points *points, struct point *lost)
{
	for (size_t i = 0; i < points->end; i++) {
		struct point *point = &points->points[i];
		bool has_task = point->state == POINT_HELD || point->state == POINT_RELEASED;

		if (has_task)
			*lost = *point;
		if (has_task || point->pid)
			point->state = POINT_FREE;
		else if (point->state == POINT_AWAITED)
			point->state = POINT_ARMED;
		if (has_task)
			return true;
	}
	memset(points->again, 0, sizeof(points->again));
	return false;
}

bool points_take_lost(struct points *points, struct point *lost)
{
	bool found;

	pthread_mutex_lock(&points->lock);
	found = take_lost(points, lost);
	pthread_mutex_unlock(&points->lock);
	return found;
}

void points_again(struct points *points, const struct visit *visit)
{
	pthread_mutex_lock(&points->lock);
	points->again[points->again_next++ % AGAIN_MAX] = *visit;
	pthread_mutex_unlock(&points->lock);
}

bool points_take_again(struct points *points, const struct visit *visit)
{
	bool found = false;

	pthread_mutex_lock(&points->lock);
	for (size_t i = 0; i < AGAIN_MAX && !found; i++) {
		found = same_visit(&points->again[i], visit);
		if (found)
			points->again[i] = (struct visit){0};
	}
	pthread_mutex_unlock(&points->lock);
	return found;
}

struct hold_context point_context(const struct symbols *symbols, const struct cpu *cpu, uint64_t task)
{
	struct hold_context context = {.interrupts = cpu_get(cpu, RFLAGS) & EFLAGS_IF};

	cpu_read_virt(cpu, task + symbols->task_pid, &context.pid, sizeof(context.pid));
	cpu_read_virt(cpu, task + symbols->task_comm, context.comm, POINT_COMM);
	event_read_percpu(cpu, symbols->preempt_count, &context.preempt_count, sizeof(context.preempt_count));
	context.preempt_count &= ~PREEMPT_NEED_RESCHED;
	return context;
}

struct event point_event(const struct point *point, const char *phase)
{
	return (struct event){.name = point->name, .phase = phase};
}
