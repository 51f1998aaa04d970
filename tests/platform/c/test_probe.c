/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which return belongs to which call, and what an address is watched for. */
#include "check.h"
#include "probe.h"

#define TASK_A 0xffff888000001000
#define TASK_B 0xffff888000002000
#define STACK 0xffffc90000013f00
#define SITE 0xffffffff81000100

static struct probes probes;
static struct fake fake;
static const struct cpu cpu = {.ops = &fake_ops, .opaque = &fake};

static void start(void)
{
	memset(&probes, 0, sizeof(probes));
	probes_init(&probes);
}

/* The probe of the call that had to make room, 0 for none. */
static uint32_t call(uint32_t id, uint64_t task, uint64_t rsp, uint64_t site)
{
	const struct pending pending = {.id = id, .task = task, .rsp = rsp, .return_address = site};
	struct pending lost;

	return probes_call(&probes, &pending, &lost) ? lost.id : 0;
}

/* The probe whose call returns, 0 when none does. `rsp` is that of the call. */
static uint32_t returned(uint64_t task, uint64_t rsp, uint64_t site)
{
	struct pending pending;

	return probes_return(&probes, site, task, rsp + 8, &pending) ? pending.id : 0;
}

static void test_return_of_the_task_that_called(void)
{
	start();
	call(1, TASK_A, STACK, SITE);
	CHECK_EQUAL(returned(TASK_B, STACK, SITE), 0);
	CHECK_EQUAL(returned(TASK_A, STACK - 0x40, SITE), 0);
	CHECK_EQUAL(returned(TASK_A, STACK, SITE + 1), 0);
	CHECK_EQUAL(returned(TASK_A, STACK, SITE), 1);
	CHECK_EQUAL(returned(TASK_A, STACK, SITE), 0);
}

static void test_recursion_returns_inside_out(void)
{
	start();
	call(1, TASK_A, STACK, SITE);
	call(1, TASK_A, STACK - 0x80, SITE);
	CHECK_EQUAL(returned(TASK_A, STACK - 0x80, SITE), 1);
	CHECK_EQUAL(returned(TASK_A, STACK, SITE), 1);
}

/* 1 ends with a jump to 2: one `ret` returns from both, from the inner one first. */
static void test_tail_call(void)
{
	start();
	call(1, TASK_A, STACK, SITE);
	call(2, TASK_A, STACK, SITE);
	CHECK_EQUAL(returned(TASK_A, STACK, SITE), 2);
	CHECK_EQUAL(returned(TASK_A, STACK, SITE), 1);
}

/* A frame that a later call of the task overwrites is one that never returned. */
static void test_calls_that_never_return_are_dropped(void)
{
	start();
	call(1, TASK_A, STACK - 0x100, SITE);
	call(2, TASK_A, STACK, SITE + 8);
	CHECK_EQUAL(probes.pending_count, 1);
	call(3, TASK_B, STACK + 0x4000, SITE);
	call(4, TASK_A, STACK - 0x8000, SITE);	/* another stack, such as that of interrupts: no relation */
	CHECK_EQUAL(probes.pending_count, 3);
	probes_forget_calls(&probes);
	CHECK_EQUAL(returned(TASK_A, STACK, SITE + 8), 0);
}

static void test_the_oldest_call_makes_room_and_is_told_of(void)
{
	start();
	for (uint64_t task = 1; task <= PENDING_MAX; task++)
		CHECK_EQUAL(call((uint32_t)task, task, STACK, SITE), 0);
	CHECK_EQUAL(call(PENDING_MAX + 1, PENDING_MAX + 1, STACK, SITE), 1);
	CHECK_EQUAL(probes.pending_count, PENDING_MAX);
	CHECK_EQUAL(returned(1, STACK, SITE), 0);
	CHECK_EQUAL(returned(2, STACK, SITE), 2);
}

