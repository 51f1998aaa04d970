/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whom a point holds, how long, and what a reset leaves of it. */
#include "check.h"
#include "point.h"

#define PLACE 0xffffffff81000100
#define BASE VIRTUAL		/* of the per-CPU area */
#define CURRENT 0x10
#define PREEMPT_COUNT 0x18
#define PID 0x20		/* in a task_struct */
#define PARENT 0x28
#define COMM 0x30
#define TASK(number) (VIRTUAL + 0x1000 * (uint64_t)(number))

static struct points points;
static struct fake fake;
static const struct cpu cpu = {.ops = &fake_ops, .opaque = &fake};
static const struct symbols symbols = {
	.current_task = CURRENT, .preempt_count = PREEMPT_COUNT,
	.task_pid = PID, .task_comm = COMM, .task_real_parent = PARENT,
};
static const struct visit visit = {.task = TASK(2), .rsp = 0xffffc90000003f00, .pc = PLACE};
static const struct visit elsewhere = {.task = TASK(2), .rsp = 0xffffc90000003e00, .pc = PLACE};

static void put64(uint64_t va, uint64_t value)
{
	memcpy(fake.ram + (va - VIRTUAL), &value, sizeof(value));
}

static void make_task(unsigned int number, uint64_t parent, const char *comm)
{
	put64(TASK(number) + PID, number);
	put64(TASK(number) + PARENT, parent);
	strcpy((char *)fake.ram + (TASK(number) + COMM - VIRTUAL), comm);
}

static void start(void)
{
	memset(&points, 0, sizeof(points));
	points_init(&points);
	memset(&fake, 0, sizeof(fake));
	fake.regs[GS_BASE] = BASE;
	make_task(1, TASK(1), "swapper/0");
	make_task(2, TASK(1), "sh");
	make_task(3, TASK(2), "modprobe");
	put64(BASE + CURRENT, TASK(3));
}

static void arm(struct point point)
{
	const uint64_t place = PLACE;

	point.hit = point.hit ? point.hit : 1;
	CHECK(points_add(&points, &point));
	points_place(&points, point.id, &place, 1);
}

/* The points that an execution at PLACE comes across, as bits of their numbers. */
static unsigned int met(void)
{
	struct point point;
	unsigned int bits = 0;

	for (size_t cursor = 0; points_next(&points, PLACE, &cursor, &point);)
		bits |= 1u << point.id;
	return bits;
}

/* The number of the point that has let go the task, 0 for none. */
static uint32_t released(const struct visit *who)
{
	struct point point;

	return points_take_released(&points, who, &point) ? point.id : 0;
}

static uint32_t lost(void)
{
	struct point point;

	return points_take_lost(&points, &point) ? point.id : 0;
}

static void test_held_until_released(void)
{
	start();
	arm((struct point){.id = 1});
	CHECK_EQUAL(met(), 1 << 1);
	CHECK(!points_know(&points, &visit));
	CHECK(points_count(&points, 1, &visit));
	CHECK_EQUAL(met(), 0);	/* one task, and no second */
	CHECK(points_hold(&points, &visit) && points_know(&points, &visit));
	CHECK(!points_hold(&points, &elsewhere) && !points_know(&points, &elsewhere));
	CHECK_EQUAL(released(&visit), 0);
	points_release(&points, 1);
	CHECK(!points_hold(&points, &visit) && points_know(&points, &visit));
	points_release(&points, 1);
	CHECK_EQUAL(released(&elsewhere), 0);
	CHECK_EQUAL(released(&visit), 1);
	CHECK_EQUAL(released(&visit), 0);
	CHECK(!points_know(&points, &visit));
}

static void test_released_before_it_held(void)
{
	start();
	arm((struct point){.id = 1});
	points_release(&points, 1);
	points_release(&points, 1);
	CHECK_EQUAL(met(), 0);
	CHECK(!points_count(&points, 1, &visit));
}

static void test_the_nth_execution(void)
{
	const uint64_t places[] = {PLACE - 16, PLACE};

	start();
	arm((struct point){.id = 1, .hit = 3});
	CHECK(!points_count(&points, 1, &visit) && !points_count(&points, 1, &visit));
	points_place(&points, 1, places, 0);	/* its module goes, and comes back */
	CHECK_EQUAL(met(), 0);
	points_place(&points, 1, places, 2);
	CHECK_EQUAL(met(), 1 << 1);
	CHECK(points_count(&points, 1, &visit));
	CHECK(!points_count(&points, 1, &elsewhere));
}

static void test_two_points_at_one_place(void)
{
	start();
	arm((struct point){.id = 1});
	arm((struct point){.id = 2});
	CHECK(points_count(&points, 1, &visit) && points_count(&points, 2, &visit));
	points_release(&points, 1);
	CHECK_EQUAL(released(&visit), 1);
	CHECK(points_hold(&points, &visit));
	points_release(&points, 2);
	CHECK_EQUAL(released(&visit), 2);
	CHECK(!points_hold(&points, &visit));
}

static void test_hold_after_the_return(void)
{
	struct point point;

	start();
	arm((struct point){.id = 1, .ret = true});
	CHECK(points_count(&points, 1, &visit));
	CHECK(!points_hold(&points, &visit) && !points_know(&points, &visit));
	CHECK(!points_take_return(&points, &elsewhere, &point));
	CHECK(points_take_return(&points, &visit, &point) && point.id == 1);
	CHECK(!points_take_return(&points, &visit, &point));
	CHECK(points_hold(&points, &visit));
}

