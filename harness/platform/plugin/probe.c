/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "probe.h"

#include <string.h>

#define STACK_MASK (~(uint64_t)0x3fff)	/* THREAD_SIZE and IRQ_STACK_SIZE of x86-64, both aligned to themselves */

void probes_init(struct probes *probes)
{
	pthread_mutex_init(&probes->lock, NULL);
}

static size_t slot_of(uint64_t address)
{
	return (size_t)(address * 0x9e3779b97f4a7c15ull >> 40) & (WATCH_SLOTS - 1);
}

/*
 * Without the lock: the translator asks for every instruction. An address that is added at the same time is found
 * after the translations that are made meanwhile have been thrown away.
 */
bool probes_watched(const struct probes *probes, uint64_t address)
{
	for (size_t slot = slot_of(address);; slot = (slot + 1) & (WATCH_SLOTS - 1)) {
		uint64_t found = __atomic_load_n(&probes->watched[slot], __ATOMIC_ACQUIRE);

		if (!found || found == address)
			return found && address;
	}
}

static bool watch(struct probes *probes, uint64_t address, bool *new)
{
	size_t slot = slot_of(address);

	*new = false;
	if (!address || probes_watched(probes, address))
		return address;
	if (probes->watched_count >= WATCH_SLOTS / 2)
		return false;
	while (probes->watched[slot])
		slot = (slot + 1) & (WATCH_SLOTS - 1);
	__atomic_store_n(&probes->watched[slot], address, __ATOMIC_RELEASE);
	probes->watched_count++;
	*new = true;
	return true;
}

bool probes_watch(struct probes *probes, uint64_t address, bool *new)
{
	bool done;

	pthread_mutex_lock(&probes->lock);
	done = watch(probes, address, new);
	pthread_mutex_unlock(&probes->lock);
	return done;
}

static bool add_probe(struct probes *probes, const struct probe *probe)
{
	size_t i = 0;
	bool new;

	while (i < probes->probe_count && probes->probes[i].id != probe->id)
		i++;
	if (i == PROBES_MAX || !watch(probes, probe->address, &new))
		return false;
	probes->probes[i] = *probe;
	if (i == probes->probe_count)
		probes->probe_count++;
	return true;
}

bool probes_add(struct probes *probes, const struct probe *probe)
{
	bool done;

	pthread_mutex_lock(&probes->lock);
	done = add_probe(probes, probe);
	pthread_mutex_unlock(&probes->lock);
	return done;
}

static bool add_hook(struct probes *probes, const struct hook *hook)
{
	size_t i = 0;
	bool new;

	while (i < probes->hook_count && probes->hooks[i].id != hook->id)
		i++;
	if (i == HOOKS_MAX || !watch(probes, hook->address, &new))
		return false;
	probes->hooks[i] = *hook;
	if (i == probes->hook_count)
		probes->hook_count++;
	return true;
}

bool probes_add_hook(struct probes *probes, const struct hook *hook)
{
	bool done;

	pthread_mutex_lock(&probes->lock);
	done = add_hook(probes, hook);
	pthread_mutex_unlock(&probes->lock);
	return done;
}

static void drop_pending(struct probes *probes, size_t i)
{
	memmove(&probes->pending[i], &probes->pending[i + 1],
		(probes->pending_count - i - 1) * sizeof(probes->pending[0]));
	probes->pending_count--;
}

bool probes_remove(struct probes *probes, uint32_t id)
{
	bool found = false;

	pthread_mutex_lock(&probes->lock);
	for (size_t i = 0; i < probes->probe_count && !found; i++) {
		if (probes->probes[i].id == id) {
			probes->probes[i] = probes->probes[--probes->probe_count];
			found = true;
		}
	}
	for (size_t i = probes->pending_count; i-- > 0;)
		if (probes->pending[i].id == id)
			drop_pending(probes, i);
	pthread_mutex_unlock(&probes->lock);
	return found;
}