static void test_add_and_remove(void)
{
	struct probe probe = {.id = 1, .address = SITE, .call = true, .ret = true, .name = "f"}, found;
	size_t cursor = 0;

	start();
	CHECK(!probes_watched(&probes, SITE) && !probes_watched(&probes, 0));
	CHECK(probes_add(&probes, &probe) && probes_add(&probes, &probe));	/* the same again replaces it */
	CHECK_EQUAL(probes.probe_count, 1);
	CHECK(probes_watched(&probes, SITE));
	CHECK(probes_next(&probes, SITE, &cursor, &found) && !probes_next(&probes, SITE, &cursor, &found));
	call(1, TASK_A, STACK, SITE);
	CHECK(probes_remove(&probes, 1) && !probes_remove(&probes, 1));
	CHECK_EQUAL(returned(TASK_A, STACK, SITE), 0);
	probe.address = 0;
	CHECK(!probes_add(&probes, &probe));
}

static void test_tables_have_an_end(void)
{
	struct probe probe = {.name = "f"};
	struct hook hook = {.reg = RDI};
	bool new;

	start();
	for (uint32_t i = 1; i <= PROBES_MAX; i++) {
		probe.id = i;
		probe.address = SITE + i;
		CHECK(probes_add(&probes, &probe));
	}
	probe.id = PROBES_MAX + 1;
	CHECK(!probes_add(&probes, &probe));
	for (uint32_t i = 1; i <= HOOKS_MAX; i++) {
		hook.id = i;
		hook.address = SITE + i;
		CHECK(probes_add_hook(&probes, &hook));
	}
	hook.id = HOOKS_MAX + 1;
	CHECK(!probes_add_hook(&probes, &hook));
	for (uint64_t address = 1; probes.watched_count < WATCH_SLOTS / 2; address += 16)
		CHECK(probes_watch(&probes, address, &new) && new);
	CHECK(!probes_watch(&probes, 0xdead0000, &new));
	CHECK(probes_watched(&probes, SITE + 1) && !probes_watched(&probes, 0xdead0000));
}

static void test_arguments(void)
{
	struct probe probe = {
		.name = "f",
		.spec_count = 5,
		.specs = {
			{.kind = SPEC_REGISTER, .reg = RDI, .size = 4, .name = "cpu"},
			{.kind = SPEC_MEMORY, .address = VIRTUAL + 0x100, .size = 2, .name = "state"},
			{.kind = SPEC_INDIRECT, .reg = RSI, .address = 8, .size = 8, .name = "field"},
			{.kind = SPEC_REGISTER, .reg = RDX, .size = 16, .string = true, .name = "text"},
			{.kind = SPEC_MEMORY, .address = 0, .size = 8, .name = "unmapped"},
		},
	};
	struct event event;

	memset(&fake, 0, sizeof(fake));
	fake.regs[RDI] = 0xffffffff00000003;
	fake.regs[RSI] = VIRTUAL + 0x200;
	fake.regs[RDX] = VIRTUAL + RAM - 4;	/* a string up to the last byte of memory */
	memcpy(fake.ram + 0x100, "\x05\x00\xff", 3);
	memcpy(fake.ram + 0x208, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
	memcpy(fake.ram + RAM - 4, "a\"\nb", 4);
	event = probe_call_event(&probe, &cpu);
	if (strcmp(event.args, "\"cpu\":\"0x3\",\"state\":\"0x5\",\"field\":\"0x1122334455667788\","
			       "\"text\":\"a\\u0022\\u000ab\"")) {
		fprintf(stderr, "arguments: %s\n", event.args);
		failures++;
	}
}

/* An event with more than fits stays JSON. */
static void test_too_much_is_left_out_whole(void)
{
	struct event event = event_point("vmxon");
	char text[64];

	memset(text, 1, sizeof(text));
	for (int i = 0; i < 100; i++)
		event_text(&event, "key", text, sizeof(text));
	CHECK(event.used < EVENT_ARGS && event.args[event.used] == '\0' && event.args[event.used - 1] == '"');
}

int main(void)
{
	test_return_of_the_task_that_called();
	test_recursion_returns_inside_out();
	test_tail_call();
	test_calls_that_never_return_are_dropped();
	test_the_oldest_call_makes_room_and_is_told_of();
	test_add_and_remove();
	test_tables_have_an_end();
	test_arguments();
	test_too_much_is_left_out_whole();
	return failures != 0;
}