static void test_what_a_reset_leaves(void)
{
	struct point point;

	start();
	arm((struct point){.id = 1});			/* held */
	arm((struct point){.id = 2});			/* let go, and not gone by yet */
	arm((struct point){.id = 3, .ret = true});	/* awaited */
	arm((struct point){.id = 4, .hit = 2});		/* armed */
	arm((struct point){.id = 5, .pid = 2});		/* for a task that is no more */
	for (uint32_t id = 1; id <= 4; id++)
		points_count(&points, id, &visit);
	points_release(&points, 2);
	points_again(&points, &visit);
	CHECK_EQUAL(lost(), 1);
	CHECK_EQUAL(lost(), 2);
	CHECK_EQUAL(lost(), 0);
	CHECK_EQUAL(met(), 1 << 4);
	CHECK(!points_take_return(&points, &visit, &point));
	CHECK(!points_take_again(&points, &visit));
	points_release(&points, 1);
}

static void test_once_again(void)
{
	start();
	CHECK(!points_take_again(&points, &visit));
	points_again(&points, &visit);
	CHECK(!points_take_again(&points, &elsewhere));
	CHECK(points_take_again(&points, &visit));
	CHECK(!points_take_again(&points, &visit));
}

static bool matches(struct point point)
{
	return point_matches(&point, &symbols, &cpu, 2);
}

static void test_filters(void)
{
	start();
	CHECK(matches((struct point){0}));
	CHECK(matches((struct point){.pid = 3}) && matches((struct point){.pid = 2}) && matches((struct point){.pid = 1}));
	CHECK(!matches((struct point){.pid = 4}));
	CHECK(matches((struct point){.comm = "modprobe"}));
	CHECK(!matches((struct point){.comm = "mod"}) && !matches((struct point){.comm = "modprobes"}));
	CHECK(matches((struct point){.on_cpu = true, .cpu = 2}) && !matches((struct point){.on_cpu = true}));
	CHECK(!matches((struct point){.on_cpu = true, .cpu = 2, .comm = "sh"}));
	make_task(1, VIRTUAL + RAM, "swapper/0");	/* a parent that cannot be read */
	CHECK(!matches((struct point){.pid = 4}));
	fake.regs[GS_BASE] = 0x1000;	/* before the kernel has set it up */
	CHECK(!matches((struct point){0}));
}

static void test_a_full_comm_has_no_end(void)
{
	start();
	make_task(3, TASK(2), "0123456789abcde");
	fake.ram[TASK(3) + COMM - VIRTUAL + 15] = 'f';
	CHECK(!matches((struct point){.comm = "0123456789abcde"}));
}

static void test_conditions(void)
{
	struct point point = {
		.condition_count = 2,
		.conditions = {
			{.spec = {.kind = SPEC_REGISTER, .reg = RDI, .size = 4}, .value = 0xfffffffe},
			{.spec = {.kind = SPEC_INDIRECT, .reg = RSI, .address = 8, .size = 64, .string = true},
			 .text = "kvm"},
		},
	};

	start();
	fake.regs[RDI] = 0x12345678fffffffe;
	fake.regs[RSI] = VIRTUAL + 0x100;
	strcpy((char *)fake.ram + 0x108, "kvm");
	CHECK(matches(point));
	strcpy((char *)fake.ram + 0x108, "kvm_intel");
	CHECK(!matches(point));
	strcpy((char *)fake.ram + 0x108, "kvm");
	fake.regs[RDI] = 0xfffffffd;
	CHECK(!matches(point));
	point.conditions[0].spec = (struct spec){.kind = SPEC_MEMORY, .address = VIRTUAL + RAM, .size = 8};
	point.conditions[0].value = 0;	/* what cannot be read is not 0 */
	CHECK(!matches(point));
}

static void test_context(void)
{
	struct hold_context context;

	start();
	put64(BASE + PREEMPT_COUNT, 0x1234567880000002);
	fake.regs[RFLAGS] = 0x202;
	context = point_context(&symbols, &cpu, TASK(3));
	CHECK_EQUAL(context.preempt_count, 2);
	CHECK_EQUAL(context.pid, 3);
	CHECK(context.interrupts && !strcmp(context.comm, "modprobe"));
	fake.regs[RFLAGS] = 2;
	CHECK(!point_context(&symbols, &cpu, TASK(3)).interrupts);
}

static void test_the_table_has_an_end(void)
{
	struct point point = {.hit = 1};

	start();
	for (point.id = 1; point.id <= POINTS_MAX; point.id++)
		CHECK(points_add(&points, &point));
	CHECK(!points_add(&points, &point));
	points_release(&points, 7);
	CHECK(points_add(&points, &point) && points_add(&points, &point));	/* the same again replaces it */
}

int main(void)
{
	test_held_until_released();
	test_released_before_it_held();
	test_the_nth_execution();
	test_two_points_at_one_place();
	test_hold_after_the_return();
	test_what_a_reset_leaves();
	test_once_again();
	test_filters();
	test_a_full_comm_has_no_end();
	test_conditions();
	test_context();
	test_the_table_has_an_end();
	return failures != 0;
}