bool probes_next(struct probes *probes, uint64_t address, size_t *cursor, struct probe *probe)
{
	bool found = false;

	pthread_mutex_lock(&probes->lock);
	while (*cursor < probes->probe_count && !found)
		found = probes->probes[(*cursor)++].address == address;
	if (found)
		*probe = probes->probes[*cursor - 1];
	pthread_mutex_unlock(&probes->lock);
	return found;
}

bool probes_next_hook(struct probes *probes, uint64_t address, size_t *cursor, struct hook *hook)
{
	bool found = false;

	pthread_mutex_lock(&probes->lock);
	while (*cursor < probes->hook_count && !found)
		found = probes->hooks[(*cursor)++].address == address;
	if (found)
		*hook = probes->hooks[*cursor - 1];
	pthread_mutex_unlock(&probes->lock);
	return found;
}

/* Whether `old` can no longer return once its task makes the call `new`. */
static bool stale(const struct pending *old, const struct pending *new)
{
	if (old->task != new->task || (old->rsp ^ new->rsp) & STACK_MASK)
		return false;
	return old->rsp < new->rsp || (old->rsp == new->rsp && (old->id == new->id ||
							       old->return_address != new->return_address));
}

bool probes_call(struct probes *probes, const struct pending *pending, struct pending *lost)
{
	bool full;

	pthread_mutex_lock(&probes->lock);
	for (size_t i = probes->pending_count; i-- > 0;)
		if (stale(&probes->pending[i], pending))
			drop_pending(probes, i);
	full = probes->pending_count == PENDING_MAX;
	if (full) {
		*lost = probes->pending[0];
		drop_pending(probes, 0);
	}
	probes->pending[probes->pending_count++] = *pending;
	pthread_mutex_unlock(&probes->lock);
	return full;
}

bool probes_return(struct probes *probes, uint64_t address, uint64_t task, uint64_t rsp, struct pending *pending)
{
	bool found = false;

	pthread_mutex_lock(&probes->lock);
	for (size_t i = probes->pending_count; i-- > 0 && !found;) {
		const struct pending *call = &probes->pending[i];

		found = call->return_address == address && call->task == task && call->rsp + sizeof(uint64_t) == rsp;
		if (found) {
			*pending = *call;
			drop_pending(probes, i);
		}
	}
	pthread_mutex_unlock(&probes->lock);
	return found;
}

void probes_forget_calls(struct probes *probes)
{
	pthread_mutex_lock(&probes->lock);
	probes->pending_count = 0;
	pthread_mutex_unlock(&probes->lock);
}

static uint64_t spec_address(const struct spec *spec, const struct cpu *cpu)
{
	return spec->address + (spec->kind == SPEC_INDIRECT ? cpu_get(cpu, spec->reg) : 0);
}

bool spec_value(const struct spec *spec, const struct cpu *cpu, uint64_t *value)
{
	*value = 0;
	if (spec->kind == SPEC_REGISTER)
		*value = cpu_get(cpu, spec->reg);
	else if (!cpu_read_virt(cpu, spec_address(spec, cpu), value, spec->size))
		return false;
	if (spec->size < sizeof(*value))
		*value &= (1ull << 8 * spec->size) - 1;
	return true;
}

size_t spec_text(const struct spec *spec, const struct cpu *cpu, char text[SPEC_TEXT])
{
	uint64_t address = spec->kind == SPEC_REGISTER ? cpu_get(cpu, spec->reg) : spec_address(spec, cpu);
	size_t length = 0;

	while (length < spec->size && cpu_read_virt(cpu, address + length, &text[length], 1) && text[length])
		length++;
	return length;
}

static void add_argument(struct event *event, const struct spec *spec, const struct cpu *cpu)
{
	char text[SPEC_TEXT];
	uint64_t value;

	if (spec->string)
		event_text(event, spec->name, text, spec_text(spec, cpu, text));
	/* An argument that cannot be read is left out: no value would say that. */
	else if (spec_value(spec, cpu, &value))
		event_hex(event, spec->name, value);
}

struct event probe_call_event(const struct probe *probe, const struct cpu *cpu)
{
	struct event event = {.name = probe->name, .phase = "call"};

	for (size_t i = 0; i < probe->spec_count; i++)
		add_argument(&event, &probe->specs[i], cpu);
	return event;
}
