/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The harness' commands: set-up, probes while the guest runs, and the state that a snapshot has to keep. */
#include "platform.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SET_UP_MS 15000
#define WORDS_MAX 32

struct words {
	size_t count;
	char *word[WORDS_MAX];
};

static struct words split(char *line)
{
	struct words words = {0};
	char *rest;

	for (char *word = strtok_r(line, " ", &rest); word && words.count < WORDS_MAX; word = strtok_r(NULL, " ", &rest))
		words.word[words.count++] = word;
	return words;
}

static bool parse_hex(const char *word, uint64_t *value)
{
	size_t length = word ? strlen(word) : 0;

	if (!length || length > 16 || strspn(word, "0123456789abcdef") != length)
		return false;
	*value = strtoull(word, NULL, 16);
	return true;
}

static bool parse_reg(const char *word, enum reg *reg)
{
	for (int i = 0; i < REG_COUNT; i++) {
		if (!strcmp(word, cpu_reg_names[i])) {
			*reg = (enum reg)i;
			return true;
		}
	}
	return false;
}

/* All numbers of a command from word `first` on; false when one is none or there are not `count` of them. */
static bool parse_numbers(const struct words *words, size_t first, uint64_t *values, size_t count)
{
	if (words->count != first + count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (!parse_hex(words->word[first + i], &values[i]))
			return false;
	return true;
}

/* A vCPU's number, or `*` for all of them, as a half-open range. */
static bool parse_vcpus(const struct platform *platform, const char *word, unsigned int *first, unsigned int *end)
{
	uint64_t index;

	if (!strcmp(word, "*")) {
		*first = 0;
		*end = platform->max_vcpus;
		return true;
	}
	if (!parse_hex(word, &index) || index >= platform->max_vcpus)
		return false;
	*first = (unsigned int)index;
	*end = *first + 1;
	return true;
}

static const char *set_msr(struct platform *platform, const struct words *words, bool now)
{
	unsigned int first, end;
	uint64_t values[2];

	if (words->count != 4 || !parse_vcpus(platform, words->word[1], &first, &end) ||
	    !parse_numbers(words, 2, values, 2))
		return "expected: <cpu> <msr> <value>";
	for (unsigned int i = first; i < end; i++) {
		struct msrs *msrs = &platform->vcpus[i].msrs;
		struct msr *msr = msr_find(msrs, (uint32_t)values[0]);

		if (now && msr)
			msr->value = values[1];
		else if (now)
			return "this MSR has no power-on value yet";
		else if (!msr_define(msrs, (uint32_t)values[0], values[1]))
			return "too many MSRs";
	}
	return NULL;
}

static const char *cmd_msr(struct platform *platform, const struct words *words)
{
	return set_msr(platform, words, false);
}

static const char *cmd_msr_now(struct platform *platform, const struct words *words)
{
	return set_msr(platform, words, true);
}

static const char *cmd_tdx(struct platform *platform, const struct words *words)
{
	uint64_t on;

	if (!parse_numbers(words, 1, &on, 1) || on > 1)
		return "expected: <0|1>";
	platform->tdx = on;
	return NULL;
}

static const char *cmd_vmxe(struct platform *platform, const struct words *words)
{
	unsigned int first, end;

	if (words->count != 2 || !parse_vcpus(platform, words->word[1], &first, &end))
		return "expected: <cpu>";
	for (unsigned int i = first; i < end; i++)
		platform->vcpus[i].firmware_vmxe = platform->vcpus[i].vmxe_preset = true;
	return NULL;
}

static const char *cmd_vmxe_taken(struct platform *platform, const struct words *words)
{
	uint64_t index;

	if (!parse_numbers(words, 1, &index, 1) || index >= platform->max_vcpus)
		return "expected: <cpu>";
	platform->vcpus[index].vmxe_preset = false;
	return NULL;
}

static const char *cmd_without_vmx(struct platform *platform, const struct words *words)
{
	unsigned int first, end;

	if (words->count != 2 || !parse_vcpus(platform, words->word[1], &first, &end))
		return "expected: <cpu>";
	for (unsigned int i = first; i < end; i++)
		platform->vcpus[i].msrs.without_vmx = true;
	return NULL;
}

static const char *set_symbol(const struct words *words, const char *const *names, uint64_t *const *places)
{
	uint64_t value;

	if (words->count != 3 || !parse_hex(words->word[2], &value))
		return "expected: <name> <value>";
	for (size_t i = 0; names[i]; i++) {
		if (!strcmp(words->word[1], names[i])) {
			*places[i] = value;
			return NULL;
		}
	}
	return "unknown name";
}

static const char *cmd_symbol(struct platform *platform, const struct words *words)
{
	struct symbols *symbols = &platform->log.symbols;
	const char *const names[] = {"trace_counter", "current_task", "preempt_count", "kernel_start", NULL};
	uint64_t *const places[] = {&symbols->trace_counter, &symbols->current_task, &symbols->preempt_count,
				    &symbols->kernel_start};
	const char *error = set_symbol(words, names, places);
	bool new = false;

	if (!error && symbols->kernel_start)
		probes_watch(&platform->probes, symbols->kernel_start, &new);
	if (new)
		__atomic_store_n(&platform->retranslate, true, __ATOMIC_RELEASE);
	return error;
}

static const char *cmd_offset(struct platform *platform, const struct words *words)
{
	struct symbols *symbols = &platform->log.symbols;
	const char *const names[] = {"task_comm", "task_pid", "task_real_parent", NULL};
	uint64_t *const places[] = {&symbols->task_comm, &symbols->task_pid, &symbols->task_real_parent};

	return set_symbol(words, names, places);
}

/* A size in bytes, hexadecimal; `s` after it makes it the longest length of a string. */
static bool parse_size(char *word, struct spec *spec)
{
	size_t length = strlen(word);
	uint64_t size;

	spec->string = length && word[length - 1] == 's';
	if (spec->string)
		word[length - 1] = '\0';
	if (!parse_hex(word, &size))
		return false;
	spec->size = (unsigned int)size;
	if (spec->string)
		return size && size <= PROBE_NAME;
	return size == 1 || size == 2 || size == 4 || size == 8;
}

/* r:<reg>:<size>, m:<addr>:<size>, d:<reg>:<offset>:<size> */
static bool parse_place(char *text, struct spec *spec)
{
	char *rest, *kind = strtok_r(text, ":", &rest), *where = strtok_r(NULL, ":", &rest);
	char *offset = kind && kind[0] == 'd' ? strtok_r(NULL, ":", &rest) : NULL, *size = strtok_r(NULL, ":", &rest);

	if (!kind || !where || !size || kind[1] || !parse_size(size, spec))
		return false;
	switch (kind[0]) {
	case 'r':
		spec->kind = SPEC_REGISTER;
		return parse_reg(where, &spec->reg);
	case 'm':
		spec->kind = SPEC_MEMORY;
		return parse_hex(where, &spec->address);
	case 'd':
		spec->kind = SPEC_INDIRECT;
		return parse_reg(where, &spec->reg) && parse_hex(offset, &spec->address);
	default:
		return false;
	}
}

/* Names end up in JSON as they are. */
static bool copy_name(char *dest, const char *name)
{
	size_t length = strlen(name);

	if (!length || length >= PROBE_NAME || strpbrk(name, "\"\\"))
		return false;
	memcpy(dest, name, length + 1);
	return true;
}

static bool parse_spec(char *word, struct spec *spec)
{
	char *equals = strchr(word, '=');

	if (!equals)
		return false;
	*equals = '\0';
	return copy_name(spec->name, word) && parse_place(equals + 1, spec);
}

static const char *cmd_probe(struct platform *platform, const struct words *words)
{
	struct probe probe = {0};
	uint64_t id;

	if (words->count < 5 || !parse_hex(words->word[1], &id) || !parse_hex(words->word[2], &probe.address) ||
	    !copy_name(probe.name, words->word[4]) || strlen(words->word[3]) != 1 || !strchr("crb", words->word[3][0]))
		return "expected: <id> <addr> <c|r|b> <name> [<arg>=<spec>...]";
	probe.id = (uint32_t)id;
	probe.call = words->word[3][0] != 'r';
	probe.ret = words->word[3][0] != 'c';
	if (words->count - 5 > PROBE_SPECS)
		return "too many arguments";
	for (size_t i = 5; i < words->count; i++)
		if (!parse_spec(words->word[i], &probe.specs[probe.spec_count++]))
			return "expected: <arg>=r:<reg>:<size> | m:<addr>:<size> | d:<reg>:<offset>:<size>";
	if (!probes_add(&platform->probes, &probe))
		return "too many probes, or address 0";
	__atomic_store_n(&platform->retranslate, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Bytes in hexadecimal, into a buffer that is larger than they are. */
static bool parse_bytes(const char *word, char *dest, size_t size)
{
	size_t length = strlen(word);

	if (length % 2 || length / 2 >= size || strspn(word, "0123456789abcdef") != length)
		return false;
	for (size_t i = 0; i < length / 2; i++) {
		const char digits[] = {word[2 * i], word[2 * i + 1], '\0'};

		dest[i] = (char)strtoul(digits, NULL, 16);
	}
	dest[length / 2] = '\0';
	return true;
}

/* <spec>=<value>; that of a string is its bytes */
static bool parse_condition(char *word, struct condition *condition)
{
	char *equals = strchr(word, '=');

	if (!equals)
		return false;
	*equals = '\0';
	if (!parse_place(word, &condition->spec))
		return false;
	if (condition->spec.string)
		return parse_bytes(equals + 1, condition->text, sizeof(condition->text));
	return parse_hex(equals + 1, &condition->value);
}

/* The filters of a point: <pid> <comm> <cpu> <hit>, where - is any comm or CPU. */
static bool parse_filters(const struct words *words, size_t first, struct point *point)
{
	const char *cpu = words->word[first + 2];
	uint64_t number = 0;

	point->on_cpu = strcmp(cpu, "-") != 0;
	if (!parse_hex(words->word[first], &point->pid) || (point->on_cpu && !parse_hex(cpu, &number)) ||
	    !parse_hex(words->word[first + 3], &point->hit) || !point->hit)
		return false;
	point->cpu = (unsigned int)number;
	return !strcmp(words->word[first + 1], "-") ||
	       parse_bytes(words->word[first + 1], point->comm, sizeof(point->comm));
}

static const char *cmd_point(struct platform *platform, const struct words *words)
{
	const size_t filters = 4, conditions = 8;
	struct point point = {0};
	uint64_t id;

	if (words->count < conditions || !parse_hex(words->word[1], &id) || strlen(words->word[2]) != 1 ||
	    !strchr("cr", words->word[2][0]) || !copy_name(point.name, words->word[3]) ||
	    !parse_filters(words, filters, &point))
		return "expected: <id> <c|r> <name> <pid> <comm|-> <cpu|-> <hit> [<spec>=<value>...]";
	point.id = (uint32_t)id;
	point.ret = words->word[2][0] == 'r';
	if (words->count - conditions > POINT_CONDITIONS)
		return "too many conditions";
	for (size_t i = conditions; i < words->count; i++)
		if (!parse_condition(words->word[i], &point.conditions[point.condition_count++]))
			return "expected: r:<reg>:<size>=<value> | m:<addr>:<size>=… | d:<reg>:<offset>:<size>=…";
	return points_add(&platform->points, &point) ? NULL : "too many points";
}

static const char *cmd_place(struct platform *platform, const struct words *words)
{
	uint64_t id, places[POINT_PLACES];
	size_t count = words->count - 2;
	bool new;

	if (words->count < 2 || !parse_hex(words->word[1], &id) || count > POINT_PLACES ||
	    !parse_numbers(words, 2, places, count))
		return "expected: <id> [<addr>...]";
	for (size_t i = 0; i < count; i++)
		if (!probes_watch(&platform->probes, places[i], &new))
			return "too many places, or address 0";
	points_place(&platform->points, (uint32_t)id, places, count);
	__atomic_store_n(&platform->retranslate, true, __ATOMIC_RELEASE);
	return NULL;
}

static const char *cmd_unpoint(struct platform *platform, const struct words *words)
{
	uint64_t id;

	if (!parse_numbers(words, 1, &id, 1))
		return "expected: <id>";
	points_release(&platform->points, (uint32_t)id);
	return NULL;
}

static const char *cmd_unprobe(struct platform *platform, const struct words *words)
{
	uint64_t id;

	if (!parse_numbers(words, 1, &id, 1))
		return "expected: <id>";
	return probes_remove(&platform->probes, (uint32_t)id) ? NULL : "no such probe";
}

static const char *cmd_hook(struct platform *platform, const struct words *words)
{
	struct hook hook;
	uint64_t id;

	if (words->count != 4 || !parse_hex(words->word[1], &id) || !parse_hex(words->word[2], &hook.address) ||
	    !parse_reg(words->word[3], &hook.reg))
		return "expected: <id> <addr> <reg>";
	hook.id = (uint32_t)id;
	if (!probes_add_hook(&platform->probes, &hook))
		return "too many hooks, or address 0";
	__atomic_store_n(&platform->retranslate, true, __ATOMIC_RELEASE);
	return NULL;
}

static const char *cmd_boot(struct platform *platform, const struct words *words)
{
	if (!parse_numbers(words, 1, &platform->next_boot, 1))
		return "expected: <n>";
	platform->boot_announced = platform->next_boot != 0;
	return NULL;
}

static const char *cmd_incarnation(struct platform *platform, const struct words *words)
{
	uint64_t values[2];

	if (!parse_numbers(words, 1, values, 2))
		return "expected: <boot> <incarnation>";
	platform->log.boot = values[0];
	platform->log.incarnation = values[1];
	return NULL;
}

static const char *cmd_seq(struct platform *platform, const struct words *words)
{
	return parse_numbers(words, 1, &platform->log.seq, 1) ? NULL : "expected: <n>";
}

static const char *cmd_vmx(struct platform *platform, const struct words *words)
{
	uint64_t values[4];

	if (!parse_numbers(words, 1, values, 4) || values[0] >= platform->max_vcpus || values[1] > 1)
		return "expected: <cpu> <root 0|1> <vmxon pointer> <current vmcs>";
	platform->vcpus[values[0]].vmx = (struct vmx){.root = values[1], .vmxon = values[2], .current = values[3]};
	return NULL;
}

static const char *cmd_gp(struct platform *platform, const struct words *words)
{
	uint64_t values[5];

	if (!parse_numbers(words, 1, values, 5) || values[0] >= platform->max_vcpus)
		return "expected: <cpu> <pc> <cr2> <due pc> <due rsp>";
	platform->vcpus[values[0]].gp = (struct gp){values[1], values[2], values[3], values[4]};
	return NULL;
}

static void send_vcpu_state(struct platform *platform, const struct vcpu *vcpu)
{
	const struct msrs *msrs = &vcpu->msrs;

	for (size_t i = 0; i < msrs->count; i++) {
		const struct msr *msr = &msrs->table[i];

		link_send(&platform->link, "state msr %x %x %" PRIx64, vcpu->index, msr->index, msr->power_on);
		if (msr->value != msr->power_on)
			link_send(&platform->link, "state msr_now %x %x %" PRIx64, vcpu->index, msr->index, msr->value);
	}
	if (msrs->without_vmx)
		link_send(&platform->link, "state without_vmx %x", vcpu->index);
	link_send(&platform->link, "state vmx %x %x %" PRIx64 " %" PRIx64, vcpu->index, vcpu->vmx.root,
		  vcpu->vmx.vmxon, vcpu->vmx.current);
	if (vcpu->gp.pc || vcpu->gp.due_pc)
		link_send(&platform->link, "state gp %x %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64, vcpu->index,
			  vcpu->gp.pc, vcpu->gp.cr2, vcpu->gp.due_pc, vcpu->gp.due_rsp);
	if (vcpu->firmware_vmxe)
		link_send(&platform->link, "state vmxe %x", vcpu->index);
	if (vcpu->firmware_vmxe && !vcpu->vmxe_preset)
		link_send(&platform->link, "state vmxe_taken %x", vcpu->index);
}

static const char *cmd_state(struct platform *platform, const struct words *words)
{
	if (words->count != 1)
		return "takes nothing";
	link_send(&platform->link, "state tdx %x", platform->tdx);
	for (unsigned int i = 0; i < platform->max_vcpus; i++)
		send_vcpu_state(platform, &platform->vcpus[i]);
	pthread_mutex_lock(&platform->log.lock);
	link_send(&platform->link, "state incarnation %" PRIx64 " %" PRIx64, platform->log.boot,
		  platform->log.incarnation);
	link_send(&platform->link, "state seq %" PRIx64, platform->log.seq);
	pthread_mutex_unlock(&platform->log.lock);
	if (platform->boot_announced)
		link_send(&platform->link, "state boot %" PRIx64, platform->next_boot);
	return NULL;
}

static const char *cmd_go(struct platform *platform, const struct words *words)
{
	platform->running = true;
	return words->count == 1 ? NULL : "takes nothing";
}

static const struct command {
	const char *name;
	const char *(*execute)(struct platform *platform, const struct words *words); /* what is wrong, or NULL */
	bool set_up_only;
} commands[] = {
	{"msr", cmd_msr, false},	{"msr_now", cmd_msr_now, true},	{"tdx", cmd_tdx, false},
	{"vmxe", cmd_vmxe, false},	{"vmxe_taken", cmd_vmxe_taken, true},
	{"without_vmx", cmd_without_vmx, true},
	{"symbol", cmd_symbol, false},	{"offset", cmd_offset, false},
	{"probe", cmd_probe, false},	{"unprobe", cmd_unprobe, false}, {"hook", cmd_hook, false},
	{"point", cmd_point, false},	{"place", cmd_place, false},	{"unpoint", cmd_unpoint, false},
	{"boot", cmd_boot, false},	{"incarnation", cmd_incarnation, true}, {"state", cmd_state, false},
	{"vmx", cmd_vmx, true},		{"gp", cmd_gp, true},		{"seq", cmd_seq, true},
	{"go", cmd_go, true},
};

static const struct command *find_command(const struct words *words)
{
	for (size_t i = 0; words->count && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, words->word[0]))
			return &commands[i];
	return NULL;
}

void command_execute(struct platform *platform, char *line)
{
	struct words words = split(line);
	const struct command *command = find_command(&words);
	const char *error = "only before `go`";

	/* What was sent is not repeated: it need not be text. */
	if (!command) {
		link_send(&platform->link, "error unknown command");
		return;
	}
	if (!command->set_up_only || !platform->running) {
		pthread_mutex_lock(&platform->lock);
		error = command->execute(platform, &words);
		pthread_mutex_unlock(&platform->lock);
	}
	if (error)
		link_send(&platform->link, "error %s: %s", command->name, error);
	else
		link_send(&platform->link, "ok");
}

void command_execute_waiting(struct platform *platform)
{
	char *line;

	while ((line = link_receive(&platform->link, 0)))
		command_execute(platform, line);
}

void command_set_up(struct platform *platform)
{
	int64_t deadline = link_now() + SET_UP_MS;

	while (!platform->running) {
		char *line = link_receive(&platform->link, deadline);

		if (!line)
			link_die("the harness did not finish the set-up with `go` within %d s", SET_UP_MS / 1000);
		command_execute(platform, line);
	}
}
